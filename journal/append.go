package journal

import (
	"context"
	"sync"

	"sluice"
)

const (
	// maxWaiting bounds the bytes that wait for a commit.
	maxWaiting = 64 << 20
	// maxGroup and maxGroupBytes bound one commit.
	maxGroup      = 4096
	maxGroupBytes = 4 << 20
	// maxEntry bounds one entry, so that its bundle stays under the 1 MiB
	// that the server takes.
	maxEntry = 1<<20 - 4096
	// entryCost is what a waiting entry costs beside its bytes.
	entryCost = 64
)

// Append adds an entry for each message: for a report to Up(m.Connection), for
// a command to Down(m.Network). nil means that all are on the disk. An error
// means that some may be in and some not: a *sluice.Error with
//
//   - CodeUnavailable when too much waits, the disk is nearly full, the journal
//     is ending or a commit failed,
//   - CodeTooLarge and CodeInvalid when a message cannot be an entry,
//   - CodeConflict when its place is being dropped,
//
// or the context's error: Append does not wait longer than ctx allows, and the
// entries may come in nevertheless. When it has returned, nothing of the
// messages is used any more.
func (j *Journal) Append(ctx context.Context, ms ...*sluice.Message) error {
	if len(ms) == 0 {
		return nil
	}
	w := waiterPool.Get().(*waiter)
	w.left, w.err = len(ms), nil
	size := 0
	for _, m := range ms {
		p, err := placeOf(m)
		if err != nil {
			return j.refuse(ms, err)
		}
		n := encodedSize(m)
		if n > maxEntry {
			return j.refuse(ms, sluice.Errorf(sluice.CodeTooLarge, "The document has %d bytes; an entry of the journal may have %d.", len(m.Document), maxEntry))
		}
		w.appends = append(w.appends, pending{m: m, place: p, size: n, w: w})
		size += n + entryCost
	}
	if err := j.health.refusal(); err != nil {
		return j.refuse(ms, err)
	}
	if err := j.queue.put(w.appends, size); err != nil {
		return j.refuse(ms, err)
	}
	select {
	case err := <-w.done:
		clear(w.appends)
		w.appends = w.appends[:0]
		waiterPool.Put(w)
		return err
	case <-ctx.Done():
		j.queue.abandon(w)
		return ctx.Err()
	}
}

func (j *Journal) refuse(ms []*sluice.Message, err error) error {
	j.stats.refused.Add(uint64(len(ms)))
	return err
}

// pending is an entry that waits for its commit.
type pending struct {
	m     *sluice.Message
	place Place
	size  int
	w     *waiter
}

// waiter is a call of Append. left and err are the committer's.
type waiter struct {
	left    int
	err     error
	done    chan error // of one
	appends []pending
}

// settle says that one of the waiter's entries is over.
func (w *waiter) settle(err error) {
	if w.err == nil {
		w.err = err
	}
	if w.left--; w.left == 0 {
		w.done <- w.err
	}
}

var waiterPool = sync.Pool{New: func() any { return &waiter{done: make(chan error, 1)} }}

// queueOfAppends is what waits for the committer.
type queueOfAppends struct {
	mu     sync.Mutex
	items  []pending
	bytes  int
	ended  bool
	signal chan struct{} // of one

	// encoding is held by the committer from when it takes entries until it
	// has read their messages.
	encoding sync.Mutex
}

func (q *queueOfAppends) put(ps []pending, size int) error {
	q.mu.Lock()
	switch {
	case q.ended:
		q.mu.Unlock()
		return errEnding()
	case q.bytes+size > maxWaiting:
		q.mu.Unlock()
		return unavailable("The journal cannot take more at the moment: too much waits for the disk.",
			"Check that the disk of the data directory answers.")
	}
	q.items = append(q.items, ps...)
	q.bytes += size
	q.mu.Unlock()
	q.wake()
	return nil
}

// wake makes the committer look, if something waits.
func (q *queueOfAppends) wake() {
	if q.waiting() == 0 {
		return
	}
	select {
	case q.signal <- struct{}{}:
	default:
	}
}

// take moves up to maxGroup entries into group.
func (q *queueOfAppends) take(group []pending) []pending {
	q.mu.Lock()
	defer q.mu.Unlock()
	n, bytes := 0, 0
	for n < len(q.items) && n < maxGroup && bytes < maxGroupBytes {
		bytes += q.items[n].size
		q.bytes -= q.items[n].size + entryCost
		n++
	}
	group = append(group, q.items[:n]...)
	rest := copy(q.items, q.items[n:])
	clear(q.items[rest:])
	q.items = q.items[:rest]
	return group
}

// abandon takes out of the queue what is left of a waiter whose caller gives
// up, and returns when nothing reads its messages any more.
func (q *queueOfAppends) abandon(w *waiter) {
	q.encoding.Lock()
	defer q.encoding.Unlock()
	q.mu.Lock()
	defer q.mu.Unlock()
	kept := q.items[:0]
	for _, p := range q.items {
		if p.w == w {
			q.bytes -= p.size + entryCost
			continue
		}
		kept = append(kept, p)
	}
	clear(q.items[len(kept):])
	q.items = kept
}

// end refuses what comes from now on.
func (q *queueOfAppends) end() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.ended = true
}

func (q *queueOfAppends) hasEnded() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.ended
}

func (q *queueOfAppends) waiting() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.items)
}

func unavailable(message, hint string) *sluice.Error {
	return &sluice.Error{Code: sluice.CodeUnavailable, Message: message, Hint: hint}
}

func errEnding() error { return unavailable("The journal is ending.", "") }
