package journal

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"

	"sluice"
)

// shareOfDisk is the part of the free disk that is a place's share, where
// Options do not say.
const shareOfDisk = 4

// setShare sets the share where Options do not. What is there already counts
// as free: a share must not shrink because the place has filled it.
func (j *Journal) setShare() {
	if j.o.Share != 0 || j.o.Dir == "" {
		return
	}
	free, err := j.diskFree(j.o.Dir)
	if err != nil {
		return // checkDisk tells
	}
	for _, p := range j.places {
		free += int64(p.backlog)
	}
	j.o.Share = max(free/shareOfDisk, 1)
}

// keepShare gives up the oldest entries of a place that holds more than its
// share, so that it does not take the disk away from others. How many bytes a
// place holds is known on the whole only, so as many entries are given up as
// have them on the mean.
func (j *Journal) keepShare(ctx context.Context, p *place) error {
	if j.o.Share <= 0 {
		return nil
	}
	p.mu.Lock()
	pending, backlog, floor := p.pending(), p.backlog, p.done.floor
	from, to, last := p.seq, p.lastSeq, p.last
	p.mu.Unlock()
	if backlog <= uint64(j.o.Share) || pending == 0 {
		return nil
	}
	part := 1 - float64(j.o.Share)/float64(backlog)
	number, seq, err := j.find(ctx, p.name, min(floor+uint64(math.Ceil(part*float64(pending)))+1, last), from, to)
	if err != nil {
		return err
	}
	p.mu.Lock()
	var n uint64
	if number > 1 && number-1 <= p.last && !p.gone {
		n = p.giveUp(number-1, seq, Expired)
	}
	fresh := n > 0 && p.touch()
	p.mu.Unlock()
	j.books.changed(p, fresh)
	if n > 0 {
		j.shareEvent(p, n)
	}
	return nil
}

// find returns the message of a place that an entry lies in, and the number of
// the first entry in it. It is between from and to, and searched by halves.
func (j *Journal) find(ctx context.Context, name Place, number, from, to uint64) (first, seq uint64, err error) {
	for from = max(from, 1); from <= to; {
		mid := from + (to-from)/2
		s, err := j.entries.next(ctx, string(name), mid)
		if errors.Is(err, errNotFound) {
			to = mid - 1
			continue
		}
		if err != nil {
			return 0, 0, err
		}
		b, err := openBundle(s.data)
		switch {
		case err != nil: // the reader meets the damage and counts it
			from = s.seq + 1
		case b.first <= number:
			first, seq = b.first, s.seq
			from = s.seq + 1
		default:
			to = mid - 1
		}
	}
	return first, seq, nil
}

func (j *Journal) shareEvent(p *place, n uint64) {
	e := sluice.Event{
		Level: sluice.LevelWarning, Type: sluice.EventJournalShare, Label: "Backlog too large", Reason: sluice.ReasonExpired,
		Detail: fmt.Sprintf("What waits in %s takes more than its share of the disk, %d MiB. Its %d oldest entries are given up.", p.name.label(), j.o.Share>>20, n),
		Hint:   "Find out why they are not delivered.",
	}
	if name, ok := cutUp(p.name); ok {
		e.Connection = name
	} else {
		e.Network = strings.TrimPrefix(string(p.name), downPrefix)
	}
	j.o.Events.Record(e)
}
