package connection

import (
	"context"
	"errors"
	"time"

	"sluice"
	"sluice/internal/lifetime"
)

// graceAfterLoss is how long a delivery that found its session lost waits for
// the session to say so itself, before the message is given back: else it
// would come again at once and find the same session.
const graceAfterLoss = time.Second

// deliver hands one message of the journal to a session. stop is closed when
// the reading stops.
func (r *runner) deliver(ctx context.Context, stop <-chan struct{}, m *sluice.Message) error {
	for {
		p := r.serving.Load()
		if p == nil {
			return errNotOpen()
		}
		err := lifetime.Guard(func() error { return p.deliver(ctx, stop, m) })
		if errors.Is(err, errRetired) {
			continue // by now another pool serves, or none
		}
		if _, ok := errors.AsType[*lifetime.PanicError](err); ok {
			r.log.Error("delivery failed by a fault", "message", m.ID, "err", err)
			return &sluice.Failure{
				Verdict: sluice.Retry, Reason: sluice.ReasonInternal, Message: "The delivery failed by a fault of Sluice.",
			}
		}
		return err
	}
}

// deliver does what is to be done for a message, in order: form, validity, a
// session that is open at all, the rate limit, what the cloud needs first, a
// place in a session, the publish.
func (p *pool) deliver(ctx context.Context, stop <-chan struct{}, m *sluice.Message) error {
	if !p.lanes.enter() {
		return errRetired
	}
	defer p.lanes.leave()
	set := p.r.settings.Load()
	w := &patience{ctx: ctx, stop: stop, ended: p.lanes.ended, clock: p.r.o.Clock, room: &p.room}
	if v := m.Limit(set.validity); v > 0 && !m.Replayed {
		w.deadline = m.Born().Add(v)
	}
	out, err := set.form(m)
	if err != nil {
		return err
	}
	if err := w.check(); err != nil {
		return err
	}
	if m.Replayed && !p.lanes.isOpen() {
		return errNotOpen() // a replay does not wait in the place of live messages
	}
	if err := p.lanes.opened(w); err != nil {
		return err
	}
	if set.limiter != nil {
		place := set.limiter.Reserve()
		if err := w.sleep(place.Delay()); err != nil {
			place.Cancel()
			return err
		}
	}
	if p.preparer != nil && m.Kind != sluice.KindBSAlarm && !m.IsFate() {
		if err := p.prepare(w, out); err != nil {
			return err
		}
	}
	return p.publish(ctx, w, out)
}

// prepare makes ready what a message needs in the cloud. That may take long,
// and nothing is lost when it is given up: the entry stays in the journal.
func (p *pool) prepare(w *patience, m *sluice.Message) error {
	m.Way.Wait("It waits until its device is a thing in the cloud.")
	ctx, end := w.context()
	defer end()
	return w.verdict(p.preparer.Prepare(ctx, m))
}

// publish sends a message through one of the sessions.
func (p *pool) publish(ctx context.Context, w *patience, m *sluice.Message) error {
	m.Way.Wait("It waits for a place in a session.")
	h, err := p.lanes.acquire(w, m.DevEUI)
	if err != nil {
		return err
	}
	delivered := false
	defer func() { p.lanes.release(h, delivered) }()
	if err := w.check(); err != nil {
		return err
	}
	session := h.lane.session
	m.Way.Try(session.ID())
	err = session.Handle(ctx, m)
	delivered = err == nil
	if v, _ := sluice.VerdictOf(err); err != nil && v == sluice.NotConnected {
		timer := time.NewTimer(graceAfterLoss)
		defer timer.Stop()
		select {
		case <-session.Done():
		case <-timer.C:
		case <-w.stop:
		case <-ctx.Done():
		}
	}
	return err
}

// pace is how many messages a second the pool in force can send; 0: unknown.
func (r *runner) pace() float64 {
	can := 0.0
	if p := r.serving.Load(); p != nil {
		if paced, ok := p.dialer.(sluice.Pacer); ok {
			can = max(0, paced.Pace()) * float64(p.size)
		}
	}
	if set := r.settings.Load(); set != nil && set.limiter != nil {
		if limit := float64(set.common.UplinkRateLimiter); can == 0 || limit < can {
			can = limit
		}
	}
	return can
}
