package connection

import (
	"math"
	"time"

	"sluice"
)

const (
	// growEvery is how often a pool under pressure is looked at.
	growEvery = 250 * time.Millisecond
	// restEvery is how often one is looked at that may shrink.
	restEvery = 5 * time.Second
	// pressedAt is how many messages a session has outstanding, on the
	// average, when there had better be more sessions: a session that keeps
	// its pace has a few.
	pressedAt = laneCapacity / 4
	// busyAt is how many a session has outstanding when it is worth a look.
	busyAt = 4
	// fullShare is how much of its pace a session is used for at most.
	fullShare = 0.85
	// easyShare is how much of its pace a session is used for at most when a
	// pool shrinks, so that it need not grow again at once.
	easyShare = 0.6
	// shrinkAfter is how long a session must have been too many before the
	// pool shrinks, and shrinkEvery how long until the next one may go.
	shrinkAfter = 2 * time.Minute
	shrinkEvery = 10 * time.Second
	// openAtOnce is how many sessions of a pool are opened at a time: clouds
	// limit the openings of an account.
	openAtOnce = 10
)

// growth decides how many sessions a pool wants, between least and most: twice
// as many as long as messages queue for them, so that a backlog has all of them
// within seconds; some more when they come near their pace, since a few devices,
// each with one message under way, make no queue; and one less when they were
// too many for minutes.
type growth struct {
	least, most int
	pace        float64 // of a session, messages a second; 0: not known
	want        int

	at        time.Time // of the last look
	delivered uint64    // until then
	pressed   time.Time // since when they are too few; zero: they are not
	needed    time.Time // when so many were needed last
}

func newGrowth(d sluice.Dialer, now time.Time) growth {
	g := growth{most: max(1, d.Size()), at: now, needed: now}
	g.least = g.most
	if grower, ok := d.(sluice.Grower); ok {
		g.least = max(1, min(grower.Least(), g.most))
	}
	if paced, ok := d.(sluice.Pacer); ok {
		g.pace = max(0, paced.Pace())
	}
	g.want = g.least
	return g
}

// fixed reports whether the pool neither grows nor shrinks.
func (g *growth) fixed() bool { return g.least == g.most }

// inherit takes over how many sessions the load needed in the pool before.
func (g *growth) inherit(from growth) { g.want = max(g.least, min(from.want, g.most)) }

// look looks at what the sessions have to do. settled says that no session is
// being opened or about to be: those that are open are all there are.
func (g *growth) look(now time.Time, d demand, settled bool) {
	passed := now.Sub(g.at)
	if passed < growEvery {
		return
	}
	rate := float64(d.delivered-g.delivered) / passed.Seconds()
	g.at, g.delivered = now, d.delivered
	full := g.pace > 0 && rate >= g.pace*fullShare*float64(d.open)
	switch {
	case !full && !d.pressed():
		g.pressed = time.Time{}
	case g.pressed.IsZero():
		g.pressed = now
	case !settled || rate == 0: // of a cloud that takes nothing, more sessions would take no more
	case d.pressed():
		g.want = min(2*g.want, g.most)
	default:
		g.want = min(g.want+1+g.want/4, g.most)
	}
	switch {
	case !g.pressed.IsZero() || g.need(rate, d.outstanding) >= g.want:
		g.needed = now
	case now.Sub(g.needed) >= shrinkAfter && g.want > g.least:
		g.want--
		g.needed = now.Add(shrinkEvery - shrinkAfter)
	}
}

// need is how many sessions a load wants.
func (g *growth) need(perSecond float64, outstanding int) int {
	n := math.Ceil(float64(outstanding) / (pressedAt * easyShare))
	if g.pace > 0 {
		n = max(n, math.Ceil(perSecond/(g.pace*easyShare)))
	}
	return int(n)
}

// due is when the next look is due; zero: when a session is busy.
func (g *growth) due(pressed bool) time.Time {
	switch {
	case g.fixed():
		return time.Time{}
	case pressed && g.want < g.most:
		return g.at.Add(growEvery)
	case g.want > g.least:
		return g.at.Add(restEvery)
	default:
		return time.Time{}
	}
}

// demand is what the sessions of a pool have to do.
type demand struct {
	open        int
	outstanding int    // in sessions
	waiting     int    // for a place in one
	delivered   uint64 // since the pool was made
}

func (d demand) pressed() bool {
	return d.open > 0 && (d.waiting > 0 || d.outstanding >= d.open*pressedAt)
}

// grow looks at the load. The pool is open.
func (p *pool) grow(now time.Time) {
	if p.growth.fixed() {
		return
	}
	before := p.growth.want
	p.growth.look(now, p.lanes.demand(), p.settled(now))
	if p.growth.want == before {
		return
	}
	p.r.log.Info("the pool changes its size", "sessions", p.growth.want, "before", before)
	if p == p.r.active {
		p.r.showSize(p)
	}
}

// settled reports whether all sessions that are wanted are open, or have to
// wait for their next try.
func (p *pool) settled(now time.Time) bool {
	for _, s := range p.slots {
		if s.busy || p.wants(s) && s.session == nil && !now.Before(s.next) {
			return false
		}
	}
	return true
}

// wants reports whether a session is to be open.
func (p *pool) wants(s *slot) bool { return s.number < p.growth.want || s == p.subscriber }

// shed closes the sessions that are too many, each when it has nothing under
// way. Until then it gets nothing new, and may stay should it be wanted again.
func (p *pool) shed() {
	for _, s := range p.slots {
		if s.session == nil || p.lanes.keep(s.lane, p.wants(s)) {
			continue
		}
		session := s.session
		s.session, s.lane, s.granted = nil, nil, false
		p.openers.Go(func() { p.closeSession(session) })
	}
}

// shedDue is when a session that is to go is looked at again.
func (p *pool) shedDue(now time.Time) time.Time {
	for _, s := range p.slots {
		if s.session != nil && !p.wants(s) {
			return now.Add(growEvery)
		}
	}
	return time.Time{}
}

// showSize shows how many sessions a pool wants, and may want.
func (r *runner) showSize(p *pool) {
	r.show(func(s *sluice.Status) { s.Wanted, s.Size = p.growth.want, p.size })
}
