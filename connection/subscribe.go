package connection

import (
	"context"
	"time"

	"sluice"
	"sluice/internal/lifetime"
)

// subscribe subscribes a session to commands; a session that cannot needs not.
func (p *pool) subscribe(ctx context.Context, session sluice.Session) error {
	subscriber, ok := session.(sluice.Subscriber)
	if !ok {
		return nil
	}
	return lifetime.Guard(func() error {
		return subscriber.Subscribe(ctx, func(ctx context.Context, c sluice.Command) error {
			return p.r.take(ctx, p.living, session, c)
		})
	})
}

// claims reports whether a session is to take commands, which is about to be
// opened. Where several share them these are the first, each with a share of
// its own that the cloud keeps for it; else it is any one.
func (p *pool) claims(s *slot) bool {
	switch {
	case !p.subscribes:
		return false
	case p.shares > 1:
		return s.number < p.shares
	case p.subscriber == nil:
		p.subscriber = s
		return true
	default:
		return false
	}
}

// overlaps reports whether a command may come to two sessions of this
// connection while one of this pool is being subscribed. Those that share the
// commands get each once, also when they are of two pools.
func (p *pool) overlaps() bool {
	return p.shares <= 1 || p.r.active != nil && p.r.active != p && p.r.active.shares != p.shares
}

// hasSubscriber reports whether a session is subscribed.
func (p *pool) hasSubscriber() bool {
	for _, s := range p.slots {
		if s.granted {
			return true
		}
	}
	return false
}

// resubscribe finds another open session to subscribe when the one that was
// is lost.
func (p *pool) resubscribe() {
	if !p.subscribes || p.shares > 1 || p.subscriber != nil {
		return
	}
	for _, s := range p.slots {
		if s.session == nil || s.tried {
			continue
		}
		p.subscriber, s.tried = s, true
		p.r.handover.begin()
		session := s.session
		p.openers.Go(func() {
			ctx, cancel := context.WithTimeout(p.dialing, openTimeout)
			defer cancel()
			err := p.subscribe(ctx, session)
			p.r.post(func() { p.subscribed(s, session, err) })
		})
		return
	}
}

// subscribed takes over the result of a subscription. A session that may not
// subscribe is closed and opened again under the strategy, and the next one is
// tried.
func (p *pool) subscribed(s *slot, session sluice.Session, err error) {
	if p.retired || s.session != session {
		return
	}
	if err != nil {
		p.lost(s, session, err)
		return
	}
	s.granted = true
	p.r.handover.granted(true)
	p.check(time.Now())
}
