package connection

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/tidwall/gjson"

	"sluice"
)

func TestParseCommon(t *testing.T) {
	got, err := ParseCommon(json.RawMessage(`{"region":"eu-central-1"}`))
	want := sluice.Common{
		CreateDevices: true, DownlinkEnabled: true, DownlinkReports: "all", DownlinkRedelivery: "30s", ReconnectStrategy: "FAST",
	}
	if d := cmp.Diff(want, got); d != "" || err != nil {
		t.Error(d, err)
	}
	got, err = ParseCommon(json.RawMessage(`{"description":"d","createDevices":false,"sendMetadata":true,"sendRawDecodedFormat":true,
		"uplinkTimeValidity":"5m","uplinkRateLimiter":7,"downlinkEnabled":false,"downlinkAsId":"a","downlinkAsKey":"k",
		"downlinkPort":3,"downlinkReports":"none","downlinkRedelivery":"2m","reconnectStrategy":"CALM"}`))
	want = sluice.Common{
		Description: "d", SendMetadata: true, SendRawDecodedFormat: true, UplinkTimeValidity: "5m", UplinkRateLimiter: 7,
		DownlinkASID: "a", DownlinkASKey: "k", DownlinkPort: 3, DownlinkReports: "none", DownlinkRedelivery: "2m", ReconnectStrategy: "CALM",
	}
	if d := cmp.Diff(want, got); d != "" || err != nil {
		t.Error(d, err)
	}
	if _, err := ParseCommon(json.RawMessage(`{"downlinkPort":"x"}`)); sluice.CodeOf(err) != sluice.CodeInvalid {
		t.Errorf("error %v", err)
	}
}

func TestCheckCommon(t *testing.T) {
	for _, good := range []string{
		`{}`, `{"uplinkTimeValidity":"1m"}`, `{"uplinkTimeValidity":"72h"}`, `{"uplinkTimeValidity":"2h30m"}`,
		`{"downlinkPort":1}`, `{"downlinkPort":224}`, `{"reconnectStrategy":"AGGRESSIVE"}`,
		`{"downlinkAsId":"a","downlinkAsKey":"k"}`, `{"downlinkAsId":"a"}`,
		`{"downlinkReports":"rejected"}`, `{"downlinkRedelivery":"0s"}`, `{"downlinkRedelivery":"1h"}`, `{"downlinkRedelivery":""}`,
		`{"downlinkPort":"8"}`, // the schema's to say
		`[]`,
	} {
		if p := CheckCommon(json.RawMessage(good)); len(p) != 0 {
			t.Errorf("%s: %v", good, p)
		}
	}
	bad := `{"uplinkTimeValidity":"soon","downlinkPort":225,"reconnectStrategy":"fast","downlinkAsKey":"k","uplinkRateLimiter":-1,
		"downlinkReports":"some","downlinkRedelivery":"61m"}`
	var paths []string
	for _, p := range CheckCommon(json.RawMessage(bad)) {
		paths = append(paths, p.Path)
	}
	want := []string{"uplinkTimeValidity", "uplinkRateLimiter", "downlinkPort", "reconnectStrategy", "downlinkReports", "downlinkRedelivery", "downlinkAsId"}
	if d := cmp.Diff(want, paths); d != "" {
		t.Error(d)
	}
	// The documented ones.
	for text, want := range map[string]time.Duration{
		"1m": time.Minute, "5m": 5 * time.Minute, "10m": 10 * time.Minute, "24h": 24 * time.Hour, "72h": 72 * time.Hour, "": 0,
	} {
		if got, err := parseValidity(text); err != nil || got != want {
			t.Errorf("%q is %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"0s", "-5m", "5", "5 m", "1d"} {
		if _, err := parseValidity(text); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
}

func TestSchema(t *testing.T) {
	own := `{"title":"Aws Connection Config","type":"object","required":["region"],
		"properties":{"region":{"type":"string","pattern":"^[a-z]+$"},"description":{"type":"string","title":"Own"}}}`
	got := Schema(sluice.ConnectorInfo{Schema: json.RawMessage(own)})
	if !json.Valid(got) {
		t.Fatalf("not JSON: %s", got)
	}
	s := gjson.ParseBytes(got)
	for path, want := range map[string]string{
		`\$schema`:                            "http://json-schema.org/draft-04/schema#",
		"additionalProperties":                "false",
		"title":                               "Aws Connection Config",
		"required.0":                          "region",
		"properties.region.pattern":           "^[a-z]+$",
		"properties.description.title":        "Own",
		"properties.createDevices.default":    "true",
		"properties.downlinkEnabled.default":  "true",
		"properties.downlinkAsKey.format":     "password",
		"properties.downlinkPort.maximum":     "224",
		"properties.reconnectStrategy.enum.0": "FAST",
	} {
		if v := s.Get(path); v.String() != want {
			t.Errorf("%s is %q, want %q", path, v.String(), want)
		}
	}
	// Each property of Common, with its default, its title and a description.
	n := 0
	s.Get("properties").ForEach(func(key, value gjson.Result) bool {
		if key.Str == "region" || key.Str == "description" {
			return true
		}
		n++
		if value.Get("title").String() == "" || value.Get("description").String() == "" {
			t.Errorf("%s has no title or no description", key.Str)
		}
		return true
	})
	if n != 12 {
		t.Errorf("%d common properties besides the description", n)
	}
	if bare := Schema(sluice.ConnectorInfo{}); !gjson.GetBytes(bare, "properties.sendMetadata").Exists() {
		t.Errorf("without a schema of its own: %s", bare)
	}
}

func TestEssence(t *testing.T) {
	base := essence(connection(1, `"a":{"x":1,"y":2.50}`))
	for more, same := range map[string]bool{
		`"a":{"y":2.50, "x":1}`:                                                   true,
		`"a":{"x":1,"y":2.50},"downlinkPort":4`:                                   true,
		`"a":{"x":1,"y":2.50},"downlinkReports":"none","downlinkRedelivery":"1m"`: true,
		`"a":{"x":1,"y":2.50},"createDevices":false`:                              false,
		`"a":{"x":1,"y":2.50},"downlinkEnabled":false`:                            false,
		`"a":{"x":2,"y":2.50}`:                                                    false,
	} {
		if got := essence(connection(2, more)) == base; got != same {
			t.Errorf("%s: same is %v", more, got)
		}
	}
	other := connection(2, `"a":{"x":1,"y":2.50}`)
	other.ConnectorID = "other"
	if essence(other) == base {
		t.Error("another connector has the same essence")
	}
}

func TestBackoff(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		rand float64
		want []time.Duration
	}{
		"outage, shortest": {refusal(sluice.ReasonUnreachable), 0, []time.Duration{
			250 * time.Millisecond, 500 * time.Millisecond, time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second,
			16 * time.Second, 30 * time.Second, 30 * time.Second,
		}},
		"outage, longest":   {refusal(sluice.ReasonUnreachable), 1, []time.Duration{500 * time.Millisecond, time.Second}},
		"refused, shortest": {refusal(sluice.ReasonTLS), 0, []time.Duration{2500 * time.Millisecond, 5 * time.Second}},
		"asked for more": {&sluice.Failure{Reason: sluice.ReasonThrottled, After: 7 * time.Second}, 0, []time.Duration{
			7 * time.Second, 7 * time.Second,
		}},
	} {
		t.Run(name, func(t *testing.T) {
			b := backoff{rand: func() float64 { return c.rand }}
			for i, want := range c.want {
				if got := b.next(strategyOf("FAST"), c.err); got != want {
					t.Errorf("try %d waits %v, want %v", i, got, want)
				}
			}
			b.reset()
			if got := b.next(strategyOf("FAST"), c.err); got != c.want[0] {
				t.Errorf("after reset: %v", got)
			}
		})
	}
	if d := (span{min: 5 * time.Second, max: 5 * time.Minute}).at(1000); d != 5*time.Minute {
		t.Errorf("it grows to %v", d)
	}
}

func TestRejected(t *testing.T) {
	now := time.Date(2024, 1, 2, 3, 4, 5, 678_000_000, time.FixedZone("", 3600))
	m := &sluice.Message{
		ID: "x", Kind: sluice.KindDownlink, DevEUI: "20635F0108000495", Network: "net", Connection: "8",
		Document: []byte(`{"DevEUI_downlink":{"FPort":"8","CorrelationID":"4434704901C7450B","CustomerID":100002167}}`),
	}
	f := &sluice.Failure{Status: 350, Message: "Downlink counter value already used. Expected=1238"}
	got := Rejected(m, f, now)
	want := `{"DevEUI_downlink_Rejected":{"Time":"2024-01-02T02:04:05.678Z","DevEUI":"20635F0108000495","FPort":8,` +
		`"DeliveryStatus":350,"DownlinkRejectionCause":"Downlink counter value already used. Expected=1238",` +
		`"CustomerID":"100002167","CorrelationID":"4434704901C7450B","CommandID":"x"}}`
	if d := cmp.Diff(want, string(got.Document)); d != "" {
		t.Error(d)
	}
	if got.Kind != sluice.KindDownlinkRejected || got.DevEUI != m.DevEUI || got.Connection != "8" || got.Network != "net" ||
		len(got.ID) != 26 || got.ID == m.ID || !got.Received.Equal(now) {
		t.Errorf("message %+v", got)
	}
	late := Rejected(m, &sluice.Failure{Verdict: sluice.Expired, Message: "It is 9s old, the limit is 8s."}, now)
	if cause := gjson.GetBytes(late.Document, "*.DownlinkRejectionCause").String(); cause != "Validity time expired. It is 9s old, the limit is 8s." {
		t.Errorf("cause %q", cause)
	}
	queued := Queued(m, now)
	want = `{"DevEUI_downlink_Queued":{"Time":"2024-01-02T02:04:05.678Z","DevEUI":"20635F0108000495","FPort":8,"DeliveryStatus":200,` +
		`"CustomerID":"100002167","CorrelationID":"4434704901C7450B","CommandID":"x"}}`
	if d := cmp.Diff(want, string(queued.Document)); d != "" || queued.Kind != sluice.KindDownlinkQueued || queued.Connection != "8" {
		t.Error(d, queued.Kind)
	}
	bare := Rejected(&sluice.Message{Document: []byte(`{"DevEUI_downlink":{}}`)}, &sluice.Failure{Message: `a "quoted" cause`}, now)
	if !json.Valid(bare.Document) || gjson.GetBytes(bare.Document, "*.FPort").Exists() {
		t.Errorf("document %s", bare.Document)
	}
}
