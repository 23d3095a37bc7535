package run

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"sluice/bench/ledger"
	"sluice/bench/load"
	"sluice/bench/sink"
)

// ailment is what can be wrong with a neighbour.
type ailment struct {
	name string
	// small is true where the neighbour's share of the disk is to be small.
	small      bool
	begin, end func(s *sink.Sink) error
}

func ailments() []ailment {
	stop := func(s *sink.Sink) error { s.Stop(); return nil }
	return []ailment{
		{"dead (no link can be made)", false, stop, (*sink.Sink).Start},
		{
			"stuck (takes all, acknowledges nothing)", false,
			func(s *sink.Sink) error { s.Stall(true); return nil },
			func(s *sink.Sink) error { // its clients begin anew, or they wait for what was swallowed
				s.Stop()
				s.Stall(false)
				return s.Start()
			},
		},
		{"dead, and over its share of the disk", true, stop, (*sink.Sink).Start},
	}
}

const (
	// smallShare is less than what the neighbour is sent in a window.
	smallShare = 1 << 20
	// shareSeconds is how long a window is in which a share is to be enforced,
	// which the journal does once a minute.
	shareSeconds = 65
)

// isolation measures what an ailing connection does to its neighbour: the same
// Sluice with two connections and half of the load each, windows with the
// second one well and with it ailing in turn.
func (r *runner) isolation(ctx context.Context) error {
	r.say("")
	r.say("Two connections with %d reports a second each; the figures are those of the first, by how the second is:", r.o.Rate/2)
	r.say("| the second is | p99 ms beside a sound one | p99 ms beside it | ratio, median (least to most) | refused | lost |")
	r.say("|---|---|---|---|---|---|")
	for _, a := range ailments() {
		if err := r.ailing(ctx, a); err != nil {
			return fmt.Errorf("%s: %w", a.name, err)
		}
	}
	return nil
}

func (r *runner) ailing(ctx context.Context, a ailment) error {
	p, err := newPairBed(ctx, r.o, a)
	if err != nil {
		return err
	}
	defer p.close()
	var sound, beside, ratios []float64
	for pair := range r.o.Pairs {
		before, after, err := p.pair(ctx, a, pair%2 == 1)
		if err != nil {
			return err
		}
		sound, beside = append(sound, before), append(beside, after)
		if before > 0 {
			ratios = append(ratios, after/before)
		}
	}
	if err := p.first.settle(ctx); err != nil {
		return fmt.Errorf("%d accepted reports of the first connection did not arrive", p.first.ledger.Missing())
	}
	if len(ratios) == 0 {
		return errors.New("nothing arrived")
	}
	r.say("| %s | %.2f | %.2f | %.2f (%.2f to %.2f) | %d | %d |", a.name, median(sound), median(beside),
		median(ratios), slices.Min(ratios), slices.Max(ratios), p.first.ledger.Totals().Refused, p.first.ledger.Missing())
	return nil
}

// pairBed is a bed with a second sink, load and ledger, those of the
// neighbour.
type pairBed struct {
	first     *bed
	neighbour *sink.Sink
	account   *ledger.Ledger
	load      *load.Generator
}

func newPairBed(ctx context.Context, o *Options, a ailment) (*pairBed, error) {
	half, hands := o.Devices/2, max(o.Concurrency/2, 1)
	p := &pairBed{account: ledger.New(load.FirstDevEUI+uint64(half), half)}
	var err error
	if p.neighbour, err = sink.New(sink.Options{Ledger: p.account}); err != nil {
		return nil, err
	}
	system := sluiceSystem(2, unpaced)
	system.second = p.neighbour
	if a.small {
		system.share = smallShare
	}
	part := *o
	part.Devices, part.Concurrency = half, hands
	if a.small {
		part.Seconds = max(part.Seconds, shareSeconds)
	}
	if p.first, err = newBedOf(ctx, &part, system, 0, 1); err != nil {
		p.neighbour.Stop()
		return nil, err
	}
	p.load, err = load.New(load.Options{
		Devices: half, Concurrency: hands, Groups: 1, First: half, FirstGroup: 1, Ledger: p.account, Target: p.first.where,
	})
	if err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

func (p *pairBed) close() {
	p.first.close()
	p.neighbour.Stop()
}

// pair measures the p99 of the first connection beside a sound neighbour and
// beside an ailing one, in milliseconds, the ailing one first where asked for.
func (p *pairBed) pair(ctx context.Context, a ailment, ailingFirst bool) (sound, beside float64, err error) {
	windows := []func() error{
		func() error {
			sound, err = p.window(ctx)
			return err
		},
		func() error {
			if err := a.begin(p.neighbour); err != nil {
				return err
			}
			if beside, err = p.window(ctx); err != nil {
				return err
			}
			return a.end(p.neighbour)
		},
	}
	if ailingFirst {
		slices.Reverse(windows)
	}
	for _, w := range windows {
		if err := w(); err != nil {
			return 0, 0, err
		}
		if err := p.recover(ctx, a); err != nil {
			return 0, 0, err
		}
	}
	return sound, beside, nil
}

// recover waits until the neighbour has what waits for it, which an ailing one
// has after its end; where its share was small some of it never comes.
func (p *pairBed) recover(ctx context.Context, a ailment) error {
	if !a.small {
		if err := await(ctx, 2*time.Minute, func() bool { return p.account.Missing() == 0 }); err != nil {
			return fmt.Errorf("the second connection does not come back: %d are missing", p.account.Missing())
		}
		return nil
	}
	return await(ctx, 2*time.Minute, func() bool {
		arrived := p.account.Totals().Arrived
		return p.first.idle(ctx, time.Second) != nil || p.account.Totals().Arrived == arrived && p.neighbour.Sessions() > 0
	})
}

// window plays both loads and returns the p99 of the first connection's
// deliveries in milliseconds.
func (p *pairBed) window(ctx context.Context) (float64, error) {
	own, cancel := context.WithCancel(ctx)
	defer cancel()
	played := make(chan struct{})
	go func() {
		defer close(played)
		p.load.Run(own, p.first.o.Rate/2)
	}()
	rate := p.first.o.Rate / 2
	err := p.first.play(ctx, rate, p.first.o.warmUp())
	p.first.ledger.Deliveries().Reset()
	if err == nil {
		err = p.first.play(ctx, rate, p.first.o.window())
	}
	cancel()
	<-played
	return float64(p.first.ledger.Deliveries().Quantile(0.99)) / float64(time.Millisecond), err
}
