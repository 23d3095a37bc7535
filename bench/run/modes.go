package run

import (
	"context"
	"fmt"
)

// shares measures Sluice with the same load spread over numbers of
// connections.
func (r *runner) shares(ctx context.Context) error {
	r.say("")
	r.say("The same %d reports a second over some connections (1: a pool of 10 sessions; more: one session each):", r.o.Rate)
	r.say("| connections | CPU s/100k | against the first | p50 / p99 ms | peak MB |")
	r.say("|---|---|---|---|---|")
	var first float64
	for i, n := range r.o.Connections {
		var s speed
		b, err := newBed(ctx, r.o, sluiceSystem(n, unpaced), 0)
		if err != nil {
			return err
		}
		err = b.steady(ctx, &s)
		if err == nil {
			s.memory, err = b.process.peakMemory()
		}
		missing := b.ledger.Missing()
		b.close()
		if err != nil {
			return fmt.Errorf("%d connections: %w", n, err)
		}
		if missing > 0 {
			return fmt.Errorf("%d connections: %d accepted reports did not arrive", n, missing)
		}
		if i == 0 {
			first = s.steadyCPU
		}
		ratio := 0.0
		if first > 0 {
			ratio = s.steadyCPU / first
		}
		r.say("| %d | %.2f | %.2f | %s / %s | %s |", n, s.steadyCPU, ratio, millis(s.p50), millis(s.p99), megabytes(s.memory))
	}
	return nil
}

// quota is how many publishes a second AWS takes from a session.
const quota = 100

// paced measures Sluice at AWS's pace, with more load than that takes.
func (r *runner) paced(ctx context.Context) error {
	b, err := newBed(ctx, r.o, sluiceSystem(1, 0), quota)
	if err != nil {
		return err
	}
	defer b.close()
	const most = 10 * quota
	own, cancel := context.WithCancel(ctx)
	defer cancel()
	played := make(chan struct{})
	go func() {
		defer close(played)
		b.load.Run(own, most*11/10)
	}()
	err = b.idle(ctx, r.o.warmUp())
	var before, after mark
	if err == nil {
		before, err = b.mark()
	}
	if err == nil {
		err = b.idle(ctx, r.o.window())
	}
	if err == nil {
		after, err = b.mark()
	}
	cancel()
	<-played
	if err != nil {
		return err
	}
	n := after.totals.Arrived - before.totals.Arrived
	rate := float64(n) / after.at.Sub(before.at).Seconds()
	all, over := b.sink.Publishes()
	r.say("At AWS's pace, with ten sessions loaded by %d a second: %.0f msg/s, %.1f %% of %d; %d of %d publishes were over %d a second and session; %.2f CPU s/100k",
		most*11/10, rate, rate/most*100, most, over, all, quota, per100k(after.cpu-before.cpu, n))
	return nil
}
