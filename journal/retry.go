package journal

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"sluice"
)

// retryBatch and retryBytes bound what is sent again at once.
const (
	retryBatch = 64
	retryBytes = 2 << 20
)

func errNotQuarantined(number uint64) *sluice.Error {
	return &sluice.Error{
		Code: sluice.CodeNotFound, Message: fmt.Sprintf("There is no message %d in quarantine.", number),
		Hint: "GET /connections/{id}/quarantine lists them.",
	}
}

// QuarantineStats are what lies in the quarantine of a place, and what became
// of the rest, since the place was made.
type QuarantineStats struct {
	Messages uint64 // lie there now
	Bytes    uint64 // so many bytes
	Retried  uint64 // were sent again; they are not in the counters' failed any more
	Dropped  uint64 // were given up because there was no room
}

// QuarantineStats returns what lies in the quarantine of a place.
func (j *Journal) QuarantineStats(name Place) QuarantineStats {
	_, s := j.Account(name)
	return s
}

// Account returns both the counters of a place and what lies in its
// quarantine, as of one moment.
func (j *Journal) Account(name Place) (sluice.Counters, QuarantineStats) {
	p := j.place(name)
	if p == nil {
		return sluice.Counters{}, QuarantineStats{}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sums(), QuarantineStats{
		Messages: uint64(len(p.ward.shown())), Bytes: p.ward.bytes, Retried: p.ward.retried, Dropped: p.ward.dropped,
	}
}

// Quarantined returns up to limit messages of the quarantine of a place, from
// offset on, the newest first and without their documents, and how many there
// are.
func (j *Journal) Quarantined(ctx context.Context, name Place, offset, limit int) ([]sluice.Quarantined, int, error) {
	p := j.place(name)
	if p == nil {
		return nil, 0, nil
	}
	p.mu.Lock()
	all := p.ward.shown()
	total := len(all)
	var page []lying
	for i := total - 1 - offset; i >= 0 && len(page) < limit; i-- {
		page = append(page, all[i])
	}
	p.mu.Unlock()
	qs := make([]sluice.Quarantined, 0, len(page))
	for _, l := range page {
		q, err := j.record(ctx, p, l)
		if errors.Is(err, errNotFound) {
			continue // gone meanwhile
		}
		if errors.Is(err, errDamaged) {
			q, err = &sluice.Quarantined{
				Message: &sluice.Message{Number: l.number}, Reason: sluice.ReasonInternal, Detail: "The message is damaged: it cannot be read.",
			}, nil
		}
		if err != nil {
			return nil, 0, err
		}
		q.Message.Document = nil
		qs = append(qs, *q)
	}
	return qs, total, nil
}

// record reads the record of an entry.
func (j *Journal) record(ctx context.Context, p *place, l lying) (*sluice.Quarantined, error) {
	s, err := j.wards.entries.at(ctx, l.seq)
	if err != nil {
		return nil, err
	}
	if s.subject != recordSubject(p.name, l.number) {
		return nil, errDamaged
	}
	return decodeRecord(s.data)
}

// lies returns an entry that lies in the quarantine of a place.
func (j *Journal) lies(name Place, number uint64) (*place, lying, error) {
	p := j.place(name)
	if p == nil {
		return nil, lying{}, errNotQuarantined(number)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	i := p.ward.find(number)
	if _, doubt := p.ward.doubts[number]; i < 0 || doubt {
		return nil, lying{}, errNotQuarantined(number)
	}
	return p, p.ward.lying[i], nil
}

// QuarantinedMessage returns a message of the quarantine of a place, with its
// document; CodeNotFound where it does not lie there.
func (j *Journal) QuarantinedMessage(ctx context.Context, name Place, number uint64) (*sluice.Quarantined, error) {
	p, l, err := j.lies(name, number)
	if err != nil {
		return nil, err
	}
	q, err := j.record(ctx, p, l)
	switch {
	case errors.Is(err, errNotFound):
		return nil, errNotQuarantined(number)
	case errors.Is(err, errDamaged):
		return nil, &sluice.Error{Code: sluice.CodeInternal, Message: "The message is damaged: it cannot be read.", Hint: "Delete it.", Err: err}
	}
	return q, err
}

// Retry sends a message of the quarantine of a place again: it is appended as
// the place's last entry, with its id, and leaves quarantine once that is
// durable. Its validity does not count any more. For the counters it is one
// message still, which goes from failed to pending. CodeNotFound where it does
// not lie there, CodeUnavailable as [Journal.Append].
func (j *Journal) Retry(ctx context.Context, name Place, number uint64) error {
	p, l, err := j.lies(name, number)
	if err != nil {
		return err
	}
	leave, err := enter(ctx, j.wards.retries)
	if err != nil {
		return err
	}
	defer leave()
	n, err := j.retrySome(ctx, p, []lying{l})
	if err == nil && n == 0 {
		return errNotQuarantined(number) // it has left meanwhile
	}
	return err
}

// RetryAll sends again all that lies in the quarantine of a place now, the
// oldest first, and returns how many they were. After an error the others lie
// there still.
func (j *Journal) RetryAll(ctx context.Context, name Place) (int, error) {
	p := j.place(name)
	if p == nil {
		return 0, nil
	}
	leave, err := enter(ctx, j.wards.retries)
	if err != nil {
		return 0, err
	}
	defer leave()
	p.mu.Lock()
	all := append([]lying(nil), p.ward.shown()...)
	p.mu.Unlock()
	total := 0
	for len(all) > 0 {
		some, bytes := 0, 0
		for some < len(all) && some < retryBatch && (some == 0 || bytes+int(all[some].size) <= retryBytes) {
			bytes += int(all[some].size)
			some++
		}
		n, err := j.retrySome(ctx, p, all[:some])
		if total += n; err != nil {
			return total, err
		}
		all = all[some:]
	}
	return total, nil
}

// retrySome sends some entries again, and returns how many. Those that have
// left meanwhile, or are damaged, are passed over. The turn of those who retry
// is held.
func (j *Journal) retrySome(ctx context.Context, p *place, some []lying) (int, error) {
	var ms []*sluice.Message
	for _, l := range some {
		q, err := j.record(ctx, p, l)
		switch {
		case errors.Is(err, errNotFound), err == nil && !p.mayRetry(l.number):
		case errors.Is(err, errDamaged):
			j.o.Log.Error("a message in quarantine is damaged", "place", p.name.label(), "number", l.number)
		case err != nil:
			return 0, err
		default:
			m := *q.Message
			m.Number, m.Retries, m.Retried = 0, l.number, j.o.Clock()
			ms = append(ms, &m)
		}
	}
	before := p.retriedSoFar()
	err := j.Append(ctx, ms...)
	n := int(p.retriedSoFar() - before)
	if sluice.CodeOf(err) == sluice.CodeNotFound {
		err = nil // of one of them, which was deleted meanwhile
	}
	if cause := j.sweep(ctx, p); cause != nil { // keepHouse does it again
		j.o.Log.Warn("quarantine cannot be swept", "place", p.name.label(), "error", cause)
	}
	return n, err
}

func (p *place) retriedSoFar() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ward.retried
}

// DeleteQuarantined deletes a message of the quarantine of a place; it stays
// counted as failed. CodeNotFound where it does not lie there.
func (j *Journal) DeleteQuarantined(ctx context.Context, name Place, number uint64) error {
	if _, _, err := j.lies(name, number); err != nil {
		return err
	}
	leave, err := enter(ctx, j.wards.turn)
	if err != nil {
		return err
	}
	defer leave()
	p, l, err := j.lies(name, number)
	if err != nil {
		return err
	}
	if err := j.wards.stream.Purge(ctx, jetstream.WithPurgeSubject(recordSubject(name, l.number))); err != nil {
		return fmt.Errorf("journal: remove from the quarantine of %s: %w", name.label(), err)
	}
	p.mu.Lock()
	p.ward.take(number)
	fresh := p.touch()
	p.mu.Unlock()
	j.books.changed(p, fresh)
	return nil
}

// DeleteAllQuarantined deletes all that lies in the quarantine of a place, and
// returns how many they were.
func (j *Journal) DeleteAllQuarantined(ctx context.Context, name Place) (int, error) {
	p := j.place(name)
	if p == nil {
		return 0, nil
	}
	leave, err := enter(ctx, j.wards.turn)
	if err != nil {
		return 0, err
	}
	defer leave()
	p.mu.Lock()
	n := len(p.ward.lying)
	if n == 0 {
		p.mu.Unlock()
		return 0, nil
	}
	last := p.ward.lying[n-1].seq
	p.mu.Unlock()
	if err := j.purgeRecords(ctx, p, last); err != nil {
		return 0, err
	}
	p.mu.Lock()
	n = len(p.ward.lying) // without those that were sent again meanwhile
	p.ward.cut(n)
	fresh := p.touch()
	p.mu.Unlock()
	j.books.changed(p, fresh)
	return n, nil
}
