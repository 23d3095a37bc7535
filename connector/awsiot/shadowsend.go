package awsiot

import (
	"context"
	"errors"
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

// await waits until no uplink waits; false where something ends before.
func (t *turns) await(ctx context.Context, s *session) bool {
	for t.uplinks.Load() > 0 {
		select {
		case <-t.quiet:
		case <-ctx.Done():
			return false
		case <-s.link.lost:
			return false
		case <-s.closing:
			return false
		}
	}
	return true
}

// work carries requests over a session, one after another, while nothing else
// is to be sent, until its link is lost or closed.
func (h *shadows) work(s *session) {
	for s.turns.await(h.ctx, s) {
		select {
		case e := <-h.queue.jobs:
			h.carry(s, e)
		case <-h.ctx.Done():
			return
		case <-s.link.lost:
			return
		case <-s.closing:
			return
		}
	}
}

// carry makes the request of a device.
func (h *shadows) carry(s *session, e *shadowEntry) {
	if s.turns.uplinks.Load() > 0 || !s.slot(h.ctx) {
		h.queue.giveBack(e)
		return
	}
	held := false
	defer func() {
		if !held {
			<-s.slots
		}
	}()
	r, ok := h.queue.begin(e, h.newToken())
	if !ok {
		h.queue.giveBack(e)
		return
	}
	operation := "update"
	if r.get {
		operation = "get"
	}
	topic := h.cfg.topic(r.thing, operation)
	var err error
	held, err = s.publish(h.ctx, topic, &sluice.Message{ID: r.token, Kind: kindShadow, DevEUI: e.device, Document: r.body})
	h.judge(e, r, topic, err)
}

// kindShadow marks a request to a shadow among the messages of a session.
const kindShadow = sluice.Kind("shadow")

// slot takes a place in flight.
func (s *session) slot(ctx context.Context) bool {
	select {
	case s.slots <- struct{}{}:
		return true
	case <-ctx.Done():
	case <-s.link.lost:
	case <-s.closing:
	}
	return false
}

// judge says what becomes of a request that was published, or was not.
func (h *shadows) judge(e *shadowEntry, r shadowRequest, topic string, err error) {
	f, ok := errors.AsType[*sluice.Failure](err)
	switch {
	case err == nil:
		h.lost.Store(0)
		h.queue.end(e, r, false, 0)
	case !ok: // the end
		h.queue.end(e, r, true, 0)
	case f.Reason == sluice.ReasonNotAuthorized:
		h.pause(f, topic)
		h.queue.end(e, r, true, 0)
	case f.Verdict == sluice.NotConnected:
		if h.lost.Add(1) >= lostToShadows {
			h.lost.Store(0)
			h.pause(&sluice.Failure{
				Reason:  sluice.ReasonDisconnected,
				Message: "Links were lost again and again in the middle of an update of a shadow, which may be the cause. The last: " + f.Message,
			}, topic)
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
func (h *shadows) pause(cause *sluice.Failure, topic string) {
	h.queue.hold(deniedShadowPause)
	h.tell("pause", "", &sluice.Failure{
		Reason:  cause.Reason,
		Message: "No shadow is updated for the next " + deniedShadowPause.String() + ". " + cause.Message,
		Hint:    "Allow iot:Publish on " + h.d.arn("topic/"+h.cfg.topic("*", "update")) + h.getHint() + " in the certificate's policy. The topic was " + topic + ".",
	})
}

func (h *shadows) getHint() string {
	if h.wishes == nil {
		return ""
	}
	return " and " + h.d.arn("topic/"+h.cfg.topic("*", "get"))
}
