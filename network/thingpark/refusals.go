package thingpark

import (
	"fmt"
	"sync"
	"time"

	"sluice"
)

// refusalPeriod is how often at most one cause of refusals is told: anyone
// can post anything to an address on the internet.
const refusalPeriod = time.Minute

// refusals tells of refused reports as events: the first of a cause at once,
// then at most one a period with the number of those since.
type refusals struct {
	network string
	events  sluice.Recorder
	period  time.Duration

	mu     sync.Mutex
	closed bool
	causes map[string]*refusalCause // causes are few: constants, and kinds that ThingPark documents
}

type refusalCause struct {
	timer *time.Timer
	count int // since the last event
	last  sluice.Event
}

func newRefusals(network string, events sluice.Recorder, period time.Duration) *refusals {
	return &refusals{network: network, events: events, period: period, causes: map[string]*refusalCause{}}
}

// tell counts a refusal of a cause; e is the event that would tell it.
func (r *refusals) tell(cause string, e sluice.Event) {
	if r.events == nil {
		return
	}
	e.Network = r.network
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		// Nobody is left to count for: the few that come to a door that was
		// replaced are told one by one.
		r.events.Record(e)
		return
	}
	c := r.causes[cause]
	if c == nil {
		c = &refusalCause{}
		r.causes[cause] = c
	}
	if c.timer != nil {
		c.count++
		c.last = e
		return
	}
	r.events.Record(e)
	c.timer = time.AfterFunc(r.period, func() { r.flush(c) })
}

// flush ends a cause's period and tells what came in it.
func (r *refusals) flush(c *refusalCause) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return
	}
	if !r.summarize(c) {
		c.timer = nil
		return
	}
	c.timer = time.AfterFunc(r.period, func() { r.flush(c) })
}

// summarize records an event for the refusals that were only counted; false
// when there are none.
func (r *refusals) summarize(c *refusalCause) bool {
	if c.count == 0 {
		return false
	}
	e := c.last
	e.Detail = fmt.Sprintf("%s (%d more for this cause, in the last %s; this is the latest.)", e.Detail, c.count, r.period)
	c.count = 0
	r.events.Record(e)
	return true
}

// close tells what was only counted, and counts no more.
func (r *refusals) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return
	}
	for _, c := range r.causes {
		if c.timer != nil {
			c.timer.Stop()
		}
		r.summarize(c)
	}
	r.closed = true
}
