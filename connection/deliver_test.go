package connection

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"sluice"
)

func TestWaitsForASession(t *testing.T) {
	run(t, func(t *testing.T, b *bench) {
		b.set(func(w *world) {
			w.size = 10
			w.refuse = func(*fakeDialer, int) error { return refusal(sluice.ReasonUnreachable) }
		})
		b.apply(connection(1, ""))
		for n := range 2000 {
			b.journal.add(uplink(fmt.Sprintf("m%d", n), eui(n)))
		}
		b.pass(time.Hour)
		if b.journal.count().done != 0 || b.journal.count().most != idleConcurrency {
			t.Errorf("%d over, %d taken out of the journal", b.journal.count().done, b.journal.count().most)
		}
		b.set(func(w *world) { w.refuse = nil })
		b.pass(time.Minute)
		if b.journal.count().done != 2000 || b.journal.count().limit != 10*laneCapacity {
			t.Errorf("%d over, limit %d", b.journal.count().done, b.journal.count().limit)
		}
	})
}

func TestReadsLessWhileClosed(t *testing.T) {
	run(t, func(t *testing.T, b *bench) {
		b.set(func(w *world) { w.size = 3 })
		b.apply(connection(1, ""))
		b.set(func(w *world) { w.refuse = func(*fakeDialer, int) error { return refusal(sluice.ReasonUnreachable) } })
		for _, s := range b.open() {
			s.lose(sluice.ReasonDisconnected)
		}
		b.pass(idleAfter - time.Second)
		if b.journal.count().limit != 3*laneCapacity {
			t.Errorf("limit %d after a short gap", b.journal.count().limit)
		}
		b.pass(2 * time.Second)
		if b.journal.count().limit != idleConcurrency || b.journal.count().reading != 1 {
			t.Errorf("limit %d, %d readers", b.journal.count().limit, b.journal.count().reading)
		}
	})
}

func TestLostLinkLosesNothing(t *testing.T) {
	run(t, func(t *testing.T, b *bench) {
		b.set(func(w *world) {
			w.size = 3
			w.handle = func(_ context.Context, s *fakeSession, _ *sluice.Message) error {
				select {
				case <-time.After(20 * time.Millisecond):
					return nil
				case <-s.done:
					return &sluice.Failure{Verdict: sluice.NotConnected, Reason: sluice.ReasonDisconnected, Message: "lost"}
				}
			}
		})
		b.apply(connection(1, ""))
		sent := 0
		for round := range 20 {
			for n := range 100 {
				b.journal.add(uplink(fmt.Sprintf("m%d", sent), eui(n)))
				sent++
			}
			b.pass(10 * time.Millisecond)
			for i, s := range b.open() {
				if round%4 == 0 || i == round%3 {
					s.lose(sluice.ReasonDisconnected)
				}
			}
			b.pass(time.Second)
		}
		b.pass(time.Minute)
		if b.journal.count().done != sent {
			t.Errorf("%d of %d over", b.journal.count().done, sent)
		}
		// Each try met a session of its own: nobody asked a lost one again
		// and again.
		if b.journal.count().retries > sent {
			t.Errorf("%d tries were in vain", b.journal.count().retries)
		}
	})
}

// A session may know that it is lost a while before it says so.
func TestLostSessionIsNotAskedAgainAndAgain(t *testing.T) {
	run(t, func(t *testing.T, b *bench) {
		b.set(func(w *world) {
			w.handle = func(context.Context, *fakeSession, *sluice.Message) error {
				return &sluice.Failure{Verdict: sluice.NotConnected, Reason: sluice.ReasonDisconnected, Message: "lost"}
			}
		})
		b.apply(connection(1, ""))
		b.journal.add(uplink("m1", eui(1)))
		b.pass(10 * time.Second)
		if n := b.journal.count().retries; n != 10 {
			t.Errorf("asked %d times in ten seconds", n)
		}
		b.set(func(w *world) { w.handle = nil })
	})
}

func TestValidityEndsTheWait(t *testing.T) {
	run(t, func(t *testing.T, b *bench) {
		b.set(func(w *world) { w.refuse = func(*fakeDialer, int) error { return refusal(sluice.ReasonUnreachable) } })
		b.apply(connection(1, `"uplinkTimeValidity":"10m"`))
		shorter := uplink("short", eui(1))
		shorter.Validity = time.Minute
		longer := uplink("long", eui(2))
		longer.Validity = time.Hour          // the flow's; the connection's is shorter
		retried := uplink("retried", eui(4)) // out of quarantine: it has no validity any more
		retried.Validity, retried.Retries = time.Minute, 1
		b.journal.add(shorter, longer, retried)
		b.pass(59 * time.Second)
		if b.journal.count().done != 0 {
			t.Error("expired too early")
		}
		b.pass(2 * time.Second)
		err, _ := b.journal.outcome("short")
		if v, _ := sluice.VerdictOf(err); v != sluice.Expired || b.journal.count().done != 1 {
			t.Errorf("the flow's validity: %v, %d over", err, b.journal.count().done)
		}
		b.pass(9 * time.Minute)
		if _, ok := b.journal.outcome("long"); !ok {
			t.Error("the connection's validity is not kept")
		}
		events := b.seen(sluice.EventUplinkExpired)
		if len(events) != 2 || events[0].Label != "Message expired" || events[0].DevEUI != eui(1) || events[0].Message != "short" ||
			events[0].Detail != "The report of device 0000000000000001 was 1m0s old; the limit is 1m0s." {
			t.Errorf("events %+v", events)
		}
		if events[1].Detail != "The report of device 0000000000000002 was 10m0s old; the limit is 10m0s." || events[1].DevEUI != eui(2) {
			t.Errorf("event %+v", events[1])
		}
		// It is in force at once, sessions or not.
		b.apply(connection(2, `"uplinkTimeValidity":"5s"`))
		b.journal.add(uplink("now", eui(3)))
		b.pass(6 * time.Second)
		if _, ok := b.journal.outcome("now"); !ok {
			t.Error("the changed validity is not in force")
		}
	})
}

// A replay's message is old on purpose, and does not wait where live ones do.
func TestDeliversWhatIsReplayed(t *testing.T) {
	run(t, func(t *testing.T, b *bench) {
		b.set(func(w *world) { w.refuse = func(*fakeDialer, int) error { return refusal(sluice.ReasonUnreachable) } })
		b.apply(connection(1, `"uplinkTimeValidity":"1m"`))
		b.pass(time.Second)
		m := uplink("m", eui(1))
		m.Replayed, m.Received, m.Time = true, time.Now().Add(-time.Hour), time.Now().Add(-time.Hour)
		r, _ := b.runner("8")
		if v, _ := sluice.VerdictOf(r.deliver(t.Context(), nil, m)); v != sluice.NotConnected {
			t.Errorf("while closed: verdict %d", v)
		}
		b.set(func(w *world) { w.refuse = nil })
		b.pass(time.Minute)
		if err := r.deliver(t.Context(), nil, m); err != nil {
			t.Error(err)
		}
	})
}

// What a connection can send is what its sessions are paced to, and no more
// than its own limit.
func TestPace(t *testing.T) {
	for _, c := range []struct {
		pace, size, limit int
		want              float64
	}{{0, 3, 0, 0}, {98, 3, 0, 294}, {98, 3, 1000, 294}, {98, 3, 7, 7}, {0, 3, 7, 7}} {
		r := &runner{}
		r.settings.Store(newSettings(sluice.Connection{}, sluice.Common{UplinkRateLimiter: c.limit}, "", nil))
		r.serving.Store(&pool{size: c.size, dialer: pacedDialer{&fakeDialer{}, float64(c.pace)}})
		if got := r.pace(); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
	if got := New(Options{}).Pace("1"); got != 0 {
		t.Errorf("no connection: %v", got)
	}
}

// How fast commands come is what the Dialer in force says.
func TestCommandRate(t *testing.T) {
	run(t, func(t *testing.T, b *bench) {
		b.set(func(w *world) { w.wrap = func(d *fakeDialer) sluice.Dialer { return gaugedDialer{d} } })
		b.apply(connection(1, ""))
		b.wantState(sluice.StateOpened)
		if s, _ := b.Status("8"); s.CommandRate != 96 {
			t.Errorf("%v commands a second", s.CommandRate)
		}
	})
}

type gaugedDialer struct{ *fakeDialer }

func (gaugedDialer) CommandRate() float64 { return 96 }

type pacedDialer struct {
	*fakeDialer
	pace float64
}

func (d pacedDialer) Pace() float64 { return d.pace }

func TestRateLimit(t *testing.T) {
	run(t, func(t *testing.T, b *bench) {
		b.set(func(w *world) { w.size = 2 })
		b.apply(connection(1, `"uplinkRateLimiter":20,"uplinkTimeValidity":"30s"`))
		for n := range 150 {
			b.journal.add(uplink(fmt.Sprintf("m%d", n), eui(n)))
		}
		b.pass(5 * time.Second)
		if n := b.journal.count().done; n < 100 || n > 101 {
			t.Errorf("%d sent in 5 s at 20 a second", n)
		}
		b.apply(connection(2, "")) // no limit: those who wait keep their place
		b.pass(3 * time.Second)
		if b.journal.count().done != 150 || len(b.dialers) != 1 {
			t.Errorf("%d sent, %d dialers", b.journal.count().done, len(b.dialers))
		}
	})
}

func TestRateLimitExpiresWhatCannotWait(t *testing.T) {
	run(t, func(t *testing.T, b *bench) {
		b.apply(connection(1, `"uplinkRateLimiter":1,"uplinkTimeValidity":"10s"`))
		for n := range 50 {
			b.journal.add(uplink(fmt.Sprintf("m%d", n), eui(n)))
		}
		b.pass(15 * time.Second)
		sent := b.open()[0].published()
		if b.journal.count().done != 50 || sent < 10 || sent > 12 {
			t.Errorf("%d over, %d of them sent", b.journal.count().done, sent)
		}
	})
}

func TestPreparesDevicesFirst(t *testing.T) {
	run(t, func(t *testing.T, b *bench) {
		b.set(func(w *world) {
			w.prepares = true
			w.prepare = func(m *sluice.Message) error {
				if m.DevEUI == eui(2) {
					return &sluice.Failure{
						Verdict: sluice.Permanent, Reason: sluice.ReasonThingMissing, Message: "There is no thing.", Hint: "Make it.",
					}
				}
				return nil
			}
		})
		b.apply(connection(1, ""))
		old := uplink("old", eui(3)) // not worth a thing
		old.Time = old.Time.Add(-time.Hour)
		old.Validity = time.Minute
		b.journal.add(old)
		alarm := uplink("alarm", "10000001")
		alarm.Kind, alarm.Document = sluice.KindBSAlarm, []byte(`{"BS_alarm":{}}`)
		b.journal.add(uplink("m1", eui(1)), uplink("m2", eui(2)), alarm)
		b.pass(time.Second)
		if len(b.prepared) != 2 || b.open()[0].published() != 2 {
			t.Errorf("prepared %v, %d published", b.prepared, b.open()[0].published())
		}
		events := b.seen(sluice.EventUplinkFailed)
		if len(events) != 1 || events[0].Reason != sluice.ReasonThingMissing || events[0].Hint != "Make it." ||
			events[0].Detail != "Uplink lost: There is no thing. Device 0000000000000002." {
			t.Errorf("events %+v", events)
		}
	})
}

// A flood of failures is the first at once, and a summary a minute.
func TestFloodIsSummedUp(t *testing.T) {
	run(t, func(t *testing.T, b *bench) {
		b.set(func(w *world) {
			w.handle = func(context.Context, *fakeSession, *sluice.Message) error {
				return &sluice.Failure{Verdict: sluice.Permanent, Reason: sluice.ReasonTopic, Message: "The topic is too long."}
			}
		})
		b.apply(connection(1, ""))
		for n := range 500 {
			b.journal.add(uplink(fmt.Sprintf("m%d", n), eui(n)))
		}
		b.pass(time.Second)
		if n := len(b.seen(sluice.EventUplinkFailed)); n != 1 {
			t.Fatalf("%d events at once", n)
		}
		b.pass(time.Minute)
		events := b.seen(sluice.EventUplinkFailed)
		if len(events) != 2 || !strings.HasPrefix(events[1].Detail, "499 more within the last minute; the last: Uplink quarantined:") ||
			!strings.Contains(events[1].Hint, "POST /connections/8/quarantine/") {
			t.Fatalf("events %+v", events)
		}
		b.pass(5 * time.Minute)
		b.journal.add(uplink("again", eui(1)))
		b.pass(time.Second)
		if n := len(b.seen(sluice.EventUplinkFailed)); n != 3 {
			t.Errorf("%d events", n)
		}
	})
}

func TestFormOfTheDocument(t *testing.T) {
	const up = ` {"DevEUI_uplink": {"Time":"2021-04-07T08:49:51.551+00:00","FPort":"17", "x":1.0e3,"payload":{"t":21.50}} }`
	const bare = `{"DevEUI_uplink":{"FPort":17}}`
	const empty = `{"DevEUI_uplink":{}}`
	const sent = `{"DevEUI_downlink_Sent":{"FPort":1}}`
	const url = `"downlinkUrl":"https://s/downlinkMessages/0f3c"`
	for _, c := range []struct {
		name, configuration, public string
		kind                        sluice.Kind
		document, want              string // want "": filtered
	}{
		{"as it came", ``, "", sluice.KindUplink, up, up},
		{"with the address", ``, "https://s", sluice.KindUplink, up, strings.Replace(up, `21.50}}`, `21.50},`+url+`}`, 1)},
		{"with the address, empty", ``, "https://s", sluice.KindUplink, empty, `{"DevEUI_uplink":{` + url + `}}`},
		{"others have no address", ``, "https://s", sluice.KindDownlinkSent, sent, sent},
		{"no uplink inside", ``, "https://s", sluice.KindUplink, `{"a":1}`, `{"a":1}`},
		{"metadata", `"sendMetadata":true`, "", sluice.KindUplink, up, up[19 : len(up)-2]},
		{"metadata with the address", `"sendMetadata":true`, "https://s", sluice.KindUplink, bare, `{"FPort":17,` + url + `}`},
		{"metadata sends uplinks only", `"sendMetadata":true`, "", sluice.KindDownlinkSent, sent, ""},
		{"raw decoded", `"sendRawDecodedFormat":true`, "https://s", sluice.KindUplink, up, `{"t":21.50}`},
		{"raw decoded without payload", `"sendRawDecodedFormat":true`, "", sluice.KindUplink, bare, bare},
		{"raw decoded, others", `"sendRawDecodedFormat":true`, "", sluice.KindDownlinkSent, sent, sent},
		{"metadata goes before raw", `"sendMetadata":true,"sendRawDecodedFormat":true`, "", sluice.KindUplink, bare, `{"FPort":17}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn := connection(1, c.configuration)
			common, err := ParseCommon(conn.Configuration)
			if err != nil {
				t.Fatal(err)
			}
			m := &sluice.Message{Kind: c.kind, Document: []byte(c.document)}
			got, err := newSettings(conn, common, c.public, nil).form(m)
			if c.want == "" {
				if v, _ := sluice.VerdictOf(err); v != sluice.Filtered {
					t.Errorf("error %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if string(got.Body()) != c.want {
				t.Errorf("got  %s\nwant %s", got.Body(), c.want)
			}
			if string(m.Document) != c.document || m.Payload != nil || string(got.Document) != c.document {
				t.Error("the message was changed")
			}
			if !json.Valid(got.Body()) {
				t.Error("not JSON")
			}
		})
	}
}

func BenchmarkForm(b *testing.B) {
	conn := connection(1, "")
	common, _ := ParseCommon(conn.Configuration)
	set := newSettings(conn, common, "https://sluice.example", nil)
	m := &sluice.Message{
		Kind:     sluice.KindUplink,
		Document: []byte(`{"DevEUI_uplink":{"Time":"2021-04-07T08:49:51.551+00:00","x":"` + strings.Repeat("y", 1200) + `"}}`),
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := set.form(m); err != nil {
			b.Fatal(err)
		}
	}
}
