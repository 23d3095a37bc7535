package flow

import (
	"context"
	"crypto/sha256"
	"sync"
	"time"

	"sluice"
)

// mark is a fingerprint, or a hash of it where it is longer.
type mark [32]byte

func markOf(fingerprint string) mark {
	if len(fingerprint) > len(mark{}) {
		return sha256.Sum256([]byte(fingerprint))
	}
	var m mark
	copy(m[:], fingerprint)
	return m
}

// window remembers which reports are durable, in two halves: when the newer
// is full or old, it becomes the older, whose content is forgotten.
type window struct {
	clock sluice.Clock
	half  time.Duration
	size  int

	mu      sync.Mutex
	running map[mark]*first
	newer   map[mark]struct{}
	older   map[mark]struct{}
	since   time.Time
}

// first is a report that is on its way into the journal.
type first struct {
	done chan struct{}
	err  error
}

func newWindow(clock sluice.Clock, span time.Duration, size int) *window {
	return &window{
		clock: clock, half: span / 2, size: size, since: clock(),
		running: map[mark]*first{}, newer: map[mark]struct{}{},
	}
}

// once calls do, unless a report with the same fingerprint is known: then it
// returns with that one's outcome. A copy whose first failed is a first.
func (w *window) once(ctx context.Context, fingerprint string, do func() error) (copied bool, err error) {
	m := markOf(fingerprint)
	for {
		w.mu.Lock()
		if w.known(m) {
			w.mu.Unlock()
			return true, nil
		}
		f, running := w.running[m]
		if !running {
			f = &first{done: make(chan struct{})}
			w.running[m] = f
		}
		w.mu.Unlock()
		if !running {
			return false, w.run(m, f, do)
		}
		select {
		case <-f.done:
			if f.err == nil {
				return true, nil
			}
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
}

func (w *window) run(m mark, f *first, do func() error) (err error) {
	// A panic must not leave the copies waiting for ever.
	err = context.Canceled
	defer func() {
		f.err = err
		w.mu.Lock()
		delete(w.running, m)
		if err == nil {
			w.newer[m] = struct{}{}
		}
		w.mu.Unlock()
		close(f.done)
	}()
	err = do()
	return err
}

// known is called with the lock held.
func (w *window) known(m mark) bool {
	if now := w.clock(); len(w.newer) >= w.size || now.Sub(w.since) >= w.half {
		if now.Sub(w.since) >= 2*w.half {
			clear(w.newer)
		}
		w.older, w.newer, w.since = w.newer, make(map[mark]struct{}), now
	}
	if _, ok := w.newer[m]; ok {
		return true
	}
	_, ok := w.older[m]
	return ok
}
