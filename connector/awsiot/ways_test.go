package awsiot_test

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"sluice"
	"sluice/connector/awsiot"
	"sluice/connector/awsiot/awsiottest"
)

// ways are the names of the ways to AWS.
func ways() []string {
	return []string{"SSL", "SSL at 443", "WSS", "HTTPS", "HTTPS at 443", "HTTPS by access"}
}

// by is the configuration of a way to AWS with some properties changed.
func (c *cloud) by(way string, changes map[string]any) map[string]any {
	all := maps.Clone(c.protocols()[way])
	maps.Copy(all, changes)
	return all
}

// hears waits until the link of the shadows is subscribed to deltas.
func (c *cloud) hears(t *testing.T) {
	t.Helper()
	await(t, "the link of the shadows", func() bool { return c.link() != "" })
	before, n := c.ClientStats()[c.link()].Delivered, 0
	await(t, "the subscription of the shadows", func() bool {
		n++
		c.desire(t, "none", fmt.Sprintf(`{"desired":{"n":%d}}`, n))
		return c.ClientStats()[c.link()].Delivered > before
	})
}

// Whatever the way to AWS: uplinks are reported, a desired downlink is one
// command, which is answered, and one that is desired meanwhile comes after.
func TestShadowsOfEveryProtocol(t *testing.T) {
	for _, way := range ways() {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			c := newCloud(t, awsiottest.Options{})
			p := newQuickPool()
			conf := c.with(t, c.by(way, map[string]any{"shadow": map[string]any{"enabled": true, "desired": true}}))
			d := p.dial(t, 0, conf)
			s := open(t, d, 0)
			k := &taken{}
			subscribe(t, s, k.take)
			c.hears(t)
			handle(t, s, uplinkOf(device, 1, ""))
			c.shows(t, device, "reported.FCntUp", "1")
			c.desire(t, device, `{"desired":{"downlink":{"FPort":2,"payload_hex":"0a","CorrelationID":"00000000000000C1"}}}`)
			if got := k.await(t, 1); got.DevEUI != device || got.Source != "$aws/things/"+device+"/shadow/update/delta" {
				t.Errorf("command %+v", got)
			}
			handle(t, s, fate(sluice.KindDownlinkQueued, "00000000000000C1", `,"DeliveryStatus":200`))
			c.shows(t, device, "reported.downlinkState.state", `"queued"`)
			c.shows(t, device, "delta", "")
			handle(t, s, uplinkOf(device, 2, ""))
			c.shows(t, device, "reported.FCntUp", "2")
			k.await(t, 1)

			closeSession(t, s) // and while it is away
			d.Close()
			c.desire(t, device, `{"desired":{"downlink":{"payload_hex":"0b","CorrelationID":"00000000000000C2"}}}`)
			s = open(t, p.dial(t, 0, conf), 0)
			k = &taken{}
			subscribe(t, s, k.take)
			k.await(t, 1)
			handle(t, s, fate(sluice.KindDownlinkQueued, "00000000000000C2", `,"DeliveryStatus":200`))
			c.shows(t, device, "reported.downlink.payload_hex", `"0b"`)
			if events := p.events.Of(""); len(events) > 0 {
				t.Errorf("events %+v", events)
			}
		})
	}
}

// Whatever the way to AWS, the presence is told: online, offline when the link
// that holds it is cut, online again by itself, and offline when it is closed.
func TestPresenceOfEveryProtocol(t *testing.T) {
	for _, way := range ways() {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			c := newCloud(t, awsiottest.Options{})
			w := c.watch(t, presenceTopic)
			p := newPool()
			d := p.dial(t, 0, c.with(t, c.by(way, map[string]any{"presenceTopic": presenceTopic})))
			open(t, d, 0)
			w.awaitStates(t, "online")
			if n := c.Cut(func(id string) bool { return strings.Contains(id, "-presence-") }); n != 1 {
				t.Fatalf("%d clients hold the presence", n)
			}
			w.awaitStates(t, "online", "offline lost", "online")
			d.Close()
			w.awaitStates(t, "online", "offline lost", "online", "offline closed")
			c.watchAs(t, "late", presenceTopic).awaitStates(t, "offline closed")
		})
	}
}

// AWS closes a WebSocket after a day, here after a moment: the link of the
// shadows opens again, and a command that was desired meanwhile comes.
func TestShadowsOutliveTheWebSocket(t *testing.T) {
	for _, way := range []string{"WSS", "HTTPS by access"} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			c := newCloud(t, awsiottest.Options{Quotas: awsiottest.Quotas{WebSocketLife: 2 * time.Second}})
			d := newQuickPool().dial(t, 0, c.with(t, c.by(way, map[string]any{
				"shadow": map[string]any{"enabled": true, "desired": true}, "downlinkTopicPattern": nil,
			})))
			s := open(t, d, 0)
			k := &taken{}
			subscribe(t, s, k.take)
			c.hears(t)
			before := c.ClientStats()[c.link()]
			if way == "WSS" { // the lanes end, too, and the pool opens others
				<-s.Done()
				s = open(t, d, 0)
				subscribe(t, s, k.take)
			}
			await(t, "the end of the link", func() bool {
				now := c.ClientStats()[c.link()]
				return !now.Connected || now.Connects > before.Connects
			})
			c.desire(t, device, `{"desired":{"downlink":{"FPort":2,"payload_hex":"0a"}}}`)
			k.await(t, 1)
			if c.ClientStats()[c.link()].Connects <= before.Connects {
				t.Error("the link did not open again")
			}
		})
	}
}

// httpsShadow is a configuration with shadows over HTTPS.
func (c *cloud) httpsShadow(t *testing.T, shadow map[string]any) map[string]any {
	t.Helper()
	shadow["enabled"] = true
	return c.by("HTTPS", map[string]any{"shadow": shadow})
}

// Where nothing but values is reported over HTTPS, no MQTT is needed for it.
func TestShadowReportsWithoutMQTT(t *testing.T) {
	c := newCloud(t, awsiottest.Options{})
	changes := c.httpsShadow(t, map[string]any{"name": "a:b$1"})
	changes["dataEndpoint"], changes["downlinkTopicPattern"] = closedPort(t), nil
	r := newRig()
	handle(t, open(t, r.dial(t, quick, c.with(t, changes)), 0), uplinkOf(device, 1, ""))
	await(t, "the shadow", func() bool {
		document, _ := c.Shadow(device, "a:b$1")
		return strings.Contains(string(document), `"FCntUp":1`)
	})
	if events := r.events.Of(""); len(events) > 0 {
		t.Errorf("events %+v", events)
	}
}

// What AWS answers to an update over HTTPS decides: again, where it may be taken
// later, told once, where it never is; uplinks go on, and nothing is lost but
// what is final.
func TestShadowAnswersOverHTTPS(t *testing.T) {
	for _, tc := range []struct {
		status int
		code   string
		reason sluice.Reason
		final  bool
	}{
		{http.StatusBadRequest, "InvalidRequestException", sluice.ReasonRejected, true},
		{http.StatusNotFound, "ResourceNotFoundException", sluice.ReasonThingMissing, true},
		{http.StatusConflict, "ConflictException", sluice.ReasonRejected, false},
		{http.StatusRequestEntityTooLarge, "RequestEntityTooLargeException", sluice.ReasonTooLarge, true},
		{http.StatusTooManyRequests, "ThrottlingException", sluice.ReasonThrottled, false},
		{http.StatusServiceUnavailable, "ServiceUnavailableException", sluice.ReasonRejected, false},
	} {
		t.Run(fmt.Sprint(tc.status), func(t *testing.T) {
			t.Parallel()
			c := newCloud(t, awsiottest.Options{})
			r := newRig()
			s := open(t, r.dial(t, quick, c.with(t, c.httpsShadow(t, map[string]any{}))), 0)
			c.Fail(awsiottest.Fault{Action: "UpdateThingShadow", Status: tc.status, Code: tc.code, Message: "because", Times: 1})
			handle(t, s, uplinkOf(device, 1, ""))
			await(t, "the event", func() bool { return len(r.events.Of(sluice.EventShadowFailed)) == 1 })
			if e := r.events.Of(sluice.EventShadowFailed)[0]; e.Reason != tc.reason || e.DevEUI != device || !strings.Contains(e.Detail, fmt.Sprint(tc.status)) {
				t.Errorf("event %+v", e)
			}
			if tc.final {
				handle(t, s, uplinkOf(device, 2, `,"FPort":7`))
				c.shows(t, device, "reported", `{"FCntUp":2,"FPort":7}`)
			} else {
				c.shows(t, device, "reported", `{"FCntUp":1}`)
			}
			if n := c.Calls("UpdateThingShadow"); n != 2 {
				t.Errorf("%d updates", n)
			}
			if s.Err() != nil {
				t.Errorf("the lane ended: %v", s.Err())
			}
		})
	}
}

// Where a shadow cannot be read for the time being, its device is reported all the
// same, and its command comes once it can be.
func TestShadowReportedWhereItIsNotRead(t *testing.T) {
	c := newCloud(t, awsiottest.Options{})
	p := newQuickPool()
	s := open(t, p.dial(t, 0, c.with(t, c.httpsShadow(t, map[string]any{"desired": true}))), 0)
	k := &taken{}
	subscribe(t, s, k.take)
	c.hears(t)
	c.Fail(awsiottest.Fault{Action: "GetThingShadow", Status: http.StatusServiceUnavailable, Code: "ServiceUnavailableException"})
	c.desire(t, device, `{"desired":{"downlink":{"FPort":2,"payload_hex":"0a"}}}`)
	handle(t, s, uplinkOf(device, 1, ""))
	c.shows(t, device, "reported.FCntUp", "1")
	c.ClearFaults()
	k.await(t, 1)
}

// A shadow that is not answered is asked again, and the lane lives.
func TestShadowUnansweredOverHTTPS(t *testing.T) {
	c := newCloud(t, awsiottest.Options{})
	r := newRig()
	o := quick
	o.PubackTimeout = 300 * time.Millisecond
	s := open(t, r.dial(t, o, c.with(t, c.httpsShadow(t, map[string]any{}))), 0)
	c.Fail(awsiottest.Fault{Action: "UpdateThingShadow", Delay: patience, Times: 1})
	handle(t, s, uplinkOf(device, 1, ""))
	await(t, "the event", func() bool { return len(r.events.Of(sluice.EventShadowFailed)) == 1 })
	if e := r.events.Of(sluice.EventShadowFailed)[0]; e.Reason != sluice.ReasonTimeout {
		t.Errorf("event %+v", e)
	}
	c.shows(t, device, "reported.FCntUp", "1")
	if s.Err() != nil {
		t.Errorf("the lane ended: %v", s.Err())
	}
}

// A certificate that may not update shadows, or not read them, delivers uplinks
// as ever over HTTPS: one try, and an event that says what is missing.
func TestShadowDeniedOverHTTPS(t *testing.T) {
	for action, desired := range map[string]bool{"UpdateThingShadow": false, "GetThingShadow": true} {
		t.Run(action, func(t *testing.T) {
			t.Parallel()
			c := newCloud(t, awsiottest.Options{})
			r := newRig()
			c.allow(t, `{"Effect":"Allow","Action":"iot:*","Resource":"*"},{"Effect":"Deny","Action":"iot:`+action+`","Resource":"*"}`)
			s := open(t, r.dial(t, quick, c.with(t, c.httpsShadow(t, map[string]any{"desired": desired}))), 0)
			if desired {
				k := &taken{}
				subscribe(t, s, k.take)
				c.hears(t)
				c.desire(t, device, `{"desired":{"downlink":{"FPort":2,"payload_hex":"0a"}}}`)
			}
			handle(t, s, uplinkOf(device, 1, ""))
			await(t, "the event", func() bool { return len(r.events.Of(sluice.EventShadowFailed)) == 1 })
			e := r.events.Of(sluice.EventShadowFailed)[0]
			if e.Reason != sluice.ReasonNotAuthorized || !strings.Contains(e.Hint, "iot:"+action) || !strings.Contains(e.Hint, ":thing/*") {
				t.Errorf("event %+v", e)
			}
			tried := c.Calls(action)
			for n := range 20 {
				handle(t, s, uplinkOf(fmt.Sprintf("20635F01080005%02d", n), n, ""))
			}
			if n := c.Calls(action); tried != 1 || n != 1 || s.Err() != nil {
				t.Errorf("%d tries, %d later; the lane: %v", tried, n, s.Err())
			}
		})
	}
}

// Over HTTPS, too, no update goes before an uplink that waits, all stay within
// the pace, and after the load every shadow is up to date, one update of a device
// at a time.
func TestShadowSharesTheLane(t *testing.T) {
	c := newCloud(t, awsiottest.Options{})
	s := open(t, newRig().dial(t, awsiot.Options{ShadowSpacing: time.Millisecond}, c.with(t, c.httpsShadow(t, map[string]any{}))), 0)
	const devices, uplinks = 12, 15
	handleMany(t, s, devices, uplinks)
	// In turns with the uplinks there would be one in thirteen, 14 and more.
	if meanwhile := c.Calls("UpdateThingShadow"); meanwhile > devices {
		t.Errorf("%d updates went before uplinks", meanwhile)
	}
	for n := range devices {
		c.shows(t, fmt.Sprintf("20635F01080004%02d", n), "reported.FCntUp", fmt.Sprint(uplinks))
	}
}

// A lane that is closed ends the update that is under way, and leaves nothing
// running; the next lane makes it again.
func TestShadowUnderWayWhenClosed(t *testing.T) {
	c := newCloud(t, awsiottest.Options{})
	d := newRig().dial(t, quick, c.with(t, c.httpsShadow(t, map[string]any{})))
	s := open(t, d, 0)
	c.Fail(awsiottest.Fault{Action: "UpdateThingShadow", Delay: patience, Times: 1})
	handle(t, s, uplinkOf(device, 1, ""))
	await(t, "the update", func() bool { return c.Calls("UpdateThingShadow") == 1 })
	ctx, cancel := context.WithCancel(within(t))
	cancel()
	_ = s.Close(ctx)
	open(t, d, 1)
	c.shows(t, device, "reported.FCntUp", "1")
}
