package awsiot

import (
	"container/heap"
	"time"

	"github.com/eclipse/paho.golang/packets"
)

// askSpacing is the time between two gets: their answers come over one link, on
// which AWS delivers 100 messages a second and discards what is more.
const askSpacing = 20 * time.Millisecond

// look is to read a shadow; false where there is no room.
func (q *shadowQueue) look(device, thing string) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	e := q.entry(device, thing)
	if e == nil {
		return false
	}
	q.wish(e, time.Now())
	q.touch(e)
	return true
}

// ring is look for a delta that came, which is acknowledged when it is over.
// One for which there is no room is not.
func (q *shadowQueue) ring(device, thing string, l *link, p *packets.Publish) {
	q.mu.Lock()
	defer q.mu.Unlock()
	e := q.entry(device, thing)
	if e == nil {
		return
	}
	if e.link != l {
		e.bells = nil // the server sends those again
	}
	e.link, e.bells = l, append(e.bells, p) // as many as the server sends unacknowledged
	q.wish(e, time.Now())
	q.touch(e)
}

// befall is look for what became of a command.
func (q *shadowQueue) befall(device, thing string, f shadowFate) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	e := q.entry(device, thing)
	if e == nil {
		return false
	}
	q.wish(e, time.Now())
	if e.fates = append(e.fates, f); len(e.fates) > shadowFates {
		e.fates = e.fates[1:]
	}
	q.touch(e)
	return true
}

// listen says whether there is somebody to hear answers: only then is asked.
func (q *shadowQueue) listen(on bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now()
	q.asking, q.nextAsk = on, now
	for _, e := range q.entries {
		if e.ask || !e.asked.IsZero() { // the answer, if any, is lost
			e.asked, e.ask = time.Time{}, false
			q.wish(e, now)
		}
		e.due = q.when(e)
	}
	heap.Init(&q.due)
	q.stir()
}

// wish has a shadow read, in its turn among all that are. The lock is held.
func (q *shadowQueue) wish(e *shadowEntry, now time.Time) {
	if e.ask {
		return
	}
	e.ask = true
	e.askAt = later(q.nextAsk, now)
	q.nextAsk = e.askAt.Add(askSpacing)
}

// wishAgain has a shadow read that was asked for in vain, after what is to be
// reported meanwhile: that may well be taken.
func (q *shadowQueue) wishAgain(e *shadowEntry) {
	q.wish(e, time.Now())
	e.askAt = later(e.askAt, e.free.Add(q.spacing))
}

// unanswered has a shadow asked for again, later and later.
func (q *shadowQueue) unanswered(e *shadowEntry) {
	e.asked = time.Time{}
	e.backOff(1)
	q.wishAgain(e)
	if e.asks++; e.asks == shadowAsks {
		q.silent(e.device)
	}
}

// shadowAnswer is the answer to a get with those who wait for it.
type shadowAnswer struct {
	device, thing string
	payload       []byte // nil: there is no shadow
	bells         []*packets.Publish
	link          *link
	fates         []shadowFate
}

// answered takes an answer to a get. A refusal for the time being is no answer
// yet.
func (q *shadowQueue) answered(device string, payload []byte, again bool, jitter float64) (shadowAnswer, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	e := q.entries[device]
	if e == nil || e.asked.IsZero() {
		return shadowAnswer{}, false
	}
	e.asked = time.Time{}
	if again {
		e.backOff(jitter)
		q.wishAgain(e)
		q.touch(e)
		return shadowAnswer{}, false
	}
	a := shadowAnswer{device: device, thing: e.thing, payload: payload, bells: e.bells, link: e.link, fates: e.fates}
	e.bells, e.fates, e.asks, e.pause = nil, nil, 0, 0
	q.touch(e)
	return a, true
}
