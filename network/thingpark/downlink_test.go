package thingpark_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"sluice"
	"sluice/network/networktest"
	"sluice/network/thingpark/thingparktest"
)

func sha(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// command makes a command with these fields.
func command(fields string) *sluice.Message {
	const eui = "0251C0DE00000001"
	return &sluice.Message{
		ID: "01KJ0000000000000000000000", Kind: sluice.KindDownlink, DevEUI: eui, Network: "n1", Received: time.Now(),
		Document: []byte(`{"DevEUI_downlink":{"DevEUI":"` + eui + `",` + fields + `}}`),
	}
}

// withDownlinks is a configuration that leads to an LRC.
func withDownlinks(asID, key, url string) string {
	return `{"asId":"` + asID + `","asKey":"` + key + `","downlinkUrl":"` + url + `"}`
}

// The published Tokens of downlinks: (a) from thingpark-integrations, with its
// key in mixed case; (c) with all options.
func TestDownlinkVectors(t *testing.T) {
	for _, v := range []struct{ name, key, asID, now, devEUI, fields, query, token string }{
		{
			"a", "46ab678cd45df4a4e4b375Eacd096acc", "app1.sample.com", "2016-01-11T14:28:00.333+02:00", "000000000F1D8693",
			`"FPort":1,"payload_hex":"00"`,
			"DevEUI=000000000F1D8693&FPort=1&Payload=00&AS_ID=app1.sample.com&Time=2016-01-11T14:28:00.333+02:00",
			"ea8f31d2299cbece8e180a3012766c4df15fe3cf2e142d9fdf4035b5894ec886",
		},
		{
			"c", "f3203a20a2e8dfaf6686b621f56d05e3", "TWA_100002167.1111.AS", "2018-10-17T15:38:46.882+02:00", "20635F0108000495",
			`"CorrelationID":"4434704901C7450B","FlushDownlinkQueue":"1","ValidityTime":"2018-10-17T16:38:46.882+02:00","Confirmed":1,"payload_hex":"0103","FPort":"2"`,
			"DevEUI=20635F0108000495&FPort=2&Payload=0103&Confirmed=1&FlushDownlinkQueue=1&ValidityTime=2018-10-17T16:38:46.882+02:00&AS_ID=TWA_100002167.1111.AS&Time=2018-10-17T15:38:46.882+02:00&CorrelationID=4434704901C7450B",
			"9ff407187d94da56577ed83d23b9515f2e8db398010879dd9daa48ad9edb1060",
		},
	} {
		t.Run(v.name, func(t *testing.T) {
			clock := clockAt(t, v.now)
			lrc := newLRC(t, thingparktest.LRCOptions{Keys: map[string]string{v.asID: v.key}, Clock: clock})
			d := openDoor(t, withDownlinks(v.asID, v.key, lrc.URL()), clock)
			m := command(v.fields)
			m.DevEUI, m.Received = v.devEUI, clock()
			if err := d.network.Handle(t.Context(), m); err != nil {
				t.Fatal(err)
			}
			raw := lrc.Downlinks()[0].Query
			if strings.ContainsAny(raw, "+:") {
				t.Errorf("not encoded: %s", raw)
			}
			if got, _ := url.PathUnescape(raw); got != v.query+"&Token="+v.token {
				t.Errorf("got  %s\nwant %s&Token=%s", got, v.query, v.token)
			}
		})
	}
	// (b), from KPN's forum: a Time without an offset, which is not written
	// here but shows what is hashed.
	b := "DevEUI=000000000F1D8693&FPort=1&Payload=00&AS_ID=app1.sample.com&Time=2016-01-11T14:28:00" + "46ab678cd45df4a4e4b375Eacd096acc"
	if sha(b) != "b5a84fe9c8921e9de359e3041a37b76c4b122f6f9b83577b5596c842052f7e62" {
		t.Error("vector b")
	}
}

func TestDownlinkQuery(t *testing.T) {
	now := time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC)
	clock := func() time.Time { return now }
	lrc := newLRC(t, thingparktest.LRCOptions{Clock: clock})
	d := openDoor(t, `{"downlinkUrl":"`+lrc.URL()+`"}`, clock)
	const begin = "DevEUI=0251C0DE00000001&"
	for _, test := range []struct{ fields, want string }{
		{`"FPort":7,"payload_hex":"0AfF"`, "FPort=7&Payload=0AfF"},
		{`"FPort":"7","payload_hex":""`, "FPort=7&Payload="},
		{`"FPort":224,"payload_hex":10`, "FPort=224&Payload=10"},
		{`"FPort":7,"payload_hex":"00","payload":null,"Time":"2020-01-01","Token":"x","AS_ID":"y","DriverCfg":{}`, "FPort=7&Payload=00"},
		{`"FPort":7,"payload_hex":"00","Confirmed":0,"FlushDownlinkQueue":"0","RetryIneligibleGateways":1`, "FPort=7&Payload=00"},
		{`"FPort":7,"payload_hex":"00","Confirmed":"","FlushDownlinkQueue":false,"RetryIneligibleGateways":null`, "FPort=7&Payload=00"},
		{`"FPort":7,"payload_hex":"00","Confirmed":true,"RetryIneligibleGateways":"0"`, "FPort=7&Payload=00&Confirmed=1&RetryIneligibleGateways=0"},
		{`"FPort":7,"payload_hex":"00","FCntDn":12`, "FPort=7&FCntDn=12&Payload=00"},
		{`"FPort":7,"payload_hex":"00","AFCntDn":"4294967295"`, "FPort=7&AFCntDn=4294967295&Payload=00"},
		{`"FPort":7,"payload_hex":"00","ValidityTime":90`, "FPort=7&Payload=00&ValidityTime=61"},
		{`"FPort":7,"payload_hex":"00","ValidityTime":"0"`, "FPort=7&Payload=00"},
		{`"FPort":7,"payload_hex":"00","ValidityTime":"2026-03-01T11:00:01+01:00"`, "FPort=7&Payload=00&ValidityTime=2026-03-01T11:00:01+01:00"},
		{`"FPort":7,"payload_hex":"00","ValidityTime":"2026-03-01T08:00:00"`, "FPort=7&Payload=00&ValidityTime=2026-03-01T08:00:00"}, // somewhere it is still to come
		{`"FPort":7,"payload_hex":"00","CorrelationID":"00AB"`, "FPort=7&Payload=00&CorrelationID=00AB"},
	} {
		m := command(test.fields)
		m.Received = now.Add(-29*time.Second - 500*time.Millisecond)
		before, _ := lrc.Count()
		if err := d.network.Handle(t.Context(), m); err != nil {
			t.Errorf("%s: %v", test.fields, err)
			continue
		}
		all := lrc.Downlinks()
		if len(all) != before+1 {
			t.Fatalf("%d downlinks", len(all))
		}
		if got, _ := url.PathUnescape(all[before].Query); got != begin+test.want {
			t.Errorf("%s:\ngot  %s\nwant %s", test.fields, got, begin+test.want)
		}
	}
}

func TestDownlinkRefusedHere(t *testing.T) {
	now := time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC)
	lrc := newLRC(t, thingparktest.LRCOptions{})
	d := openDoor(t, `{"downlinkUrl":"`+lrc.URL()+`"}`, func() time.Time { return now })
	for _, test := range []struct {
		fields  string
		verdict sluice.Verdict
		reason  sluice.Reason
	}{
		{`"payload_hex":"00"`, sluice.Permanent, sluice.ReasonMalformed},
		{`"FPort":0,"payload_hex":"00"`, sluice.Permanent, sluice.ReasonMalformed},
		{`"FPort":225,"payload_hex":"00"`, sluice.Permanent, sluice.ReasonMalformed},
		{`"FPort":"x","payload_hex":"00"`, sluice.Permanent, sluice.ReasonMalformed},
		{`"FPort":{},"payload_hex":"00"`, sluice.Permanent, sluice.ReasonMalformed},
		{`"FPort":1`, sluice.Permanent, sluice.ReasonMalformed},
		{`"FPort":1,"payload_hex":"0"`, sluice.Permanent, sluice.ReasonMalformed},
		{`"FPort":1,"payload_hex":"0g"`, sluice.Permanent, sluice.ReasonMalformed},
		{`"FPort":1,"payload_hex":{}`, sluice.Permanent, sluice.ReasonMalformed},
		{`"FPort":1,"payload":{"led":true}`, sluice.Permanent, sluice.ReasonMalformed},
		{`"FPort":1,"payload":{"led":true},"payload_hex":"00"`, sluice.Permanent, sluice.ReasonMalformed},
		{`"FPort":1,"payload_hex":"00","Confirmed":2`, sluice.Permanent, sluice.ReasonMalformed},
		{`"FPort":1,"payload_hex":"00","FCntDn":-1`, sluice.Permanent, sluice.ReasonMalformed},
		{`"FPort":1,"payload_hex":"00","FCntDn":4294967296`, sluice.Permanent, sluice.ReasonMalformed},
		{`"FPort":1,"payload_hex":"00","ValidityTime":"soon"`, sluice.Permanent, sluice.ReasonMalformed},
		{`"FPort":1,"payload_hex":"00","ValidityTime":"2020-03-01T11:00:01"`, sluice.Expired, sluice.ReasonExpired},
		{`"FPort":1,"payload_hex":"00","ValidityTime":60`, sluice.Expired, sluice.ReasonExpired},
		{`"FPort":1,"payload_hex":"00","ValidityTime":"2026-03-01T11:00:00+01:00"`, sluice.Expired, sluice.ReasonExpired},
		{`"FPort":1,"payload_hex":"00","ValidityTime":"2026-03-01T11:00:00.000+0100"`, sluice.Expired, sluice.ReasonExpired},
	} {
		m := command(test.fields)
		m.Received = now.Add(-time.Minute)
		checkFailure(t, test.fields, d.network.Handle(t.Context(), m), test.verdict, test.reason)
	}
	m := command(`"FPort":1,"payload_hex":"00"`)
	m.Document = []byte(`{"DevEUI_uplink":{}}`)
	checkFailure(t, "no downlink", d.network.Handle(t.Context(), m), sluice.Permanent, sluice.ReasonMalformed)
	m = command(`"FPort":1,"payload_hex":"00"`)
	m.Credentials = []byte("sealed with another key")
	checkFailure(t, "credentials", d.network.Handle(t.Context(), m), sluice.Permanent, sluice.ReasonConfiguration)
	closed := openDoor(t, `{}`, nil)
	checkFailure(t, "no address", closed.network.Handle(t.Context(), command(`"FPort":1,"payload_hex":"00"`)), sluice.Permanent, sluice.ReasonConfiguration)
	if queued, refused := lrc.Count(); queued+refused > 0 {
		t.Error("something was sent")
	}
}

func checkFailure(t *testing.T, what string, err error, verdict sluice.Verdict, reason sluice.Reason) *sluice.Failure {
	t.Helper()
	f, ok := errors.AsType[*sluice.Failure](err)
	if !ok {
		t.Errorf("%s: %v is no failure", what, err)
		return &sluice.Failure{}
	}
	if f.Verdict != verdict || f.Reason != reason || f.Message == "" {
		t.Errorf("%s: got verdict %d, reason %s: %v", what, f.Verdict, f.Reason, err)
	}
	return f
}

func TestCredentials(t *testing.T) {
	const otherKey = "0123456789abcdef0123456789abcdef"
	lrc := newLRC(t, thingparktest.LRCOptions{Keys: map[string]string{testASID: testKey, "other": otherKey, "third": testKey}})
	d := openDoor(t, withDownlinks(testASID, testKey, lrc.URL()), nil)
	for _, test := range []struct {
		credentials *sluice.Credentials
		asID        string
	}{
		{nil, testASID},
		{&sluice.Credentials{}, testASID},
		{&sluice.Credentials{ASID: "other", ASKey: otherKey}, "other"},
		{&sluice.Credentials{ASID: "third"}, "third"}, // the key of the network
	} {
		m := command(`"FPort":1,"payload_hex":"00"`)
		if test.credentials != nil {
			m.Credentials = networktest.Secret(*test.credentials)
		}
		if err := d.network.Handle(t.Context(), m); err != nil {
			t.Errorf("%+v: %v", test.credentials, err)
			continue
		}
		all := lrc.Downlinks()
		if last := all[len(all)-1]; last.ASID != test.asID {
			t.Errorf("%+v: signed as %q", test.credentials, last.ASID)
		}
	}
	m := command(`"FPort":1,"payload_hex":"00"`)
	m.Credentials = networktest.Secret(sluice.Credentials{ASID: "other", ASKey: testKey})
	f := checkFailure(t, "a wrong key", d.network.Handle(t.Context(), m), sluice.Permanent, sluice.ReasonRejected)
	if f.Status != 403 || f.Message != "Security Check. bad Token" || f.Hint == "" {
		t.Errorf("%+v", f)
	}
}

// The id of a network is as good as a password; whoever hands in the log has
// put the name there.
func TestLogWithoutNetworkID(t *testing.T) {
	lrc := newLRC(t, thingparktest.LRCOptions{})
	lrc.Set(thingparktest.Answer{Status: 200, Body: "fine"})
	d := openDoor(t, `{"downlinkUrl":"`+lrc.URL()+`"}`, nil)
	if err := d.network.Handle(t.Context(), command(`"FPort":1,"payload_hex":"00"`)); err != nil {
		t.Fatal(err)
	}
	if log := d.log.String(); !strings.Contains(log, "answer=fine") || strings.Contains(log, "n1") {
		t.Errorf("log: %s", log)
	}
}

func TestAnswers(t *testing.T) {
	page := `<!DOCTYPE html><html><head><title>Login</title></head><body><form>Please log in</form></body></html>`
	lrc := newLRC(t, thingparktest.LRCOptions{})
	d := openDoor(t, `{"downlinkUrl":"`+lrc.URL()+`"}`, nil)
	queued := sluice.Verdict(-1)
	for _, test := range []struct {
		answer  thingparktest.Answer
		verdict sluice.Verdict
		reason  sluice.Reason
		message string
		after   time.Duration
	}{
		{thingparktest.Answer{}, queued, "", "", 0},
		{thingparktest.Answer{Status: 200, Body: "Request queued by LRC"}, queued, "", "", 0},
		{thingparktest.Answer{Status: 200, Body: `{"status":"ok"}`}, queued, "", "", 0},
		{thingparktest.Answer{Status: 204}, queued, "", "", 0},
		{thingparktest.Answer{Status: 200, Body: page}, sluice.Permanent, sluice.ReasonConfiguration, "The downlink address answered with a web page: Login Please log in", 0},
		{
			thingparktest.Answer{Status: 350, Text: "Downlink counter value already used. Expected=1238"},
			sluice.Permanent, sluice.ReasonRejected, "Downlink counter value already used. Expected=1238", 0,
		},
		{thingparktest.Answer{Status: 400, Body: "<html>\n<body> <b>No &amp; no</b>\r\n\t!</body></html>"}, sluice.Permanent, sluice.ReasonRejected, "No & no !", 0},
		{thingparktest.Answer{Status: 404, Body: "\x00"}, sluice.Permanent, sluice.ReasonRejected, "The network server answered with status 404.", 0},
		{thingparktest.Answer{Status: 307, Text: "moved"}, sluice.Permanent, sluice.ReasonConfiguration, "The downlink address sends us on to another one.", 0},
		{thingparktest.Answer{Status: 429, Text: "slow down"}, sluice.Retry, sluice.ReasonThrottled, "slow down", 0},
		{thingparktest.Answer{Status: 429, Text: "slow down", RetryAfter: "7"}, sluice.RetryAfter, sluice.ReasonThrottled, "slow down", 7 * time.Second},
		{thingparktest.Answer{Status: 503, Text: "busy", RetryAfter: "999999999"}, sluice.RetryAfter, sluice.ReasonUnreachable, "busy", time.Hour},
		{thingparktest.Answer{Status: 503, Text: "busy", RetryAfter: "x"}, sluice.Retry, sluice.ReasonUnreachable, "busy", 0},
		{thingparktest.Answer{Status: 500, Text: "oops"}, sluice.Retry, sluice.ReasonUnreachable, "oops", 0},
	} {
		lrc.Set(test.answer)
		err := d.network.Handle(t.Context(), command(`"FPort":1,"payload_hex":"00"`))
		if test.verdict == queued {
			if err != nil {
				t.Errorf("%+v: %v", test.answer, err)
			}
			continue
		}
		f := checkFailure(t, test.answer.Text, err, test.verdict, test.reason)
		if f.Message != test.message || f.After != test.after || f.Status != test.answer.Status {
			t.Errorf("%+v: message %q, status %d, after %s", test.answer, f.Message, f.Status, f.After)
		}
	}
	lrc.Set(thingparktest.Answer{Status: 400, Text: strings.Repeat("ü", 10_000)})
	f := checkFailure(t, "long", d.network.Handle(t.Context(), command(`"FPort":1,"payload_hex":"00"`)), sluice.Permanent, sluice.ReasonRejected)
	if len(f.Message) > 310 {
		t.Errorf("the message has %d bytes", len(f.Message))
	}
}

// An LRC that echoes the request does not make us tell the Token.
func TestSecretsInAnswers(t *testing.T) {
	server := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusBadRequest)
		_, _ = w.Write([]byte("bad request: " + r.URL.RawQuery + " " + testKey))
	})
	d := openDoor(t, withDownlinks(testASID, testKey, server), nil)
	err := d.network.Handle(t.Context(), command(`"FPort":1,"payload_hex":"00"`))
	f := checkFailure(t, "echo", err, sluice.Permanent, sluice.ReasonRejected)
	if strings.Contains(f.Error(), testKey) || !strings.Contains(f.Message, "Token=*****") {
		t.Error(f.Error())
	}
}

func TestUnreachable(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refused := listener.Addr().String()
	_ = listener.Close()
	// This one hangs up on whoever calls.
	hangsUp := serve(t, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	for address, reason := range map[string]sluice.Reason{
		"http://" + refused + "/x": sluice.ReasonUnreachable,
		hangsUp:                    sluice.ReasonUnreachable,
		"https://" + strings.TrimPrefix(hangsUp, "http://"): sluice.ReasonTLS,
	} {
		d := openDoor(t, withDownlinks(testASID, testKey, address), nil)
		f := checkFailure(t, address, d.network.Handle(t.Context(), command(`"FPort":1,"payload_hex":"00"`)), sluice.Retry, reason)
		if text := f.Error(); strings.Contains(text, "Token") || strings.Contains(text, testKey) || strings.Contains(text, "Payload") {
			t.Errorf("the error tells the request: %s", text)
		}
	}
}

func TestDownlinkContext(t *testing.T) {
	lrc := newLRC(t, thingparktest.LRCOptions{})
	lrc.Set(thingparktest.Answer{Delay: time.Hour})
	d := openDoor(t, `{"downlinkUrl":"`+lrc.URL()+`"}`, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := d.network.Handle(ctx, command(`"FPort":1,"payload_hex":"00"`)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	lrc.Set(thingparktest.Answer{})
}

// A downlink address may have parameters of its own.
func TestDownlinkAddressWithParameters(t *testing.T) {
	got := make(chan string, 1)
	server := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		got <- r.URL.RawQuery + " " + r.Header.Get("Content-Type") + " " + r.Method
	})
	d := openDoor(t, `{"downlinkUrl":"`+server+`/x?tenant=a"}`, nil)
	if err := d.network.Handle(t.Context(), command(`"FPort":1,"payload_hex":"00"`)); err != nil {
		t.Fatal(err)
	}
	if q := <-got; q != "tenant=a&DevEUI=0251C0DE00000001&FPort=1&Payload=00 application/x-www-form-urlencoded POST" {
		t.Error(q)
	}
}
