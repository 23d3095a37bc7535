package connection

import (
	"context"
	"time"

	"sluice"
	"sluice/internal/lifetime"
)

const (
	// lookEvery and lookSpread are how far apart a cloud that cannot be reached
	// is probed: the sum at most.
	lookEvery  = 2 * time.Second
	lookSpread = 500 * time.Millisecond
	// lookTimeout bounds one probe. It is longer than their distance: a probe
	// into a black hole must not hold up the one that gets through.
	lookTimeout = 10 * time.Second
	// looksMax bounds how many probes are under way.
	looksMax = 5
)

// search finds out cheaply that the cloud is back, for a connection that is
// down under FAST. It goes on only while the wire is what is missing: once the
// cloud was reached and refused us, or threw us out at once, the backoff
// counts, else a cloud that accepts links but no sessions would be hammered.
type search struct {
	prober  sluice.Prober // nil: the Dialer is none
	held    bool          // the backoff counts
	next    time.Time     // not before: the next probe
	looking int           // probes under way
	current *try          // the opening under way while nothing is open
}

// try is one opening.
type try struct {
	began     time.Time
	cancel    context.CancelFunc
	wired     bool // the wire is up
	abandoned bool // a probe got through where this one hangs
}

func (s *search) begin(t *try) {
	s.current, s.held = t, false
	s.next = t.began.Add(lookEvery)
}

func (s *search) failed(t *try, err error) {
	reason := sluice.ReasonOf(err)
	s.held = t.wired || reason != sluice.ReasonTLS && needsMending(reason)
}

func (s *search) lost(stable bool, err error) {
	s.held = !stable || needsMending(sluice.ReasonOf(err))
	s.next = time.Time{}
}

// lookDue is when look has something to do; zero: when something happens.
func (p *pool) lookDue() time.Time {
	s := &p.search
	if s.prober == nil || s.held || p.retired || s.looking >= looksMax || s.current != nil && s.current.wired ||
		p != p.r.active || p.r.settings.Load().strategy.phases != nil || p.r.mustWait(p) {
		return time.Time{}
	}
	if s.next.IsZero() {
		s.next = time.Now().Add(time.Duration(p.r.o.Rand() * float64(lookSpread)))
	}
	return s.next
}

// look probes the cloud where that is due.
func (p *pool) look(now time.Time) {
	due := p.lookDue()
	if due.IsZero() || now.Before(due) {
		return
	}
	s := &p.search
	s.looking++
	s.next = now.Add(lookEvery + time.Duration(p.r.o.Rand()*float64(lookSpread)))
	p.openers.Go(func() {
		ctx, cancel := context.WithTimeout(p.dialing, lookTimeout)
		defer cancel()
		err := lifetime.Guard(func() error { return s.prober.Probe(ctx) })
		p.r.post(func() { p.looked(now, err) })
	})
}

// looked takes over the result of a probe that began at a time.
func (p *pool) looked(began time.Time, err error) {
	s := &p.search
	s.looking--
	if open, _ := p.count(); err != nil || open > 0 || p.retired || s.held {
		return
	}
	switch t := s.current; {
	case t == nil:
		p.next = time.Now()
	case !t.wired && began.After(t.began):
		t.abandoned = true
		t.cancel()
		p.next = time.Now()
	}
}
