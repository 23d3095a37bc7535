package connection

import (
	"context"
	"errors"
	"testing"
	"time"

	"sluice"
)

// stuck lets Prepare wait for things that nobody makes.
func stuck(w *world) {
	w.prepares = true
	w.await = func(ctx context.Context, _ *sluice.Message) error {
		<-ctx.Done()
		return ctx.Err()
	}
}

// A device that waits for its thing holds up no end: its entry stays in the
// journal.
func TestWaitForAThingHoldsUpNoStop(t *testing.T) {
	deactivate := func(b *bench) {
		c := connection(2, "")
		c.Active = false
		b.Apply([]sluice.Connection{c})
		for n := 0; n < 1000 && b.state() != sluice.StateDeactivated; n++ {
			b.pass(time.Millisecond)
		}
	}
	remove := func(b *bench) {
		b.Apply(nil)
		for n := 0; n < 1000 && (b.journal.count().reading > 0 || len(b.open()) > 0); n++ {
			b.pass(time.Millisecond)
		}
	}
	for name, end := range map[string]func(b *bench){
		"stop": func(b *bench) { b.stop() }, "deactivate": deactivate, "remove": remove,
	} {
		t.Run(name, func(t *testing.T) {
			run(t, func(t *testing.T, b *bench) {
				b.set(stuck)
				b.apply(connection(1, ""))
				b.journal.add(uplink("m1", eui(1)), uplink("m2", eui(2)))
				b.pass(time.Second)
				if len(b.prepared) != 2 {
					t.Fatalf("prepared %v", b.prepared)
				}
				began := time.Now()
				end(b)
				if d := time.Since(began); d > 100*time.Millisecond {
					t.Errorf("the end took %v", d)
				}
				if b.journal.pending() != 2 || b.journal.count().done != 0 {
					t.Errorf("%d pending, %d over", b.journal.pending(), b.journal.count().done)
				}
			})
		})
	}
}

// When another configuration takes over, who waits for a thing begins again
// with it.
func TestWaitForAThingHoldsUpNoSwap(t *testing.T) {
	run(t, func(t *testing.T, b *bench) {
		b.set(stuck)
		b.apply(connection(1, ""))
		b.journal.add(uplink("m1", eui(1)))
		b.pass(time.Second)
		b.set(func(w *world) { w.await = nil })
		b.apply(connection(2, `"uplinkTopicPattern":"x"`))
		b.set(func(w *world) {
			if !w.dialers[0].closed {
				t.Error("the old pool is still open")
			}
		})
		if err, ok := b.journal.outcome("m1"); !ok || err != nil {
			t.Errorf("outcome %v %v", err, ok)
		}
	})
}

// The wait for a thing ends with the validity.
func TestWaitForAThingExpires(t *testing.T) {
	run(t, func(t *testing.T, b *bench) {
		b.set(stuck)
		b.apply(connection(1, `"uplinkTimeValidity":"1m"`))
		b.journal.add(uplink("m1", eui(1)))
		b.pass(59 * time.Second)
		if b.journal.count().done != 0 {
			t.Error("expired too early")
		}
		b.pass(2 * time.Second)
		err, _ := b.journal.outcome("m1")
		if v, _ := sluice.VerdictOf(err); v != sluice.Expired {
			t.Errorf("outcome %v", err)
		}
	})
}

func TestPatienceKeepsVerdicts(t *testing.T) {
	ended := make(chan struct{})
	close(ended)
	p := &patience{ctx: t.Context(), stop: make(chan struct{}), ended: ended, clock: time.Now}
	permanent := &sluice.Failure{Verdict: sluice.Permanent}
	if got := p.verdict(permanent); !errors.Is(got, permanent) {
		t.Errorf("a permanent failure became %v", got)
	}
	if got := p.verdict(context.Canceled); !errors.Is(got, errRetired) {
		t.Errorf("the end of the pool became %v", got)
	}
	if got := p.verdict(nil); got != nil {
		t.Errorf("nil became %v", got)
	}
}

func BenchmarkWaiting(b *testing.B) {
	p := &patience{ctx: b.Context(), stop: make(chan struct{}), ended: make(chan struct{}), clock: time.Now}
	b.ReportAllocs()
	for b.Loop() {
		ctx, end := p.context()
		if ctx.Err() != nil {
			b.Fatal("it has ended")
		}
		end()
	}
}
