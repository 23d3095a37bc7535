package awsiot

import (
	"context"
	"fmt"
	"net/http"
	"net/url"

	"sluice"
)

// Where uplinks go over HTTPS, so do the requests to shadows, and the answer to
// a request is its response: nothing is to be heard but deltas.
// Source: AWS IoT Developer Guide, "Device Shadow REST API".

// shadowHands is how many requests to shadows a lane over HTTPS has under way at
// most: a round trip is longer than over MQTT, and half of the places stay free
// for the uplinks that come next.
const shadowHands = publishParallel / 2

// address is that of a shadow in the REST API.
func (c *shadowConfig) address(thing string) *url.URL {
	u := &url.URL{Path: "/things/" + thing + "/shadow"}
	if c.Name != "" {
		u.RawQuery = url.Values{"name": {c.Name}}.Encode()
	}
	return u
}

// resource is what a permission to use a shadow by the REST API is on.
func (c *shadowConfig) resource(thing string) string {
	if c.Name == "" {
		return "thing/" + thing
	}
	return "thing/" + thing + "/" + c.Name
}

// posts has a lane over HTTPS carry requests.
func (h *shadows) posts(p *publisher) *porter {
	return &porter{
		turns: p.turns, slots: p.slots, lost: p.done, closing: p.closing, hands: shadowHands,
		send: func(ctx context.Context, device string, r *shadowRequest) (bool, error) {
			return false, h.post(ctx, p, device, r)
		},
	}
}

// post makes a request at the pace of the lane. What AWS answers to it is
// settled here; an error is of the way there.
func (h *shadows) post(ctx context.Context, p *publisher, device string, r *shadowRequest) error {
	size := packetSize(h.cfg.topic(r.thing, r.operation()), &sluice.Message{ID: r.token, Document: r.body})
	if !p.pace.begin(ctx, size, p.done, p.closing) {
		return errLinkLost // there was no request
	}
	p.pace.end()
	a, err := p.shadow(ctx, &h.cfg, r)
	if err != nil {
		return h.unanswered(ctx, p, device, r, err)
	}
	if a.signatureRefused() {
		f := h.d.signatureFailure(a)
		f.Verdict, f.After = sluice.RetryAfter, notAuthorizedPause
		if h.d.correctClock(a.header) {
			f.After = throttledPause
		}
		return f
	}
	return h.replied(a, device, r)
}

// unanswered is the failure of a request that had no answer.
func (h *shadows) unanswered(ctx context.Context, p *publisher, device string, r *shadowRequest, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	f := failureOf(err)
	if f.Reason != sluice.ReasonTimeout {
		if f.Verdict == sluice.NotConnected { // the endpoint is not there, for uplinks either
			p.end(f)
		}
		return f
	}
	// It may be the shadows that are slow: the uplinks find out by themselves.
	f.Verdict = sluice.Retry
	h.tell("silent", device, &sluice.Failure{
		Reason: f.Reason, Message: fmt.Sprintf("AWS did not answer in time when it was asked to %s the shadow of device %s; it is asked again.", r.operation(), device),
	})
	return f
}

// replied settles the answer to a request, as it does that which comes over
// MQTT.
func (h *shadows) replied(a answer, device string, r *shadowRequest) error {
	refusal := shadowRejection{Code: a.status, Message: answerMessage(a.body), Token: r.token}
	switch {
	case a.status/100 == 2 && r.get:
		h.settleLater(device, a.body, false)
	case a.status/100 == 2:
	case a.status == http.StatusUnauthorized, a.status == http.StatusForbidden:
		return &sluice.Failure{
			Verdict: sluice.RetryAfter, After: notAuthorizedPause, Reason: sluice.ReasonNotAuthorized, Status: a.status,
			Message: fmt.Sprintf("%s does not allow us to %s the shadow of the thing %s.%s", h.d.host, r.operation(), r.thing, says(a)),
		}
	case r.get:
		if a.status != http.StatusNotFound {
			h.tellRefused(r.operation(), device, refusal)
		}
		h.settleLater(device, nil, a.status != http.StatusNotFound)
	default:
		h.refused(device, refusal)
	}
	return nil
}

// shadow makes a request to a shadow and waits for the answer. It names no
// version, so that making it twice does no harm.
func (p *publisher) shadow(ctx context.Context, c *shadowConfig, r *shadowRequest) (answer, error) {
	bounded, cancel := context.WithTimeout(ctx, p.d.o.PubackTimeout)
	defer cancel()
	defer context.AfterFunc(p.ctx, cancel)()
	method, body := http.MethodPost, r.body
	if r.get {
		method, body = http.MethodGet, nil
	}
	request, err := p.request(bounded, method, c.address(r.thing), body, "")
	if err != nil {
		f := p.d.identityFailure(err)
		f.Verdict, f.After = sluice.RetryAfter, notAuthorizedPause
		return answer{}, f
	}
	request.Header["X-Idempotency-Key"] = nil // see publish
	a, err := p.send(request)
	if err != nil {
		return a, p.transportFailure(err)
	}
	return a, nil
}
