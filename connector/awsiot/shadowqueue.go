package awsiot

import (
	"container/heap"
	"context"
	"sync"
	"time"

	"github.com/eclipse/paho.golang/packets"
)

// The bounds of what waits for the shadows. An update that finds no room is
// given up: the next uplink of its device brings a newer one.
const (
	shadowRoom    = 16 << 20 // bytes of members
	shadowDevices = 50_000   // of whom something waits
	shadowFates   = 8        // of a device, that wait for its shadow
	shadowAsks    = 5        // how often a shadow is asked for in vain before that is told
)

// The pause of a device whose request was refused for the time being doubles
// from one to the other.
const (
	firstShadowPause = time.Second
	lastShadowPause  = time.Minute
)

// shadowQueue holds what is to be requested of the shadows: one entry a device,
// at most one request of it at a time, the newest values, spaced. Devices take
// turns by when their turn has come.
type shadowQueue struct {
	spacing time.Duration // between two requests of a device
	patient time.Duration // for the answer to a get

	mu       sync.Mutex
	entries  map[string]*shadowEntry // by device
	due      dueHeap                 // those of whom no request is under way
	size     int                     // of all members that wait
	asking   bool                    // there is somebody to hear answers
	nextAsk  time.Time               // when there may be a get
	proven   bool                    // a request was taken since hold; until then there is one at a time
	underway int                     // requests
	until    time.Time               // nothing goes out before
	wake     chan struct{}           // room for one

	jobs   chan *shadowEntry   // to the sessions
	silent func(device string) // is told of a shadow that does not answer; must not block
}

// shadowEntry is what is known of a device's shadow at the moment.
type shadowEntry struct {
	device, thing string

	next, sent members // to be sent; sent last, while it may be refused
	token      string  // of the update sent last

	ask   bool               // the shadow is to be read
	askAt time.Time          // not before
	asked time.Time          // a get was sent and not answered; zero: none was
	asks  int                // in vain
	bells []*packets.Publish // deltas that wait for it
	link  *link              // that they came on
	fates []shadowFate       // that wait for it

	busy  bool
	free  time.Time // there is no request before
	pause time.Duration
	due   time.Time // when to look at it
	place int       // in the heap
}

func newShadowQueue(spacing, patient time.Duration, silent func(device string)) *shadowQueue {
	return &shadowQueue{
		spacing: spacing, patient: patient, silent: silent, entries: map[string]*shadowEntry{},
		wake: make(chan struct{}, 1), jobs: make(chan *shadowEntry),
	}
}

// entry finds or makes a device's; nil where there is no room. The lock is
// held, and touch follows.
func (q *shadowQueue) entry(device, thing string) *shadowEntry {
	e := q.entries[device]
	if e == nil && len(q.entries) >= shadowDevices {
		return nil
	}
	if e == nil {
		e = &shadowEntry{device: device, thing: thing, place: -1}
		q.entries[device] = e
	}
	e.thing = thing
	return e
}

// touch puts an entry in its place. The lock is held.
func (q *shadowQueue) touch(e *shadowEntry) {
	e.due = q.when(e)
	switch {
	case e.busy:
	case e.place < 0:
		heap.Push(&q.due, e)
	default:
		heap.Fix(&q.due, e.place)
	}
	q.stir()
}

// ready reports whether there is a request to make.
func (q *shadowQueue) ready(e *shadowEntry) bool { return e.next != nil || e.ask && q.asking }

// when is when an entry is to be looked at.
func (q *shadowQueue) when(e *shadowEntry) time.Time {
	switch {
	case e.next != nil:
		return e.free
	case e.ask && q.asking:
		return later(e.askAt, e.free)
	case !e.asked.IsZero():
		return e.asked.Add(q.patient)
	case e.ask:
		return e.free.Add(time.Hour) // until somebody listens
	}
	return e.free
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func (q *shadowQueue) stir() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// offer is to report values; false where there is no room for them.
func (q *shadowQueue) offer(device, thing string, m members) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.size+m.size() > shadowRoom {
		return false
	}
	e := q.entry(device, thing)
	if e == nil {
		return false
	}
	q.size -= e.next.size()
	e.next = e.next.merge(m)
	q.size += e.next.size()
	q.touch(e)
	return true
}

// hold lets nothing go out for a time.
func (q *shadowQueue) hold(d time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.until, q.proven = time.Now().Add(d), false
	q.stir()
}

// dispatch hands entries whose turn has come to the sessions, one after
// another, until ctx ends.
func (q *shadowQueue) dispatch(ctx context.Context) {
	t := time.NewTimer(time.Hour)
	defer t.Stop()
	for {
		e, wait := q.take(time.Now())
		if e != nil {
			select {
			case q.jobs <- e:
			case <-ctx.Done():
				return
			}
			continue
		}
		t.Reset(wait)
		select {
		case <-t.C:
		case <-q.wake:
		case <-ctx.Done():
			return
		}
	}
}

// take takes the entry whose turn it is, or tells when to look again.
func (q *shadowQueue) take(now time.Time) (*shadowEntry, time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if wait := q.until.Sub(now); wait > 0 {
		return nil, wait
	}
	for len(q.due) > 0 && (q.proven || q.underway == 0) {
		e := q.due[0]
		if wait := e.due.Sub(now); wait > 0 {
			return nil, wait
		}
		switch {
		case q.ready(e):
			heap.Pop(&q.due)
			e.busy = true
			q.underway++
			return e, 0
		case !e.asked.IsZero():
			q.unanswered(e)
		case e.ask:
			e.free = now
		default:
			heap.Pop(&q.due)
			delete(q.entries, e.device)
			continue
		}
		e.due = q.when(e)
		heap.Fix(&q.due, 0)
	}
	return nil, time.Hour
}

// shadowRequest is a request that goes out.
type shadowRequest struct {
	thing string
	get   bool
	body  []byte
	token string
}

// operation is what is requested, as topics name it.
func (r *shadowRequest) operation() string {
	if r.get {
		return "get"
	}
	return "update"
}

// begin is the request of an entry that was taken, as of now; false where there
// is none any more.
func (q *shadowQueue) begin(e *shadowEntry, token string) (r shadowRequest, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	r = shadowRequest{thing: e.thing, token: token}
	if now := time.Now(); e.ask && q.asking && (e.next == nil || !now.Before(e.askAt)) {
		r.get, r.body = true, []byte(`{"clientToken":"`+token+`"}`)
		e.ask, e.asked = false, now
		return r, true
	}
	if e.next == nil {
		return r, false
	}
	q.size -= e.next.size()
	e.token, e.sent, e.next = token, e.next, nil
	var err error
	r.body, err = e.sent.update(token)
	return r, err == nil
}

// end ends the turn of an entry. again is whether the request is to be made
// again; after is the pause that it asks for.
func (q *shadowQueue) end(e *shadowEntry, r shadowRequest, again bool, after time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	e.busy = false
	q.underway--
	e.wait(max(q.spacing, after))
	switch {
	case r.get && again:
		e.asked = time.Time{}
		q.wishAgain(e)
	case again:
		q.restore(e)
	default:
		q.proven = true
	}
	q.touch(e)
}

// wait makes no request of an entry for a time.
func (e *shadowEntry) wait(d time.Duration) {
	if t := time.Now().Add(d); t.After(e.free) {
		e.free = t
	}
}

// backOff makes no request for a time that doubles.
func (e *shadowEntry) backOff(jitter float64) {
	e.pause = min(max(2*e.pause, firstShadowPause), lastShadowPause)
	e.wait(time.Duration((1 + jitter) / 2 * float64(e.pause)))
}

// restore has what was sent last sent again, below what is newer.
func (q *shadowQueue) restore(e *shadowEntry) {
	if e.sent == nil {
		return
	}
	q.size -= e.next.size()
	e.next = e.sent.merge(e.next)
	e.sent = nil
	q.size += e.next.size()
}

// giveBack ends the turn of an entry of which no request was made.
func (q *shadowQueue) giveBack(e *shadowEntry) {
	q.mu.Lock()
	defer q.mu.Unlock()
	e.busy = false
	q.underway--
	q.touch(e)
}

// refused takes the rejection of an update, with "" of whichever; again as in
// end. It reports whether the update is known.
func (q *shadowQueue) refused(device, token string, again bool, jitter float64) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	e := q.entries[device]
	if e == nil || e.sent == nil || token != "" && e.token != token {
		return false
	}
	if !again {
		e.sent = nil
		return true
	}
	e.backOff(jitter)
	q.restore(e)
	q.touch(e)
	return true
}

// dueHeap are entries in the order of their turns.
type dueHeap []*shadowEntry

func (h dueHeap) Len() int           { return len(h) }
func (h dueHeap) Less(i, j int) bool { return h[i].due.Before(h[j].due) }
func (h dueHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].place, h[j].place = i, j
}

// Push and Pop are container/heap's.
func (h *dueHeap) Push(x any) {
	e := x.(*shadowEntry)
	e.place = len(*h)
	*h = append(*h, e)
}

func (h *dueHeap) Pop() any {
	all := *h
	e := all[len(all)-1]
	e.place = -1
	*h = all[:len(all)-1]
	return e
}
