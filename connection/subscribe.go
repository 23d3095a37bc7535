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

// resubscribe finds another open session to subscribe when the one that was
// is lost.
func (p *pool) resubscribe() {
	if !p.subscribes || p.subscriber != nil {
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
	p.granted = true
	p.r.handover.granted()
	p.check(time.Now())
}
