package run

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// speed is what one measurement at full and at a steady rate gives.
type speed struct {
	perSecond  float64 // arrived, at saturation
	accepted   float64 // accepted a second, at saturation
	cpu        float64 // seconds per 100,000 reports, at saturation
	own        float64 // the same of load and sink together
	others     float64 // part of the machine that other processes took, at saturation
	memory     int     // most, in bytes
	p50, p99   time.Duration
	answer99   time.Duration // p99 of the answers, at the steady rate
	steadyCPU  float64       // seconds per 100,000 reports, at the steady rate
	lag        int           // accepted and not arrived at the end of the load
	refused    int
	copies     int
	disordered int
	missing    int
	strangers  int
}

// measureSpeed measures a system at the steady rate first, then at saturation.
func measureSpeed(ctx context.Context, o *Options, s *system) (speed, error) {
	b, err := newBed(ctx, o, s, 0)
	if err != nil {
		return speed{}, err
	}
	defer b.close()
	var r speed
	if !s.source {
		if err := b.steady(ctx, &r); err != nil {
			return speed{}, fmt.Errorf("%s: %w", s.name, err)
		}
	}
	if err := b.saturate(ctx, &r); err != nil {
		return speed{}, fmt.Errorf("%s: %w", s.name, err)
	}
	t := b.ledger.Totals()
	r.refused, r.copies, r.disordered, r.strangers = t.Refused, t.Copies, t.Disordered, t.Strangers
	if !s.source {
		r.missing = b.ledger.Missing()
	}
	r.memory, err = b.process.peakMemory()
	return r, err
}

// steady measures at a rate that every system keeps.
func (b *bed) steady(ctx context.Context, r *speed) error {
	if err := b.play(ctx, b.o.Rate, b.o.warmUp()); err != nil {
		return err
	}
	b.ledger.Answers().Reset()
	b.ledger.Deliveries().Reset()
	before, err := b.mark()
	if err != nil {
		return err
	}
	if err := b.play(ctx, b.o.Rate, b.o.window()); err != nil {
		return err
	}
	if err := b.settle(ctx); err != nil && !errors.Is(err, errInVain) {
		return err
	}
	after, err := b.mark()
	if err != nil {
		return err
	}
	r.p50, r.p99 = b.ledger.Deliveries().Quantile(0.5), b.ledger.Deliveries().Quantile(0.99)
	r.answer99 = b.ledger.Answers().Quantile(0.99)
	r.steadyCPU = per100k(after.cpu-before.cpu, after.totals.Arrived-before.totals.Arrived)
	return nil
}

// saturate measures with a load that is as fast as it is answered. The rate is
// that of the arrivals during the load, and processor time counts until all
// has arrived: a system that puts off its work pays for it.
func (b *bed) saturate(ctx context.Context, r *speed) error {
	if b.system.source { // it needs to connect first
		if err := await(ctx, b.o.patience(), func() bool { n, _ := b.sink.Publishes(); return n > 0 }); err != nil {
			return err
		}
	}
	// One load for warm-up and window: the marks are made while it runs.
	own, cancel := context.WithCancel(ctx)
	defer cancel()
	played := make(chan error, 1)
	go func() { played <- b.play(own, 0, b.o.warmUp()+b.o.window()) }()
	err := b.idle(ctx, b.o.warmUp())
	var before, during, after mark
	if err == nil {
		before, err = b.mark()
	}
	if err == nil && b.o.Profile != "" {
		err = b.profile(ctx)
	} else if err == nil {
		err = b.idle(ctx, b.o.window())
	}
	if err == nil {
		during, err = b.mark()
	}
	cancel()
	if e := <-played; err == nil && !errors.Is(e, context.Canceled) {
		err = e
	}
	if err != nil {
		return err
	}
	if !b.system.source {
		r.lag = b.ledger.Missing()
	}
	if err := b.settle(ctx); err != nil && !errors.Is(err, errInVain) {
		return err
	}
	if after, err = b.mark(); err != nil {
		return err
	}
	seconds := during.at.Sub(before.at).Seconds()
	r.perSecond = float64(during.totals.Arrived-before.totals.Arrived) / seconds
	foreign := (during.machine - before.machine) - (during.cpu - before.cpu) - (during.own - before.own)
	r.others = max(0, foreign.Seconds()/seconds/float64(runtime.NumCPU()))
	r.accepted = float64(during.totals.Accepted-before.totals.Accepted) / seconds
	if b.system.source {
		after = during // it never stops
	}
	n := after.totals.Arrived - before.totals.Arrived
	r.cpu, r.own = per100k(after.cpu-before.cpu, n), per100k(after.own-before.own, n)
	return nil
}

func per100k(d time.Duration, n int) float64 {
	if n <= 0 {
		return 0
	}
	return d.Seconds() / float64(n) * 100_000
}

// profile writes a profile of the processor over the window, and then one of
// the allocations, into the directory asked for.
func (b *bed) profile(ctx context.Context) error {
	if b.process.hello.Pprof == "" {
		return b.idle(ctx, b.o.window())
	}
	base := filepath.Join(b.o.Profile, strings.ToLower(strings.Fields(b.system.name)[0]))
	seconds := max(1, int(b.o.window()/time.Second))
	if err := download(ctx, fmt.Sprintf("http://%s/debug/pprof/profile?seconds=%d", b.process.hello.Pprof, seconds), base+"-cpu.prof"); err != nil {
		return err
	}
	return download(ctx, fmt.Sprintf("http://%s/debug/pprof/allocs", b.process.hello.Pprof), base+"-allocs.prof")
}

func download(ctx context.Context, address, path string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	return os.WriteFile(path, body, 0o600)
}
