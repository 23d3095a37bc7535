package journal

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"sluice"
)

const (
	// houseEvery is how often the disk is looked at and a failed commit is
	// looked into, and trimEvery how often history is trimmed, what nobody
	// reads expires, with an event each time, and counters, positions and the
	// stream are compared.
	houseEvery = time.Second
	trimEvery  = time.Minute
	// fullTrim is after how many looks at a disk that is full history is
	// trimmed, to make room.
	fullTrim = 3
	// purgeStep is how many sequences are purged at once: a purge holds the
	// stream's lock, for about 2 us a message.
	purgeStep = 2000
)

// keepHouse watches the disk and trims, until ctx ends.
func (j *Journal) keepHouse(ctx context.Context) {
	house, trim := time.NewTicker(houseEvery), time.NewTicker(trimEvery)
	defer house.Stop()
	defer trim.Stop()
	r := restarter{j: j}
	checked, ticks := "", 0
	for {
		select {
		case <-ctx.Done():
			return
		case <-house.C:
			j.checkDisk()
			r.check(ctx)
			j.sweepAll(ctx)
			if ticks++; ticks%fullTrim == 0 && j.health.disk.Load() != nil {
				j.trimmed(ctx)
			}
			j.committing.Lock()
			err := j.sure()
			j.committing.Unlock()
			if err != nil {
				j.o.Log.Warn("the journal cannot be read", "error", err)
			}
		case <-trim.C:
			checked = j.selfCheck(ctx, checked)
			j.trimmed(ctx)
		}
	}
}

// trimmed trims, and logs why it cannot.
func (j *Journal) trimmed(ctx context.Context) {
	if err := j.trim(ctx); err != nil && ctx.Err() == nil {
		j.o.Log.Warn("the journal cannot be trimmed", "error", err)
	}
}

// trim removes history that is old enough from all places, and expires what is
// older than the retention where nobody reads.
func (j *Journal) trim(ctx context.Context) error {
	history, err := j.history(ctx)
	if err != nil {
		return err
	}
	hold := j.replays.hold()
	if history < j.o.History || j.health.tight.Load() {
		hold = math.MaxUint64 // room goes first
	}
	removing := j.tryRemoving()
	if removing {
		defer j.removed()
	}
	var errs []error
	for _, name := range j.Places() {
		p := j.place(name)
		if p == nil || ctx.Err() != nil {
			continue
		}
		j.tellShrunk(p, false)
		if err := j.expire(ctx, p); err != nil {
			errs = append(errs, err)
		}
		if err := j.keepShare(ctx, p); err != nil {
			errs = append(errs, err)
		}
		if !removing {
			continue
		}
		if err := j.trimPlace(ctx, p, history, hold); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(append(errs, j.relieve(ctx))...)
}

// history is how long history is kept at the moment: less when the stream is
// larger than it should be, not at all when the disk is full.
func (j *Journal) history(ctx context.Context) (time.Duration, error) {
	if j.health.disk.Load() != nil {
		return 0, nil
	}
	if j.o.HistoryBytes == 0 {
		return j.o.History, nil
	}
	info, err := j.stream.Info(ctx)
	if err != nil {
		return 0, fmt.Errorf("journal: read the stream's state: %w", err)
	}
	if size := int64(info.State.Bytes); size > j.o.HistoryBytes {
		return time.Duration(float64(j.o.History) * float64(j.o.HistoryBytes) / float64(size)), nil
	}
	return j.o.History, nil
}

// trimPlace purges what is older than history, done according to a book that
// has been on the disk since the last time, before hold, and not the last
// message, which tells the last number.
func (j *Journal) trimPlace(ctx context.Context, p *place, history time.Duration, hold uint64) error {
	p.mu.Lock()
	limit := min(p.trimmable, p.lastSeq)
	if p.sink {
		limit = p.lastSeq
	}
	p.trimmable = p.written
	trimmed := p.trimmed
	p.mu.Unlock()
	limit = min(limit, hold)
	if limit <= trimmed+1 {
		return nil
	}
	s, err := j.entries.since(ctx, string(p.name), j.o.Clock().Add(-history))
	switch {
	case err == nil:
		limit = min(limit, s.seq)
	case !errors.Is(err, errNotFound):
		return err
	}
	for trimmed+1 < limit && ctx.Err() == nil {
		first, err := j.entries.next(ctx, string(p.name), trimmed+1)
		if err != nil || first.seq >= limit {
			trimmed = limit - 1
			break
		}
		to := min(first.seq+purgeStep, limit)
		if err := j.purge(ctx, p.name, to); err != nil {
			return err
		}
		trimmed = to - 1
	}
	p.mu.Lock()
	p.trimmed = trimmed
	p.mu.Unlock()
	return nil
}

// purge removes the messages of a place before a sequence.
func (j *Journal) purge(ctx context.Context, name Place, before uint64) error {
	err := j.stream.Purge(ctx, jetstream.WithPurgeSubject(string(name)), jetstream.WithPurgeSequence(before))
	if err != nil {
		return fmt.Errorf("journal: purge %s: %w", name.label(), err)
	}
	return nil
}

// expire ends the entries of a place that are older than the retention, where
// nobody reads. A reader does so by itself.
func (j *Journal) expire(ctx context.Context, p *place) error {
	p.mu.Lock()
	idle := p.reader == nil && !p.gone && p.pending() > 0
	p.mu.Unlock()
	if !idle {
		return nil
	}
	number, seq, err := j.firstSince(ctx, p, j.o.Clock().Add(-j.o.Retention))
	if err != nil {
		return err
	}
	p.mu.Lock()
	var n uint64
	if p.reader == nil && number > 0 {
		n = p.giveUp(min(number-1, p.last), seq, Expired)
	}
	fresh := n > 0 && p.touch()
	p.mu.Unlock()
	j.books.changed(p, fresh)
	if n > 0 {
		j.expiredEvent(p, n)
	}
	return nil
}

// firstSince returns the number of the first entry that was appended at a time
// or later, and its message.
func (j *Journal) firstSince(ctx context.Context, p *place, t time.Time) (number, seq uint64, err error) {
	s, err := j.entries.since(ctx, string(p.name), t)
	if errors.Is(err, errNotFound) {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.last + 1, p.lastSeq + 1, nil
	}
	if err != nil {
		return 0, 0, err
	}
	b, err := openBundle(s.data)
	if err != nil {
		return 0, 0, nil //nolint:nilerr // the reader meets the damage and counts it
	}
	return b.first, s.seq, nil
}

func (j *Journal) expiredEvent(p *place, n uint64) {
	e := sluice.Event{
		Level: sluice.LevelWarning, Type: sluice.EventUplinkExpired, Label: "Uplinks expired", Reason: sluice.ReasonExpired,
		Detail: fmt.Sprintf("%d entries of %s were not delivered within %s.", n, p.name.label(), j.o.Retention),
	}
	if name, ok := cutUp(p.name); ok {
		e.Connection = name
	} else {
		e.Type, e.Label = sluice.EventDownlinkExpired, "Downlinks expired"
		e.Network = strings.TrimPrefix(string(p.name), downPrefix)
	}
	j.o.Events.Record(e)
}

// cutUp returns the connection of a place of reports.
func cutUp(name Place) (string, bool) { return strings.CutPrefix(string(name), upPrefix) }
