package report_test

import (
	"bytes"
	"encoding/json"
	"testing"
	"unicode/utf8"

	"sluice/internal/report"
)

// check holds for whatever is read.
func check(t *testing.T, document []byte, r report.Report) {
	t.Helper()
	var root map[string]map[string]json.RawMessage
	if err := json.Unmarshal(document, &root); err != nil || len(root) != 1 {
		t.Fatalf("taken, but not one object in an object: %v", err)
	}
	if _, ok := root[string(r.Kind)]; !ok || r.Kind == "" {
		t.Fatalf("the kind %q is not the root", r.Kind)
	}
	if eui, ok := report.DevEUI(r.DevEUI); r.Kind != "BS_alarm" && r.DevEUI != "" && (!ok || eui != r.DevEUI) {
		t.Fatalf("DevEUI %q", r.DevEUI)
	}
	if !utf8.ValidString(r.Name) || r.Fingerprint("n", document) != r.Fingerprint("n", bytes.Clone(document)) {
		t.Fatal("the name or the fingerprint")
	}
	if !json.Valid(report.Redact(document)) {
		t.Fatal("redacting makes it invalid")
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(uplink))
	f.Add([]byte(`{"BS_alarm":{"LrrID":"5E0000A0","BaseStationData":"{\"name\":\"x\"}"}}`))
	f.Add([]byte(`{"DevEUI_downlink":{"DevEUI":"02-51-C0-DE-00-00-00-01","FPort":"8","payload_hex":""}}`))
	f.Add([]byte(`{"a":{"CustomerData":{"tags":[1,[],{}]},"ModelCfg":"1:,2,:x","Time":" "}}`))
	f.Fuzz(func(t *testing.T, document []byte) {
		r, err := report.Parse(document)
		if err != nil {
			return
		}
		check(t, document, r)
	})
}

func FuzzXML(f *testing.F) {
	f.Add([]byte(`<?xml version="1.0"?><DevEUI_uplink xmlns="u"><DevEUI>0251C0DE00000001</DevEUI><Lrrs><Lrr><Chain>0</Chain></Lrr></Lrrs></DevEUI_uplink>`))
	f.Add([]byte(`<R><CustomerData>{"name":"x"}</CustomerData><FPort>1e5</FPort><a b="c"/></R>`))
	f.Fuzz(func(t *testing.T, body []byte) {
		document, err := report.FromXML(body)
		if err != nil {
			return
		}
		if !json.Valid(document) || !utf8.Valid(document) {
			t.Fatalf("not JSON: %q", document)
		}
		if r, err := report.Parse(document); err == nil {
			check(t, document, r)
		}
	})
}
