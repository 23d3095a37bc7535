package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// stage is one long-lived part of the process.
type stage struct {
	name string
	// run works until its context ends, and returns when all it began has
	// ended.
	run func(ctx context.Context) error
	// grace is how long it may take to end.
	grace time.Duration
}

// lastMoment is what a stage has to end in once the limit is over: the journal
// and the store, which end last, still write what they hold.
const lastMoment = time.Second

// runStages starts the stages in their order and, when ctx ends or one of
// them fails, stops them one after another from the last to the first: so
// whoever hands on is stopped before the one it hands to. A stage that does
// not end within its grace, or the limit of all, is named in the error and left
// behind.
func runStages(ctx context.Context, log *slog.Logger, limit time.Duration, stages []stage) error {
	type running struct {
		cancel context.CancelFunc
		done   chan error
	}
	failed := make(chan struct{}, len(stages))
	all := make([]running, len(stages))
	for i, s := range stages {
		// Cancelled in order below, not all at once with ctx.
		own, cancel := context.WithCancel(context.WithoutCancel(ctx))
		all[i] = running{cancel: cancel, done: make(chan error, 1)}
		go func() {
			err := s.run(own)
			if own.Err() == nil {
				if err == nil {
					err = errors.New("ended by itself")
				}
				failed <- struct{}{}
			}
			all[i].done <- err
		}()
	}
	select {
	case <-ctx.Done():
	case <-failed:
	}
	var errs []error
	deadline := time.Now().Add(limit)
	for i := len(stages) - 1; i >= 0; i-- {
		s := stages[i]
		begun := time.Now()
		all[i].cancel()
		grace := min(s.grace, max(time.Until(deadline), lastMoment))
		timer := time.NewTimer(grace)
		select {
		case err := <-all[i].done:
			if err != nil && !errors.Is(err, context.Canceled) {
				errs = append(errs, fmt.Errorf("%s: %w", s.name, err))
			}
			log.Debug("stage ended", "stage", s.name, "took", time.Since(begun))
		case <-timer.C:
			errs = append(errs, fmt.Errorf("%s: did not end within %s", s.name, grace))
		}
		timer.Stop()
	}
	return errors.Join(errs...)
}
