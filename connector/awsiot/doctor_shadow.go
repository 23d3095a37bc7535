package awsiot

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/eclipse/paho.golang/packets"

	"sluice"
)

// hearShadows subscribes to what the shadows need to hear, as an onlooker.
func (e *doctor) hearShadows(ctx context.Context) finding {
	s, err := e.live(ctx)
	if err == nil {
		err = e.d.shadows.subscribe(ctx, s)
	}
	if err == nil {
		return well("AWS grants the subscriptions to answers and changes of shadows.")
	}
	e.deaf = true
	f := failureOf(err)
	switch f.Reason {
	case sluice.ReasonNotAuthorized, sluice.ReasonDisconnected, sluice.ReasonRejected:
		return odd("shadow_subscribe_denied", "The policy does not allow the subscriptions that shadows need.", e.d.shadows.subscribeHint())
	}
	return odd("shadow_subscribe_failed", f.Message, f.Hint)
}

// askShadow makes the requests that the shadows need, to the shadow of a thing
// that does not exist. It changes nothing: an update without a state is refused
// as that, once it is allowed.
func (e *doctor) askShadow(ctx context.Context) finding {
	switch {
	case e.x.Silent:
		return skipped("Nothing was to be published.")
	case e.d.shadows == nil:
		return skipped("The configuration is not complete enough.")
	}
	kinds := []bool{false} // an update
	if e.d.shadows.wishes != nil {
		kinds = append(kinds, true) // a get
	}
	for n, get := range kinds {
		r := &shadowRequest{thing: e.thing(), get: get, token: fmt.Sprintf("%s%s-%d", testMark, e.random, n)}
		body, err := json.Marshal(map[string]string{"clientToken": r.token})
		if err != nil {
			return odd("shadow_failed", message(err), "")
		}
		r.body = body
		if f := e.tryShadow(ctx, r); f.state != sluice.StepOK {
			return f
		}
	}
	if e.unheard() {
		return well("AWS takes the requests. Whether it answers was not heard, because the subscription failed.")
	}
	return well("AWS takes the requests and answers them; no shadow was made or changed.")
}

// unheard reports whether answers cannot come.
func (e *doctor) unheard() bool { return !e.d.shadows.rest && e.deaf }

// tryShadow makes one request.
func (e *doctor) tryShadow(ctx context.Context, r *shadowRequest) finding {
	ask := e.requestShadow
	if e.d.shadows.rest {
		ask = e.postShadow
	}
	code, err := ask(ctx, r)
	if err == nil {
		return e.shadowAnswer(r, code)
	}
	f := failureOf(err)
	switch f.Reason {
	case sluice.ReasonNotAuthorized:
		return e.shadowDenied(r)
	case sluice.ReasonTimeout:
		return odd("shadow_unanswered", f.Message, "AWS acknowledges nothing that is over a quota: look at CloudWatch, AWS/IoT, PublishIn.Throttle.")
	case sluice.ReasonThrottled:
		return odd("shadow_throttled", f.Message, "Try again in a minute.")
	}
	return odd("shadow_failed", f.Message, f.Hint)
}

func (e *doctor) shadowDenied(r *shadowRequest) finding {
	return odd("shadow_denied", fmt.Sprintf("The policy does not allow to %s shadows.", r.operation()), e.d.shadows.requestHint())
}

// shadowAnswer says what an answer means; 0 is none.
func (e *doctor) shadowAnswer(r *shadowRequest, code int) finding {
	switch {
	case code == 0 && e.unheard():
		return well("")
	case code == 0:
		return odd("shadow_receive_denied", fmt.Sprintf("AWS took a request to %s a shadow and granted the subscription, but no answer came within %s.", r.operation(), receiveTimeout),
			e.d.shadows.subscribeHint())
	case code == http.StatusNotFound && !r.get && !e.cfg.registers():
		return odd("shadow_thing", "AWS has shadows of registered things alone, and this connection registers none.",
			"Register the devices as things, or give an access key, so that Sluice does.")
	case code == http.StatusOK, code == http.StatusBadRequest, code == http.StatusNotFound:
		return well("") // it was looked at, so it is allowed
	case code == http.StatusUnauthorized, code == http.StatusForbidden:
		return e.shadowDenied(r)
	case code == http.StatusTooManyRequests:
		return odd("shadow_throttled", "AWS takes no more requests to shadows at the moment.", "Try again in a minute: AWS takes 4,000 a second of an account.")
	}
	return odd("shadow_failed", fmt.Sprintf("AWS answers a request to %s a shadow with %d.", r.operation(), code), "Try again in a minute.")
}

// postShadow makes a request by the REST API.
func (e *doctor) postShadow(ctx context.Context, r *shadowRequest) (int, error) {
	p := e.d.newPublisher(e.clientID(), nil)
	defer p.client.CloseIdleConnections()
	defer p.cancel()
	a, err := p.shadow(ctx, &e.d.shadows.cfg, r)
	return a.status, err
}

// requestShadow makes a request over MQTT and waits for the answer.
func (e *doctor) requestShadow(ctx context.Context, r *shadowRequest) (int, error) {
	s, err := e.live(ctx)
	if err == nil && !e.unheard() {
		err = e.d.shadows.subscribe(ctx, s) // again, as the session may be another one
	}
	if err != nil {
		return 0, err
	}
	topic := e.d.shadows.cfg.topic(r.thing, r.operation())
	if err := e.deliver(ctx, s, topic, &sluice.Message{ID: r.token, Kind: kindShadow, Document: r.body}); err != nil || e.unheard() {
		return 0, err
	}
	code := 0
	e.await(ctx, s, func(p *packets.Publish) bool {
		if tokenOf(p.Payload) != r.token {
			return false
		}
		if code = readRejection(p.Payload).Code; code == 0 {
			code = http.StatusOK
		}
		return true
	})
	return code, nil
}
