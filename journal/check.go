package journal

import (
	"context"
	"errors"
	"fmt"

	"sluice"
)

// Check compares counters, positions and the stream, and returns what does not
// agree: nil, as a rule. It reads the last message of each place.
func (j *Journal) Check(ctx context.Context) error {
	var errs []error
	for _, name := range j.Places() {
		if p := j.place(name); p != nil {
			errs = append(errs, j.checkPlace(ctx, p))
		}
	}
	errs = append(errs, j.checkQuarantine(ctx))
	return errors.Join(errs...)
}

func (j *Journal) checkPlace(ctx context.Context, p *place) error {
	if err := p.check(); err != nil {
		return err
	}
	// What is appended or dropped meanwhile is no disagreement.
	j.committing.Lock()
	defer j.committing.Unlock()
	if _, unsure := j.unsure[p]; unsure || p.dropping() {
		return nil
	}
	last, _, err := j.lastOf(ctx, p.name)
	if err != nil && !errors.Is(err, errNotFound) && !errors.Is(err, errDamaged) {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.gone:
	case last > p.last:
		return fmt.Errorf("journal: the stream has entry %d of %s, %d are counted", last, p.name.label(), p.last)
	case last < p.last && !p.done.has(p.last):
		return fmt.Errorf("journal: entry %d of %s waits, the stream ends at %d", p.last, p.name.label(), last)
	}
	return nil
}

// check compares what is known of a place with itself.
func (p *place) check() error {
	c := p.counters()
	p.mu.Lock()
	defer p.mu.Unlock()
	w := &p.done
	switch {
	case p.ward.retried > p.failed:
		return fmt.Errorf("journal: %d entries of %s were sent again, %d had failed", p.ward.retried, p.name.label(), p.failed)
	case !c.Holds():
		return fmt.Errorf("journal: the counters of %s do not add up: %+v", p.name.label(), c)
	case w.floor > p.last || w.high > p.last:
		return fmt.Errorf("journal: the position of %s is at %d and %d, its last entry is %d", p.name.label(), w.floor, w.high, p.last)
	case uint64(len(w.parked)) > w.floor:
		return fmt.Errorf("journal: %d entries of %s are parked, the position is at %d", len(w.parked), p.name.label(), w.floor)
	}
	return nil
}

// selfCheck runs Check and tells when what it says has changed.
func (j *Journal) selfCheck(ctx context.Context, before string) string {
	err := j.Check(ctx)
	if ctx.Err() != nil {
		return before
	}
	now := ""
	if err != nil {
		now = err.Error()
	}
	if now != "" && now != before {
		j.o.Log.Error("the self-check failed", "error", err)
		j.o.Events.Record(sluice.Event{
			Level: sluice.LevelError, Type: sluice.EventSelfCheck, Label: "Self-check failed", Detail: now,
			Hint: "Check the disk of the data directory. If it is sound, this is a fault of Sluice: please report it.",
		})
	}
	return now
}
