package connection

import (
	"context"
	"crypto/sha256"
	"sync"
	"time"

	"sluice"
)

const (
	// handoverFor is how long after another session was subscribed two of them
	// may both receive a command.
	handoverFor = 10 * time.Second
	// handoverBefore is how long before that a command may have come whose
	// copy is still on its way.
	handoverBefore = 2 * time.Second
	// handoverMax bounds how many commands are remembered.
	handoverMax = 4096
)

// handover recognises the copies of a command that come while two sessions are
// subscribed: when a changed configuration takes over, or another session of
// the pool takes over from one that was lost. At other times every command is
// one of its own, also when it equals the one before.
//
// A copy has the same source and document. With a CorrelationID, every further
// one is a copy. Without, an application may mean two equal commands as two;
// both of them come on each of the sessions, so the number of commands is the
// largest number that any one session received.
type handover struct {
	clock sluice.Clock

	mu    sync.Mutex
	until time.Time
	seen  map[[sha256.Size]byte]*copies
	order []remembered // oldest first
}

type remembered struct {
	key [sha256.Size]byte
	at  time.Time
}

// copies are the equal commands that came lately.
type copies struct {
	counts map[sluice.Session]int
	taken  []*taking
}

// taking is one command that was taken, or is being taken.
type taking struct {
	done chan struct{}
	ok   bool // valid once done is closed
}

func newHandover(clock sluice.Clock) *handover {
	return &handover{clock: clock, seen: make(map[[sha256.Size]byte]*copies)}
}

// begin notes that another session is being subscribed.
func (h *handover) begin() {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.clock()
	if now.After(h.until) {
		h.forget(now.Add(-handoverBefore))
	}
	h.until = now.Add(handoverFor)
}

// once calls f for a command, or waits for the call that takes a copy of it.
// Its nil means what that of f means.
func (h *handover) once(ctx context.Context, source sluice.Session, c sluice.Command, correlated bool, f func() error) error {
	key := sha256.Sum256(append([]byte(c.Source+"\x00"), c.Document...))
	h.mu.Lock()
	now := h.clock()
	h.forget(now.Add(-handoverFor))
	e := h.copies(key, now)
	e.counts[source]++
	place := e.counts[source] - 1
	switch {
	case now.After(h.until):
		place = len(e.taken)
	case correlated:
		place = 0
	}
	for {
		if place >= len(e.taken) {
			e.taken = append(e.taken, nil)
			place = len(e.taken) - 1
		}
		t := e.taken[place]
		if t == nil {
			break
		}
		h.mu.Unlock()
		select {
		case <-t.done:
		case <-ctx.Done():
			return ctx.Err()
		}
		if t.ok {
			return nil
		}
		h.mu.Lock()
	}
	t := &taking{done: make(chan struct{})}
	e.taken[place] = t
	h.mu.Unlock()

	err := f()
	h.mu.Lock()
	t.ok = err == nil
	if err != nil {
		e.taken[place] = nil // the next copy is taken in its place
		e.counts[source]--
	}
	h.mu.Unlock()
	close(t.done)
	return err
}

// copies finds or makes what is remembered of a command.
func (h *handover) copies(key [sha256.Size]byte, now time.Time) *copies {
	e, ok := h.seen[key]
	if !ok {
		if len(h.order) >= handoverMax {
			delete(h.seen, h.order[0].key)
			h.order = h.order[1:]
		}
		e = &copies{counts: make(map[sluice.Session]int)}
		h.seen[key] = e
		h.order = append(h.order, remembered{key, now})
	}
	return e
}

// forget drops what came before a time.
func (h *handover) forget(before time.Time) {
	n := 0
	for n < len(h.order) && h.order[n].at.Before(before) {
		delete(h.seen, h.order[n].key)
		n++
	}
	h.order = h.order[n:]
	if len(h.order) == 0 {
		h.order = nil
	}
}
