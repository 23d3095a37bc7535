package connection

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluice"
)

func (b *bench) labels() []string {
	var out []string
	for _, e := range b.seen() {
		out = append(out, string(e.Type)+" "+e.Label+": "+e.Detail)
	}
	return out
}

func TestOpensAndTellsEachState(t *testing.T) {
	run(t, func(t *testing.T, b *bench) {
		b.apply(connection(1, ""))
		b.wantState(sluice.StateOpened)
		want := []string{
			"connection.opening Connection opening: Opening connection \"Test\" (actility-aws-iot) with id 8 ...",
			"connection.opening Connection authenticating: Authenticating connection \"Test\" (actility-aws-iot) with id 8 ...",
			"connection.opened Connection opened: Connection \"Test\" (actility-aws-iot) with id 8 is open.",
		}
		if d := cmp.Diff(want, b.labels()); d != "" {
			t.Error(d)
		}
		s, _ := b.Status("8")
		if !s.Applied || s.StartupTime.IsZero() || s.Size != 1 || len(s.Sessions) != 1 || s.Sessions[0].ID != "8-0-0" {
			t.Errorf("status %+v", s)
		}
		if b.subscriber() == nil {
			t.Error("no session is subscribed")
		}
	})
}

func TestRefusedIdentityBacksOffFurther(t *testing.T) {
	run(t, func(t *testing.T, b *bench) {
		b.set(func(w *world) {
			w.refuse = func(*fakeDialer, int) error { return refusal(sluice.ReasonAuthentication) }
		})
		b.apply(connection(1, ""))
		b.wantState(sluice.StateAuthenticationFailed)
		failed := b.seen(sluice.EventConnectionFailed)
		if len(failed) != 1 || failed[0].Reason != sluice.ReasonAuthentication || failed[0].Hint != "Mend it." ||
			failed[0].Detail != "Unable to open connection \"Test\" (actility-aws-iot) with id 8: Refused: authentication. Next try in 3.8s." {
			t.Errorf("events %+v", failed)
		}
		if s, _ := b.Status("8"); s.Reason != "Refused: authentication." || !s.Applied {
			t.Errorf("status %+v", s)
		}
		b.pass(24 * time.Hour)
		if n := b.tries(); n < 24*12 || n > 24*20 {
			t.Errorf("%d tries in a day, want one in 3 to 5 minutes", n)
		}
		b.set(func(w *world) { w.refuse = nil })
		b.pass(5 * time.Minute)
		b.wantState(sluice.StateOpened)
	})
}

func TestOutageIsTriedForEver(t *testing.T) {
	run(t, func(t *testing.T, b *bench) {
		b.set(func(w *world) {
			w.size = 3
			w.refuse = func(*fakeDialer, int) error { return refusal(sluice.ReasonUnreachable) }
		})
		b.apply(connection(1, ""))
		b.wantState(sluice.StateClosed)
		if n := b.tries(); n != 2 {
			t.Errorf("%d tries in the first second, want 2: at 0 s and 0.4 s", n)
		}
		b.pass(7 * 24 * time.Hour)
		if n := b.tries(); n < 7*24*60 || n > 7*24*81 {
			t.Errorf("%d tries in a week, want one in 45 to 60 s", n)
		}
		b.set(func(w *world) { w.refuse = nil })
		b.pass(time.Minute)
		b.wantState(sluice.StateOpened)
		if n := len(b.open()); n != 3 {
			t.Errorf("%d sessions", n)
		}
	})
}

func TestProbesOneAtATimeThenTheRest(t *testing.T) {
	run(t, func(t *testing.T, b *bench) {
		b.set(func(w *world) { w.size = 10 })
		began := time.Now()
		b.apply(connection(1, ""))
		if n := len(b.open()); n != 10 {
			t.Fatalf("%d sessions open", n)
		}
		for i, at := range b.attempts {
			if i > 0 && at.Sub(began) < 10*time.Millisecond {
				t.Errorf("session %d opened %v after the start, beside the probe", i, at.Sub(began))
			}
		}
		n := 0
		for _, s := range b.open() {
			if s.subscribed {
				n++
			}
		}
		if n != 1 {
			t.Errorf("%d sessions are subscribed", n)
		}
	})
}

func TestLostSessionIsReopened(t *testing.T) {
	run(t, func(t *testing.T, b *bench) {
		b.set(func(w *world) { w.size = 3 })
		b.apply(connection(1, ""))
		b.pass(time.Minute)
		victim := b.open()[1]
		victim.lose(sluice.ReasonDisconnected)
		b.pass(time.Millisecond)
		b.wantState(sluice.StateOpened)
		lost := b.seen(sluice.EventSessionLost)
		if len(lost) != 1 || lost[0].Reason != sluice.ReasonDisconnected ||
			lost[0].Detail != "Session "+victim.id+" of connection \"Test\" (actility-aws-iot) with id 8 was lost: The link was cut." {
			t.Fatalf("events %+v", lost)
		}
		b.pass(time.Second)
		if n := len(b.open()); n != 3 {
			t.Errorf("%d sessions open", n)
		}
	})
}

func TestAllLostClosesAndReopens(t *testing.T) {
	run(t, func(t *testing.T, b *bench) {
		b.set(func(w *world) { w.size = 2 })
		b.apply(connection(1, ""))
		b.pass(time.Minute)
		before := len(b.seen())
		for _, s := range b.open() {
			s.lose(sluice.ReasonDisconnected)
		}
		b.pass(time.Millisecond)
		b.wantState(sluice.StateClosed)
		b.pass(time.Second)
		b.wantState(sluice.StateOpened)
		want := []sluice.EventType{
			sluice.EventSessionLost, sluice.EventSessionLost, sluice.EventConnectionClosing, sluice.EventConnectionClosed,
			sluice.EventConnectionOpening, sluice.EventConnectionOpening, sluice.EventConnectionOpened,
		}
		var got []sluice.EventType
		for _, e := range b.seen()[before:] {
			got = append(got, e.Type)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Error(d)
		}
	})
}

// A cloud that accepts and then kicks must not be asked twice a second.
func TestKickedLoopBacksOff(t *testing.T) {
	for reason, most := range map[sluice.Reason]int{sluice.ReasonDisconnected: 25, sluice.ReasonTakenOver: 12} {
		t.Run(string(reason), func(t *testing.T) {
			run(t, func(t *testing.T, b *bench) {
				b.Apply([]sluice.Connection{connection(1, "")})
				for range 10 * 60 * 10 {
					b.pass(100 * time.Millisecond)
					for _, s := range b.open() {
						s.lose(reason)
					}
				}
				if n := b.tries(); n < 3 || n > most {
					t.Errorf("%d tries in ten minutes, want at most %d", n, most)
				}
			})
		})
	}
}

// One client id that is kicked again and again, by a policy or a stranger,
// backs off alone; the others work on.
func TestOneKickedSessionBacksOff(t *testing.T) {
	run(t, func(t *testing.T, b *bench) {
		b.set(func(w *world) { w.size = 3 })
		b.apply(connection(1, ""))
		before := b.tries()
		for range 10 * 60 * 10 {
			b.pass(100 * time.Millisecond)
			for _, s := range b.open() {
				if s.lane == 1 {
					s.lose(sluice.ReasonTakenOver)
				}
			}
		}
		b.wantState(sluice.StateOpened)
		if n := b.tries() - before; n < 3 || n > 10 {
			t.Errorf("%d tries in ten minutes", n)
		}
	})
}

func TestDeactivatedKeepsBacklog(t *testing.T) {
	run(t, func(t *testing.T, b *bench) {
		b.apply(connection(1, ""))
		c := connection(2, "")
		c.Active = false
		b.apply(c)
		b.wantState(sluice.StateDeactivated)
		b.journal.add(uplink("m1", "0000000000000001"))
		b.pass(time.Hour)
		if n := len(b.open()); n != 0 || b.journal.pending() != 1 || b.journal.count().reading != 0 || !b.dialers[0].closed {
			t.Errorf("%d sessions, %d pending, %d readers", n, b.journal.pending(), b.journal.count().reading)
		}
		b.apply(connection(3, ""))
		b.wantState(sluice.StateOpened)
		if b.journal.pending() != 0 {
			t.Error("the backlog was not delivered")
		}
	})
}

// Those who wait for a session give their messages back.
func TestDeactivatedWhileClosed(t *testing.T) {
	run(t, func(t *testing.T, b *bench) {
		b.set(func(w *world) { w.refuse = func(*fakeDialer, int) error { return refusal(sluice.ReasonUnreachable) } })
		b.apply(connection(1, ""))
		b.journal.add(uplink("m1", "0000000000000001"), uplink("m2", "0000000000000002"))
		b.pass(time.Minute)
		c := connection(2, "")
		c.Active = false
		b.apply(c)
		b.wantState(sluice.StateDeactivated)
		if b.journal.pending() != 2 || b.journal.count().reading != 0 {
			t.Errorf("%d pending, %d readers", b.journal.pending(), b.journal.count().reading)
		}
	})
}

func TestInactiveFromTheStart(t *testing.T) {
	run(t, func(t *testing.T, b *bench) {
		c := connection(1, "")
		c.Active = false
		b.apply(c)
		b.wantState(sluice.StateDeactivated)
		if b.tries() != 0 || len(b.seen()) != 0 {
			t.Errorf("%d tries, events %v", b.tries(), b.seen())
		}
	})
}

func TestRemovedIsForgotten(t *testing.T) {
	run(t, func(t *testing.T, b *bench) {
		b.apply(connection(1, ""))
		b.Apply(nil)
		if _, ok := b.Status("8"); ok {
			t.Error("it is still known")
		}
		b.pass(time.Second)
		if len(b.open()) != 0 || b.journal.count().reading != 0 {
			t.Error("it is still open")
		}
		b.apply(connection(1, "")) // and it may come back
		b.wantState(sluice.StateOpened)
	})
}

func TestUnknownConnectorAndBadConfiguration(t *testing.T) {
	run(t, func(t *testing.T, b *bench) {
		c := connection(1, "")
		c.ConnectorID = "nobody"
		b.apply(c)
		b.wantState(sluice.StateClosed)
		if s, _ := b.Status("8"); s.Applied || s.Reason != "There is no connector nobody." {
			t.Errorf("status %+v", s)
		}
		b.apply(connection(2, `"bad":true`))
		if s, _ := b.Status("8"); s.Applied || s.Reason != "The configuration is bad." {
			t.Errorf("status %+v", s)
		}
		b.apply(connection(3, ""))
		b.wantState(sluice.StateOpened)
		if s, _ := b.Status("8"); !s.Applied || s.Reason != "" {
			t.Errorf("status %+v", s)
		}
	})
}

func TestPanickingConnector(t *testing.T) {
	run(t, func(t *testing.T, b *bench) {
		b.set(func(w *world) { w.panics = true })
		b.apply(connection(1, ""))
		b.wantState(sluice.StateClosed)
		b.set(func(w *world) {
			w.panics = false
			w.handle = func(_ context.Context, _ *fakeSession, m *sluice.Message) error {
				w.mu.Lock()
				first := w.prepared == nil
				w.prepared = []string{m.ID}
				w.mu.Unlock()
				if first {
					panic("the session is broken")
				}
				return nil
			}
		})
		b.pass(time.Minute)
		b.wantState(sluice.StateOpened)
		b.journal.add(uplink("m1", "0000000000000001"))
		b.pass(time.Second)
		if err, ok := b.journal.outcome("m1"); !ok || err != nil || b.journal.count().retries != 1 {
			t.Errorf("outcome %v %v after %d retries", err, ok, b.journal.count().retries)
		}
	})
}

func TestShutdownLetsFlightFinish(t *testing.T) {
	run(t, func(t *testing.T, b *bench) {
		b.set(func(w *world) {
			w.size = 2
			w.handle = func(_ context.Context, s *fakeSession, _ *sluice.Message) error {
				time.Sleep(3 * time.Second)
				if isDone(s) {
					t.Error("the session was closed with a publish in flight")
				}
				return nil
			}
		})
		b.apply(connection(1, ""))
		b.journal.add(uplink("m1", "0000000000000001"), uplink("m2", "0000000000000001"), uplink("m3", "0000000000000002"))
		b.pass(time.Second)
		began := time.Now()
		b.stop()
		if d := time.Since(began); d != 2*time.Second {
			t.Errorf("the stop took %v", d)
		}
		if _, ok := b.journal.outcome("m1"); !ok || b.journal.pending() != 1 || len(b.open()) != 0 {
			t.Errorf("m1 over: %v, %d pending, %d open", ok, b.journal.pending(), len(b.open()))
		}
		b.wantState(sluice.StateClosed)
	})
}

func TestShutdownIsBounded(t *testing.T) {
	run(t, func(t *testing.T, b *bench) {
		b.set(func(w *world) {
			w.handle = func(_ context.Context, s *fakeSession, _ *sluice.Message) error {
				<-s.Done()
				return refusal(sluice.ReasonDisconnected)
			}
		})
		b.apply(connection(1, ""))
		b.journal.add(uplink("m1", "0000000000000001"))
		b.pass(time.Second)
		began := time.Now()
		b.stop()
		if d := time.Since(began); d != drainTimeout {
			t.Errorf("the stop took %v", d)
		}
	})
}
