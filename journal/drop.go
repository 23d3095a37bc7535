package journal

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"sluice"
)

// Drop forgets a place: its entries, its book and its replay. One that is made anew under
// the name starts at 1. A place that is being read cannot be dropped
// (CodeConflict), nor can any while a backup is made. After a crash in the middle, Drop again.
func (j *Journal) Drop(ctx context.Context, name Place) error {
	if connection, ok := cutUp(name); ok {
		if err := j.replays.forget(ctx, connection); err != nil {
			return fmt.Errorf("journal: drop %s: %w", name.label(), err)
		}
	}
	j.committing.Lock()
	p := j.makePlace(name)
	p.mu.Lock()
	if p.reader != nil || p.gone {
		p.mu.Unlock()
		j.committing.Unlock()
		return sluice.Errorf(sluice.CodeConflict, "The entries of %s are in use.", name.label())
	}
	p.gone = true
	p.mu.Unlock()
	delete(j.unsure, p)
	j.committing.Unlock()

	err := j.erasing(ctx, p)

	j.mu.Lock()
	defer j.mu.Unlock()
	if err != nil {
		p.mu.Lock()
		p.gone = false
		p.mu.Unlock()
		return fmt.Errorf("journal: drop %s: %w", name.label(), err)
	}
	delete(j.places, name)
	return nil
}

// erasing erases, unless what is there is held.
func (j *Journal) erasing(ctx context.Context, p *place) error {
	if j.hold.Load() != nil {
		return sluice.Errorf(sluice.CodeConflict, "A backup is being made.")
	}
	select {
	case j.removing <- struct{}{}:
		defer j.removed()
		return j.erase(ctx, p)
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (j *Journal) erase(ctx context.Context, p *place) error {
	if err := j.eraseQuarantine(ctx, p); err != nil {
		return err
	}
	if err := j.eraseBook(ctx, p); err != nil {
		return err
	}
	for {
		s, err := j.entries.next(ctx, string(p.name), 1)
		if errors.Is(err, errNotFound) {
			break
		}
		if err != nil {
			return err
		}
		if err := j.purge(ctx, p.name, s.seq+purgeStep); err != nil {
			return err
		}
	}
	return j.stream.Purge(ctx, jetstream.WithPurgeSubject(string(p.name)))
}

func errDropping() error {
	return sluice.Errorf(sluice.CodeConflict, "The place of the message is being deleted.")
}
