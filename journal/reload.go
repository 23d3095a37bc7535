package journal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"sluice"
)

// reloads holds messages of the stream that were read again: entries that wait
// lie close together, those of a device as those of its neighbours.
type reloads struct {
	mu    sync.Mutex // held while one is read, too: others may want the same
	data  map[uint64]stored
	order fifo[uint64]
	bytes int
}

// get returns the message with a sequence.
func (c *reloads) get(ctx context.Context, f fetcher, seq uint64, limit int) (stored, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s, ok := c.data[seq]; ok {
		return s, nil
	}
	s, err := f.at(ctx, seq)
	if err != nil {
		return stored{}, err
	}
	for c.order.len() > 0 && c.bytes+len(s.data) > limit {
		oldest := c.order.pop()
		c.bytes -= len(c.data[oldest].data)
		delete(c.data, oldest)
	}
	if c.data == nil {
		c.data = map[uint64]stored{}
	}
	c.data[seq] = s
	c.order.push(seq)
	c.bytes += len(s.data)
	return s, nil
}

// load reads an entry again whose document was not kept.
func (r *reader) load(w waiting) (*sluice.Message, error) {
	s, err := r.reloads.get(r.base, r.j.entries, w.seq, r.share()/4)
	if err != nil {
		return nil, err
	}
	b, err := openBundle(s.data)
	if err != nil || w.number < b.first || w.number > b.last() {
		return nil, errDamaged
	}
	for b.next < w.number {
		if !b.skip() {
			return nil, errDamaged
		}
	}
	_, body, err := b.take()
	if err != nil {
		return nil, err
	}
	m := new(sluice.Message)
	err = decodeEntry(m, w.number, body)
	m.Journalled = s.at
	return m, err
}

// keep keeps what was read again until it is over.
func (r *reader) keep(d *device, m *sluice.Message) {
	m.Document = bytes.Clone(m.Document) // not the whole bundle
	r.p.mu.Lock()
	defer r.p.mu.Unlock()
	d.queue.front().m = noted(m)
	r.bytes += cost(m)
}

// unloadable handles an entry that cannot be read again: it is tried again,
// or, where it is damaged or gone, counted as lost.
func (r *reader) unloadable(d *device, w waiting, err error) {
	p := r.p
	if !errors.Is(err, errDamaged) && !errors.Is(err, errNotFound) {
		p.mu.Lock()
		if !r.closing {
			d.pauses++
			r.later(d, backoff(d.pauses, r.j.o.Rand()))
		}
		p.mu.Unlock()
		if r.base.Err() == nil {
			r.j.o.Log.Warn("cannot read the stream", "place", p.name.label(), "error", err)
		}
		return
	}
	p.mu.Lock()
	fresh := p.settle(w.number, Failed)
	r.advance(d)
	touched := p.touch()
	p.mu.Unlock()
	r.j.books.changed(p, touched)
	if fresh {
		r.j.lost(p, w.number, w.number, 1)
	}
}

// fetch reads from the stream, from a sequence on, and takes what it finds.
// last is the sequence of the place's last message as it was before.
func (r *reader) fetch(ctx context.Context, from, last uint64) error {
	got, err := r.j.entries.batch(ctx, string(r.p.name), from, maxFetch, maxFetchBytes)
	if errors.Is(err, errNotFound) {
		r.missing(from, last)
		return nil
	}
	if err != nil {
		return err
	}
	committed := r.committed(got)
	if len(committed) == 0 {
		r.nothing(from, last)
	}
	for _, s := range committed {
		if !r.takeBundle(s) {
			break
		}
	}
	return nil
}

// committed leaves out what is not committed yet. The stream shows a message
// before it is in its file, from where a kill would take it back: it would have
// been delivered, and be known to nobody.
func (r *reader) committed(got []stored) []stored {
	r.p.mu.Lock()
	last := r.p.lastSeq
	r.p.mu.Unlock()
	n := slices.IndexFunc(got, func(s stored) bool { return s.seq > last })
	if n < 0 {
		return got
	}
	return got[:n]
}

// nothing is called when the stream has nothing of the place from a sequence
// on, up to the last that is committed.
func (r *reader) nothing(from, last uint64) {
	if from > last {
		r.missing(from, last)
		return
	}
	r.p.mu.Lock()
	defer r.p.mu.Unlock()
	if r.nextSeq == from {
		r.nextSeq = last + 1
	}
}

// missing is called when nothing can be read of the place from a sequence on,
// although its numbers say that there is something.
func (r *reader) missing(from, last uint64) {
	p := r.p
	p.mu.Lock()
	if !r.behind() || r.nextSeq != from || p.lastSeq != last { // there is more meanwhile
		p.mu.Unlock()
		return
	}
	if from <= p.lastSeq {
		// One that cannot be read stands before others that perhaps can.
		r.nextSeq = from + 1
		p.mu.Unlock()
		return
	}
	first, end := r.next, p.last
	lost := r.skip(end)
	fresh := p.touch()
	p.mu.Unlock()
	r.j.books.changed(p, fresh)
	r.j.lost(p, first, end, lost)
}

// skip takes the numbers up to last as lost and returns how many of them were
// not done. When the window does not hold them, it takes none: it is called
// again when what comes before is over. The lock is held.
func (r *reader) skip(last uint64) (lost uint64) {
	p := r.p
	if p.done.floor+1 == r.next {
		r.next = last + 1
		return p.skip(last, 0, Failed)
	}
	if !r.fits(last) {
		return 0
	}
	for ; r.next <= last; r.next++ {
		if p.settle(r.next, Failed) {
			lost++
		}
	}
	return lost
}

// fits reports whether entries up to a number can be taken now; if not, the
// reader waits until the floor has risen. The lock is held.
func (r *reader) fits(last uint64) bool {
	if r.p.done.fits(last) {
		return true
	}
	r.stuck, r.stuckAt = true, r.p.done.floor
	return false
}

// takeBundle takes the entries of a message of the stream. It reports false
// when it cannot go on now.
func (r *reader) takeBundle(s stored) bool {
	p := r.p
	b, err := openBundle(s.data)
	ms := decodeBundle(b, err)
	for _, m := range ms {
		if m != nil {
			m.Journalled = s.at
		}
	}

	p.mu.Lock()
	if r.closing {
		p.mu.Unlock()
		return false
	}
	first, lost := r.next, uint64(0)
	if err == nil && b.first > r.next {
		lost = r.skip(b.first - 1)
	}
	if err == nil && (b.first > r.next || !r.fits(b.last())) {
		p.mu.Unlock()
		return false
	}
	var damaged []uint64
	if err == nil {
		r.starts.push(start{b.first, s.seq})
		damaged = r.takeAll(b, ms, s.seq)
	}
	r.nextSeq = max(r.nextSeq, s.seq+1)
	fresh := false
	if lost > 0 || len(damaged) > 0 {
		fresh = p.touch()
	}
	p.mu.Unlock()
	r.j.books.changed(p, fresh)
	r.j.stats.fetched.Add(uint64(len(ms)))
	if lost > 0 {
		r.j.lost(p, first, b.first-1, lost)
	}
	if n := len(damaged); n > 0 {
		r.j.lost(p, damaged[0], damaged[n-1], uint64(n))
	}
	return true
}

// decodeBundle decodes a bundle's entries; one that is damaged is nil.
func decodeBundle(b bundle, err error) []*sluice.Message {
	if err != nil {
		return nil
	}
	ms := make([]*sluice.Message, 0, b.count)
	for b.more() {
		number, body, err := b.take()
		if number == 0 {
			break
		}
		m := new(sluice.Message)
		if err != nil || decodeEntry(m, number, body) != nil {
			m = nil
		}
		ms = append(ms, m)
	}
	return ms
}

// takeAll takes the entries of a bundle that were not taken, and counts those
// that are damaged, whose numbers it returns. The lock is held.
func (r *reader) takeAll(b bundle, ms []*sluice.Message, seq uint64) (damaged []uint64) {
	for i := range b.count {
		number := b.first + i
		switch {
		case number < r.next: // taken from memory meanwhile
		case i < uint64(len(ms)) && ms[i] != nil:
			r.take(ms[i], seq)
		default:
			r.next = number + 1
			if r.p.settle(number, Failed) {
				damaged = append(damaged, number)
			}
		}
	}
	return damaged
}

// lost tells that entries of a place are lost by damage.
func (j *Journal) lost(p *place, first, last, n uint64) {
	if n == 0 {
		return
	}
	j.stats.lost.Add(n)
	j.gapEvent(p, fmt.Sprintf("%d entries of %s cannot be read, between numbers %d and %d. They are counted as failed.", n, p.name.label(), first, last))
}

func (j *Journal) gapEvent(p *place, detail string) {
	e := sluice.Event{
		Level: sluice.LevelError, Type: sluice.EventJournalGap, Label: "Journal damaged", Detail: detail,
		Hint: "Check the disk of the data directory.",
	}
	if name, ok := cutUp(p.name); ok {
		e.Connection = name
	}
	j.o.Events.Record(e)
}
