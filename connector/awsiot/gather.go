package awsiot

import (
	"fmt"
	"strings"
	"sync"
	"time"
)

const (
	// singles is how many events of a kind come one by one, in a while.
	singles = 10
	// namesTold is how many are named of those that are summed up.
	namesTold = 3
)

// gatherer tells what happens to devices: one by one as long as they are few,
// and where they are many how many there were, now and then. Ten thousand
// events about ten thousand devices would hide all others.
type gatherer struct {
	every time.Duration                // between two sums
	one   func(devEUI, name string)    // tells one
	many  func(n int, examples string) // tells several; must be quick, as one

	mu      sync.Mutex
	since   time.Time // singles are counted since then
	told    int
	waiting []happened  // the first that are not told yet, at most singles
	n       int         // how many those are in all
	timer   *time.Timer // nil: they are told one by one
	closed  bool
}

// happened is what is told of one device.
type happened struct{ devEUI, name string }

func (g *gatherer) add(devEUI, name string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if now := time.Now(); now.Sub(g.since) >= g.every {
		g.since, g.told = now, 0
	}
	if g.timer == nil && g.told < singles || g.closed {
		g.told++
		g.one(devEUI, name)
		return
	}
	if len(g.waiting) < singles {
		g.waiting = append(g.waiting, happened{devEUI, name})
	}
	g.n++
	if g.timer == nil {
		g.timer = time.AfterFunc(g.every, g.sum)
	}
}

// sum tells those that wait, and goes on gathering if they were many.
func (g *gatherer) sum() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return
	}
	g.timer = nil
	if g.tell() {
		g.timer = time.AfterFunc(g.every, g.sum)
	}
}

// tell reports whether they were many.
func (g *gatherer) tell() bool {
	waiting, n := g.waiting, g.n
	g.waiting, g.n = nil, 0
	if n <= singles {
		g.since, g.told = time.Now(), n
		for _, h := range waiting {
			g.one(h.devEUI, h.name)
		}
		return false
	}
	var names []string
	for _, h := range waiting[:namesTold] {
		names = append(names, h.name)
	}
	g.many(n, fmt.Sprintf("%s and %d others", strings.Join(names, ", "), n-namesTold))
	return true
}

// close tells those that wait.
func (g *gatherer) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return
	}
	g.closed = true
	if g.timer != nil {
		g.timer.Stop()
	}
	g.tell()
}
