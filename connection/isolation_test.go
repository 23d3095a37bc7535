package connection

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sluice"
)

// A connection that is dead for days is told once, then once an hour; its
// recovery is told at once.
func TestDeadConnectionIsToldOnceAnHour(t *testing.T) {
	run(t, func(t *testing.T, b *bench) {
		b.set(unreachable)
		b.apply(connection(1, ""))
		b.pass(10 * time.Minute)
		if n := len(b.seen()); n != 2 {
			t.Fatalf("%d events of a dead connection, want opening and failed: %q", n, b.labels())
		}
		b.pass(24 * time.Hour)
		events := b.seen()
		if n := len(events); n < 25 || n > 27 {
			t.Errorf("%d events in a day", n)
		}
		last := events[len(events)-1]
		if last.Type != sluice.EventConnectionFailed || !strings.Contains(last.Detail, "more within the last hour; the last: Unable to open") {
			t.Errorf("event %+v", last)
		}
		// Another cause is told at once.
		b.set(func(w *world) {
			w.refuse = func(*fakeDialer, int) error { return refusal(sluice.ReasonAuthentication) }
		})
		before := len(b.seen())
		b.pass(2 * time.Minute)
		if got := b.seen()[before:]; len(got) != 1 || got[0].Reason != sluice.ReasonAuthentication {
			t.Errorf("events %+v", got)
		}
		b.set(func(w *world) { w.refuse = nil })
		before = len(b.seen())
		b.pass(6 * time.Minute)
		got := b.seen(sluice.EventConnectionOpened)
		if len(got) != 1 || !strings.Contains(got[0].Detail, " tries in vain.") {
			t.Fatalf("events %q", b.labels()[before:])
		}
		// The next outage is told at once.
		b.set(unreachable)
		before = len(b.seen())
		b.open()[0].lose(sluice.ReasonDisconnected)
		b.pass(10 * time.Second)
		if got := b.seen()[before:]; !slices.ContainsFunc(got, func(e sluice.Event) bool { return e.Type == sluice.EventConnectionFailed }) {
			t.Errorf("events %q", b.labels()[before:])
		}
	})
}

// One that goes up and down all the time does not fill the log either.
func TestFlappingConnectionIsFolded(t *testing.T) {
	run(t, func(t *testing.T, b *bench) {
		b.Apply([]sluice.Connection{connection(1, "")})
		for range 6 * 60 * 5 {
			b.pass(12 * time.Second)
			for _, s := range b.open() {
				s.lose(sluice.ReasonDisconnected)
			}
		}
		// Opening, authenticating, opened, lost, closing, closed.
		if n := len(b.seen()); n > 6*(foldMost+1)*7 {
			t.Errorf("%d events in six hours", n)
		}
	})
}

func TestFoldIsBounded(t *testing.T) {
	w := newWorld(t)
	f := newFold(w)
	now := time.Now()
	for n := range 10_000 {
		f.tell(now, fmt.Sprint(n), true, sluice.Event{Type: sluice.EventConnectionFailed})
	}
	if len(f.things) > foldKinds+1 || len(w.events) > foldKinds+foldMost {
		t.Errorf("%d kinds, %d events", len(f.things), len(w.events))
	}
	f.flush(now.Add(foldFor), now, false)
	f.flush(now.Add(2*foldFor), now, false)
	if len(f.things) != 0 {
		t.Errorf("%d kinds are kept", len(f.things))
	}
}

// journals are the journals of many connections.
type journals map[string]*fakeJournal

func (j journals) Read(ctx context.Context, id string, h sluice.Handler, concurrency int,
	settled func(m *sluice.Message, v sluice.Verdict, err error),
) error {
	return j[id].Read(ctx, id, h, concurrency, settled)
}

// Twenty connections that are dead in many ways, each with a backlog, harm no
// other: the live one delivers as if it were alone, and what they hold is
// bounded.
func TestDeadConnectionsHarmNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const dead = 20
		w := newWorld(t)
		ways := []func(ctx context.Context) error{
			func(context.Context) error { return refusal(sluice.ReasonUnreachable) },
			func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, // a black hole
			func(context.Context) error { return refusal(sluice.ReasonAuthentication) },
			func(context.Context) error { panic("broken") },
		}
		way := func(d *fakeDialer) func(ctx context.Context) error {
			var n int
			_, _ = fmt.Sscan(d.spec.Connection.ID, &n)
			if n == 0 {
				return nil
			}
			if n%5 == 4 { // opens, and then hangs
				return func(context.Context) error { return nil }
			}
			return ways[n%5]
		}
		w.size = 3
		w.refuse = func(d *fakeDialer, _ int) error {
			if f := way(d); f != nil {
				ctx, cancel := context.WithTimeout(context.Background(), openTimeout)
				defer cancel()
				return f(ctx)
			}
			return nil
		}
		w.probe = func(ctx context.Context, d *fakeDialer) error { return way(d)(ctx) }
		w.handle = func(ctx context.Context, s *fakeSession, _ *sluice.Message) error {
			if s.dialer.spec.Connection.ID != "0" {
				select {
				case <-s.done:
				case <-ctx.Done():
				}
				return refusal(sluice.ReasonDisconnected)
			}
			time.Sleep(20 * time.Millisecond)
			return nil
		}
		j := journals{}
		var cs []sluice.Connection
		for n := range dead + 1 {
			c := connection(1, "")
			c.ID = fmt.Sprint(n)
			cs = append(cs, c)
			j[c.ID] = newFakeJournal()
			for k := range 2000 {
				if n > 0 {
					j[c.ID].add(uplink(fmt.Sprint(k), eui(k)))
				}
			}
		}
		s := New(Options{Connectors: []sluice.Connector{w}, Journal: j, Events: w, Rand: func() float64 { return 0.5 }})
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { _ = s.Run(ctx) })
		defer running.Wait()
		defer cancel()
		before := runtime.NumGoroutine()
		s.Apply(cs)
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		for n := range 200 {
			began := time.Now()
			id := fmt.Sprint("live", n)
			j["0"].add(uplink(id, eui(n%50)))
			for range 1000 {
				time.Sleep(time.Millisecond)
				synctest.Wait()
				if _, ok := j["0"].outcome(id); ok {
					break
				}
			}
			if d := time.Since(began); d > 22*time.Millisecond {
				t.Fatalf("delivery %d took %v beside dead connections", n, d)
			}
		}
		// Of each: the runner, the reader, what waits at a gate or hangs in a
		// session, and a few more.
		perDead := (runtime.NumGoroutine() - before) / dead
		hanging := dead / 5 * 3 * laneCapacity / dead
		if perDead > idleConcurrency+hanging+20 {
			t.Errorf("%d goroutines for each dead connection", perDead)
		}
		if n := len(w.seen()); n > dead*12 {
			t.Errorf("%d events of %d dead connections", n, dead)
		}
		began := time.Now()
		cancel()
		running.Wait()
		if d := time.Since(began); d > openTimeout+2*drainTimeout {
			t.Errorf("the stop took %v", d)
		}
	})
}
