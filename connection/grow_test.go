package connection

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"sluice"
)

// growing is the Dialer of a pool that grows.
type growing struct {
	*fakeDialer
	least, shares int
}

func (d growing) Least() int    { return d.least }
func (d growing) Shares() int   { return d.shares }
func (d growing) Pace() float64 { return 98 }

// grows makes the Dialers of a world Growers.
func grows(w *world, least, most, shares int) {
	w.size = most
	w.wrap = func(d *fakeDialer) sluice.Dialer { return growing{d, least, shares} }
}

func (b *bench) wanted() int { s, _ := b.Status("8"); return s.Wanted }

// A pool starts small, has all its sessions within seconds of a backlog, keeps
// the order of each device, and goes back one by one once it is idle.
func TestPoolGrowsAndShrinks(t *testing.T) {
	const most = 60 // each has a hundred goroutines, of which the race detector takes 8,128
	run(t, func(t *testing.T, b *bench) {
		b.set(func(w *world) { grows(w, 2, most, 1); paced(w, 98, 30*time.Millisecond) })
		b.apply(connection(1, ""))
		b.wantState(sluice.StateOpened)
		if s, _ := b.Status("8"); len(s.Sessions) != 2 || s.Wanted != 2 || s.Size != most {
			t.Fatalf("it starts with %d of %d sessions, wants %d", len(s.Sessions), s.Size, s.Wanted)
		}
		const devices, each = 12_000, 4
		for n := range devices * each {
			b.journal.add(uplink(fmt.Sprintf("m%d", n), eui(n%devices)))
		}
		b.pass(5 * time.Second)
		if n := len(b.open()); n != most {
			t.Errorf("%d sessions after five seconds of a backlog", n)
		}
		before := b.journal.count().done
		b.pass(2 * time.Second)
		if n := b.journal.count().done - before; n < 11_400 {
			t.Errorf("%d delivered in two seconds, want 97 %% of 11,760", n)
		}
		b.pass(15 * time.Second)
		if n := b.journal.pending(); n > 0 {
			t.Fatalf("%d wait", n)
		}
		b.pass(shrinkAfter - time.Minute)
		if n := len(b.open()); n < most-5 {
			t.Errorf("%d sessions are left after a minute of rest", n)
		}
		b.pass(40 * time.Minute)
		if n := len(b.open()); n != 2 {
			t.Errorf("%d sessions are left, want 2", n)
		}
		if lost := b.seen(sluice.EventSessionLost); len(lost) > 0 {
			t.Errorf("a session that is not needed any more is told as lost: %+v", lost[0])
		}
		if s := b.subscriber(); s == nil {
			t.Error("no session is subscribed")
		}
	})
}

// A load that fewer sessions carry easily does not make a pool grow.
func TestPoolStaysSmall(t *testing.T) {
	run(t, func(t *testing.T, b *bench) {
		b.set(func(w *world) { grows(w, 2, 10, 1); paced(w, 98, 30*time.Millisecond) })
		b.apply(connection(1, ""))
		b.feed(50, 2, 20*time.Second)
		if n := len(b.open()); n != 2 {
			t.Errorf("%d sessions for 100 a second", n)
		}
	})
}

// A cloud that takes nothing does not get more and more sessions.
func TestPoolDoesNotGrowInVain(t *testing.T) {
	run(t, func(t *testing.T, b *bench) {
		b.set(func(w *world) {
			grows(w, 1, 10, 1)
			w.handle = func(_ context.Context, s *fakeSession, _ *sluice.Message) error {
				<-s.done
				return refusal(sluice.ReasonDisconnected)
			}
		})
		b.apply(connection(1, ""))
		for n := range 500 {
			b.journal.add(uplink(fmt.Sprintf("m%d", n), eui(n)))
		}
		b.pass(time.Minute)
		if n := len(b.open()); n != 1 {
			t.Errorf("%d sessions", n)
		}
		b.set(func(w *world) { w.handle = nil })
		for _, s := range b.open() {
			s.lose(sluice.ReasonTimeout)
		}
		b.pass(10 * time.Second)
	})
}

// The pool of a changed configuration has as many sessions as the load needed.
func TestChangedPoolInheritsItsSize(t *testing.T) {
	run(t, func(t *testing.T, b *bench) {
		b.set(func(w *world) { grows(w, 1, 10, 1); paced(w, 98, 30*time.Millisecond) })
		b.apply(connection(1, ""))
		b.feed(60, 15, 10*time.Second)
		n := b.wanted()
		if n < 9 {
			t.Fatalf("%d sessions for 900 a second", n)
		}
		b.apply(connection(2, `"accountPrefix":"other"`))
		if m := b.wanted(); m < n || len(b.open()) < n {
			t.Errorf("%d sessions, %d wanted, after %d", len(b.open()), m, n)
		}
		b.feed(60, 15, 2*time.Second)
	})
}

// A session that a stranger takes again and again does not keep the pool from
// growing past it.
func TestPoolGrowsPastAKickedSession(t *testing.T) {
	run(t, func(t *testing.T, b *bench) {
		b.set(func(w *world) {
			grows(w, 1, 10, 1)
			paced(w, 98, 30*time.Millisecond)
			w.refuse = func(_ *fakeDialer, lane int) error {
				if lane == 2 {
					return refusal(sluice.ReasonTakenOver)
				}
				return nil
			}
		})
		b.apply(connection(1, ""))
		b.feed(60, 13, 10*time.Second)
		if n := len(b.open()); n != 9 {
			t.Errorf("%d sessions, want all but the one", n)
		}
	})
}

// Those that share the commands are subscribed all, each again when it comes
// back, and the connection is open with the first.
func TestSessionsShareTheCommands(t *testing.T) {
	run(t, func(t *testing.T, b *bench) {
		b.set(func(w *world) { grows(w, 1, 10, 4) })
		b.apply(connection(1, ""))
		b.wantState(sluice.StateOpened)
		subscribed := func() (n int) {
			for _, s := range b.open() {
				if s.subscribed {
					n++
				}
			}
			return n
		}
		if len(b.open()) != 4 || subscribed() != 4 {
			t.Fatalf("%d sessions, %d subscribed", len(b.open()), subscribed())
		}
		b.pass(time.Minute)
		command := func(s *fakeSession, id string) {
			t.Helper()
			err := s.take(t.Context(), sluice.Command{Source: "t", ID: id, DevEUI: eui(1), Document: []byte(
				`{"DevEUI_downlink":{"DevEUI":"0000000000000001","FPort":1,"payload_hex":"00"}}`)})
			if err != nil {
				t.Fatal(err)
			}
		}
		command(b.open()[0], "")
		command(b.open()[1], "") // meant, for each is sent to one of them
		command(b.open()[2], "x")
		b.open()[2].lose(sluice.ReasonDisconnected)
		b.pass(2 * time.Second)
		b.wantState(sluice.StateOpened)
		if len(b.open()) != 4 || subscribed() != 4 {
			t.Fatalf("%d sessions, %d subscribed after a loss", len(b.open()), subscribed())
		}
		command(b.open()[3], "x") // it was not acknowledged, and comes again to another
		if len(b.commands) != 3 {
			t.Errorf("%d commands, want 3", len(b.commands))
		}
	})
}

// A session that is to go finishes what it has, gets nothing new, and stays
// where it is the last.
func TestLeavingLane(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ls := newLanes(time.Now)
		p := &patience{ctx: t.Context(), clock: time.Now}
		a := ls.add(0, &fakeSession{done: make(chan struct{})})
		if !ls.keep(a, false) {
			t.Error("the only session was let go")
		}
		held, _ := ls.acquire(p, "device")
		b := ls.add(1, &fakeSession{done: make(chan struct{})})
		if !ls.keep(a, false) {
			t.Error("a session was let go with a message under way")
		}
		for n := range 10 {
			if h, _ := ls.acquire(p, eui(n)); h.lane != b {
				t.Error("it got something new")
			}
		}
		ls.release(held, true)
		if h, _ := ls.acquire(p, "device"); h.lane != b {
			t.Error("its device stays")
		}
		if ls.keep(a, false) {
			t.Error("it is still there")
		}
		c := ls.add(2, &fakeSession{done: make(chan struct{})})
		if h, _ := ls.acquire(p, "other"); h.lane != c {
			t.Fatal("the new one is not used")
		}
		ls.keep(c, false)
		ls.remove(b)
		if h, err := ls.acquire(p, "device"); err != nil || h.lane != c {
			t.Error("the last one is not used")
		}
	})
}
