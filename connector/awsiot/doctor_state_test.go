package awsiot_test

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"sluice"
	"sluice/connector/awsiot/awsiottest"
)

// state is the presence and the shadows in a configuration.
func state() map[string]any {
	return map[string]any{"presenceTopic": presenceTopic, "shadow": map[string]any{"enabled": true, "desired": true}}
}

// Presence and shadows are tried whichever way is taken to AWS, and it harms
// nothing: what is retained stays, no shadow is made, no command is taken, no
// session is lost.
func TestDoctorOfPresenceAndShadows(t *testing.T) {
	for _, way := range ways() {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			c := newCloud(t, awsiottest.Options{})
			conf := c.with(t, c.by(way, state()))
			p := newQuickPool()
			s := open(t, p.dial(t, 0, conf), 0)
			k := &taken{}
			subscribe(t, s, k.take)
			c.hears(t)
			w := c.watch(t, presenceTopic)
			w.awaitStates(t, "online")
			all := c.watchAs(t, "all", "#", "$aws/things/+/shadow/update/accepted")

			steps := examine(t, conf, sluice.Examination{})
			var ids []string
			for _, step := range steps {
				if step.State != sluice.StepOK && step.ID != "create" && step.ID != "attach" && !strings.Contains(step.Detail, "uses no certificate here") {
					t.Errorf("%+v", step)
				}
				ids = append(ids, step.ID)
			}
			if at := slices.Index(ids, "receive"); !slices.Equal(ids[at+1:at+4], []string{"presence", "shadow_subscribe", "shadow"}) {
				t.Errorf("steps %v", ids)
			}
			late := c.watchAs(t, "late", presenceTopic, presenceTopic+"/sluice-test")
			late.awaitStates(t, "online")
			for _, m := range all.all() {
				if strings.HasPrefix(m.Topic, "$aws/things/sluice-test") && !strings.HasSuffix(m.Topic, "/rejected") {
					t.Errorf("a shadow was changed: %s", m.Topic)
				}
			}
			handle(t, s, uplinkOf(device, 1, ""))
			c.shows(t, device, "reported.FCntUp", "1")
			c.desire(t, device, `{"desired":{"downlink":{"payload_hex":"0a","FPort":2}}}`)
			if got := k.await(t, 1); got.DevEUI != device {
				t.Errorf("command %+v", got)
			}
			if events := p.events.Of(""); len(events) > 0 || s.Err() != nil {
				t.Errorf("events %+v, session %v", events, s.Err())
			}
		})
	}
}

// What could not be removed again is told: here the permission ends in between.
func TestDoctorLeavesAMessage(t *testing.T) {
	c := newCloud(t, awsiottest.Options{})
	const own = presenceTopic + "/sluice-test"
	w := c.watch(t, own)
	c.DelayPubacks(500 * time.Millisecond) // time to take it away
	steps := make(chan []sluice.Step)
	go func() {
		steps <- examine(t, c.with(t, map[string]any{"presenceTopic": presenceTopic}), sluice.Examination{})
	}()
	await(t, "the retained message", func() bool { return len(w.all()) == 2 })
	without("iot:RetainPublish", "topic/"+own)(t, c)
	s := stepOf(t, <-steps, "presence")
	if s.Cause != "presence_left" || !strings.Contains(s.Detail+s.Hint, own) {
		t.Errorf("%+v", s)
	}
}

// A doctor that is to be silent tries neither.
func TestDoctorSilentOfPresenceAndShadows(t *testing.T) {
	c := newCloud(t, awsiottest.Options{})
	w := c.watch(t, "#", "$aws/things/+/shadow/update/rejected")
	steps := examine(t, c.with(t, state()), sluice.Examination{Silent: true})
	for _, id := range []string{"presence", "shadow"} {
		if s := stepOf(t, steps, id); s.State != sluice.StepSkipped {
			t.Errorf("%+v", s)
		}
	}
	if verdict(steps) != "ok" || len(w.all()) != 0 {
		t.Errorf("%s, %d messages", verdict(steps), len(w.all()))
	}
}

// without is a policy of the certificate that allows all but an action on a
// resource.
func without(action, resource string) func(*testing.T, *cloud) {
	return attached(document(allow("iot:*"), `{"Effect":"Deny","Action":"`+action+`","Resource":"*:`+resource+`"}`))
}

// wrongState is what AWS refuses of presence and shadows over MQTT.
func wrongState() map[string]wrongness {
	presence := map[string]any{"presenceTopic": presenceTopic}
	shadow := map[string]any{"shadow": map[string]any{"enabled": true, "desired": true}}
	rejected := func(code int) func(*testing.T, *cloud) {
		return func(_ *testing.T, c *cloud) { c.RejectShadows(code, "because") }
	}
	return map[string]wrongness{
		"no last will": {
			want: "presence: presence_will_denied", says: "LastWill", change: presence,
			make: attached(document(connectAny, allow("iot:Publish", "iot:RetainPublish", "iot:Subscribe", "iot:Receive"))),
		},
		"no presence":           {want: "presence: presence_denied", says: ":topic/" + presenceTopic, change: presence, make: without("iot:Publish", "topic/"+presenceTopic)},
		"no retained presence":  {want: "presence: presence_retain_denied", says: "iot:RetainPublish", change: presence, make: without("iot:RetainPublish", "topic/*")},
		"no shadows subscribed": {want: "shadow_subscribe: shadow_subscribe_denied", says: "topicfilter/$aws/things/+/shadow/update/delta", change: shadow, make: without("iot:Subscribe", "topicfilter/$aws/*")},
		"no shadows received":   {want: "shadow: shadow_receive_denied", says: "iot:Receive on", change: shadow, make: without("iot:Receive", "topic/$aws/*")},
		"no shadows updated":    {want: "shadow: shadow_denied", says: "update shadows", change: shadow, make: without("iot:Publish", "topic/$aws/things/*/update")},
		"no shadows read":       {want: "shadow: shadow_denied", says: "shadow/get", change: shadow, make: without("iot:Publish", "topic/$aws/things/*/get")},
		"shadows refused":       {want: "shadow: shadow_denied", says: "iot:Publish", change: shadow, make: rejected(http.StatusForbidden)},
		"shadows of no things": {
			want: "shadow: shadow_thing", says: "registered", make: rejected(http.StatusNotFound),
			change: map[string]any{"shadow": shadow["shadow"], "accessKeyId": nil, "secretAccessKey": nil},
		},
		"too many shadows": {want: "shadow: shadow_throttled", says: "4,000", change: shadow, make: rejected(http.StatusTooManyRequests)},
		"shadows in pain":  {want: "shadow: shadow_failed", says: "500", change: shadow, make: rejected(http.StatusInternalServerError)},
		"shadows over HTTPS unanswered": {
			want: "shadow: shadow_unanswered", says: "did not answer in time",
			change: map[string]any{"protocol": "HTTPS", "shadow": map[string]any{"enabled": true}},
			make: func(_ *testing.T, c *cloud) {
				c.Fail(awsiottest.Fault{Action: "UpdateThingShadow", Delay: patience, Times: 10})
			},
		},
	}
}

// What differs by HTTPS, and for an access key, is named as well.
func TestDoctorNamesOfEveryProtocol(t *testing.T) {
	for _, tc := range []struct{ way, deny, want, says string }{
		{"WSS", "RetainPublish", "presence: presence_retain_denied", "IAM policy of the access key"},
		{"HTTPS", "UpdateThingShadow", "shadow: shadow_denied", "certificate's policy"},
		{"HTTPS", "GetThingShadow", "shadow: shadow_denied", "iot:UpdateThingShadow and iot:GetThingShadow on"},
		{"HTTPS by access", "UpdateThingShadow", "shadow: shadow_denied", "IAM policy of the access key"},
		{"HTTPS by access", "RetainPublish", "presence: presence_retain_denied", "iot:RetainPublish"},
	} {
		t.Run(tc.way+" "+tc.deny, func(t *testing.T) {
			t.Parallel()
			c := newCloud(t, awsiottest.Options{})
			c.Deny(tc.deny)
			without("iot:"+tc.deny, "*")(t, c)
			steps := examine(t, c.with(t, c.by(tc.way, state())), sluice.Examination{})
			id, _, _ := strings.Cut(tc.want, ": ")
			if s := stepOf(t, steps, id); verdict(steps) != tc.want || !strings.Contains(s.Hint, tc.says) {
				t.Errorf("%s: %+v", verdict(steps), s)
			}
		})
	}
}

// Where AWS closes a link over what is not allowed, the doctor says the same.
func TestDoctorOfStateWhereAWSCloses(t *testing.T) {
	all := wrongState()
	for _, name := range []string{"no presence", "no shadows subscribed", "no shadows updated", "no shadows read"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCloud(t, awsiottest.Options{Inferred: awsiottest.Inferred{DeniedCloses: true}})
			w := all[name]
			w.make(t, c)
			if got := verdict(examine(t, c.with(t, w.change), w.x)); got != w.want {
				t.Errorf("%s, want %s", got, w.want)
			}
		})
	}
}

// What is written for presence and shadows is enough whichever way is taken to
// AWS: all works, nothing is told, and the doctor is content. Without any one of
// these statements it is not, or an event tells.
func TestPolicyOfStateOfEveryProtocol(t *testing.T) {
	for way, sids := range map[string]map[string]string{
		"SSL": {
			"": "ok", "Presence": "presence: presence_denied", "PublishShadows": "shadow: shadow_denied",
			"SubscribeShadows": "shadow_subscribe: shadow_subscribe_denied", "ReceiveShadows": "shadow: shadow_receive_denied",
		},
		"WSS": {
			"": "ok", "Presence": "presence: presence_denied", "PublishShadows": "shadow: shadow_denied",
			"SubscribeShadows": "shadow_subscribe: shadow_subscribe_denied", "ReceiveShadows": "shadow: shadow_receive_denied",
		},
		"HTTPS":           {"": "ok", "Presence": "presence: presence_denied", "UpdateShadows": "shadow: shadow_denied", "SubscribeShadows": "shadow_subscribe: shadow_subscribe_denied"},
		"HTTPS by access": {"": "ok", "Presence": "presence: presence_denied", "UpdateShadows": "shadow: shadow_denied", "SubscribeShadows": "shadow_subscribe: shadow_subscribe_denied"},
	} {
		for sid, want := range sids {
			t.Run(way+" "+sid, func(t *testing.T) {
				t.Parallel()
				c := strictCloud(t)
				conf := c.permit(t, way, sid, sluice.Wish{})
				if got := verdict(examine(t, conf, sluice.Examination{})); got != want {
					t.Errorf("%s, want %s", got, want)
				}
				if sid == "" {
					c.worksBy(t, conf)
				}
			})
		}
	}
}

// Over HTTPS the doctor hears no delta, since it makes none: without the statement
// that lets deltas be received, no command comes.
func TestPolicyOfDeltasOverHTTPS(t *testing.T) {
	c := strictCloud(t)
	s := open(t, newQuickPool().dial(t, 0, c.permit(t, "HTTPS", "ReceiveShadows", sluice.Wish{})), 0)
	k := &taken{}
	subscribe(t, s, k.take)
	await(t, "a delta that may not be received", func() bool {
		c.desire(t, device, `{"desired":{"downlink":{"payload_hex":"0a","FPort":2}}}`)
		return c.link() != "" && c.ClientStats()[c.link()].Denied > 0
	})
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.list) > 0 {
		t.Errorf("commands %+v", k.list)
	}
}

// permit gives who a configuration is of the policy that is written for it, but
// for one statement.
func (c *cloud) permit(t *testing.T, way, sid string, w sluice.Wish) json.RawMessage {
	t.Helper()
	changes := c.by(way, state())
	documents, _, _ := advise(t, adviceSpec(c.with(t, changes)), w)
	if d, ok := documents["iotPolicy"]; ok {
		attached(d.without(sid).String())(t, c)
	}
	key, err := c.CreateUser("sluice", documents["iamPolicy"].without(sid).String())
	if err != nil {
		t.Fatal(err)
	}
	maps.Copy(changes, map[string]any{"accessKeyId": key.ID, "secretAccessKey": key.Secret})
	return c.with(t, changes)
}

// worksBy has a connection do all it does with presence and shadows, and wants
// no event.
func (c *cloud) worksBy(t *testing.T, conf json.RawMessage) {
	t.Helper()
	w := c.watch(t, presenceTopic)
	p := newQuickPool()
	s := open(t, p.dial(t, 0, conf), 0)
	k := &taken{}
	subscribe(t, s, k.take)
	w.awaitStates(t, "online")
	handle(t, s, uplinkOf(device, 1, ""))
	c.shows(t, device, "reported.FCntUp", "1")
	c.hears(t)
	c.desire(t, device, `{"desired":{"downlink":{"payload_hex":"0a","FPort":2,"CorrelationID":"00000000000000C1"}}}`)
	k.await(t, 1)
	handle(t, s, fate(sluice.KindDownlinkQueued, "00000000000000C1", `,"DeliveryStatus":200`))
	c.shows(t, device, "reported.downlinkState.state", `"queued"`)
	if events := p.events.Of(""); len(events) > 0 {
		t.Errorf("events %+v", events)
	}
}

// The policy that an examination wants lets the doctor retain a message on a
// topic of its own, below that of the presence; the least policy does not.
func TestPolicyOfTheDoctorsPresence(t *testing.T) {
	for _, wish := range []sluice.Wish{{}, {Examine: true}} {
		c := strictCloud(t)
		conf := c.permit(t, "SSL", "", wish)
		s := stepOf(t, examine(t, conf, sluice.Examination{}), "presence")
		if tried := strings.Contains(s.Detail, "keeps what is retained"); s.State != sluice.StepOK || tried != wish.Examine {
			t.Errorf("%+v: %+v", wish, s)
		}
	}
}

// What the REST API needs of the policy follows the shadow that is used.
func TestPolicyResourcesOfTheRESTAPI(t *testing.T) {
	c := newCloud(t, awsiottest.Options{})
	for name, tc := range map[string]struct {
		shadow map[string]any
		want   string
	}{
		"reported": {map[string]any{"enabled": true}, "UpdateThingShadow thing/*"},
		"classic":  {map[string]any{"enabled": true, "desired": true}, "UpdateThingShadow GetThingShadow thing/*; Subscribe topicfilter/$aws/things/+/shadow/update/delta; Receive topic/$aws/things/*/shadow/update/delta"},
		"named":    {map[string]any{"enabled": true, "name": "a$b"}, "UpdateThingShadow thing/*/a${$}b"},
	} {
		documents, _, _ := advise(t, adviceSpec(c.with(t, c.by("HTTPS", map[string]any{"shadow": tc.shadow}))), sluice.Wish{})
		var got []string
		for _, s := range documents["iotPolicy"].Statement {
			if !strings.HasSuffix(s["Sid"].(string), "Shadows") {
				continue
			}
			var parts []string
			for _, a := range s["Action"].([]any) {
				parts = append(parts, strings.TrimPrefix(a.(string), "iot:"))
			}
			for _, r := range s["Resource"].([]any) {
				parts = append(parts, strings.SplitN(r.(string), ":", 6)[5])
			}
			got = append(got, strings.Join(parts, " "))
		}
		if text := strings.Join(got, "; "); text != tc.want {
			t.Errorf("%s: %s", name, text)
		}
	}
}
