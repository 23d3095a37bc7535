package awsiot_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sluice"
	"sluice/connector/awsiot/awsiottest"
)

// everything is a configuration that asks the certificate for all there is.
func (c *cloud) everything(t *testing.T) json.RawMessage {
	t.Helper()
	return c.with(t, map[string]any{
		"clientIdPrefix": "gw.7", "poolSize": 2, "downlinkSessions": 2, "presenceTopic": presenceTopic,
		"shadow": map[string]any{"enabled": true, "desired": true},
	})
}

// use opens all sessions of a connection and returns the commands it takes.
func (p *pool) use(t *testing.T, configuration json.RawMessage) (sluice.Session, <-chan sluice.Command) {
	t.Helper()
	taken := make(chan sluice.Command, 10)
	d := p.dial(t, 0, configuration)
	var last sluice.Session
	for lane := range 2 {
		last = open(t, d, lane)
		subscribe(t, last, func(_ context.Context, m sluice.Command) error {
			taken <- m
			return nil
		})
	}
	return last, taken
}

// Sessions under a name of choice that share the commands, the presence and the
// shadows work with exactly the policy that is written for them, and nothing is
// told; the doctor is content, and takes no command from the connection.
func TestPolicyIsEnoughForEverything(t *testing.T) {
	c := strictCloud(t)
	conf := c.everything(t)
	documents, _, _ := advise(t, adviceSpec(conf), sluice.Wish{})
	attached(documents["iotPolicy"].String())(t, c)
	w := c.watch(t, presenceTopic)
	p := newQuickPool()
	s, taken := p.use(t, conf)
	w.awaitStates(t, "online")
	handle(t, s, uplinkOf(device, 1, ""))
	c.shows(t, device, "reported.FCntUp", "1")
	w.publish(t, "tpx/things/"+device+"/downlink", 1, []byte(`{}`))
	if m := <-taken; m.Source != "tpx/things/"+device+"/downlink" {
		t.Errorf("command %+v", m)
	}
	c.heard(t, "shadows")
	c.desire(t, device, `{"desired":{"downlink":{"payload_hex":"0a","FPort":2}}}`)
	if m := <-taken; !strings.HasSuffix(m.Source, "/shadow/update/delta") {
		t.Errorf("command %+v", m)
	}
	if steps := examine(t, conf, sluice.Examination{}); verdict(steps) != "ok" {
		t.Errorf("%+v", steps)
	}
	if events := p.events.Of(""); len(events) > 0 {
		t.Errorf("events %+v", events)
	}
}

// Taken any one of these statements away, or the last will, an event says what
// is missing.
func TestPolicyOfPresenceAndShadowsIsNoMoreThanEnough(t *testing.T) {
	for sid, want := range map[string]struct {
		event sluice.EventType
		hint  string
	}{
		"Presence":         {sluice.EventConfigurationOdd, "iot:Publish"},
		"RetainPublish":    {sluice.EventConfigurationOdd, "iot:RetainPublish"},
		"LastWill":         {sluice.EventConfigurationOdd, "LastWill"},
		"PublishShadows":   {sluice.EventShadowFailed, "iot:Publish"},
		"SubscribeShadows": {sluice.EventShadowFailed, "iot:Subscribe"},
	} {
		t.Run(sid, func(t *testing.T) {
			t.Parallel()
			c := strictCloud(t)
			conf := c.everything(t)
			documents, _, _ := advise(t, adviceSpec(conf), sluice.Wish{})
			policy := documents["iotPolicy"].without(sid).String()
			for _, part := range []string{`,"LastWill"`, `,"iot:RetainPublish"`} {
				if strings.Contains(part, sid) {
					policy = strings.Replace(policy, part, "", 1)
				}
			}
			attached(policy)(t, c)
			p := newQuickPool()
			s, _ := p.use(t, conf)
			handle(t, s, uplinkOf(device, 1, ""))
			await(t, "an event", func() bool {
				for _, e := range p.events.Of(want.event) {
					if strings.Contains(e.Hint, want.hint) {
						return true
					}
				}
				return false
			})
		})
	}
}

// A policy that is too long for AWS is told of.
func TestPolicyTooLong(t *testing.T) {
	c := newCloud(t, awsiottest.Options{})
	for _, long := range []bool{false, true} {
		presence := presenceTopic
		if long {
			presence = strings.Repeat("x", 250)
		}
		documents, _, notes := advise(t, adviceSpec(c.with(t, map[string]any{
			"poolSize": 2, "downlinkSessions": 2, "presenceTopic": presence, "uplinkTopicPattern": presence + "/{DevEUI}",
			"shadow": map[string]any{"enabled": true, "desired": true},
		})), sluice.Wish{Examine: true})
		if told := strings.Contains(fmt.Sprint(notes), "2048"); told != long || long != (len(documents["iotPolicy"].String()) > 2048) {
			t.Errorf("%d characters: %q", len(documents["iotPolicy"].String()), notes)
		}
	}
}

// A doctor that may not use its own share says so.
func TestPolicyOfSharedCommands(t *testing.T) {
	c := strictCloud(t)
	conf := c.everything(t)
	documents, _, _ := advise(t, adviceSpec(conf), sluice.Wish{Examine: true})
	attached(documents["iotPolicy"].without("Subscribe").String())(t, c)
	if got := verdict(examine(t, conf, sluice.Examination{})); got != "subscribe: subscribe_denied" {
		t.Error(got)
	}
}

// What it names is what there is: the ids, the share, the shadow and the topic.
func TestPolicyResourcesOfEverything(t *testing.T) {
	c := newCloud(t, awsiottest.Options{})
	for name, tc := range map[string]struct {
		change     map[string]any
		connection string
		want       map[string]string
	}{
		"all": {map[string]any{"shadow": map[string]any{"enabled": true, "desired": true, "name": "a$b"}}, "8", map[string]string{
			"Connect":          "client/gw.7-a1b2c3d4-8-*",
			"Subscribe":        "topicfilter/$share/gw.7-a1b2c3d4-8*/tpx/things/+/downlink",
			"Presence":         "topic/sluice/8/presence",
			"PublishShadows":   "topic/$aws/things/*/shadow/name/a${$}b/update topic/$aws/things/*/shadow/name/a${$}b/get",
			"SubscribeShadows": filtersOf("topicfilter/$aws/things/+/shadow/name/a${$}b/"),
			"ReceiveShadows":   filtersOf("topic/$aws/things/*/shadow/name/a${$}b/"),
		}},
		"reported alone": {map[string]any{"shadow": map[string]any{"enabled": true}, "presenceTopic": "", "downlinkSessions": 1}, "8", map[string]string{
			"Connect": "client/gw.7-a1b2c3d4-8-*", "Subscribe": "topicfilter/tpx/things/+/downlink",
			"PublishShadows":   "topic/$aws/things/*/shadow/update",
			"SubscribeShadows": "topicfilter/$aws/things/+/shadow/update/rejected", "ReceiveShadows": "topic/$aws/things/*/shadow/update/rejected",
		}},
		"not stored": {map[string]any{"presenceTopic": "", "shadow": map[string]any{}}, "", map[string]string{
			"Connect": "client/gw.7-*", "Subscribe": "topicfilter/$share/gw.7-*/tpx/things/+/downlink",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			var m map[string]any
			if err := json.Unmarshal(c.everything(t), &m); err != nil {
				t.Fatal(err)
			}
			for k, v := range tc.change {
				m[k] = v
			}
			raw, _ := json.Marshal(m)
			spec := adviceSpec(raw)
			spec.Connection.ID = tc.connection
			documents, _, _ := advise(t, spec, sluice.Wish{})
			got := map[string]string{}
			for _, st := range documents["iotPolicy"].Statement {
				var list []string
				for _, r := range st["Resource"].([]any) {
					list = append(list, strings.SplitN(r.(string), ":", 6)[5])
				}
				got[st["Sid"].(string)] = strings.Join(list, " ")
			}
			delete(got, "Publish")
			delete(got, "Receive")
			if d := cmp.Diff(tc.want, got); d != "" {
				t.Errorf("(-want +got)\n%s", d)
			}
		})
	}
}

func filtersOf(prefix string) string {
	return fmt.Sprintf("%[1]supdate/rejected %[1]sget/* %[1]supdate/delta", prefix)
}
