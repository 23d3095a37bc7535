package journal

import (
	"context"
	"errors"
	"sync"

	"sluice"
)

// errNoRoom says that half the reserve is used up.
var errNoRoom = errors.New("the disk is full")

// maxAdmitted and maxAdmittedBytes bound what is written to quarantine at
// once.
const (
	maxAdmitted      = 256
	maxAdmittedBytes = 4 << 20
)

// patient is a record that waits to be written.
type patient struct {
	p      *place
	number uint64
	record []byte
	err    error
	done   chan struct{} // closed when err is final
}

// queueOfRecords is what waits for whoever has the turn. When many entries
// fail at once, as under a pattern that never resolves, their records share
// the fsyncs.
type queueOfRecords struct {
	mu    sync.Mutex
	items []*patient
}

func (q *queueOfRecords) put(w *patient) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.items = append(q.items, w)
}

// take returns the records that are to be written next.
func (q *queueOfRecords) take() []*patient {
	q.mu.Lock()
	defer q.mu.Unlock()
	n, bytes := 0, 0
	for n < len(q.items) && n < maxAdmitted && bytes < maxAdmittedBytes {
		bytes += len(q.items[n].record)
		n++
	}
	some := append([]*patient(nil), q.items[:n]...)
	rest := copy(q.items, q.items[n:])
	clear(q.items[rest:])
	q.items = q.items[:rest]
	return some
}

// remove takes a record out, and reports whether it was still there.
func (q *queueOfRecords) remove(w *patient) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i, other := range q.items {
		if other == w {
			q.items = append(q.items[:i], q.items[i+1:]...)
			return true
		}
	}
	return false
}

// writeRecord writes the record of an entry that failed. nil means that it is
// on the disk.
func (j *Journal) writeRecord(ctx context.Context, p *place, m *sluice.Message, failure error) error {
	if j.health.low.Load() {
		return errNoRoom
	}
	w := &patient{p: p, number: m.Number, record: encodeRecord(m, failure, j.o.Clock()), done: make(chan struct{})}
	j.wards.queue.put(w)
	for {
		select {
		case <-w.done:
			return w.err
		case j.wards.turn <- struct{}{}:
			j.admit(ctx)
			<-j.wards.turn
		case <-ctx.Done():
			if j.wards.queue.remove(w) {
				return ctx.Err()
			}
			<-w.done // it is being written, which takes no longer than commitTimeout
			return w.err
		}
	}
}

// admit writes the records that wait. The turn is held.
func (j *Journal) admit(ctx context.Context) {
	some := j.wards.queue.take()
	if len(some) == 0 {
		return
	}
	out := make([]outgoing, len(some))
	for i, w := range some {
		out[i] = outgoing{subject: recordSubject(w.p.name, w.number), data: w.record}
	}
	j.publishRecords(out)
	for i, w := range some {
		w.err = out[i].err
		j.admitted(w, out[i].seq)
		close(w.done)
	}
	for _, w := range some {
		if w.err == nil {
			j.bound(ctx, w.p)
		}
	}
}

// publishRecords publishes records, as a batch where they are many. The turn is
// held.
func (j *Journal) publishRecords(out []outgoing) {
	if len(out) > plainMessages {
		j.wards.pub.atomic(out, j.wards.lastSeq, commitTimeout)
		if _, wrong := misplaced(out[len(out)-1:]); wrong { // the server counts otherwise
			j.wards.pub.each(out, false, 0, commitTimeout)
		}
	} else {
		j.wards.pub.each(out, false, 0, commitTimeout)
	}
	for i := range out {
		j.wards.lastSeq = max(j.wards.lastSeq, out[i].seq)
	}
}

// admitted notes how the write of a record ended.
func (j *Journal) admitted(w *patient, seq uint64) {
	_, refused := errors.AsType[*refusal](w.err)
	p := w.p
	p.mu.Lock()
	switch {
	case refused:
	case p.done.has(w.number): // given up meanwhile, and counted so
		p.ward.leave(w.number)
	case w.err != nil: // perhaps it comes in nevertheless
		p.ward.doubt(w.number)
	default:
		p.ward.put(lying{w.number, seq, uint32(len(w.record))})
		p.ward.doubt(w.number)
	}
	fresh := p.touch()
	p.mu.Unlock()
	j.books.changed(p, fresh)
	switch {
	case w.err == nil:
		j.health.quarantine.Store(0)
	case refused:
		j.health.quarantine.Add(enough)
	default:
		j.health.quarantine.Add(1)
	}
}
