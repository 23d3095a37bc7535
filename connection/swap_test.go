package connection

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluice"
)

// refuseRegion refuses the sessions of a configuration.
func refuseRegion(reason sluice.Reason, mark string) func(d *fakeDialer, lane int) error {
	return func(d *fakeDialer, _ int) error {
		if slices.Contains([]string{mark}, d.spec.Common.Description) {
			return refusal(reason)
		}
		return nil
	}
}

func TestSwapOpensBeforeItCloses(t *testing.T) {
	run(t, func(t *testing.T, b *bench) {
		b.set(func(w *world) {
			w.size = 2
			w.handle = func(context.Context, *fakeSession, *sluice.Message) error {
				time.Sleep(50 * time.Millisecond)
				return nil
			}
		})
		b.apply(connection(1, ""))
		b.pass(time.Minute)
		b.set(func(w *world) { w.order = nil })
		opened, _ := b.Status("8")

		b.Apply([]sluice.Connection{connection(2, `"uplinkTopicPattern":"x/{DevEUI}"`)})
		sent := 0
		for range 100 {
			for n := range 20 {
				b.journal.add(uplink(fmt.Sprintf("m%d", sent), eui(n)))
				sent++
			}
			b.pass(10 * time.Millisecond)
			b.wantState(sluice.StateOpened)
		}
		b.pass(10 * time.Second)
		if c := b.journal.count(); c.done != sent || c.retries != 0 {
			t.Errorf("%d of %d over, %d tried again", c.done, sent, c.retries)
		}
		first := []string{"open 8-1-0", "subscribe 8-1-0"}
		if d := cmp.Diff(first, b.order[:2]); d != "" {
			t.Error(d)
		}
		s, _ := b.Status("8")
		if !s.Applied || s.Since != opened.Since || len(s.Sessions) != 2 || len(b.open()) != 2 {
			t.Errorf("status %+v, before %+v", s, opened)
		}
		if n := len(b.seen(sluice.EventConnectionApplied)); n != 1 {
			t.Errorf("%d events", n)
		}
		// And back: the generations alternate.
		b.apply(connection(3, ""))
		b.pass(10 * time.Second)
		if id := b.open()[0].id; id[:4] != "8-0-" {
			t.Errorf("session %s", id)
		}
	})
}

// Two changes close upon each other: the third pool has the client ids of the
// first, and waits until that has closed.
func TestGenerationsDoNotMeet(t *testing.T) {
	run(t, func(t *testing.T, b *bench) {
		b.set(func(w *world) {
			w.handle = func(context.Context, *fakeSession, *sluice.Message) error {
				time.Sleep(3 * time.Second)
				return nil
			}
		})
		b.apply(connection(1, ""))
		b.journal.add(uplink("m1", eui(1)))
		b.pass(time.Millisecond)
		b.apply(connection(2, `"uplinkTopicPattern":"a"`))
		b.apply(connection(3, `"uplinkTopicPattern":"b"`))
		if s, _ := b.Status("8"); s.Applied || len(b.dialers) != 3 || len(b.open()) != 2 {
			t.Errorf("status %+v, %d sessions", s, len(b.open()))
		}
		b.pass(5 * time.Second)
		if s, _ := b.Status("8"); !s.Applied || s.Sessions[0].ID != "8-0-0" || len(b.open()) != 1 {
			t.Errorf("status %+v", s)
		}
	})
}

func TestSwapToAnotherSize(t *testing.T) {
	run(t, func(t *testing.T, b *bench) {
		b.apply(connection(1, `"poolSize":2`))
		b.apply(connection(2, `"poolSize":5`))
		s, _ := b.Status("8")
		if s.Size != 5 || len(s.Sessions) != 5 || b.journal.count().limit != 5*laneCapacity {
			t.Errorf("status %+v, limit %d", s, b.journal.count().limit)
		}
	})
}

func TestFailedSwapKeepsTheOld(t *testing.T) {
	run(t, func(t *testing.T, b *bench) {
		b.apply(connection(1, ""))
		b.set(func(w *world) { w.refuse = refuseRegion(sluice.ReasonAuthentication, "new") })
		changed := connection(2, `"description":"new","region":"us-east-1"`)
		b.apply(changed)
		b.pass(time.Hour)
		b.wantState(sluice.StateOpened)
		s, _ := b.Status("8")
		if s.Applied || s.Reason != "Refused: authentication." {
			t.Errorf("status %+v", s)
		}
		events := b.seen(sluice.EventConnectionUnapplied)
		if len(events) != 1 || events[0].Hint != "Mend it." || events[0].Reason != sluice.ReasonAuthentication {
			t.Errorf("events %+v", events)
		}
		b.journal.add(uplink("m1", eui(1)))
		b.pass(time.Second)
		if b.journal.pending() != 0 {
			t.Error("the old configuration does not deliver")
		}
		b.set(func(w *world) { w.refuse = refuseRegion(sluice.ReasonUnreachable, "new") })
		b.pass(time.Hour)
		if n := len(b.seen(sluice.EventConnectionUnapplied)); n != 2 {
			t.Errorf("%d events, want one for each cause", n)
		}
		b.set(func(w *world) { w.refuse = nil })
		b.pass(5 * time.Minute)
		if s, _ := b.Status("8"); !s.Applied || s.Reason != "" || s.Sessions[0].ID != "8-1-0" {
			t.Errorf("status %+v", s)
		}
	})
}

func TestNewerRevisionReplacesTheCandidate(t *testing.T) {
	run(t, func(t *testing.T, b *bench) {
		b.apply(connection(1, ""))
		b.set(func(w *world) { w.refuse = refuseRegion(sluice.ReasonAuthentication, "wrong") })
		b.apply(connection(2, `"description":"wrong","uplinkTopicPattern":"a"`))
		b.apply(connection(3, `"description":"right","uplinkTopicPattern":"b"`))
		if s, _ := b.Status("8"); !s.Applied || s.Sessions[0].ID != "8-1-0" {
			t.Errorf("status %+v", s)
		}
		for _, d := range b.dialers[:2] {
			if !d.closed {
				t.Errorf("the dialer of revision %d is open", d.spec.Connection.Revision)
			}
		}
		// Back to what is in force: nothing to open.
		b.set(func(w *world) { w.refuse = refuseRegion(sluice.ReasonAuthentication, "wrong") })
		b.apply(connection(4, `"description":"wrong","uplinkTopicPattern":"a"`))
		b.apply(connection(5, `"uplinkTopicPattern" : "b", "description":"x"`))
		if s, _ := b.Status("8"); !s.Applied || s.Sessions[0].ID != "8-1-0" || len(b.dialers) != 4 {
			t.Errorf("status %+v, %d dialers", s, len(b.dialers))
		}
	})
}

func TestBadCandidateLeavesTheOld(t *testing.T) {
	run(t, func(t *testing.T, b *bench) {
		b.apply(connection(1, ""))
		b.apply(connection(2, `"bad":true`))
		b.wantState(sluice.StateOpened)
		if s, _ := b.Status("8"); s.Applied || s.Reason != "The configuration is bad." {
			t.Errorf("status %+v", s)
		}
	})
}

// What never worked is not defended: the new configuration takes its place.
func TestNeverOpenIsReplaced(t *testing.T) {
	run(t, func(t *testing.T, b *bench) {
		b.set(func(w *world) { w.refuse = refuseRegion(sluice.ReasonAuthentication, "wrong") })
		b.apply(connection(1, `"description":"wrong","uplinkTopicPattern":"a"`))
		b.journal.add(uplink("m1", eui(1)))
		b.pass(time.Hour)
		b.wantState(sluice.StateAuthenticationFailed)
		b.apply(connection(2, `"description":"wrong","uplinkTopicPattern":"c"`))
		b.wantState(sluice.StateAuthenticationFailed)
		if s, _ := b.Status("8"); !s.Applied || !b.dialers[0].closed || b.dialers[1].closed {
			t.Errorf("status %+v", s)
		}
		b.apply(connection(3, `"uplinkTopicPattern":"b"`))
		b.wantState(sluice.StateOpened)
		if s, _ := b.Status("8"); !s.Applied || b.journal.pending() != 0 {
			t.Errorf("status %+v, %d pending", s, b.journal.pending())
		}
	})
}

// Old and new both try while neither is open.
func TestOldComesBackFirst(t *testing.T) {
	run(t, func(t *testing.T, b *bench) {
		b.apply(connection(1, `"description":"old"`))
		b.pass(time.Minute)
		b.set(func(w *world) { w.refuse = func(*fakeDialer, int) error { return refusal(sluice.ReasonUnreachable) } })
		b.apply(connection(2, `"description":"new","uplinkTopicPattern":"a"`))
		b.open()[0].lose(sluice.ReasonDisconnected)
		b.pass(10 * time.Minute)
		b.wantState(sluice.StateClosed)
		b.set(func(w *world) { w.refuse = refuseRegion(sluice.ReasonAuthentication, "new") })
		b.pass(5 * time.Minute)
		b.wantState(sluice.StateOpened)
		if s, _ := b.Status("8"); s.Applied || s.Sessions[0].ID != "8-0-0" {
			t.Errorf("status %+v", s)
		}
		b.open()[0].lose(sluice.ReasonDisconnected)
		b.set(func(w *world) { w.refuse = refuseRegion(sluice.ReasonUnreachable, "old") })
		b.pass(5 * time.Minute)
		b.wantState(sluice.StateOpened)
		if s, _ := b.Status("8"); !s.Applied || s.Sessions[0].ID != "8-1-0" {
			t.Errorf("status %+v", s)
		}
	})
}

func TestSoftChangeNeedsNoSessions(t *testing.T) {
	run(t, func(t *testing.T, b *bench) {
		b.apply(connection(1, ""))
		c := connection(2, `"description":"x","sendMetadata":true,"downlinkPort":5,"uplinkTimeValidity":"5m"`)
		c.Name = "Another"
		b.apply(c)
		if len(b.dialers) != 1 || b.tries() != 1 {
			t.Errorf("%d dialers, %d openings", len(b.dialers), b.tries())
		}
		if s, _ := b.Status("8"); !s.Applied {
			t.Errorf("status %+v", s)
		}
	})
}

func TestChangeWhileClosing(t *testing.T) {
	run(t, func(t *testing.T, b *bench) {
		b.set(func(w *world) {
			w.handle = func(context.Context, *fakeSession, *sluice.Message) error {
				time.Sleep(2 * time.Second)
				return nil
			}
		})
		b.apply(connection(1, ""))
		b.journal.add(uplink("m1", eui(1)))
		b.pass(time.Second)
		c := connection(2, "")
		c.Active = false
		b.Apply([]sluice.Connection{c})
		b.pass(100 * time.Millisecond)
		b.wantState(sluice.StateClosing)
		b.Apply([]sluice.Connection{connection(3, "")})
		b.pass(10 * time.Second)
		b.wantState(sluice.StateOpened)
		if len(b.open()) != 1 || b.journal.count().reading != 1 {
			t.Errorf("%d open, %d readers", len(b.open()), b.journal.count().reading)
		}
	})
}

// From Apply on, a change is not in force before it is; an edit of a connection
// that is not active is at once.
func TestChangeIsShownAtOnce(t *testing.T) {
	run(t, func(t *testing.T, b *bench) {
		b.apply(connection(1, ""))
		shown := func(applied bool, reason string) {
			t.Helper()
			if s, _ := b.Status("8"); s.Applied != applied || s.Reason != reason {
				t.Errorf("applied %v, reason %q", s.Applied, s.Reason)
			}
		}
		b.Apply([]sluice.Connection{connection(2, `"uplinkTopicPattern":"x"`)})
		// The runner may have begun with it, and say so.
		if s, _ := b.Status("8"); s.Applied || s.Reason == "" {
			t.Errorf("applied %v, reason %q", s.Applied, s.Reason)
		}
		b.pass(time.Second)
		shown(true, "")
		c := connection(3, "")
		c.Active = false
		b.apply(c)
		shown(true, "")
		c.Revision = 4
		b.Apply([]sluice.Connection{c})
		b.pass(time.Second)
		shown(true, "")

		// Back to what is in force: told too.
		b.apply(connection(5, ""))
		b.set(unreachable)
		b.apply(connection(6, `"uplinkTopicPattern":"y"`))
		before := len(b.seen(sluice.EventConnectionApplied))
		b.apply(connection(7, ""))
		shown(true, "")
		if n := len(b.seen(sluice.EventConnectionApplied)); n != before+1 {
			t.Errorf("%d events", n-before)
		}
	})
}
