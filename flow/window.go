package flow

import (
	"context"
	"crypto/sha256"
	"slices"
	"strings"
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

// window remembers which reports are durable, and for which connections, in
// two halves: when the newer is full or old, it becomes the older, whose
// content is forgotten.
type window struct {
	clock sluice.Clock
	half  time.Duration
	size  int

	mu      sync.Mutex
	running map[mark]*first
	newer   map[mark]uint32 // to the number of a group
	older   map[mark]uint32
	groups  groups
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
		running: map[mark]*first{}, newer: map[mark]uint32{}, groups: newGroups(),
	}
}

// once calls do with those of the connections in wants that have no report
// with this fingerprint yet; known says whether there is such a report at all.
// Where all have it, and no connection is wanted anew, do is not called. Of
// copies that come at once, one goes first; a copy whose first failed is a
// first.
func (w *window) once(ctx context.Context, fingerprint string, wants []string, do func(lacks []string, known bool) error) (known bool, err error) {
	m := markOf(fingerprint)
	for {
		w.mu.Lock()
		had, known := w.known(m)
		lacks := wants
		if known {
			if lacks = without(wants, w.groups.lists[had]); len(lacks) == 0 {
				w.mu.Unlock()
				return true, nil
			}
		}
		f, running := w.running[m]
		if !running {
			f = &first{done: make(chan struct{})}
			w.running[m] = f
		}
		w.mu.Unlock()
		if !running {
			return known, w.run(m, f, lacks, func() error { return do(lacks, known) })
		}
		select {
		case <-f.done:
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
}

func (w *window) run(m mark, f *first, lacks []string, do func() error) (err error) {
	// A panic must not leave the copies waiting for ever.
	err = context.Canceled
	defer func() {
		f.err = err
		w.mu.Lock()
		delete(w.running, m)
		if err == nil {
			w.remember(m, lacks)
		}
		w.mu.Unlock()
		close(f.done)
	}()
	err = do()
	return err
}

// remember adds the connections that have a report. The lock is held.
func (w *window) remember(m mark, connections []string) {
	if w.groups.full() { // a report may be delivered twice, but none is lost
		clear(w.newer)
		clear(w.older)
		w.groups = newGroups()
	}
	if had, ok := w.known(m); ok {
		list := w.groups.lists[had]
		connections = append(list[:len(list):len(list)], connections...)
	}
	w.newer[m] = w.groups.number(connections)
}

// known returns the group of the connections that have a report. The lock is
// held.
func (w *window) known(m mark) (group uint32, ok bool) {
	if now := w.clock(); len(w.newer) >= w.size || now.Sub(w.since) >= w.half {
		if now.Sub(w.since) >= 2*w.half {
			clear(w.newer)
		}
		w.older, w.newer, w.since = w.newer, make(map[mark]uint32), now
	}
	if group, ok = w.newer[m]; ok {
		return group, true
	}
	group, ok = w.older[m]
	return group, ok
}

// maxGroups bounds the groups. There are about as many as sets of connections
// that the flows lead a device to.
const maxGroups = 1 << 16

// groups numbers the groups of connections that reports went to, so that the
// window holds a number for each report and not a list.
type groups struct {
	numbers map[string]uint32
	lists   [][]string
}

func newGroups() groups { return groups{numbers: map[string]uint32{}} }

func (g *groups) full() bool { return len(g.lists) >= maxGroups }

func (g *groups) number(connections []string) uint32 {
	key := strings.Join(connections, "\x00")
	n, ok := g.numbers[key]
	if !ok {
		n = uint32(len(g.lists))
		g.numbers[key] = n
		g.lists = append(g.lists, slices.Clone(connections))
	}
	return n
}

// without returns those of list that are not in others.
func without(list, others []string) []string {
	var rest []string
	for _, s := range list {
		if !slices.Contains(others, s) {
			rest = append(rest, s)
		}
	}
	return rest
}
