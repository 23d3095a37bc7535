package awsiot

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"

	"sluice"
)

// turns have the uplinks of a session go before its requests to shadows.
type turns struct {
	uplinks atomic.Int32 // that wait for the pace
	quiet   chan struct{}
}

func newTurns() *turns { return &turns{quiet: make(chan struct{}, 1)} }

// enter is called before an uplink waits for the pace, and leave after. Both do
// nothing on nil.
func (t *turns) enter() {
	if t != nil {
		t.uplinks.Add(1)
	}
}

func (t *turns) leave() {
	if t == nil || t.uplinks.Add(-1) > 0 {
		return
	}
	select {
	case t.quiet <- struct{}{}:
	default:
	}
}

// porter is a session of the pool as the shadows see it: it carries requests
// while it has nothing else to do.
type porter struct {
	turns   *turns
	slots   chan struct{}   // one for each request that is under way
	lost    <-chan struct{} // closed when the session is lost
	closing <-chan struct{} // closed when it is closed
	hands   int             // how many requests it carries at once

	// send makes a request, at the pace of the session, and waits until AWS has
	// it. held says that its place is not free yet; see session.publish.
	send func(ctx context.Context, device string, r *shadowRequest) (held bool, err error)
}

// quiet waits until no uplink waits; false where something ends before.
func (p *porter) quiet(ctx context.Context) bool {
	for p.turns.uplinks.Load() > 0 {
		select {
		case <-p.turns.quiet:
		case <-ctx.Done():
			return false
		case <-p.lost:
			return false
		case <-p.closing:
			return false
		}
	}
	return true
}

// slot takes a place in flight; false where something ends before, or an uplink
// has come meanwhile.
func (p *porter) slot(ctx context.Context) bool {
	select {
	case p.slots <- struct{}{}:
	case <-ctx.Done():
		return false
	case <-p.lost:
		return false
	case <-p.closing:
		return false
	}
	if p.turns.uplinks.Load() > 0 {
		<-p.slots
		return false
	}
	return true
}

// publishes has a session of MQTT carry requests, one after another.
func (h *shadows) publishes(s *session) *porter {
	return &porter{
		turns: s.turns, slots: s.slots, lost: s.link.lost, closing: s.closing, hands: 1,
		send: func(ctx context.Context, device string, r *shadowRequest) (bool, error) {
			return s.publish(ctx, h.cfg.topic(r.thing, r.operation()), &sluice.Message{ID: r.token, Kind: kindShadow, DevEUI: device, Document: r.body})
		},
	}
}

// kindShadow marks a request to a shadow among the messages of a session.
const kindShadow = sluice.Kind("shadow")

// employ has a session carry requests until it is lost or closed.
func (h *shadows) employ(p *porter) {
	h.open.add(1)
	defer h.open.add(-1)
	var hands sync.WaitGroup
	for range p.hands {
		hands.Go(func() { h.work(p) })
	}
	hands.Wait()
}

// work carries requests over a session, one after another, while nothing else
// is to be sent, until it is lost or closed.
func (h *shadows) work(p *porter) {
	for p.quiet(h.ctx) {
		select {
		case e := <-h.queue.jobs:
			h.carry(p, e)
		case <-h.ctx.Done():
			return
		case <-p.lost:
			return
		case <-p.closing:
			return
		}
	}
}

// carry makes the request of a device.
func (h *shadows) carry(p *porter, e *shadowEntry) {
	if p.turns.uplinks.Load() > 0 || !p.slot(h.ctx) {
		h.queue.giveBack(e)
		return
	}
	held := false
	defer func() {
		if !held {
			<-p.slots
		}
	}()
	r, ok := h.queue.begin(e, h.newToken())
	if !ok {
		h.queue.giveBack(e)
		return
	}
	var err error
	held, err = p.send(h.ctx, e.device, &r)
	h.judge(e, r, err)
}

// judge says what becomes of a request that was made, or was not.
func (h *shadows) judge(e *shadowEntry, r shadowRequest, err error) {
	f, ok := errors.AsType[*sluice.Failure](err)
	switch {
	case err == nil:
		h.lost.Store(0)
		h.queue.end(e, r, false, 0)
	case !ok: // the end
		h.queue.end(e, r, true, 0)
	case f.Reason == sluice.ReasonNotAuthorized:
		h.pause(f, r)
		h.queue.end(e, r, true, 0)
	case f.Verdict == sluice.NotConnected:
		if h.lost.Add(1) >= lostToShadows {
			h.lost.Store(0)
			h.pause(&sluice.Failure{
				Reason:  sluice.ReasonDisconnected,
				Message: "Links were lost again and again in the middle of an update of a shadow, which may be the cause. The last: " + f.Message,
			}, r)
		}
		h.queue.end(e, r, true, 0)
	case f.Verdict == sluice.Permanent:
		h.tell("permanent "+string(f.Reason), e.device, f)
		h.queue.end(e, r, false, 0)
	default:
		h.queue.end(e, r, true, max(f.After, firstShadowPause))
	}
}

// pause lets the shadows rest for a while and tells why.
func (h *shadows) pause(cause *sluice.Failure, r shadowRequest) {
	h.queue.hold(deniedShadowPause)
	h.tell("pause", "", &sluice.Failure{
		Reason:  cause.Reason,
		Message: "No shadow is updated for the next " + deniedShadowPause.String() + ". " + cause.Message,
		Hint:    h.requestHint() + " It was the thing " + r.thing + ".",
	})
}

// requestHint names what the requests need.
func (h *shadows) requestHint() string {
	var needs []string
	if h.rest {
		needs = []string{"iot:UpdateThingShadow"}
		if h.wishes != nil {
			needs = append(needs, "iot:GetThingShadow")
		}
		return "Allow " + strings.Join(needs, " and ") + " on " + h.d.arn(h.cfg.resource("*")) + " in " + h.d.policy() + "."
	}
	needs = []string{h.d.arn("topic/" + h.cfg.topic("*", "update"))}
	if h.wishes != nil {
		needs = append(needs, h.d.arn("topic/"+h.cfg.topic("*", "get")))
	}
	return "Allow iot:Publish on " + strings.Join(needs, " and ") + " in " + h.d.policy() + "."
}
