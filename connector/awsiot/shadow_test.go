package awsiot_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/tidwall/gjson"

	"sluice"
	"sluice/connector/awsiot"
	"sluice/connector/awsiot/awsiottest"
	"sluice/connector/connectortest"
)

// quick are shadows that wait for nothing.
var quick = awsiot.Options{PublishRate: -1, ShadowSpacing: time.Millisecond}

// shadow is a configuration with shadows.
func (c *cloud) shadow(tb testing.TB, settings map[string]any) json.RawMessage {
	tb.Helper()
	settings["enabled"] = true
	return c.with(tb, map[string]any{"shadow": settings})
}

// state is a part of the state of the shadow of a device.
func (c *cloud) state(thing, path string) gjson.Result {
	document, _ := c.Shadow(thing, "")
	return gjson.GetBytes(document, "state."+path)
}

// shows waits until a part of the state of a shadow is as wanted.
func (c *cloud) shows(tb testing.TB, thing, path, want string) {
	tb.Helper()
	await(tb, thing+" "+path+" = "+want, func() bool { return c.state(thing, path).Raw == want })
}

func (c *cloud) desire(tb testing.TB, thing, state string) {
	tb.Helper()
	if err := c.UpdateShadow(thing, "", []byte(`{"state":`+state+`}`)); err != nil {
		tb.Fatal(err)
	}
}

// document is an uplink with fields.
func uplinkOf(devEUI string, fCntUp int, fields string) *sluice.Message {
	m := connectortest.Uplink(devEUI, fCntUp)
	m.Document = fmt.Appendf(nil, `{"DevEUI_uplink":{"DevEUI":%q,"FCntUp":%d%s}}`, devEUI, fCntUp, fields)
	return m
}

func handle(tb testing.TB, s sluice.Session, messages ...*sluice.Message) {
	tb.Helper()
	for _, m := range messages {
		if err := s.Handle(within(tb), m); err != nil {
			tb.Fatal(err)
		}
	}
}

// An uplink that was delivered is reported: its decoded values, those of the
// radio where it has none, or those that are chosen, with their types.
func TestShadowReports(t *testing.T) {
	const radio = `,"FPort":"2","LrrRSSI":-61.5,"LrrSNR":"9.25","SpFact":7,"Time":"2026-03-01T10:00:00.000+00:00","Channel":"LC1"`
	for name, tc := range map[string]struct {
		shadow map[string]any
		fields string
		name   string
		want   string
	}{
		"decoded": {
			shadow: map[string]any{}, fields: radio + `,"payload":{"temperature":21.50,"door":{"open":true},"none":null}`,
			want: `{"door":{"open":true},"temperature":21.50}`,
		},
		"radio": {
			shadow: map[string]any{}, fields: radio,
			want: `{"FCntUp":3,"FPort":2,"LrrRSSI":-61.5,"LrrSNR":9.25,"SpFact":7,"Time":"2026-03-01T10:00:00.000+00:00"}`,
		},
		"chosen": {
			shadow: map[string]any{"name": "sluice", "fields": map[string]any{"t": "payload.t", "rssi": "Lrrs.Lrr.0.LrrRSSI", "odd": "payload.a|b#", "absent": "nothing"}},
			fields: `,"payload":{"t":1,"a|b#":"x"},"Lrrs":{"Lrr":[{"LrrRSSI":-100}]}`, name: "sluice",
			want: `{"odd":"x","rssi":-100,"t":1}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCloud(t, awsiottest.Options{})
			handle(t, open(t, newRig().dial(t, quick, c.shadow(t, tc.shadow)), 0), uplinkOf(device, 3, tc.fields))
			reported := func() gjson.Result {
				document, _ := c.Shadow(device, tc.name)
				return gjson.GetBytes(document, "state.reported")
			}
			await(t, "the shadow", func() bool { return reported().Exists() })
			if got := reported().Raw; got != tc.want {
				t.Errorf("reported %s, want %s", got, tc.want)
			}
		})
	}
}

// The shadow is that of the thing, however it is named.
func TestShadowOfNamedThing(t *testing.T) {
	for pattern, thing := range map[string]string{"lora-{DevEUI}": "lora-" + device, "{CustomerData.name}": "lamp"} {
		t.Run(pattern, func(t *testing.T) {
			c := newCloud(t, awsiottest.Options{})
			p := newQuickPool()
			s := open(t, p.dial(t, 0, c.with(t, map[string]any{"thingNamePattern": pattern, "shadow": map[string]any{"enabled": true, "desired": true}})), 0)
			k := &taken{}
			subscribe(t, s, k.take)
			c.heard(t, "shadows")
			c.desire(t, thing, `{"desired":{"downlink":{"FPort":1,"payload_hex":"01","CorrelationID":"00000000000000C1"}}}`)
			handle(t, s, uplinkOf(device, 1, `,"CustomerData":{"name":"lamp"}`))
			if got := k.await(t, 1); got.DevEUI != device {
				t.Errorf("command %+v", got)
			}
			handle(t, s, fate(sluice.KindDownlinkQueued, "00000000000000C1", ""))
			c.shows(t, thing, "reported.downlinkState.state", `"queued"`)
			c.shows(t, thing, "reported.FCntUp", "1")
		})
	}
}

// What was not delivered, and what is old, is not reported.
func TestShadowFollowsDelivery(t *testing.T) {
	c := newCloud(t, awsiottest.Options{})
	s := open(t, newRig().dial(t, quick, c.shadow(t, map[string]any{})), 0)
	const other = "20635F0108000497"
	c.allow(t, `{"Effect":"Allow","Action":"iot:*","Resource":"*"},{"Effect":"Deny","Action":"iot:Publish","Resource":"*:topic/tpx/things/`+device+`/uplink"}`)
	if err := s.Handle(within(t), uplinkOf(device, 1, "")); failureOf(t, err).Reason != sluice.ReasonNotAuthorized {
		t.Fatal(err)
	}
	c.allow(t, `{"Effect":"Allow","Action":"iot:*","Resource":"*"}`)
	replayed, retried := uplinkOf(device, 2, ""), uplinkOf(device, 3, "")
	replayed.Replayed, retried.Retries = true, 1
	handle(t, s, replayed, retried, uplinkOf(other, 1, ""))
	c.shows(t, other, "reported.FCntUp", "1") // those before would have come before
	if document, ok := c.Shadow(device, ""); ok {
		t.Errorf("there is a shadow: %s", document)
	}
}

// allow gives the certificate of the configuration a policy.
func (c *cloud) allow(tb testing.TB, statements string) {
	tb.Helper()
	arn := c.conf["certificateId"].(string)
	if err := c.SetPolicies(arn[strings.LastIndex(arn, "/")+1:], `{"Version":"2012-10-17","Statement":[`+statements+`]}`); err != nil {
		tb.Fatal(err)
	}
}

// Of many uplinks of one device the newest is reported, in far fewer updates,
// which name no version, so that those of others do not hinder them.
func TestShadowCoalesces(t *testing.T) {
	c := newCloud(t, awsiottest.Options{})
	r := newRig()
	w := c.watch(t, "$aws/things/+/shadow/update/accepted")
	d := r.dial(t, awsiot.Options{PublishRate: -1}, c.shadow(t, map[string]any{"reported": true}))
	s := open(t, d, 0)
	const uplinks = 40
	for n := range uplinks {
		handle(t, s, uplinkOf(device, n+1, ""))
		c.desire(t, device, fmt.Sprintf(`{"reported":{"others":%d}}`, n))
	}
	c.shows(t, device, "reported.FCntUp", fmt.Sprint(uplinks))
	ours := func() (n int) {
		for _, p := range w.all() {
			if strings.HasPrefix(gjson.GetBytes(p.Payload, "clientToken").Str, "sluice-a1b2c3d4-8-") {
				n++
			}
		}
		return n
	}
	await(t, "two updates are seen", func() bool { return ours() >= 2 })
	if n := ours(); n > uplinks/2 {
		t.Errorf("%d updates for %d uplinks", n, uplinks)
	}
	if events := r.events.Of(sluice.EventShadowFailed); len(events) > 0 {
		t.Errorf("events %+v", events)
	}
}

// Members that a shadow has no room for are left out, and where others have
// filled it the update is refused: both are told, once, and uplinks go on.
func TestShadowTooLarge(t *testing.T) {
	c := newCloud(t, awsiottest.Options{})
	r := newRig()
	s := open(t, r.dial(t, quick, c.shadow(t, map[string]any{})), 0)
	big := `,"payload":{"a":1,"big":"` + strings.Repeat("x", 9<<10) + `","huge":"` + strings.Repeat("x", 20<<10) + `"}`
	handle(t, s, uplinkOf(device, 1, big), uplinkOf(device, 2, big))
	c.shows(t, device, "reported", `{"a":1}`)
	events := r.events.Of(sluice.EventShadowFailed)
	if len(events) != 1 || events[0].Reason != sluice.ReasonTooLarge || !strings.Contains(events[0].Detail, "big, huge") {
		t.Errorf("events %+v", events)
	}
	c.heard(t, "shadows")
	const other = "20635F0108000497"
	c.desire(t, other, `{"desired":{"x":"`+strings.Repeat("x", 8000)+`"}}`)
	for n := range 3 {
		handle(t, s, uplinkOf(other, n, `,"payload":{"y":"`+strings.Repeat("y", 500)+`"}`))
	}
	await(t, "the event", func() bool { return len(r.events.Of(sluice.EventShadowFailed)) == 2 })
	if e := r.events.Of(sluice.EventShadowFailed)[1]; e.Reason != sluice.ReasonTooLarge || e.DevEUI != other || !strings.Contains(e.Detail, "413") {
		t.Errorf("event %+v", e)
	}
	c.desire(t, other, `{"desired":{"x":null}}`)
	handle(t, s, uplinkOf(other, 4, `,"payload":{"y":5}`))
	c.shows(t, other, "reported.y", "5")
}

// An update that AWS refuses because there are too many is made again.
func TestShadowThrottled(t *testing.T) {
	c := newCloud(t, awsiottest.Options{})
	r := newRig()
	s := open(t, r.dial(t, quick, c.shadow(t, map[string]any{})), 0)
	w := c.watch(t)
	const first = "20635F0108000497"
	handle(t, s, uplinkOf(first, 1, "")) // until rejections are heard
	c.shows(t, first, "reported.FCntUp", "1")
	c.heard(t, "shadows")
	c.DelayShadows(3 * time.Second)
	for range 10 {
		w.publish(t, "$aws/things/"+device+"/shadow/get", 1, nil)
	}
	handle(t, s, uplinkOf(device, 7, ""))
	await(t, "the event", func() bool { return len(r.events.Of(sluice.EventShadowFailed)) == 1 })
	if e := r.events.Of(sluice.EventShadowFailed)[0]; e.Reason != sluice.ReasonThrottled || !strings.Contains(e.Detail, "429") {
		t.Errorf("event %+v", e)
	}
	c.DelayShadows(0)
	c.shows(t, device, "reported.FCntUp", "7")
}

// heard waits until the link of the shadows is subscribed: what is published
// for it is delivered.
func (c *cloud) heard(tb testing.TB, what string) {
	tb.Helper()
	await(tb, "the link of "+what, func() bool { return c.link() != "" })
	w := c.watchAs(tb, "prober-"+strings.ReplaceAll(tb.Name(), "/", "-"))
	before := c.ClientStats()[c.link()].Delivered
	await(tb, "the subscription of "+what, func() bool {
		w.publish(tb, "$aws/things/none/shadow/update", 1, []byte("{"))
		return c.ClientStats()[c.link()].Delivered > before
	})
}

// link is the client id of the link of the shadows.
func (c *cloud) link() string {
	for id := range c.ClientStats() {
		if strings.Contains(id, "-shadows-") {
			return id
		}
	}
	return ""
}

// A certificate that may not update shadows delivers uplinks as ever, also
// where the server closes links for it: one try, and an event that says what
// is missing.
func TestShadowDenied(t *testing.T) {
	for name, inferred := range map[string]awsiottest.Inferred{"PUBACK": {}, "closed": {DeniedCloses: true}} {
		t.Run(name, func(t *testing.T) {
			c := newCloud(t, awsiottest.Options{Inferred: inferred})
			r := newRig()
			c.allow(t, `{"Effect":"Allow","Action":"iot:*","Resource":["*:client/*","*:topic/tpx/*","*:topicfilter/tpx/*"]}`)
			d := r.dial(t, quick, c.shadow(t, map[string]any{}))
			s := open(t, d, 0)
			id := s.ID()
			handle(t, s, uplinkOf(device, 1, ""))
			await(t, "the event", func() bool {
				for _, e := range r.events.Of(sluice.EventShadowFailed) {
					if e.Reason == sluice.ReasonNotAuthorized && strings.Contains(e.Hint, "topic/$aws/things/*/shadow/update") {
						return true
					}
				}
				return false
			})
			lost := 0
			for n := range 50 {
				for s.Handle(within(t), uplinkOf(fmt.Sprintf("20635F01080004%02d", n), n, "")) != nil {
					<-s.Done()
					lost++
					s = open(t, d, 0)
				}
			}
			if denied := c.ClientStats()[id].Denied; denied != 1 || lost > 1 {
				t.Errorf("%d publishes were denied, %d links lost", denied, lost)
			}
		})
	}
}

// handleMany has devices send uplinks all at once, those of each in their order.
func handleMany(t *testing.T, s sluice.Session, devices, uplinks int) {
	t.Helper()
	var wg sync.WaitGroup
	for n := range devices {
		wg.Go(func() {
			for f := range uplinks {
				if err := s.Handle(within(t), uplinkOf(fmt.Sprintf("20635F01080004%02d", n), f+1, "")); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

// Uplinks and updates share the quota of a session: AWS discards nothing, no
// update goes before an uplink that waits, and after the load every shadow is
// up to date.
func TestShadowSharesTheQuota(t *testing.T) {
	c := newCloud(t, awsiottest.Options{})
	s := open(t, newRig().dial(t, awsiot.Options{ShadowSpacing: time.Millisecond}, c.shadow(t, map[string]any{})), 0)
	const devices, uplinks = 8, 20
	handleMany(t, s, devices, uplinks)
	// In turns with the uplinks there would be one in nine, 18 and more.
	if meanwhile := int(c.ClientStats()[s.ID()].Published) - devices*uplinks; meanwhile > 8 {
		t.Errorf("%d updates went before uplinks", meanwhile)
	}
	for n := range devices {
		c.shows(t, fmt.Sprintf("20635F01080004%02d", n), "reported.FCntUp", fmt.Sprint(uplinks))
	}
	if peak := c.ClientStats()[s.ID()].PeakRate; c.Discarded() != 0 || peak > 100 {
		t.Errorf("%d discarded, at most %d in a second", c.Discarded(), peak)
	}
}

// Check finds what is wrong with the settings of shadows.
func TestShadowSettings(t *testing.T) {
	c := newCloud(t, awsiottest.Options{})
	for name, tc := range map[string]struct {
		shadow         map[string]any
		common         map[string]any
		warned, barred []string
	}{
		"none":         {shadow: nil},
		"classic":      {shadow: map[string]any{"enabled": true, "desired": true}},
		"named":        {shadow: map[string]any{"enabled": true, "name": "a:b_c-1$"}},
		"not enabled":  {shadow: map[string]any{"desired": true}, warned: []string{"shadow.enabled"}},
		"idle":         {shadow: map[string]any{"enabled": true, "reported": false}, warned: []string{"shadow.enabled"}},
		"name":         {shadow: map[string]any{"enabled": true, "name": "a b"}, barred: []string{"shadow.name"}},
		"path":         {shadow: map[string]any{"enabled": true, "fields": map[string]any{"x": "a..b"}}, barred: []string{"shadow.fields.x"}},
		"own":          {shadow: map[string]any{"enabled": true, "desired": true, "fields": map[string]any{"downlink": "FPort"}}, barred: []string{"shadow.fields.downlink"}},
		"HTTPS":        {shadow: map[string]any{"enabled": true, "desired": true}, common: map[string]any{"protocol": "HTTPS"}},
		"no reports":   {shadow: map[string]any{"enabled": true, "desired": true}, common: map[string]any{"downlinkReports": "rejected"}, barred: []string{"shadow.desired"}},
		"no downlinks": {shadow: map[string]any{"enabled": true, "desired": true}, common: map[string]any{"downlinkEnabled": false, "sendMetadata": true}, barred: []string{"shadow.desired", "shadow.desired"}},
	} {
		t.Run(name, func(t *testing.T) {
			changes := map[string]any{}
			for k, v := range tc.common {
				changes[k] = v
			}
			if tc.shadow != nil {
				changes["shadow"] = tc.shadow
			}
			warnings, problems := awsiot.New(awsiot.Options{}).Check(c.with(t, changes))
			paths := func(list []sluice.Problem) (all []string) {
				for _, p := range list {
					if strings.HasPrefix(p.Path, "shadow") {
						all = append(all, p.Path)
					}
				}
				return all
			}
			if diff := cmp.Diff(tc.warned, paths(warnings)) + cmp.Diff(tc.barred, paths(problems)); diff != "" {
				t.Error(diff, warnings, problems)
			}
		})
	}
}
