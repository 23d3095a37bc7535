package connection

import (
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"sluice"
)

// farAway is a timer's delay when nothing is due.
const farAway = time.Hour

// summaryEvery is how often events that came in numbers are summed up.
const summaryEvery = time.Minute

// runner keeps one connection open. The fields of the first part belong to
// the goroutine of run; whoever else has something to tell posts it.
type runner struct {
	o     *Options
	id    string
	log   *slog.Logger
	after <-chan struct{} // a runner of the same id that closes first; may be nil

	want      sluice.Connection // what is wanted
	essence   string            // of want
	refused   bool              // no Dialer can be made of want
	active    *pool             // delivers, or tries to open so that it can
	candidate *pool             // the pool of a changed configuration
	closing   []*pool           // finish what is in flight
	reader    *reader
	quitting  bool
	unapplied string // what the last event about a failed change said
	summary   time.Time
	recalled  bool   // what was taken before this start is remembered
	alarming  string // the alarms that are in force, as configured

	mail    chan func()
	pressed chan struct{} // a session is busy
	ended   chan struct{} // closed when run takes no more mail
	done    chan struct{} // closed when run has returned
	work    sync.WaitGroup

	serving  atomic.Pointer[pool]
	settings atomic.Pointer[settings]
	tally    *tally
	fold     *fold
	failures int // tries in vain since the connection was open
	handover *handover
	born     time.Time
	alarms   atomic.Pointer[alarms]
	gone     atomic.Bool   // the connection was deleted
	uplinked atomic.Int64  // when an uplink was delivered last, since born
	ignored  atomic.Uint64 // messages on the downlink topic that are no downlinks

	mu      sync.Mutex
	next    *sluice.Connection // what Apply said last
	changed chan struct{}
	quit    chan struct{}
	once    sync.Once
	shown   sluice.Status
}

func newRunner(o *Options, c sluice.Connection, after <-chan struct{}) *runner {
	state := sluice.StateClosed
	if !c.Active {
		state = sluice.StateDeactivated
	}
	r := &runner{
		o: o, id: c.ID, after: after,
		log:      o.Log.With("connection", c.ID),
		mail:     make(chan func()),
		pressed:  make(chan struct{}, 1),
		ended:    make(chan struct{}),
		done:     make(chan struct{}),
		handover: newHandover(time.Now, defaultRedelivery),
		born:     time.Now(),
		next:     &c,
		changed:  make(chan struct{}, 1),
		quit:     make(chan struct{}),
		shown:    sluice.Status{State: state, Since: o.Clock(), Applied: true},
	}
	r.tally = newTally(o.Events)
	r.fold = newFold(o.Events)
	r.changed <- struct{}{}
	return r
}

// change tells the runner of another configuration.
func (r *runner) change(c sluice.Connection) {
	r.mu.Lock()
	if r.next.Revision != c.Revision || r.next.Active != c.Active {
		r.shown.Applied, r.shown.Reason = false, "The change is being applied."
	}
	r.next = &c
	r.mu.Unlock()
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

// stop tells the runner to close all and end.
func (r *runner) stop() { r.once.Do(func() { close(r.quit) }) }

// post has f called by the runner's goroutine; it is dropped when that has ended.
func (r *runner) post(f func()) {
	select {
	case r.mail <- f:
	case <-r.ended:
	}
}

// run is the runner's goroutine.
func (r *runner) run() {
	defer close(r.done)
	if r.after != nil {
		<-r.after
	}
	timer := time.NewTimer(farAway)
	defer timer.Stop()
	quit := r.quit
	for !r.over() {
		timer.Reset(r.untilDue())
		select {
		case <-quit:
			r.quitting, quit = true, nil
			r.plan()
		case <-r.changed:
			r.mu.Lock()
			c := *r.next
			r.mu.Unlock()
			r.adopt(c)
		case f := <-r.mail:
			f()
		case <-r.pressed:
		case <-timer.C:
		}
		r.advance()
	}
	close(r.ended)
	r.work.Wait()
	r.tally.flush(r.o.Clock(), true)
	r.fold.flush(time.Now(), r.o.Clock(), true)
}

// over reports whether all is closed after stop.
func (r *runner) over() bool {
	return r.quitting && r.active == nil && r.candidate == nil && len(r.closing) == 0 && r.reader == nil
}

// adopt takes over what Apply wants. Settings that the sessions do not depend
// on are in force from here on.
func (r *runner) adopt(c sluice.Connection) {
	if r.want.ID != "" && c.Revision == r.want.Revision && c.Active == r.want.Active {
		return
	}
	common, err := ParseCommon(c.Configuration)
	if err != nil {
		// The configuration was checked when it was stored, so this is a
		// fault; the one in force works on.
		if r.want.ID == "" {
			r.want = c
			r.refused = true
			r.failed(err, time.Time{})
		}
		r.notApplied(err, true)
		return
	}
	r.adoptAlarms(c, r.want.Active)
	r.fold.outage++ // what happens to it now is news
	r.failures = 0
	r.want, r.essence, r.refused = c, essence(c), false
	set := newSettings(c, common, r.o.PublicURL, r.settings.Load())
	r.settings.Store(set)
	r.handover.within(set.redelivery)
	if !r.recalled {
		r.recalled = true
		r.handover.recall(r.o.Earlier, r.id, r.o.Clock())
	}
	if r.active != nil {
		r.active.anew()
	}
	r.plan()
}

// plan brings the pools in line with what is wanted.
func (r *runner) plan() {
	switch {
	case r.quitting || !r.want.Active:
		r.shut()
	case r.refused:
	case r.active == nil:
		r.begin()
	default:
		r.compare()
	}
}

// begin makes the first pool.
func (r *runner) begin() {
	generation := 0
	if slices.ContainsFunc(r.closing, func(p *pool) bool { return p.generation == 0 }) {
		generation = 1
	}
	p, err := r.newPool(generation)
	if err != nil {
		r.refused = true
		r.failed(err, time.Time{})
		r.notApplied(err, false)
		return
	}
	r.active = p
	r.serving.Store(p)
	r.showSize(p)
	if r.state() == sluice.StateDeactivated {
		r.setState(sluice.StateClosed)
	}
	r.applied()
}

// shut closes all: first the reading stops, then the pools let what is in
// flight finish and close their sessions.
func (r *runner) shut() {
	r.serving.Store(nil)
	r.syncReader()
	switch r.state() {
	case sluice.StateOpened, sluice.StateOpening, sluice.StateAuthenticating:
		r.toClosing("")
	}
	for _, p := range []*pool{r.active, r.candidate} {
		if p != nil {
			r.retire(p)
		}
	}
	r.active, r.candidate = nil, nil
	r.settle()
}

// settle says that all is closed, once it is.
func (r *runner) settle() {
	if len(r.closing) > 0 || r.reader != nil || r.active != nil {
		return
	}
	if r.state() == sluice.StateClosing {
		r.toClosed()
	}
	if r.want.Active || r.want.ID == "" || r.quitting {
		return
	}
	if r.state() == sluice.StateDeactivated {
		r.applied()
		return
	}
	r.applied()
	r.toDeactivated()
}

// retire takes a pool out of use; a goroutine closes it.
func (r *runner) retire(p *pool) {
	r.closing = append(r.closing, p)
	p.retire()
	end := !r.quitting || r.gone.Load()
	r.work.Go(func() {
		p.close(end)
		r.post(func() {
			r.closing = slices.DeleteFunc(r.closing, func(c *pool) bool { return c == p })
			r.settle()
		})
	})
}

// advance starts whatever is due.
func (r *runner) advance() {
	now := time.Now()
	for _, p := range []*pool{r.active, r.candidate} {
		if p != nil && !r.mustWait(p) {
			p.advance(now)
		}
	}
	if due := r.idleDue(); !due.IsZero() && !now.Before(due) {
		r.restart()
	}
	r.syncReader()
	if !now.Before(r.summary) {
		r.tally.flush(r.o.Clock(), false)
		r.fold.flush(now, r.o.Clock(), false)
		r.watch(now)
		r.summary = now.Add(summaryEvery)
	}
}

// mustWait reports whether a pool has to wait for another of its generation to
// close: their sessions would have the same ids, and throw each other out.
func (r *runner) mustWait(p *pool) bool {
	return slices.ContainsFunc(r.closing, func(c *pool) bool { return c.generation == p.generation })
}

// untilDue is how long nothing has to be started.
func (r *runner) untilDue() time.Duration {
	now := time.Now()
	due := now.Add(farAway)
	earlier := func(t time.Time) {
		if !t.IsZero() && t.Before(due) {
			due = t
		}
	}
	for _, p := range []*pool{r.active, r.candidate} {
		if p != nil && !r.mustWait(p) {
			earlier(p.due())
		}
	}
	earlier(r.summary)
	earlier(r.readerDue())
	earlier(r.idleDue())
	return max(0, due.Sub(now))
}
