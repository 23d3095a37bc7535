package connection

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluice"
)

func TestReadDownlink(t *testing.T) {
	const base = `{"DevEUI_downlink":{"DevEUI":"20635F0108000495","FPort":2,"payload_hex":"0103"}}`
	common := sluice.Common{}
	port := sluice.Common{DownlinkPort: 7}
	keys := sluice.Common{DownlinkASID: "conn", DownlinkASKey: "connkey"}
	for _, c := range []struct {
		name, document, topic string
		common                sluice.Common
		device                string
		want                  string // the document; "": as it came
		credentials           *sluice.Credentials
	}{
		{"plain", base, "", common, "20635F0108000495", "", nil},
		{"topic agrees", base, "20635F0108000495", common, "20635F0108000495", "", nil},
		{
			"strings, dashes, lower case", `{"DevEUI_downlink":{"DevEUI":"74-fe-48-00-00-00-00-0a","FPort":"8","payload_hex":"aB","Confirmed":"1"}}`,
			"", common, "74FE48000000000A", "", nil,
		},
		{
			"device from the topic", `{"DevEUI_downlink":{"FPort":8,"payload_hex":"00"}}`, "74FE48000000000A", common, "74FE48000000000A",
			`{"DevEUI_downlink":{"FPort":8,"payload_hex":"00","DevEUI":"74FE48000000000A"}}`, nil,
		},
		{
			"port from the connection", `{"DevEUI_downlink": {"DevEUI":"74FE48000000000A", "payload_hex":"00","x":1.50, "FPort":null}}`, "", port,
			"74FE48000000000A", `{"DevEUI_downlink":{"DevEUI":"74FE48000000000A","payload_hex":"00","x":1.50,"FPort":7}}`, nil,
		},
		{"own port stays", base, "", port, "20635F0108000495", "", nil},
		{
			"own credentials", `{"DevEUI_downlink":{"DevEUI":"74FE48000000000A","AS_ID":"a","FPort":1,"AS_KEY":"k","payload_hex":"00"}}`, "", keys,
			"74FE48000000000A", `{"DevEUI_downlink":{"DevEUI":"74FE48000000000A","FPort":1,"payload_hex":"00"}}`,
			&sluice.Credentials{ASID: "a", ASKey: "k"},
		},
		{
			"key by another spelling", `{"DevEUI_downlink":{"DevEUI":"74FE48000000000A","AS\u005fKEY":"k","FPort":1,"payload_hex":"00"}}`, "", keys,
			"74FE48000000000A", `{"DevEUI_downlink":{"DevEUI":"74FE48000000000A","FPort":1,"payload_hex":"00"}}`,
			&sluice.Credentials{ASID: "conn", ASKey: "k"},
		},
		{"the connection's credentials", base, "", keys, "20635F0108000495", "", &sluice.Credentials{ASID: "conn", ASKey: "connkey"}},
		{
			"all options", `{"DevEUI_downlink":{"Time":"x","DevEUI":"20635F0108000495","FPort":2,"payload_hex":"","Confirmed":0,"ValidityTime":"600",` +
				`"FlushDownlinkQueue":"1","FCntDn":"12","AFCntDn":3,"CorrelationID":"4434704901C7450B","RetryIneligibleGateways":true}}`,
			"", common, "20635F0108000495", "", nil,
		},
		{
			"XML", `<?xml version="1.0"?><DevEUI_downlink xmlns="http://uri.actility.com/lora"><DevEUI>20635F0108000495</DevEUI><FPort>2</FPort>` +
				`<payload_hex>0103</payload_hex></DevEUI_downlink>`, "", common, "20635F0108000495", base, nil,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			fields, document, ok := downlinkFields([]byte(c.document))
			if !ok {
				t.Fatal("no downlink")
			}
			d, problems := readDownlink(document, fields, c.topic, c.common)
			if len(problems) > 0 {
				t.Fatal(problems)
			}
			want := c.want
			if want == "" {
				want = c.document
			}
			if d.devEUI != c.device || string(d.document) != want {
				t.Errorf("device %s, document %s", d.devEUI, d.document)
			}
			if diff := cmp.Diff(c.credentials, d.credentials); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestMalformedDownlinks(t *testing.T) {
	const eui = `"DevEUI":"20635F0108000495",`
	for fields, paths := range map[string]string{
		`"FPort":1,"payload_hex":"00"`:                                         "DevEUI",
		`"DevEUI":"20635F01","FPort":1,"payload_hex":"00"`:                     "DevEUI",
		`"DevEUI":"","FPort":1,"payload_hex":"00"`:                             "DevEUI",
		`"DevEUI":{},"FPort":1,"payload_hex":"00"`:                             "DevEUI",
		eui + `"payload_hex":"00"`:                                             "FPort",
		eui + `"FPort":0,"payload_hex":"00"`:                                   "FPort",
		eui + `"FPort":225,"payload_hex":"00"`:                                 "FPort",
		eui + `"FPort":1.5,"payload_hex":"00"`:                                 "FPort",
		eui + `"FPort":"x","payload_hex":"00"`:                                 "FPort",
		eui + `"FPort":1`:                                                      "payload_hex",
		eui + `"FPort":1,"payload_hex":"0"`:                                    "payload_hex",
		eui + `"FPort":1,"payload_hex":"0g"`:                                   "payload_hex",
		eui + `"FPort":1,"payload_hex":{}`:                                     "payload_hex",
		eui + `"FPort":1,"payload_hex":"` + strings.Repeat("00", 243) + `"`:    "payload_hex",
		eui + `"FPort":1,"payload_hex":"00","payload":{"a":1}`:                 "payload",
		eui + `"FPort":1,"payload":{"a":1}`:                                    "payload",
		eui + `"FPort":1,"payload_hex":"00","Confirmed":2`:                     "Confirmed",
		eui + `"FPort":1,"payload_hex":"00","FCntDn":-1`:                       "FCntDn",
		eui + `"FPort":1,"payload_hex":"00","ValidityTime":{}`:                 "ValidityTime",
		eui + `"FPort":1,"payload_hex":"00","ValidityTime":"soon"`:             "ValidityTime",
		eui + `"FPort":1,"payload_hex":"00","ValidityTime":-5`:                 "ValidityTime",
		eui + `"FPort":1,"payload_hex":"00","AS_KEY":["k"]`:                    "AS_KEY",
		eui + `"FPort":1,"FPort":2,"payload_hex":"00"`:                         "",
		`"FPort":0,"payload_hex":"zz","FlushDownlinkQueue":7,"AFCntDn":"many"`: "DevEUI FPort payload_hex FlushDownlinkQueue AFCntDn",
	} {
		raw, document, ok := downlinkFields([]byte(`{"DevEUI_downlink":{` + fields + `}}`))
		if !ok {
			t.Errorf("%s: no downlink", fields)
			continue
		}
		_, problems := readDownlink(document, raw, "", sluice.Common{})
		var got []string
		for _, p := range problems {
			got = append(got, strings.TrimPrefix(strings.TrimPrefix(p.Path, "DevEUI_downlink"), "."))
		}
		if strings.Join(got, " ") != paths || len(problems) == 0 {
			t.Errorf("%s: problems %v, want %q", fields, problems, paths)
		}
	}
}

func FuzzReadDownlink(f *testing.F) {
	f.Add([]byte(`{"DevEUI_downlink":{"DevEUI":"20635F0108000495","FPort":"2","payload_hex":"0103","AS_KEY":"secret"}}`), "")
	f.Add([]byte(`<DevEUI_downlink><AS_KEY>secret</AS_KEY></DevEUI_downlink>`), "20635F0108000495")
	f.Add([]byte(`{"DevEUI_downlink":{"AS_KEY":"secret","AS_KEY":"secret"}}`), "")
	f.Fuzz(func(t *testing.T, document []byte, topic string) {
		fields, asJSON, ok := downlinkFields(document)
		if !ok {
			return
		}
		d, problems := readDownlink(asJSON, fields, topic, sluice.Common{DownlinkPort: 1})
		if len(problems) > 0 {
			return
		}
		if !json.Valid(d.document) {
			t.Errorf("not JSON: %s", d.document)
		}
		again, _, ok := downlinkFields(d.document)
		if !ok || again.Get("AS_KEY").Exists() || again.Get("AS_ID").Exists() {
			t.Errorf("credentials left in %s", d.document)
		}
	})
}

const command = `{"DevEUI_downlink":{"DevEUI":"20635F0108000495","FPort":2,"payload_hex":"0103"}}`

func fromTopic(document string) sluice.Command {
	return sluice.Command{Source: "x/20635F0108000495/down", DevEUI: "20635F0108000495", Document: []byte(document)}
}

func (w *world) taken() []*sluice.Message {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]*sluice.Message(nil), w.commands...)
}

func TestCommandIsTakenThenAcknowledged(t *testing.T) {
	run(t, func(t *testing.T, b *bench) {
		b.apply(connection(1, `"downlinkAsId":"id","downlinkAsKey":"secret"`))
		if err := b.subscriber().take(t.Context(), fromTopic(command)); err != nil {
			t.Fatal(err)
		}
		ms := b.taken()
		if len(ms) != 1 {
			t.Fatalf("%d commands", len(ms))
		}
		m := ms[0]
		if m.Kind != sluice.KindDownlink || m.DevEUI != "20635F0108000495" || m.Connection != "8" || len(m.ID) != 26 ||
			m.Received.IsZero() || string(m.Document) != command {
			t.Errorf("message %+v", m)
		}
		clear, _ := fakeSealer{}.Open(m.Credentials)
		if string(clear) != `{"asId":"id","asKey":"secret"}` {
			t.Errorf("credentials %s", clear)
		}
	})
}

func TestWhatIsNoDownlinkIsIgnored(t *testing.T) {
	run(t, func(t *testing.T, b *bench) {
		b.apply(connection(1, ""))
		before := len(b.seen())
		for _, document := range []string{
			`{"DevEUI_uplink":{"DevEUI":"20635F0108000495"}}`, `{"temperature":21}`, `{"DevEUI_downlink":5}`, `hello`, ``, `[]`, `"DevEUI_downlink"`,
			"\xff\xfe", `<a>`,
		} {
			if err := b.subscriber().take(t.Context(), fromTopic(document)); err != nil {
				t.Errorf("%s: %v", document, err)
			}
		}
		if len(b.taken()) != 0 || len(b.seen()) != before || b.runners["8"].ignored.Load() != 9 {
			t.Errorf("taken %d, events %v", len(b.taken()), b.seen())
		}
	})
}

func TestMalformedIsToldAndAcknowledged(t *testing.T) {
	run(t, func(t *testing.T, b *bench) {
		b.apply(connection(1, ""))
		other := sluice.Command{Source: "x/0000000000000001/down", DevEUI: "0000000000000001", Document: []byte(command)}
		if err := b.subscriber().take(t.Context(), other); err != nil {
			t.Error(err)
		}
		events := b.seen(sluice.EventDownlinkIgnored)
		want := "What came on x/0000000000000001/down cannot be sent to a device: " +
			"DevEUI_downlink.DevEUI: The document is for device 20635F0108000495, but its topic for 0000000000000001."
		if len(events) != 1 || events[0].Detail != want || events[0].Reason != sluice.ReasonMalformed || len(b.taken()) != 0 {
			t.Errorf("events %+v", events)
		}
		if len(b.reports) != 1 || b.reports[0].DevEUI != "0000000000000001" || events[0].DevEUI != "0000000000000001" ||
			!strings.Contains(string(b.reports[0].Document), "but its topic for 0000000000000001.") {
			t.Errorf("reports %+v", b.reports)
		}
		// Another cause is told at once, the same one in the summary.
		for range 3 {
			if err := b.subscriber().take(t.Context(), fromTopic(strings.Replace(command, "0103", "01x3", 1))); err != nil {
				t.Error(err)
			}
		}
		if n := len(b.seen(sluice.EventDownlinkIgnored)); n != 2 || len(b.reports) < 2 {
			t.Errorf("%d events, %d reports", n, len(b.reports))
		}
	})
}

func TestRefusedCommandIsReported(t *testing.T) {
	run(t, func(t *testing.T, b *bench) {
		b.set(func(w *world) {
			w.command = func(*sluice.Message) error {
				return &sluice.Failure{Verdict: sluice.Permanent, Reason: sluice.ReasonUnknownDevice, Message: "No network has seen the device."}
			}
		})
		b.apply(connection(1, ""))
		if err := b.subscriber().take(t.Context(), fromTopic(command)); err != nil {
			t.Error(err)
		}
		if len(b.reports) != 1 || b.reports[0].Kind != sluice.KindDownlinkRejected || b.reports[0].Connection != "8" {
			t.Fatalf("reports %+v", b.reports)
		}
		if e := b.seen(sluice.EventDownlinkRejected); len(e) != 1 || e[0].Reason != sluice.ReasonUnknownDevice {
			t.Errorf("events %+v", e)
		}
	})
}

func TestCommandWaitsForTheJournal(t *testing.T) {
	run(t, func(t *testing.T, b *bench) {
		b.set(func(w *world) { w.command = func(*sluice.Message) error { return errBoom } })
		b.apply(connection(1, ""))
		s := b.subscriber()
		var err error
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			err = s.take(context.Background(), fromTopic(command))
		}()
		b.pass(time.Minute)
		select {
		case <-ended:
			t.Fatalf("given up: %v", err)
		default:
		}
		b.set(func(w *world) { w.command = nil })
		b.pass(takeAgainMax)
		<-ended
		if err != nil || len(b.taken()) != 1 {
			t.Errorf("error %v, %d commands", err, len(b.taken()))
		}

		// With the session, the wait ends; the command stays unacknowledged.
		b.set(func(w *world) { w.command = func(*sluice.Message) error { return errBoom } })
		go func() { err = s.take(context.Background(), fromTopic(command)) }()
		b.pass(time.Minute)
		b.stop()
		synctest.Wait()
		if !errors.Is(err, errBoom) {
			t.Errorf("error %v", err)
		}
	})
}

func TestCommandOverHTTP(t *testing.T) {
	run(t, func(t *testing.T, b *bench) {
		send := func(id, document string) (string, error) {
			return b.Command(t.Context(), id, sluice.Command{Source: "POST", Document: []byte(document)})
		}
		b.set(func(w *world) { w.refuse = func(*fakeDialer, int) error { return refusal(sluice.ReasonUnreachable) } })
		b.apply(connection(1, "")) // closed, which does not matter
		id, err := send("8", command)
		if err != nil || id != b.taken()[0].ID {
			t.Errorf("id %q, error %v", id, err)
		}
		if _, err := send("9", command); sluice.CodeOf(err) != sluice.CodeNotFound {
			t.Errorf("unknown connection: %v", err)
		}
		for _, document := range []string{`{}`, `x`, `{"DevEUI_uplink":{}}`} {
			if _, err := send("8", document); sluice.CodeOf(err) != sluice.CodeInvalid {
				t.Errorf("%s: %v", document, err)
			}
		}
		_, err = send("8", `{"DevEUI_downlink":{"FPort":300}}`)
		e, ok := errors.AsType[*sluice.Error](err)
		if !ok || e.Code != sluice.CodeInvalid || len(e.Fields) != 3 {
			t.Errorf("error %+v", e)
		}
		for want, refusal := range map[sluice.Code]error{
			sluice.CodeNotFound:    &sluice.Failure{Verdict: sluice.Permanent, Reason: sluice.ReasonUnknownDevice, Message: "unknown"},
			sluice.CodeConflict:    &sluice.Failure{Verdict: sluice.Permanent, Reason: sluice.ReasonUnknownNetwork, Message: "gone"},
			sluice.CodeUnavailable: errBoom,
			sluice.CodeTooLarge:    sluice.Errorf(sluice.CodeTooLarge, "large"),
		} {
			b.set(func(w *world) { w.command = func(*sluice.Message) error { return refusal } })
			if _, err := send("8", command); sluice.CodeOf(err) != want {
				t.Errorf("%v becomes %v, want %s", refusal, err, want)
			}
		}
		if len(b.reports) != 0 {
			t.Error("who asks over HTTP has the answer, and needs no report")
		}
		b.apply(connection(2, `"downlinkEnabled":false`))
		if _, err := send("8", command); sluice.CodeOf(err) != sluice.CodeConflict {
			t.Errorf("downlinks disabled: %v", err)
		}
		c := connection(3, "")
		c.Active = false
		b.apply(c)
		if _, err := send("8", command); sluice.CodeOf(err) != sluice.CodeConflict {
			t.Errorf("not active: %v", err)
		}
	})
}

func TestSubscriptionMovesWhenLost(t *testing.T) {
	run(t, func(t *testing.T, b *bench) {
		b.set(func(w *world) { w.size = 3 })
		b.apply(connection(1, ""))
		first := b.subscriber()
		first.lose(sluice.ReasonDisconnected)
		b.pass(time.Millisecond)
		second := b.subscriber()
		if second == nil || second == first {
			t.Fatal("no other session is subscribed")
		}
		b.wantState(sluice.StateOpened)
		b.pass(time.Minute)
		n := 0
		for _, s := range b.open() {
			if s.subscribed {
				n++
			}
		}
		if n != 1 || len(b.open()) != 3 {
			t.Errorf("%d of %d sessions are subscribed", n, len(b.open()))
		}
	})
}

// The last open sessions are lost while another, which was not to subscribe,
// is being opened: it subscribes after all.
func TestSubscriptionOfALateSession(t *testing.T) {
	run(t, func(t *testing.T, b *bench) {
		b.set(func(w *world) { w.size = 3 })
		b.apply(connection(1, ""))
		b.pass(time.Minute)
		var others []*fakeSession
		var late *fakeSession
		for _, s := range b.open() {
			if s != b.subscriber() && late == nil {
				late = s
			} else {
				others = append(others, s)
			}
		}
		late.lose(sluice.ReasonDisconnected)
		before := b.tries()
		b.pass(376 * time.Millisecond)
		if b.tries() != before+1 || len(b.open()) != 2 {
			t.Fatal("it is not being opened")
		}
		for _, s := range others {
			s.lose(sluice.ReasonDisconnected)
		}
		b.pass(20 * time.Millisecond)
		b.wantState(sluice.StateOpened)
		if len(b.open()) != 1 || b.subscriber() == nil {
			t.Errorf("%d sessions, subscribed %v", len(b.open()), b.subscriber())
		}
	})
}

func TestRefusedSubscriptionIsNoOpening(t *testing.T) {
	run(t, func(t *testing.T, b *bench) {
		b.set(func(w *world) {
			w.size = 3
			w.deny = func(*fakeSession) error { return refusal(sluice.ReasonNotAuthorized) }
		})
		b.apply(connection(1, ""))
		b.wantState(sluice.StateAuthenticationFailed)
		if len(b.open()) != 0 {
			t.Errorf("%d sessions are open", len(b.open()))
		}
		b.set(func(w *world) { w.deny = nil })
		b.pass(time.Minute)
		b.wantState(sluice.StateOpened)

		// Refused only later: the connection ends up closed and says why.
		b.set(func(w *world) { w.deny = func(*fakeSession) error { return refusal(sluice.ReasonNotAuthorized) } })
		b.subscriber().lose(sluice.ReasonDisconnected)
		b.pass(10 * time.Second)
		b.wantState(sluice.StateAuthenticationFailed)
	})
}

func TestNoSubscription(t *testing.T) {
	for name, set := range map[string]func(w *world) string{
		"downlinks disabled":   func(*world) string { return `"downlinkEnabled":false` },
		"sessions that cannot": func(w *world) string { w.plain = true; return "" },
	} {
		t.Run(name, func(t *testing.T) {
			run(t, func(t *testing.T, b *bench) {
				var more string
				b.set(func(w *world) { w.size = 2; more = set(w) })
				b.apply(connection(1, more))
				b.wantState(sluice.StateOpened)
				if b.subscriber() != nil {
					t.Error("a session is subscribed")
				}
				b.open()[0].lose(sluice.ReasonDisconnected)
				b.pass(time.Minute)
				b.wantState(sluice.StateOpened)
				if len(b.open()) != 2 {
					t.Errorf("%d sessions", len(b.open()))
				}
			})
		})
	}
}

// A command that is sent while a changed configuration takes over comes on the
// old and on the new subscription, and is one command.
func TestCopiesDuringASwap(t *testing.T) {
	run(t, func(t *testing.T, b *bench) {
		b.set(func(w *world) {
			w.handle = func(context.Context, *fakeSession, *sluice.Message) error {
				time.Sleep(3 * time.Second) // keeps the old session open for a while
				return nil
			}
		})
		b.apply(connection(1, ""))
		b.journal.add(uplink("m1", eui(1)))
		b.pass(time.Millisecond)
		old := b.subscriber()
		b.apply(connection(2, `"uplinkTopicPattern":"x"`))
		now := b.open()[1]
		if !now.subscribed || isDone(old) || now == old {
			t.Fatal("there are no two subscriptions")
		}
		send := func(s *fakeSession, document string) {
			t.Helper()
			if err := s.take(t.Context(), fromTopic(document)); err != nil {
				t.Error(err)
			}
		}
		correlated := strings.Replace(command, `"FPort"`, `"CorrelationID":"1","FPort"`, 1)
		send(old, command)
		send(now, command)
		send(now, correlated)
		send(old, correlated)
		send(now, correlated)
		if n := len(b.taken()); n != 2 {
			t.Errorf("%d commands, want 2", n)
		}
		// Two equal commands are two, whichever session tells them first.
		two := strings.Replace(command, "0103", "0104", 1)
		send(old, two)
		send(now, two)
		send(now, two)
		send(old, two)
		if n := len(b.taken()); n != 4 {
			t.Errorf("%d commands, want 4", n)
		}
		b.pass(handoverFor + time.Second)
		send(now, two)
		send(now, correlated)
		send(now, correlated)
		if n := len(b.taken()); n != 7 {
			t.Errorf("%d commands, want 7: long after the handover each is its own", n)
		}
	})
}

// A copy is acknowledged only when the first is durable, and is taken itself
// when the first is not.
func TestCopyWaitsForTheFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHandover(time.Now, 30*time.Second)
		h.begin()
		w := newWorld(t)
		one, two := &fakeSession{w: w}, &fakeSession{w: w}
		release := make(chan struct{})
		var calls []string
		var mu sync.Mutex
		take := func(name string, s sluice.Session, err error) error {
			return h.once(t.Context(), s, fromTopic(command), false, func() error {
				mu.Lock()
				calls = append(calls, name)
				mu.Unlock()
				<-release
				return err
			})
		}
		var wait sync.WaitGroup
		wait.Go(func() {
			if err := take("first", one, errBoom); !errors.Is(err, errBoom) {
				t.Errorf("first: %v", err)
			}
		})
		synctest.Wait()
		copied := false
		wait.Go(func() {
			if err := take("copy", two, nil); err != nil {
				t.Errorf("copy: %v", err)
			}
			mu.Lock()
			copied = true
			mu.Unlock()
		})
		synctest.Wait()
		mu.Lock()
		if copied || len(calls) != 1 {
			t.Errorf("the copy did not wait: %v", calls)
		}
		mu.Unlock()
		close(release)
		wait.Wait()
		if d := cmp.Diff([]string{"first", "copy"}, calls); d != "" {
			t.Error(d)
		}
		// The first comes again, as it was not acknowledged; it is a copy now.
		if err := take("again", one, nil); err != nil || len(calls) != 2 {
			t.Errorf("error %v, calls %v", err, calls)
		}
	})
}

func TestHandoverIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHandover(time.Now, 30*time.Second)
		h.begin()
		s := &fakeSession{}
		for n := range 3 * handoverMax {
			c := sluice.Command{Source: eui(n)}
			if err := h.once(t.Context(), s, c, false, func() error { return nil }); err != nil {
				t.Fatal(err)
			}
		}
		if len(h.seen) > handoverMax || len(h.order) > handoverMax {
			t.Errorf("%d are remembered", len(h.seen))
		}
		time.Sleep(handoverFor + time.Second)
		if err := h.once(t.Context(), s, sluice.Command{Source: "x"}, false, func() error { return nil }); err != nil {
			t.Fatal(err)
		}
		if len(h.seen) != 1 || len(h.order) != 1 {
			t.Errorf("%d are remembered long after", len(h.seen))
		}
	})
}
