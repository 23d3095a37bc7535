package journal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"sluice"
)

// The bounds of a search for entries. It is an operator's question: rare, and
// it reads on the connection that commits do not use.
const (
	// searchBytes is how much one search reads of the stream at most.
	searchBytes = 64 << 20
	// searchSpan is how long after a message was received its entries are
	// looked for: those who append give up long before.
	searchSpan = 30 * time.Second
	// siblingSpan is how long after its first entry the others of a message
	// are looked for: they were appended together.
	siblingSpan = 2 * time.Second
	// searchStep is how many sequences a search towards older ones begins with.
	searchStep = 64
	// searchParked is how many parked entries are looked at.
	searchParked = 256
)

// Trace returns where the entries of a message stand that the journal still
// has, in no order. received is when the message came in: the time in its id.
// Of an entry that is over it tells that alone, as TraceUnrecorded.
func (j *Journal) Trace(ctx context.Context, id string, received time.Time) ([]sluice.Trace, error) {
	s, err := j.entries.since(ctx, ">", received)
	if errors.Is(err, errNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var found []sluice.Trace
	end, want := received.Add(searchSpan), []byte(id)
	for from, read := s.seq, 0; read < searchBytes; {
		got, err := j.entries.batch(ctx, ">", from, maxFetch, maxFetchBytes)
		if errors.Is(err, errNotFound) {
			break
		}
		if err != nil {
			return nil, err
		}
		for _, s := range got {
			if s.at.After(end) {
				return found, nil
			}
			from, read = s.seq+1, read+len(s.data)
			n := len(found)
			found = j.append(found, s, want, func(m *sluice.Message) bool { return m.ID == id })
			if n == 0 && len(found) > 0 {
				end = s.at.Add(siblingSpan)
			}
		}
	}
	return found, nil
}

// append appends the traces of those entries of a message of the stream that
// hold some bytes and are wanted.
func (j *Journal) append(ts []sluice.Trace, s stored, has []byte, wanted func(*sluice.Message) bool) []sluice.Trace {
	p := j.place(Place(s.subject))
	if p == nil || !bytes.Contains(s.data, has) {
		return ts
	}
	b, err := openBundle(s.data)
	for err == nil && b.more() {
		number, body, damaged := b.take()
		if number == 0 {
			break // the rest cannot be read; a reader meets the damage and counts it
		}
		m := new(sluice.Message)
		if damaged == nil && bytes.Contains(body, has) && decodeEntry(m, number, body) == nil && wanted(m) {
			m.Journalled = s.at
			ts = append(ts, p.trace(m))
		}
	}
	return ts
}

// trace tells where an entry stands.
func (p *place) trace(m *sluice.Message) sluice.Trace {
	t := sluice.TraceOf(m, sluice.TraceWaiting)
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.sink:
		t.State = sluice.TraceUnmatched
	case p.done.has(m.Number):
		t.State = sluice.TraceUnrecorded
	case p.reader == nil:
		t.Text = "It is kept until it can be handed on."
	default:
		p.reader.trace(&t)
	}
	return t
}

// trace tells how far an entry has come that is not over. The lock is held.
func (r *reader) trace(t *sluice.Trace) {
	d := r.devices[t.DevEUI]
	if d == nil || d.queue.len() == 0 || t.Number >= r.next {
		t.Text = fmt.Sprintf("Its turn has not come: %d messages wait.", r.p.pending())
		return
	}
	first := d.queue.front()
	if first.number != t.Number {
		t.Text = "It waits behind an earlier message of its device."
		if d.failure != nil {
			var before sluice.Trace
			before.Because(d.failure)
			t.Reason, t.Hint = before.Reason, before.Hint
			t.Text += " That one could not be delivered so far: " + before.Text
		}
		return
	}
	if first.m != nil {
		t.Progress = first.m.Way.Progress()
	}
	t.Because(d.failure)
	switch {
	case d.handled && !t.Sent.IsZero():
		t.State = sluice.TraceSent
	case d.failure != nil && t.Text == "":
		t.Text = "The last try failed by an internal error, which is in the log."
	case d.failure == nil && t.Step != "":
		t.Text = t.Step
	case d.failure == nil:
		t.Text = "It is being handed on."
	}
}

// Waiting returns the entries of a device that are not over, the newest of
// each place first, up to a limit for each place. complete is false where not
// all of what waits was looked through.
func (j *Journal) Waiting(ctx context.Context, devEUI string, limit int) (ts []sluice.Trace, complete bool, err error) {
	s := search{j: j, has: []byte(devEUI), left: searchBytes}
	s.wanted = func(m *sluice.Message) bool { return m.DevEUI == devEUI }
	for _, name := range j.Places() {
		p := j.place(name)
		if p == nil || p.sink {
			continue
		}
		s.found, s.limit = nil, limit
		if err := s.place(ctx, p, devEUI); err != nil {
			return nil, false, err
		}
		ts = append(ts, s.found...)
	}
	return ts, !s.cut, nil
}

// search looks for entries of a device that are not over.
type search struct {
	j      *Journal
	has    []byte
	wanted func(*sluice.Message) bool
	limit  int // how many are wanted of the place
	left   int // bytes that may be read
	found  []sluice.Trace
	cut    bool // not all was looked through
	// dropped: a window had more messages than were kept of it.
	dropped bool
}

// place looks through what is not over of a place, the newest first.
func (s *search) place(ctx context.Context, p *place, devEUI string) error {
	p.mu.Lock()
	waits, from, to := p.pending(), p.seq, p.lastSeq
	parked := slices.Clone(p.done.parked)
	if r := p.reader; r != nil && r.next > p.last {
		// The reader has taken all: it knows how many there are of the device.
		waits = 0
		if d := r.devices[devEUI]; d != nil {
			waits = uint64(d.queue.len())
		}
	}
	p.mu.Unlock()
	s.limit = min(s.limit, int(min(waits, 1<<30)))
	if s.limit == 0 {
		return nil
	}
	if err := s.backward(ctx, p.name, from, to); err != nil {
		return err
	}
	for len(parked) > 0 && parked[len(parked)-1].seq >= from {
		parked = parked[:len(parked)-1] // was among the others
	}
	for n := 0; len(s.found) < s.limit && len(parked) > 0; n++ {
		if n == searchParked {
			s.cut = true
			break
		}
		last := parked[len(parked)-1].seq
		for len(parked) > 0 && parked[len(parked)-1].seq == last {
			parked = parked[:len(parked)-1]
		}
		m, err := s.j.entries.at(ctx, last)
		if err != nil && !errors.Is(err, errNotFound) {
			return err
		}
		if err == nil {
			s.take(m)
		}
	}
	return nil
}

// backward looks through the messages of a place between two sequences, the
// newest first, until enough is found. Messages can be read forwards only, so
// it goes by windows that grow while little is found in them.
func (s *search) backward(ctx context.Context, name Place, from, to uint64) error {
	from = max(from, 1)
	for step := uint64(searchStep); to >= from; {
		low := from
		if to-from >= step {
			low = to - step + 1
		}
		before := s.left
		s.dropped = false
		ring, err := s.window(ctx, name, low, to)
		if err != nil {
			return err
		}
		for i := len(ring) - 1; i >= 0 && len(s.found) < s.limit; i-- {
			s.take(ring[i])
		}
		s.cut = s.cut || s.dropped && len(s.found) < s.limit
		if len(s.found) >= s.limit || s.left <= 0 {
			s.cut = s.cut || len(s.found) < s.limit && low > from
			return nil
		}
		if before-s.left < maxFetchBytes {
			step *= 2
		}
		to = low - 1
	}
	return nil
}

// window reads the messages of a place between two sequences, and returns the
// last of them that can hold an entry of the device: no more than are needed.
func (s *search) window(ctx context.Context, name Place, low, high uint64) (last []stored, err error) {
	for low <= high && s.left > 0 {
		got, err := s.j.entries.batch(ctx, string(name), low, maxFetch, maxFetchBytes)
		if errors.Is(err, errNotFound) {
			break
		}
		if err != nil {
			return nil, err
		}
		for _, m := range got {
			low = m.seq + 1
			if m.seq > high {
				break
			}
			s.left -= len(m.data)
			if !bytes.Contains(m.data, s.has) {
				continue
			}
			if len(last) >= 2*s.limit {
				last = append(last[:0], last[s.limit:]...)
				s.dropped = true
			}
			last = append(last, m)
		}
	}
	return last, nil
}

// take notes those entries of a message of the stream that are not over, the
// newest first.
func (s *search) take(m stored) {
	ts := s.j.append(nil, m, s.has, s.wanted)
	for i := len(ts) - 1; i >= 0 && len(s.found) < s.limit; i-- {
		if ts[i].State.Open() {
			s.found = append(s.found, ts[i])
		}
	}
}
