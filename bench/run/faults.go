package run

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// loss is what a fault cost.
type loss struct {
	lost, accepted, refused, copies, disordered int
	// back is how long after the fault's end the first report arrived.
	back time.Duration
}

// fault is something that happens to a system under the steady load.
type fault struct {
	name string
	play func(ctx context.Context, b *bed) error // returns at the fault's end
}

func faults() []fault {
	return []fault{
		{"outage", func(ctx context.Context, b *bed) error {
			b.sink.Stop()
			if err := b.idle(ctx, b.o.outage()); err != nil {
				return err
			}
			return b.sink.Start()
		}},
		{"kill -9", func(ctx context.Context, b *bed) error {
			b.process.kill()
			return b.system.launch(ctx, b)
		}},
		{"kill -9 in an outage", func(ctx context.Context, b *bed) error {
			b.sink.Stop()
			if err := b.idle(ctx, b.o.outage()/2); err != nil {
				return err
			}
			b.process.kill()
			if err := b.sink.Start(); err != nil {
				return err
			}
			return b.system.launch(ctx, b)
		}},
	}
}

// measureLoss plays a fault in the middle of a steady load, and then waits for
// what was accepted.
func measureLoss(ctx context.Context, o *Options, s *system, f fault) (loss, error) {
	b, err := newBed(ctx, o, s, 0)
	if err != nil {
		return loss{}, err
	}
	defer b.close()
	own, cancel := context.WithCancel(ctx)
	defer cancel()
	played := make(chan struct{})
	go func() {
		defer close(played)
		b.load.Run(own, o.Rate)
	}()
	var r loss
	err = b.idle(ctx, o.warmUp())
	if err == nil {
		err = f.play(ctx, b)
	}
	if err == nil {
		end := time.Now()
		before, _ := b.sink.Publishes()
		if await(ctx, o.patience(), func() bool { n, _ := b.sink.Publishes(); return n > before }) == nil {
			r.back = time.Since(end)
		}
		err = b.idle(ctx, o.warmUp())
	}
	cancel()
	<-played
	if err == nil {
		if err = b.settle(ctx); errors.Is(err, errInVain) {
			err = nil // then they are lost
		}
	}
	if err != nil {
		return loss{}, fmt.Errorf("%s, %s: %w", s.name, f.name, err)
	}
	t := b.ledger.Totals()
	r.lost, r.accepted, r.refused, r.copies, r.disordered = b.ledger.Missing(), t.Accepted, t.Refused, t.Copies, t.Disordered
	return r, nil
}
