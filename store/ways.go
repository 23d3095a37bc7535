package store

import (
	"sync"

	"github.com/nats-io/nats.go/jetstream"

	"sluice"
)

// maxPendingWays is how many ways wait to be written: some seconds of what a
// machine can take. What comes beyond is dropped, and counted: nothing that
// is delivered ever waits for the log of its way. wayStep is how many are
// gathered in one piece of memory.
const (
	maxPendingWays = 16384
	wayStep        = 512
)

// ways takes the traces of what is over and writes them behind, many to a
// message of a stream of their own. Nothing of what is written is in memory:
// who asks, seldom, has it read.
type ways struct {
	js     jetstream.JetStream
	stream jetstream.Stream // on the connection for reading
	reads  jetstream.JetStream
	chunk  wayChunk      // the writer's
	search chan struct{} // of one: taken while the log is looked through

	mu sync.Mutex
	// pending are not written yet, the oldest first, in pieces of wayStep: a
	// slice that grows would be copied while others wait to note theirs.
	pending [][]sluice.Trace
	count   int
	dropped uint64
}

// Passed takes the trace of a message that is over, or, for a command, that it
// was taken. It never waits; it costs well under a microsecond. About a
// quarter of a second later it is written; until then a crash loses it.
// Where it cannot be written, 16,384 are kept and more are dropped: see
// DroppedWays.
func (s *Store) Passed(t sluice.Trace) { s.ways.put(&t) }

// DroppedWays is how many traces were dropped since Open.
func (s *Store) DroppedWays() uint64 {
	s.ways.mu.Lock()
	defer s.ways.mu.Unlock()
	return s.ways.dropped
}

func (w *ways) put(t *sluice.Trace) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.count >= maxPendingWays {
		w.dropped++
		return
	}
	last := len(w.pending) - 1
	if last < 0 || len(w.pending[last]) == cap(w.pending[last]) {
		w.pending = append(w.pending, make([]sluice.Trace, 0, wayStep))
		last++
	}
	w.pending[last] = append(w.pending[last], *t)
	w.count++
}

// waiting returns what waits to be written, the oldest first. It is not
// changed any more, and read unlocked.
func (w *ways) waiting() [][]sluice.Trace {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([][]sluice.Trace(nil), w.pending...)
}
