package store

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/oklog/ulid/v2"
	"github.com/synadia-io/orbit.go/jetstreamext"

	"sluice"
)

const (
	// lookLimit bounds the time that one question takes, and lookStep and
	// maxLookStep how many messages are read at once.
	lookLimit   = 5 * time.Second
	lookStep    = 16
	maxLookStep = 1024
)

// Passage is what the log of ways knows of messages.
type Passage struct {
	// Traces are in no order. Of one entry there may be several: that a
	// command was taken, and how it ended; or the same, that was told again
	// after a crash.
	Traces []sluice.Trace
	// Since is the time from which on ways are known; zero where there are
	// none yet.
	Since time.Time
	// Complete is false where not all of the log was looked through in time.
	Complete bool
}

// WaysOf returns the traces of a message. received is when it came in: the
// log is read from there on, until enough says that no more are wanted (nil:
// never). The error has CodeUnavailable.
func (s *Store) WaysOf(ctx context.Context, id string, received time.Time, enough func([]sluice.Trace) bool) (Passage, error) {
	l := newLook(s.ways, func(t *sluice.Trace) bool { return t.Message == id })
	l.has = []byte(id)
	if u, err := ulid.ParseStrict(id); err == nil {
		l.has = u[:]
	}
	return l.run(ctx, func(ctx context.Context, first, _ uint64) error {
		if enough != nil && enough(l.found) {
			return nil
		}
		return l.forward(ctx, first, received, enough)
	})
}

// WaysOfDevice returns the traces of those messages of a device that were
// received last: all traces of up to limit messages. The error has
// CodeUnavailable.
func (s *Store) WaysOfDevice(ctx context.Context, devEUI string, limit int) (Passage, error) {
	l := newLook(s.ways, func(t *sluice.Trace) bool { return t.DevEUI == devEUI })
	l.has = []byte(devEUI)
	if n, ok := parseEUI(devEUI); ok {
		l.has = binary.BigEndian.AppendUint64(nil, n)
	}
	return l.run(ctx, func(ctx context.Context, first, last uint64) error {
		return l.backward(ctx, first, last, limit)
	})
}

// look looks through the log.
type look struct {
	w        *ways
	has      []byte // bytes that a chunk of what is wanted holds
	wanted   func(*sluice.Trace) bool
	deadline time.Time
	cut      bool
	found    []sluice.Trace
}

func newLook(w *ways, wanted func(*sluice.Trace) bool) *look {
	return &look{w: w, wanted: wanted, deadline: time.Now().Add(lookLimit)}
}

// run looks at what waits to be written, and then at the stream: what is
// written in between is found twice, not missed. One looks at a time.
func (l *look) run(ctx context.Context, through func(ctx context.Context, first, last uint64) error) (Passage, error) {
	select {
	case l.w.search <- struct{}{}:
		defer func() { <-l.w.search }()
	case <-ctx.Done():
		return Passage{}, unavailable("be read", ctx.Err())
	}
	var waiting []sluice.Trace
	for _, piece := range l.w.waiting() {
		for i := range piece {
			if l.wanted(&piece[i]) {
				waiting = append(waiting, piece[i])
			}
		}
	}
	info, err := l.w.stream.Info(ctx)
	if err != nil {
		return Passage{}, unavailable("be read", err)
	}
	l.found = waiting
	p := Passage{}
	if info.State.Msgs > 0 {
		p.Since = info.State.FirstTime
		err = through(ctx, info.State.FirstSeq, info.State.LastSeq)
	}
	if err != nil {
		return Passage{}, unavailable("be read", err)
	}
	// What waited was noted last.
	p.Traces, p.Complete = append(l.found[len(waiting):len(l.found):len(l.found)], waiting...), !l.cut
	return p, nil
}

// forward reads what was written at a time or later.
func (l *look) forward(ctx context.Context, first uint64, from time.Time, enough func([]sluice.Trace) bool) error {
	option := jetstreamext.GetBatchStartTime(from)
	for {
		read, reached := 0, uint64(0)
		err := l.batch(ctx, maxLookStep, option, func(m *jetstream.RawStreamMsg) {
			read, reached = read+1, m.Sequence
			l.take(m.Data)
		})
		switch {
		case err != nil:
			return err
		case read == 0 || enough != nil && enough(l.found):
			return nil
		case l.late():
			return nil
		}
		option = jetstreamext.GetBatchSeq(max(reached+1, first))
	}
}

// backward reads from the newest to the oldest, until it has all traces of
// the newest messages. A trace is written after its message was received: of
// messages that were received after a chunk was written, none is in it or
// before it.
func (l *look) backward(ctx context.Context, first, last uint64, limit int) error {
	waiting := len(l.found)
	for step := uint64(lookStep); last >= first && last > 0; step = min(2*step, maxLookStep) {
		low := first
		if last-first >= step {
			low = last - step + 1
		}
		began := time.Time{}
		for next := low; next <= last; {
			reached := uint64(0)
			err := l.batch(ctx, int(last-next+1), jetstreamext.GetBatchSeq(next), func(m *jetstream.RawStreamMsg) {
				if m.Sequence > last {
					return
				}
				if began.IsZero() {
					began = m.Time
				}
				reached = m.Sequence
				l.take(m.Data)
				l.prune(waiting, limit)
			})
			if err != nil {
				return err
			}
			if reached == 0 {
				break
			}
			next = reached + 1
		}
		if oldest, ok := l.oldest(limit); ok && !began.IsZero() && !oldest.Before(began) || l.late() {
			return nil
		}
		last = low - 1
	}
	return nil
}

// late reports whether there is no time left; then not all was looked through.
func (l *look) late() bool {
	l.cut = l.cut || time.Now().After(l.deadline)
	return l.cut
}

// batch hands some messages of the stream to take.
func (l *look) batch(ctx context.Context, n int, from jetstreamext.GetBatchOpt, take func(*jetstream.RawStreamMsg)) error {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	got, err := jetstreamext.GetBatch(ctx, l.w.reads, "WAYS", n, from, jetstreamext.GetBatchMaxBytes(readBytes))
	if errors.Is(err, jetstreamext.ErrNoMessages) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the ways of messages: %w", err)
	}
	for m, err := range got {
		if errors.Is(err, jetstreamext.ErrNoMessages) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read the ways of messages: %w", err)
		}
		take(m)
	}
	return nil
}

// take takes what is wanted of a chunk. What cannot be read is passed over.
func (l *look) take(chunk []byte) {
	if !bytes.Contains(chunk, l.has) {
		return
	}
	for r := newChunkReader(chunk); r.more(); {
		if t := r.way(); r.err == nil && l.wanted(&t) {
			l.found = append(l.found, t)
		}
	}
}

// received are the times at which the messages that were found came in, the
// latest first.
func (l *look) received() []time.Time {
	times := map[string]time.Time{}
	for i := range l.found {
		times[l.found[i].Message] = l.found[i].Received
	}
	return slices.SortedFunc(maps.Values(times), func(a, b time.Time) int { return cmp.Compare(b.UnixNano(), a.UnixNano()) })
}

// oldest is when the last of limit messages came in; false where there are not
// as many.
func (l *look) oldest(limit int) (time.Time, bool) {
	times := l.received()
	if len(times) < limit {
		return time.Time{}, false
	}
	return times[limit-1], true
}

// pruneAt is how many traces are kept before those are dropped that belong to
// none of the newest messages.
const pruneAt = 4096

func (l *look) prune(waiting, limit int) {
	if len(l.found)-waiting < pruneAt {
		return
	}
	oldest, ok := l.oldest(limit)
	if !ok {
		return
	}
	kept := l.found[:waiting]
	for _, t := range l.found[waiting:] {
		if !t.Received.Before(oldest) {
			kept = append(kept, t)
		}
	}
	l.found = kept
}
