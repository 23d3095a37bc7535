package awsiot_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"sluice"
	"sluice/connector/awsiot/awsiottest"
)

// states are what a watcher saw of a presence, such as "online" and
// "offline closed".
func (w *watcher) states(t *testing.T) []string {
	t.Helper()
	var list []string
	for _, p := range w.all() {
		var d struct{ State, Connection, Reason, Time string }
		if err := json.Unmarshal(p.Payload, &d); err != nil {
			t.Fatal(err)
		}
		if d.Connection != "8" || (d.Time == "") != (d.Reason == "lost") {
			t.Errorf("document %s", p.Payload)
		}
		list = append(list, strings.TrimSpace(d.State+" "+d.Reason))
	}
	return list
}

func (w *watcher) awaitStates(t *testing.T, want ...string) {
	t.Helper()
	await(t, fmt.Sprint(want), func() bool { return fmt.Sprint(w.states(t)) == fmt.Sprint(want) })
}

const presenceTopic = "sluice/8/presence"

// The presence is told as it changes and kept for who asks later: online with
// the first lane, offline by the last will when the links are cut, online again
// by itself, and offline when it is closed. Lanes that come and go and a changed
// configuration are no news.
func TestPresence(t *testing.T) {
	c := newCloud(t, awsiottest.Options{})
	w := c.watch(t, presenceTopic)
	conf := c.with(t, map[string]any{"presenceTopic": presenceTopic})
	p := newPool()
	d := p.dial(t, 0, conf)
	first := open(t, d, 0)
	open(t, d, 1)
	w.awaitStates(t, "online")
	closeSession(t, first)

	next := p.dial(t, 1, conf)
	open(t, next, 0)
	w.awaitStates(t, "online", "online")
	d.Close()
	if n := c.Cut(func(id string) bool { return strings.Contains(id, "-presence-") }); n != 1 {
		t.Fatalf("%d clients hold the presence", n)
	}
	w.awaitStates(t, "online", "online", "offline lost", "online")
	next.Close()
	w.awaitStates(t, "online", "online", "offline lost", "online", "offline closed")

	late := c.watchAs(t, "late", presenceTopic)
	late.awaitStates(t, "offline closed")
}

// A connection that is closed while online is not acknowledged yet leaves no
// topic that says online for ever.
func TestPresenceClosedAtOnce(t *testing.T) {
	c := newCloud(t, awsiottest.Options{})
	w := c.watch(t, presenceTopic)
	c.DelayPubacks(500 * time.Millisecond)
	d := newPool().dial(t, 0, c.with(t, map[string]any{"presenceTopic": presenceTopic}))
	open(t, d, 0)
	w.awaitStates(t, "online")
	d.Close()
	w.awaitStates(t, "online", "offline closed")
}

// Another topic, or none, leaves no topic that says online for ever.
func TestPresenceMoves(t *testing.T) {
	c := newCloud(t, awsiottest.Options{})
	w := c.watch(t, "a", "b")
	p := newPool()
	old := p.dial(t, 0, c.with(t, map[string]any{"presenceTopic": "a"}))
	open(t, old, 0)
	w.awaitStates(t, "online")
	open(t, p.dial(t, 1, c.with(t, map[string]any{"presenceTopic": "b"})), 0)
	w.awaitStates(t, "online", "online")
	old.Close()
	w.awaitStates(t, "online", "online", "offline closed")
	if last := w.all()[2]; last.Topic != "a" {
		t.Errorf("offline on %s", last.Topic)
	}
}

// A policy without what the presence needs is told, with the permission that is
// missing; the lanes work.
func TestPresenceRefused(t *testing.T) {
	allow := func(action, condition string) string {
		return `{"Effect":"Allow","Action":"` + action + `","Resource":"*"` + condition + `}`
	}
	const persistent = `,"Condition":{"ForAllValues:StringEquals":{"iot:ConnectAttributes":["PersistentConnect"]}}`
	for name, statements := range map[string][]string{
		"LastWill":      {allow("iot:Connect", persistent), allow("iot:Publish", ""), allow("iot:RetainPublish", "")},
		"RetainPublish": {allow("iot:Connect", ""), allow("iot:Publish", "")},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCloud(t, awsiottest.Options{})
			document := `{"Version":"2012-10-17","Statement":[` + strings.Join(statements, ",") + `]}`
			arn := c.conf["certificateId"].(string)
			if err := c.SetPolicies(arn[strings.LastIndex(arn, "/")+1:], document); err != nil {
				t.Fatal(err)
			}
			r := newRig()
			open(t, r.dial(t, unpaced, c.with(t, map[string]any{"presenceTopic": presenceTopic})), 0)
			await(t, "an event", func() bool { return len(r.events.Of(sluice.EventConfigurationOdd)) > 0 })
			e := r.events.Of(sluice.EventConfigurationOdd)[0]
			if !strings.Contains(e.Hint, name) || !strings.Contains(e.Hint, "topic/"+presenceTopic) {
				t.Errorf("event %+v", e)
			}
		})
	}
}
