package journal

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"
)

// loadRetries counts the entries that were sent again out of quarantine after
// the book of a place was written, from entry after on: these lie in the
// messages behind seq.
func (j *Journal) loadRetries(ctx context.Context, p *place, after, seq uint64) error {
	leaving := len(p.ward.leaving)
	defer func() { p.ward.inTheBook -= min(p.ward.inTheBook, uint64(len(p.ward.leaving)-leaving)) }()
	for from := seq + 1; from <= p.lastSeq; {
		got, err := j.entries.batch(ctx, string(p.name), from, maxFetch, maxFetchBytes)
		if errors.Is(err, errNotFound) {
			from++ // damaged: a reader counts what is missing
			continue
		}
		if err != nil {
			return err
		}
		for _, s := range got {
			from = s.seq + 1
			if b, err := openBundle(s.data); err == nil {
				p.retryAll(retriesIn(b), after)
			}
		}
	}
	return nil
}

// loadQuarantine reads what lies in quarantine. What cannot be read of it is
// told: it stays counted as failed.
func (j *Journal) loadQuarantine(ctx context.Context) error {
	orderly, err := j.endedInOrder(ctx)
	if err != nil {
		return err
	}
	info, err := j.wards.stream.Info(ctx)
	if err != nil {
		return fmt.Errorf("journal: read the state of the quarantine: %w", err)
	}
	j.wards.lastSeq = info.State.LastSeq
	damaged := map[*place]uint64{}
	seen := uint64(0)
	for from := info.State.FirstSeq; from <= info.State.LastSeq && seen < info.State.Msgs; {
		got, err := j.wards.entries.batch(ctx, quarantinePrefix+">", from, maxFetch, maxFetchBytes)
		if errors.Is(err, errNotFound) {
			from++
			continue
		}
		if err != nil {
			return fmt.Errorf("journal: read the quarantine: %w", err)
		}
		for _, s := range got {
			from = s.seq + 1
			seen++
			if err := j.loadRecord(ctx, s, damaged); err != nil {
				return err
			}
		}
	}
	for _, p := range j.places {
		p.settleWard()
		j.tellLoss(p, damaged[p], orderly)
	}
	return nil
}

// tellLoss tells of records that are damaged, and of those that the book knows
// and the stream does not have. After an end that was not orderly the book may
// be of the second before.
func (j *Journal) tellLoss(p *place, damaged uint64, orderly bool) {
	missing := p.ward.inTheBook - min(p.ward.inTheBook, uint64(len(p.ward.lying))+damaged)
	n := damaged + missing
	if n == 0 {
		return
	}
	detail := fmt.Sprintf("%d messages in the quarantine of %s cannot be read and are lost. They stay counted as failed.", n, p.name.label())
	if missing > 0 && !orderly {
		detail += fmt.Sprintf(" %d of them may have been deleted in the last second before the end.", missing)
	}
	j.gapEvent(p, detail)
}

// endedInOrder reports whether the last end was orderly: then what the books
// say is exact.
func (j *Journal) endedInOrder(ctx context.Context) (bool, error) {
	s, err := newFetcher(j.o.Reads, streamBooks).last(ctx, stateSubject)
	if err != nil && !errors.Is(err, errNotFound) {
		return false, fmt.Errorf("journal: read how it ended: %w", err)
	}
	return err == nil && string(s.data) == stateEnded, nil
}

// loadRecord takes up a record. One that is damaged is removed.
func (j *Journal) loadRecord(ctx context.Context, s stored, damaged map[*place]uint64) error {
	name, number, ok := splitSubject(s.subject)
	if !ok {
		return j.wards.stream.Purge(ctx, jetstream.WithPurgeSubject(s.subject))
	}
	p := j.makePlace(name)
	if q, err := decodeRecord(s.data); err != nil || q.Message.Number != number {
		damaged[p]++
		return j.wards.stream.Purge(ctx, jetstream.WithPurgeSubject(s.subject))
	}
	if _, leaves := p.ward.leaving[number]; leaves {
		p.ward.leaving[number] = s.seq
		return nil
	}
	p.ward.put(lying{number, s.seq, uint32(len(s.data))})
	if number > p.last { // the end of the place is lost: the number is not given twice
		p.cut += number - p.last
		p.last = number
	}
	switch {
	case !p.done.has(number):
		p.ward.doubt(number)
	case p.ward.bookless && p.delivered > 0: // taken as delivered, for want of its book
		p.delivered--
		p.failed++
	}
	return nil
}

// settleWard forgets those that were to leave and have left.
func (p *place) settleWard() {
	for number, seq := range p.ward.leaving {
		if seq == 0 {
			delete(p.ward.leaving, number)
		}
	}
}
