package journal

import (
	"encoding/binary"
	"slices"
	"time"

	"sluice"
)

// ward is what is known of the quarantine of a place. The place's lock guards
// it; the records themselves lie in the stream QUARANTINE.
//
// An entry that lies there has been counted as failed. Where it is not over
// yet (its record is written first, and a crash may come in between), it is in
// doubt: it is not shown, and when it ends otherwise it leaves.
type ward struct {
	lying []lying // the oldest first: in the order of their sequences
	bytes uint64
	// doubts are the numbers of the entries that have, or may have, a record
	// and are not over.
	doubts map[uint64]struct{}
	// leaving are the numbers, and the sequences where they are known, of the
	// records that are to be removed: the entry was sent again, or ended
	// otherwise. It stands in the book, for that is no question after a crash.
	leaving map[uint64]uint64
	// retried is how many entries were sent again. Each of them is two
	// entries of the place and one message for the counters.
	retried uint64
	// dropped is how many were given up because there was no room.
	dropped uint64

	untold    uint64 // of these nothing was told yet
	told      time.Time
	bookless  bool   // the place's book was lost
	inTheBook uint64 // how many lay here according to the book, at Open
}

// lying is an entry that lies in quarantine.
type lying struct {
	number, seq uint64
	size        uint32 // of its record
}

// maxLeaving bounds what a book may say of those that leave.
const maxLeaving = 1 << 20

// find returns where an entry lies, or -1. As a rule it is asked for the
// oldest.
func (w *ward) find(number uint64) int {
	return slices.IndexFunc(w.lying, func(l lying) bool { return l.number == number })
}

// put notes that the record of an entry was written: another time, where it
// was in doubt.
func (w *ward) put(l lying) {
	if _, in := w.doubts[l.number]; in {
		w.take(l.number)
	}
	w.lying = append(w.lying, l)
	w.bytes += uint64(l.size)
}

// take takes an entry out and returns it.
func (w *ward) take(number uint64) (lying, bool) {
	i := w.find(number)
	if i < 0 {
		return lying{}, false
	}
	l := w.lying[i]
	w.lying = slices.Delete(w.lying, i, i+1)
	w.bytes -= uint64(l.size)
	return l, true
}

// cut takes the n oldest out.
func (w *ward) cut(n int) {
	for _, l := range w.lying[:n] {
		w.bytes -= uint64(l.size)
		delete(w.doubts, l.number)
	}
	w.lying = slices.Delete(w.lying, 0, n)
}

// doubt notes that an entry may have a record, and is not over.
func (w *ward) doubt(number uint64) {
	if w.doubts == nil {
		w.doubts = map[uint64]struct{}{}
	}
	w.doubts[number] = struct{}{}
}

// decide is told that an entry is over. One that has not failed leaves.
func (w *ward) decide(number uint64, o Outcome) {
	if _, in := w.doubts[number]; !in {
		return
	}
	delete(w.doubts, number)
	if o != Failed {
		w.leave(number)
	}
}

// leave notes that the record of an entry is to be removed.
func (w *ward) leave(number uint64) {
	l, _ := w.take(number)
	if w.leaving == nil {
		w.leaving = map[uint64]uint64{}
	}
	w.leaving[number] = l.seq
}

// shown returns those that lie here for certain, the oldest first. The slice
// is not to be changed.
func (w *ward) shown() []lying {
	if len(w.doubts) == 0 {
		return w.lying
	}
	return slices.DeleteFunc(slices.Clone(w.lying), func(l lying) bool {
		_, in := w.doubts[l.number]
		return in
	})
}

// mayRetry reports whether an entry lies in quarantine and may be sent again.
func (p *place) mayRetry(number uint64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, doubt := p.ward.doubts[number]
	return !doubt && p.ward.find(number) >= 0 && p.failed > p.ward.retried
}

// retry notes that an entry was journalled that sends another one again: the
// message goes from failed back to pending, and is received once. The lock is
// held.
func (p *place) retry(number uint64) {
	if !p.done.has(number) {
		// The book is of a time before it failed. Where it does not fit, it
		// is left as a message of its own.
		if number > p.last || !p.done.fits(number) {
			return
		}
		p.settle(number, Failed)
	}
	if p.failed <= p.ward.retried {
		return
	}
	p.ward.retried++
	p.ward.leave(number)
}

// retryAll is retry for those of the entries of a bundle that come after a
// number. The lock is held.
func (p *place) retryAll(rs []retryOf, after uint64) {
	for _, r := range rs {
		if r.entry > after {
			p.retry(r.of)
		}
	}
}

// retryOf says that an entry sends another one again.
type retryOf struct{ entry, of uint64 }

// retriesIn returns the entries of a bundle that send others again.
func retriesIn(b bundle) (rs []retryOf) {
	for b.more() {
		number, body, err := b.take()
		if number == 0 {
			break
		}
		if err != nil || !mayBeRetry(body) {
			continue
		}
		m := new(sluice.Message)
		if decodeEntry(m, number, body) == nil && m.Retries != 0 {
			rs = append(rs, retryOf{number, m.Retries})
		}
	}
	return rs
}

// mayBeRetry looks at the flags of an entry's meta.
func mayBeRetry(body []byte) bool {
	_, n := binary.Uvarint(body)
	return n > 0 && n < len(body) && body[n]&hasRetry != 0
}

// appendTo appends to a book what must survive.
func (w *ward) appendTo(b []byte) []byte {
	for _, v := range [...]uint64{w.retried, w.dropped, uint64(len(w.lying)), uint64(len(w.leaving))} {
		b = binary.AppendUvarint(b, v)
	}
	for number := range w.leaving {
		b = binary.AppendUvarint(b, number)
	}
	return b
}

// read reads what appendTo wrote, and returns the rest.
func (w *ward) read(b []byte) (rest []byte, err error) {
	number := func() uint64 {
		u, n := binary.Uvarint(b)
		if n <= 0 {
			err = errDamaged
			return 0
		}
		b = b[n:]
		return u
	}
	w.retried, w.dropped, w.inTheBook = number(), number(), number()
	n := number()
	if n > maxLeaving {
		return nil, errDamaged
	}
	for i := uint64(0); i < n && err == nil; i++ {
		w.leave(number())
	}
	return b, err
}
