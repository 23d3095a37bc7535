package connection

import (
	"context"
	"sync"
	"time"

	"sluice"
	"sluice/internal/lifetime"
)

// retire takes the pool out of use: no more messages, no more openings.
func (p *pool) retire() {
	p.retired = true
	p.lanes.retire()
	p.stop()
}

// close lets what is in flight finish, closes the sessions and the Dialer, and
// returns when all has ended. With end, nobody will come back to these
// sessions, and the cloud need keep nothing for them. It is called once, after
// retire.
func (p *pool) close(end bool) {
	timer := time.NewTimer(drainTimeout)
	defer timer.Stop()
	select {
	case <-p.lanes.drained:
	case <-timer.C:
	}
	p.openers.Wait()
	p.end()
	p.mu.Lock()
	sessions := make([]sluice.Session, 0, len(p.sessions))
	for s := range p.sessions {
		sessions = append(sessions, s)
	}
	p.mu.Unlock()
	var closing sync.WaitGroup
	for _, s := range sessions {
		closing.Go(func() { p.endSession(s, end) })
	}
	closing.Wait()
	p.watchers.Wait()
	if err := lifetime.Guard(func() error { p.dialer.Close(); return nil }); err != nil {
		p.r.log.Error("closing the dialer failed", "err", err)
	}
}

// closeSession ends a session, bounded.
func (p *pool) closeSession(s sluice.Session) { p.endSession(s, false) }

// endSession closes a session, and with end also what the cloud keeps for it.
func (p *pool) endSession(s sluice.Session, end bool) {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	closing := s.Close
	if e, ok := s.(sluice.Ender); ok && end {
		closing = e.End
	}
	if err := lifetime.Guard(func() error { return closing(ctx) }); err != nil {
		p.r.log.Debug("closing a session failed", "session", s.ID(), "err", err)
	}
	p.track(s, false)
}

// track keeps the list of the sessions that are to be closed.
func (p *pool) track(s sluice.Session, open bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if open {
		p.sessions[s] = true
	} else {
		delete(p.sessions, s)
	}
}
