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
	// handoverMax bounds how many commands are remembered.
	handoverMax = 4096
	// unackedMax is how many commands a cloud sends to a session without
	// acknowledgement: so many may come again.
	unackedMax = 100
	// namedFor is how long a CorrelationID is remembered.
	namedFor = 24 * time.Hour
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
//
// When the link of the subscribed session is lost, the commands that it took
// last may not have been acknowledged; then they come again on the next one,
// before all others. So what equals one of those, and comes before anything
// else, is a redelivery. A command with a CorrelationID, or with an id that its
// publisher gave the message, that another session took is one at any time. The
// id alone does not make it one: what comes again is the same to the byte, and
// an application may use one CorrelationID for all that it sends.
type handover struct {
	clock  sluice.Clock
	window time.Duration // of a redelivery, before the loss and after the grant

	mu      sync.Mutex
	sharers int // sessions that share the commands, or 1
	until   time.Time
	seen    map[[sha256.Size]byte]*copies
	order   []remembered // oldest first

	last     []took                          // the last commands, oldest first
	again    map[[sha256.Size]byte][]*taking // may come again; nil: nothing may
	deadline time.Time                       // of again; zero: nothing is subscribed
	named    map[[sha256.Size]byte]took      // with a CorrelationID
	naming   []remembered                    // of named, oldest first
}

// took is a command that a session took.
type took struct {
	key    [sha256.Size]byte
	source sluice.Session
	at     time.Time
	taking *taking
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

func newHandover(clock sluice.Clock, window time.Duration) *handover {
	return &handover{
		clock: clock, window: window, sharers: 1, seen: make(map[[sha256.Size]byte]*copies), named: make(map[[sha256.Size]byte]took),
	}
}

// within sets the window of a redelivery.
func (h *handover) within(window time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.window = window
}

// among sets how many sessions share the commands.
func (h *handover) among(sharers int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.sharers = max(1, sharers)
}

// begin notes that another session is being subscribed.
func (h *handover) begin() {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.clock()
	if now.After(h.until) {
		h.forget(now) // equal to what came before is not a copy of it
	}
	h.until = now.Add(handoverFor)
}

// granted notes that it is subscribed, after begin or, where it does not take
// over from another but shares the commands with it, without.
func (h *handover) granted(began bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.clock()
	if began {
		h.until = now.Add(handoverFor)
	}
	h.deadline = now.Add(h.window)
}

// lost notes that the link of the subscribed session is lost.
func (h *handover) lost(source sluice.Session) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.clock()
	var others []took
	for _, c := range h.last {
		if c.source != source {
			others = append(others, c) // of sessions that share the commands with it
		} else if h.window > 0 && !c.at.Before(now.Add(-h.window)) {
			if h.again == nil {
				h.again = make(map[[sha256.Size]byte][]*taking)
			}
			h.again[c.key] = append(h.again[c.key], c.taking)
		}
	}
	h.last, h.deadline = others, time.Time{}
	h.forget(now.Add(time.Nanosecond)) // what else is equal is meant
	h.until = time.Time{}
}

// redelivered finds the taking that a command is a redelivery of.
func (h *handover) redelivered(key [sha256.Size]byte, source sluice.Session, correlated bool, now time.Time) *taking {
	if h.again != nil {
		list := h.again[key]
		if len(list) > 0 && (h.deadline.IsZero() || now.Before(h.deadline)) {
			h.again[key] = list[1:]
			return list[0]
		}
		h.again = nil // others come: what was to come again has come
	}
	if n, ok := h.named[key]; ok && correlated && n.source != source && now.Before(n.at.Add(namedFor)) {
		return n.taking
	}
	return nil
}

// remember keeps a command that a session took, or a redelivery of it.
func (h *handover) remember(c took, correlated bool) {
	if h.last = append(h.last, c); len(h.last) > h.sharers*unackedMax {
		h.last = h.last[len(h.last)-h.sharers*unackedMax:]
	}
	if !correlated {
		return
	}
	if _, ok := h.named[c.key]; !ok {
		if len(h.naming) >= handoverMax {
			delete(h.named, h.naming[0].key)
			h.naming = h.naming[1:]
		}
		h.naming = append(h.naming, remembered{c.key, c.at})
	}
	h.named[c.key] = c
}

// once calls f for a command, or waits for the call that takes a copy of it.
// Its nil means what that of f means.
func (h *handover) once(ctx context.Context, source sluice.Session, c sluice.Command, correlated bool, f func() error) error {
	key := keyOf(c)
	h.mu.Lock()
	now := h.clock()
	h.forget(now.Add(-handoverFor))
	if t := h.redelivered(key, source, correlated, now); t != nil {
		h.remember(took{key, source, now, t}, false)
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
	h.remember(took{key, source, now, t}, correlated)
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
