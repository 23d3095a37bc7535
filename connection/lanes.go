package connection

import (
	"cmp"
	"container/list"
	"slices"
	"sync"
	"time"

	"sluice"
)

// laneCapacity is how many messages a session may have outstanding: AWS IoT's
// limit of unacknowledged QoS 1 publishes of one client.
const laneCapacity = 100

// lanes spreads the messages of a pool over its sessions. A device keeps its
// session, its home: it is given the one with the least load, and moves when
// its session is gone, full or clearly busier than another. That is
// decided anew for each message, which is safe for the order of a device
// because the journal hands over a device's message only when the one before
// is over: at that moment nothing of it is in flight.
//
// The load of a session is the number of its messages outstanding, as a fading
// mean over time, and that of a device its share in it: the part of the time
// that a message of it is under way. Unlike a rate it tells six devices that
// fill a session's pace from four that fill it too, and it shows a session
// that is slow or stuck; unlike the number outstanding now it does not jump.
type lanes struct {
	clock sluice.Clock

	mu      sync.Mutex
	open    []*lane
	homes   map[string]*home // seen since rotated
	older   map[string]*home // seen in the time before
	rotated time.Time
	waiting *list.List      // of *waiter: first come, first served
	users   int             // deliveries under way, see enter
	done    uint64          // deliveries of all sessions there were
	leaving int             // of open, how many are to go
	pressed chan<- struct{} // of one; told when a session is busy; may be nil
	told    time.Time       // when
	retired bool
	gate    chan struct{} // closed while a session is open, or once retired
	gated   bool          // gate is open, not closed
	ended   chan struct{} // closed once retired
	drained chan struct{} // closed once retired and without users
}

// lane is an open session and what is counted of it.
type lane struct {
	number  int
	session sluice.Session
	opened  time.Time

	// Guarded by lanes.mu.
	outstanding int
	load        load
	gone        bool
	leaving     bool // gets nothing new, while there are others
	delivered   uint64
	second      int64 // of current
	current     int   // deliveries in that second
	last        int   // deliveries in the second before
}

// waiter is a delivery that waits for room in a session.
type waiter struct {
	home    *home
	ready   chan struct{} // closed when placed, or retired
	placed  bool
	element *list.Element
}

func newLanes(clock sluice.Clock) *lanes {
	return &lanes{
		clock:   clock,
		homes:   make(map[string]*home),
		rotated: clock(),
		waiting: list.New(),
		gate:    make(chan struct{}),
		gated:   true,
		ended:   make(chan struct{}),
		drained: make(chan struct{}),
	}
}

// enter counts a delivery in; it is false once the pool is retired.
func (ls *lanes) enter() bool {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if ls.retired {
		return false
	}
	ls.users++
	return true
}

// leave counts a delivery out.
func (ls *lanes) leave() {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	ls.users--
	if ls.retired && ls.users == 0 {
		close(ls.drained)
	}
}

// retire ends the handing out of sessions: those who wait get errRetired,
// those who have a session finish. drained is closed when all have left.
func (ls *lanes) retire() {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if ls.retired {
		return
	}
	ls.retired = true
	close(ls.ended)
	ls.openGate()
	for e := ls.waiting.Front(); e != nil; e = ls.waiting.Front() {
		ls.waiting.Remove(e)
		close(e.Value.(*waiter).ready)
	}
	if ls.users == 0 {
		close(ls.drained)
	}
}

// add makes a session available.
func (ls *lanes) add(number int, session sluice.Session) *lane {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	now := ls.clock()
	l := &lane{number: number, session: session, opened: now, load: load{at: now}}
	ls.open = append(ls.open, l)
	ls.openGate()
	for l.outstanding < laneCapacity && ls.waiting.Len() > 0 {
		ls.handOver(l)
	}
	return l
}

// remove takes a session that is lost out of use. Its devices move with their
// next message.
func (ls *lanes) remove(l *lane) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	ls.drop(l)
	if len(ls.open) == 0 && !ls.gated && !ls.retired {
		ls.gate, ls.gated = make(chan struct{}), true
	}
}

// drop takes a session out. Should only such be left as were to go, they stay.
func (ls *lanes) drop(l *lane) {
	l.gone = true
	ls.open = slices.DeleteFunc(ls.open, func(o *lane) bool { return o == l })
	if l.leaving {
		l.leaving = false
		ls.leaving--
	}
	if ls.leaving == len(ls.open) {
		for _, o := range ls.open {
			o.leaving = false
		}
		ls.leaving = 0
	}
}

// keep says whether a session is to stay. One that is not gets nothing new, and
// is taken out of use as soon as nothing of it is under way: then keep is false.
func (ls *lanes) keep(l *lane, stay bool) bool {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	switch {
	case l.gone:
		return true // its loss is on its way
	case stay && l.leaving:
		l.leaving = false
		ls.leaving--
	case !stay && !l.leaving && ls.leaving+1 < len(ls.open):
		l.leaving = true
		ls.leaving++
	}
	if !l.leaving || l.outstanding > 0 {
		return true
	}
	ls.drop(l)
	return false
}

// demand tells what the sessions have to do.
func (ls *lanes) demand() demand {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	d := demand{open: len(ls.open), waiting: ls.waiting.Len(), delivered: ls.done}
	for _, l := range ls.open {
		d.outstanding += l.outstanding
	}
	return d
}

// press tells that a session is busy, so that the pool looks whether they are
// enough; not oftener than it looks.
func (ls *lanes) press(now time.Time) {
	if now.Sub(ls.told) < growEvery {
		return
	}
	ls.told = now
	select {
	case ls.pressed <- struct{}{}:
	default: // it is told, or nobody listens
	}
}

func (ls *lanes) openGate() {
	if ls.gated {
		close(ls.gate)
		ls.gated = false
	}
}

// isOpen reports whether a session is open.
func (ls *lanes) isOpen() bool {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	return len(ls.open) > 0
}

// opened waits until a session is open.
func (ls *lanes) opened(p *patience) error {
	ls.mu.Lock()
	gate, retired := ls.gate, ls.retired
	ls.mu.Unlock()
	if retired {
		return errRetired
	}
	return p.await(gate)
}

// acquire chooses the session for a device's message and takes one of its
// places: the home's lane. release gives it back.
func (ls *lanes) acquire(p *patience, devEUI string) (*home, error) {
	ls.mu.Lock()
	if ls.retired {
		ls.mu.Unlock()
		return nil, errRetired
	}
	now := ls.clock()
	h := ls.lookup(devEUI, now)
	if l := ls.choose(h, now); l != nil {
		place(h, l, now)
		if l.outstanding >= busyAt {
			ls.press(now)
		}
		ls.mu.Unlock()
		return h, nil
	}
	ls.press(now)
	w := &waiter{home: h, ready: make(chan struct{})}
	w.element = ls.waiting.PushBack(w)
	ls.mu.Unlock()

	err := p.await(w.ready)
	ls.mu.Lock()
	defer ls.mu.Unlock()
	select {
	case <-w.ready: // perhaps at the last moment
		if !w.placed {
			return nil, errRetired
		}
		return h, nil
	default:
		ls.waiting.Remove(w.element)
		return nil, err
	}
}

// release gives a place back, and hands it to who waits longest.
func (ls *lanes) release(h *home, delivered bool) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	now := ls.clock()
	l := h.lane
	h.load.update(now, 1)
	l.load.update(now, l.outstanding)
	l.outstanding--
	if delivered {
		l.delivered++
		ls.done++
		l.meter(now)
		l.current++
	}
	if !l.gone && !l.leaving && !isDone(l.session) && ls.waiting.Len() > 0 {
		ls.handOver(l)
	}
}

// handOver gives a place of l to who waits longest.
func (ls *lanes) handOver(l *lane) {
	w := ls.waiting.Remove(ls.waiting.Front()).(*waiter)
	place(w.home, l, ls.clock())
	w.placed = true
	close(w.ready)
}

// choose returns the session for the next message of a device, or nil when
// none has room.
func (ls *lanes) choose(h *home, now time.Time) *lane {
	h.load.update(now, 0)
	var best *lane
	for _, l := range ls.open {
		if l.leaving || l.outstanding >= laneCapacity || isDone(l.session) {
			continue
		}
		l.load.update(now, l.outstanding)
		if best == nil || l.work() < best.work() {
			best = l
		}
	}
	own := h.lane
	switch {
	case best == nil || own == nil || own == best:
		return best
	case own.gone || own.leaving || own.outstanding >= laneCapacity || isDone(own.session) || own.clearlyBusier(best, h.load.mean):
		return best
	default:
		return own
	}
}

// place puts a message of a device on a session, which becomes its home.
func place(h *home, l *lane, now time.Time) {
	h.load.update(now, 0)
	l.load.update(now, l.outstanding)
	if h.lane != l {
		if h.lane != nil {
			h.lane.load.mean = max(0, h.lane.load.mean-h.load.mean)
		}
		l.load.mean += h.load.mean
		h.lane = l
	}
	l.outstanding++
}

// status tells how the sessions stand.
func (ls *lanes) status() []sluice.SessionStatus {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	now := ls.clock()
	out := make([]sluice.SessionStatus, 0, len(ls.open))
	for _, l := range ls.open {
		l.meter(now)
		out = append(out, sluice.SessionStatus{
			ID: l.session.ID(), Opened: l.opened, Delivered: l.delivered, Rate: l.last, InFlight: l.outstanding,
		})
	}
	slices.SortFunc(out, func(a, b sluice.SessionStatus) int {
		return cmp.Or(a.Opened.Compare(b.Opened), cmp.Compare(a.ID, b.ID))
	})
	return out
}

// meter moves the count of deliveries a second on to the present.
func (l *lane) meter(now time.Time) {
	second := now.Unix()
	switch second - l.second {
	case 0:
		return
	case 1:
		l.last = l.current
	default:
		l.last = 0
	}
	l.second, l.current = second, 0
}

// isDone reports whether a session has ended.
func isDone(s sluice.Session) bool {
	select {
	case <-s.Done():
		return true
	default:
		return false
	}
}
