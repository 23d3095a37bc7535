package connection

import (
	"fmt"
	"sync"
	"time"

	"sluice"
)

// tally keeps events that may come in floods readable: the first of a kind is
// told at once, those that follow within the minute are counted and told as
// one. It never blocks for long and is safe for use by several goroutines.
type tally struct {
	events sluice.Recorder

	mu    sync.Mutex
	kinds map[kind]*counted
}

// kind is what makes two events the same for a reader.
type kind struct {
	event  sluice.EventType
	label  string
	reason sluice.Reason
	cause  string
}

// tallyKinds bounds how many causes are told apart.
const tallyKinds = 64

type counted struct {
	number int          // since the last summary, besides the one told at once
	last   sluice.Event // of those
}

func newTally(events sluice.Recorder) *tally {
	return &tally{events: events, kinds: make(map[kind]*counted)}
}

// add tells an event, or counts it.
func (t *tally) add(e sluice.Event) { t.addCause(e, "") }

// addCause is add for events that are the same only with the same cause.
func (t *tally) addCause(e sluice.Event, cause string) {
	k := kind{e.Type, e.Label, e.Reason, cause}
	t.mu.Lock()
	if len(t.kinds) >= tallyKinds {
		k.cause = ""
	}
	c, ok := t.kinds[k]
	if ok {
		c.number++
		c.last = e
	} else {
		t.kinds[k] = &counted{}
	}
	t.mu.Unlock()
	if !ok {
		t.events.Record(e)
	}
}

// flush tells the summaries; it is called once a minute, and with all at the
// end. A kind of which nothing came is told at once again.
func (t *tally) flush(now time.Time, all bool) {
	t.mu.Lock()
	var out []sluice.Event
	for k, c := range t.kinds {
		if c.number == 0 || all {
			delete(t.kinds, k)
		}
		switch {
		case c.number == 1:
			out = append(out, c.last)
		case c.number > 1:
			e := c.last
			e.ID, e.Time = "", now
			e.Detail = fmt.Sprintf("%d more within the last minute; the last: %s", c.number, e.Detail)
			out = append(out, e)
		}
		c.number = 0
	}
	t.mu.Unlock()
	for _, e := range out {
		t.events.Record(e)
	}
}
