package store

import (
	"bufio"
	"io"
	"sync"
	"unicode/utf8"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/oklog/ulid/v2"

	"sluice"
)

const (
	// maxPending is how many events wait to be written before the oldest are
	// dropped; dropStep is how many go at once, so that dropping stays cheap.
	maxPending = 8192
	dropStep   = 1024
	// maxText is how long a text of an event may be, in bytes.
	maxText = 2048
)

// events takes events and answers queries. The newest are in memory until
// they are written; of those that are written a small index is in memory, so
// that a query counts and selects without reading, and reads only the page
// that it returns.
type events struct {
	clock sluice.Clock

	mu      sync.Mutex
	entropy *ulid.MonotonicEntropy
	pending []sluice.Event // not written yet, the oldest first
	// writing is how many of pending are being written: they are not dropped.
	writing   int
	dropped   int // since the last event that told of it
	index     eventIndex
	followers []*follower

	js     jetstream.JetStream
	stream jetstream.Stream
	chunk  eventChunk // the writer's
}

func newEvents(clock sluice.Clock, random io.Reader) *events {
	return &events{
		clock:   clock,
		entropy: ulid.Monotonic(bufio.NewReader(random), 0),
		index:   newEventIndex(),
	}
}

// Record takes an event. It fills Time (to the millisecond, in UTC) and ID (a
// ULID), and is seen by queries and followers at once. It never waits: where
// events cannot be written the oldest are dropped in the end, which an event
// of the type [sluice.EventEventsDropped] tells. Texts over 2 KiB are cut.
func (s *Store) Record(e sluice.Event) { s.events.record(e) }

func (v *events) record(e sluice.Event) {
	if e.Time.IsZero() {
		e.Time = v.clock()
	}
	e.Time = e.Time.UTC().Truncate(millisecond)
	e.Detail, e.Hint = cut(e.Detail), cut(e.Hint)
	v.mu.Lock()
	defer v.mu.Unlock()
	if e.ID == "" {
		e.ID = v.newID(e)
	}
	if len(v.pending)-v.writing >= maxPending {
		v.drop()
	}
	v.pending = append(v.pending, e)
	for _, f := range v.followers {
		f.put(e)
	}
}

// newID makes the ULID of an event. Two of one millisecond sort as they came.
func (v *events) newID(e sluice.Event) string {
	ms := ulid.Timestamp(e.Time)
	id, err := ulid.New(ms, v.entropy)
	if err != nil { // 2^80 in one millisecond, or a time outside of what a ULID can say
		id = ulid.Make()
	}
	return id.String()
}

// drop drops the oldest events that wait. Queries may be reading the slice:
// it is left as it is, and a new one made.
func (v *events) drop() {
	kept := make([]sluice.Event, 0, len(v.pending))
	kept = append(kept, v.pending[:v.writing]...)
	kept = append(kept, v.pending[v.writing+dropStep:]...)
	v.pending = kept
	v.dropped += dropStep
}

// cut shortens a text, at the border of a character.
func cut(s string) string {
	if len(s) <= maxText {
		return s
	}
	end := maxText
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + "…"
}
