package connection

import (
	"strings"
	"testing"
	"time"

	"sluice"
)

// withField adds a field to the command of the tests.
func withField(field string) string { return strings.Replace(command, `"FPort"`, field+`,"FPort"`, 1) }

// A command is journalled with its limit: seconds from when it came in, or the
// date.
func TestValidityOfACommand(t *testing.T) {
	run(t, func(t *testing.T, b *bench) {
		b.apply(connection(1, ""))
		now := time.Now()
		for field, want := range map[string]time.Duration{
			`"ValidityTime":90`:    90 * time.Second,
			`"ValidityTime":"600"`: 10 * time.Minute,
			`"ValidityTime":0`:     0,
			`"ValidityTime":"` + now.Add(time.Hour).UTC().Format(time.RFC3339Nano) + `"`: time.Hour,
			`"x":1`: 0,
		} {
			before := len(b.taken())
			if err := b.subscriber().take(t.Context(), fromTopic(withField(field))); err != nil {
				t.Fatal(err)
			}
			if m := b.taken()[before]; m.Validity != want || !m.Born().Equal(m.Received) {
				t.Errorf("%s: %v from %v", field, m.Validity, m.Born())
			}
		}
		if len(b.reports) != 0 || b.fates["8"][FateReceived] != 5 {
			t.Errorf("%d reports, %v", len(b.reports), b.fates)
		}
	})
}

// A command whose time has passed when it comes is not sent, and that is told.
func TestCommandThatComesTooLate(t *testing.T) {
	run(t, func(t *testing.T, b *bench) {
		b.apply(connection(1, ""))
		late := withField(`"CorrelationID":"AB","ValidityTime":"` + time.Now().Add(-90*time.Second).UTC().Format(time.RFC3339) + `"`)
		if err := b.subscriber().take(t.Context(), fromTopic(late)); err != nil {
			t.Fatal(err)
		}
		if len(b.taken()) != 0 || len(b.reports) != 1 || b.fates["8"][FateReceived] != 1 || b.fates["8"][FateExpired] != 1 {
			t.Fatalf("%d taken, %d reports, %v", len(b.taken()), len(b.reports), b.fates)
		}
		for _, want := range []string{"DevEUI_downlink_Rejected", `"CorrelationID":"AB"`, `"CommandID":"`, "Validity time expired. ", "1m30s"} {
			if !strings.Contains(string(b.reports[0].Document), want) {
				t.Errorf("%s lacks %s", b.reports[0].Document, want)
			}
		}
		e := b.seen(sluice.EventDownlinkExpired)
		if len(e) != 1 || e[0].DevEUI != "20635F0108000495" || e[0].Reason != sluice.ReasonExpired || !strings.Contains(e[0].Detail, "1m30s") {
			t.Errorf("events %+v", e)
		}
	})
}

// downlinkReports says what is told; what is not told is counted and an event
// all the same.
func TestWhatIsReported(t *testing.T) {
	for reports, want := range map[string]int{"all": 2, "rejected": 2, "none": 0} {
		run(t, func(t *testing.T, b *bench) {
			b.set(func(w *world) {
				w.command = func(*sluice.Message) error {
					return &sluice.Failure{Verdict: sluice.Permanent, Reason: sluice.ReasonUnknownDevice, Message: "unknown"}
				}
			})
			b.apply(connection(1, `"downlinkReports":"`+reports+`"`))
			for _, document := range []string{command, withField(`"Confirmed":"maybe"`)} {
				if err := b.subscriber().take(t.Context(), fromTopic(document)); err != nil {
					t.Fatal(err)
				}
			}
			if len(b.reports) != want || b.fates["8"][FateReceived] != 2 || b.fates["8"][FateRejected] != 2 ||
				len(b.seen(sluice.EventDownlinkRejected, sluice.EventDownlinkIgnored)) != 2 {
				t.Errorf("%s: %d reports, %v, events %+v", reports, len(b.reports), b.fates, b.seen())
			}
		})
	}
	for reports, want := range map[string][2]bool{"all": {true, true}, "": {true, true}, "rejected": {false, true}, "none": {}} {
		c := sluice.Common{DownlinkReports: reports}
		if got := [2]bool{Tells(c, sluice.KindDownlinkQueued), Tells(c, sluice.KindDownlinkRejected)}; got != want {
			t.Errorf("%q: %v, want %v", reports, got, want)
		}
	}
}

// What is taken as a redelivery is never swallowed in silence; the window is
// the connection's.
func TestRedeliveryIsTold(t *testing.T) {
	for _, c := range []struct {
		name, setting string
		document      string
		id            string
		away, wait    time.Duration // with the link lost, and after the grant
		taken         int
	}{
		{"equal, within the window", "", command, "", 5 * time.Minute, 29 * time.Second, 1},
		{"equal, outside of it", "", command, "", 5 * time.Minute, 31 * time.Second, 2},
		{"equal, within a longer one", `"downlinkRedelivery":"2m"`, command, "", 5 * time.Minute, 110 * time.Second, 1},
		{"equal, without one", `"downlinkRedelivery":"0s"`, command, "", 0, 0, 2},
		{"CorrelationID, long after", "", withField(`"CorrelationID":"AB"`), "", 3 * time.Hour, 3 * time.Hour, 1},
		{"CorrelationID, without a window", `"downlinkRedelivery":"0s"`, withField(`"CorrelationID":"AB"`), "", time.Minute, time.Minute, 1},
		{"id of the message, long after", "", command, "m1", 3 * time.Hour, 3 * time.Hour, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			run(t, func(t *testing.T, b *bench) {
				b.apply(connection(1, c.setting))
				b.pass(time.Minute) // the subscription is no handover any more
				send := func() {
					t.Helper()
					again := fromTopic(c.document)
					again.ID = c.id
					if err := b.subscriber().take(t.Context(), again); err != nil {
						t.Fatal(err)
					}
				}
				send()
				if c.away > 0 {
					b.set(unreachable)
				}
				b.open()[0].lose(sluice.ReasonDisconnected)
				b.pass(c.away)
				b.set(func(w *world) { w.refuse = nil })
				for b.subscriber() == nil {
					b.pass(100 * time.Millisecond)
				}
				b.pass(c.wait)
				send()
				again := 2 - c.taken
				events := b.seen(sluice.EventDownlinkRedelivered)
				if len(b.taken()) != c.taken || b.fates["8"][FateReceived] != c.taken || b.fates["8"][FateRedelivered] != again || len(events) != again {
					t.Fatalf("%d taken, %v, events %+v", len(b.taken()), b.fates, events)
				}
				if again > 0 && (events[0].DevEUI != "20635F0108000495" || !strings.Contains(events[0].Hint, "CorrelationID")) {
					t.Errorf("event %+v", events[0])
				}
			})
		})
	}
}

// One CorrelationID for commands that differ does not make them one.
func TestOtherContentIsAnotherCommand(t *testing.T) {
	run(t, func(t *testing.T, b *bench) {
		b.apply(connection(1, ""))
		for _, payload := range []string{"0103", "0104"} {
			document := strings.Replace(withField(`"CorrelationID":"1"`), "0103", payload, 1)
			if err := b.subscriber().take(t.Context(), fromTopic(document)); err != nil {
				t.Fatal(err)
			}
			b.open()[0].lose(sluice.ReasonDisconnected)
			b.pass(time.Minute)
		}
		if n := len(b.taken()); n != 2 {
			t.Errorf("%d commands", n)
		}
	})
}
