package connection

import (
	"context"
	"sync"
	"time"

	"sluice"
	"sluice/internal/lifetime"
)

const (
	// openTimeout bounds one opening: name, link, TLS, CONNECT, SUBSCRIBE.
	openTimeout = 30 * time.Second
	// drainTimeout bounds how long a pool that is closed waits for what is in
	// flight.
	drainTimeout = 5 * time.Second
	// closeTimeout bounds the closing of a session.
	closeTimeout = 5 * time.Second
	// spread is how far apart the sessions after the first are opened, at
	// random.
	spread = 250 * time.Millisecond
)

// pool is the sessions of one configuration. The first is a probe; once it is
// open, and subscribed where commands are wanted, the others follow side by
// side. Its fields belong to the runner's goroutine, except lanes, preparer
// and what stands under mu.
type pool struct {
	r          *runner
	essence    string
	generation int
	size       int  // how many sessions there may be
	wide       bool // the journal is read for all of them
	growth     growth
	shares     int // so many sessions share the commands; 1: one takes them
	dialer     sluice.Dialer
	preparer   sluice.Preparer // nil: the Dialer is none
	room       room            // for those who wait in it
	lanes      *lanes

	slots      []*slot
	subscribes bool  // commands are wanted
	subscriber *slot // is subscribed, or about to be
	backoff    backoff
	next       time.Time // not before: the next try while nothing is open
	over       bool      // the strategy has given up: there is no next try
	search     search
	up         bool // a session is open, and one is subscribed where that is wanted
	everUp     bool
	upSince    time.Time
	downSince  time.Time
	retired    bool

	dialing  context.Context //nolint:containedctx // ends when the pool is retired
	stop     context.CancelFunc
	living   context.Context //nolint:containedctx // ends just before the sessions are closed
	end      context.CancelFunc
	openers  sync.WaitGroup
	watchers sync.WaitGroup

	mu       sync.Mutex
	sessions map[sluice.Session]bool // to be closed at the end
}

// slot is the place of one session in a pool.
type slot struct {
	number  int
	busy    bool           // being opened
	session sluice.Session // nil: not open
	lane    *lane
	since   time.Time
	tried   bool // Subscribe was called
	granted bool // it is subscribed
	backoff backoff
	next    time.Time // not before: the next try
}

// newPool makes the pool of the wanted configuration; nothing is opened yet.
func (r *runner) newPool(generation int) (*pool, error) {
	connector, ok := r.o.connector(r.want.ConnectorID)
	if !ok {
		return nil, &sluice.Failure{
			Verdict: sluice.Permanent, Reason: sluice.ReasonConfiguration,
			Message: "There is no connector " + r.want.ConnectorID + ".",
		}
	}
	common := r.settings.Load().common
	spec := sluice.DialerSpec{
		Connection: r.want, Common: common, Instance: r.o.Instance, Generation: generation,
		Events: r.o.Events, Clock: r.o.Clock, Log: r.log,
	}
	if r.o.Things != nil {
		spec.Things = r.o.Things(r.id)
	}
	var dialer sluice.Dialer
	err := lifetime.Guard(func() (err error) {
		dialer, err = connector.Dialer(spec)
		return err
	})
	if err != nil {
		return nil, err
	}
	p := &pool{
		r: r, essence: r.essence, generation: generation, growth: newGrowth(dialer, time.Now()), dialer: dialer,
		lanes: newLanes(time.Now), subscribes: common.DownlinkEnabled,
		backoff: backoff{rand: r.o.Rand}, sessions: make(map[sluice.Session]bool),
	}
	p.size = p.growth.most
	p.lanes.pressed = r.pressed
	if sharer, ok := dialer.(sluice.Sharer); ok && common.DownlinkEnabled {
		p.shares = max(1, min(sharer.Shares(), p.size))
	}
	r.handover.among(p.shares)
	p.growth.least = max(p.growth.least, p.shares)
	p.growth.want = max(p.growth.want, p.growth.least)
	if r.active != nil {
		p.growth.inherit(r.active.growth)
	}
	p.room.most = int64(min(p.size, readersLeast) * laneCapacity / 4)
	p.preparer, _ = dialer.(sluice.Preparer)
	p.search.prober, _ = dialer.(sluice.Prober)
	p.dialing, p.stop = context.WithCancel(context.Background())
	p.living, p.end = context.WithCancel(context.Background())
	for n := range p.size {
		p.slots = append(p.slots, &slot{number: n, backoff: backoff{rand: r.o.Rand}})
	}
	return p, nil
}

// count tells how many sessions are open and how many are being opened.
func (p *pool) count() (open, busy int) {
	for _, s := range p.slots {
		if s.session != nil {
			open++
		}
		if s.busy {
			busy++
		}
	}
	return open, busy
}

// advance opens what is due: a probe while nothing is open, else what is
// wanted, a few at a time; and closes what is too much.
func (p *pool) advance(now time.Time) {
	open, busy := p.count()
	if open == 0 {
		if busy == 0 && !p.over && !now.Before(p.next) {
			p.open(p.probe())
		}
		p.look(now)
		return
	}
	p.grow(now)
	for _, s := range p.slots {
		if busy < openAtOnce && p.wants(s) && s.session == nil && !s.busy && !now.Before(s.next) {
			p.open(s)
			busy++
		}
	}
	p.shed()
}

// due is when advance has something to do; zero: when something happens.
func (p *pool) due() time.Time {
	open, busy := p.count()
	if open == 0 {
		look := p.lookDue()
		if busy > 0 || p.over || !look.IsZero() && look.Before(p.next) {
			return look
		}
		return p.next
	}
	first := earliest(p.growth.due(p.lanes.demand().pressed()), p.shedDue(time.Now()))
	for _, s := range p.slots {
		if busy < openAtOnce && p.wants(s) && s.session == nil && !s.busy {
			first = earliest(first, s.next)
		}
	}
	return first
}

// earliest is the first of some times; a zero one is none.
func earliest(times ...time.Time) (first time.Time) {
	for _, t := range times {
		if !t.IsZero() && (first.IsZero() || t.Before(first)) {
			first = t
		}
	}
	return first
}

// probe is the slot that has waited longest for its next try, so that a cloud
// that counts the CONNECTs of each client id sees each id seldom.
func (p *pool) probe() *slot {
	best := p.slots[0]
	for _, s := range p.slots[1:] {
		if p.wants(s) && s.next.Before(best.next) {
			best = s
		}
	}
	return best
}

// open begins to open a session.
func (p *pool) open(s *slot) {
	s.busy = true
	open, _ := p.count()
	subscribe := p.claims(s)
	overlaps := p.overlaps()
	ctx, cancel := context.WithTimeout(p.dialing, openTimeout)
	t := &try{began: time.Now(), cancel: cancel}
	if open == 0 {
		p.search.begin(t)
		p.r.poolOpening(p)
	}
	p.openers.Go(func() {
		defer cancel()
		session, err := p.dial(ctx, s.number, subscribe, overlaps, t)
		p.r.post(func() { p.opened(s, session, subscribe, overlaps, t, err) })
	})
}

// dial opens a session and subscribes it where that is wanted: a session that
// may not subscribe counts as not opened, so that what is wrong is seen.
func (p *pool) dial(ctx context.Context, number int, subscribe, overlaps bool, t *try) (session sluice.Session, err error) {
	err = lifetime.Guard(func() (err error) {
		session, err = p.dialer.Open(ctx, number, func() {
			p.r.post(func() {
				t.wired = true
				p.r.poolAuthenticating(p)
			})
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	p.track(session, true)
	if subscribe {
		if overlaps {
			p.r.handover.begin()
		}
		if err := p.subscribe(ctx, session); err != nil {
			p.closeSession(session)
			return nil, err
		}
	}
	return session, nil
}

// opened takes over the result of dial.
func (p *pool) opened(s *slot, session sluice.Session, subscribed, overlaps bool, t *try, err error) {
	s.busy = false
	if p.search.current == t {
		p.search.current = nil
	}
	if p.retired {
		return // close sees to the session
	}
	now := time.Now()
	if err != nil {
		if p.subscriber == s {
			p.subscriber = nil
		}
		if t.abandoned && !t.wired {
			return // the next one begins at once
		}
		p.search.failed(t, err)
		p.failed(s, t, err, now)
		return
	}
	first, _ := p.count()
	s.session, s.since, s.tried = session, now, subscribed
	s.lane = p.lanes.add(s.number, session)
	if subscribed {
		s.granted = true
		p.r.handover.granted(overlaps)
	}
	p.watch(s, session)
	if first == 0 {
		p.stagger(now)
		p.growth.needed = now
	}
	p.resubscribe()
	p.check(now)
}

// stagger lets the sessions after the first open side by side, but not at the
// same instant. Slots with failures of their own keep their later time.
func (p *pool) stagger(now time.Time) {
	for _, s := range p.slots {
		if t := now.Add(time.Duration(p.r.o.Rand() * float64(spread))); s.next.Before(t) {
			s.next = t
		}
	}
}

// check notices that the pool has come up.
func (p *pool) check(now time.Time) {
	open, _ := p.count()
	if p.up || open == 0 || p.subscribes && !p.hasSubscriber() {
		return
	}
	p.up, p.everUp, p.upSince = true, true, now
	p.r.poolOpened(p)
}

// failed takes note of a session that could not be opened.
func (p *pool) failed(s *slot, t *try, err error, now time.Time) {
	strategy := p.r.settings.Load().strategy
	open, busy := p.count()
	s.next = now
	if t.wired || open > 0 {
		// Else the cloud has not even seen this client id.
		s.next = now.Add(s.backoff.next(strategy, err))
	}
	if open > 0 || busy > 0 {
		p.r.slotFailed(p, s, err)
		return
	}
	p.next = p.backoff.at(now, strategy, err)
	p.over = p.next.IsZero()
	p.r.poolFailed(p, err)
}

// watch waits for the end of a session.
func (p *pool) watch(s *slot, session sluice.Session) {
	p.watchers.Go(func() {
		select {
		case <-session.Done():
			err := session.Err()
			p.r.post(func() { p.lost(s, session, err) })
		case <-p.living.Done():
		}
	})
}

// lost takes note of a session that has ended.
func (p *pool) lost(s *slot, session sluice.Session, err error) {
	if p.retired || s.session != session {
		return
	}
	if err == nil {
		err = &sluice.Failure{Reason: sluice.ReasonDisconnected, Message: "The session was closed."}
	}
	now := time.Now()
	p.lanes.remove(s.lane)
	s.session, s.lane = nil, nil
	if p.subscriber == s || s.granted {
		p.subscriber, s.granted = nil, false
		p.r.handover.lost(session)
	}
	p.openers.Go(func() { p.closeSession(session) })

	strategy := p.r.settings.Load().strategy
	if now.Sub(s.since) >= stableAfter {
		s.backoff.reset()
	}
	s.next = now.Add(s.backoff.next(strategy, err))
	p.r.sessionLost(p, session.ID(), err)
	if open, _ := p.count(); open > 0 {
		p.resubscribe()
		return
	}
	stable := p.up && now.Sub(p.upSince) >= stableAfter
	if stable {
		p.backoff.reset()
		p.r.fold.outage++
	}
	p.search.lost(stable, err)
	p.next = p.backoff.at(now, strategy, err)
	p.over = p.next.IsZero()
	wasUp := p.up
	p.up, p.downSince = false, now
	p.r.poolLost(p, wasUp, err)
}

// anew forgets the failures so far and has the next try made at once, for a
// connection that was saved again while it is down.
func (p *pool) anew() {
	if open, _ := p.count(); open > 0 {
		return
	}
	p.backoff.reset()
	p.next, p.over = time.Time{}, false
}
