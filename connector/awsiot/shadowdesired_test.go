package awsiot_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/tidwall/gjson"

	"sluice"
	"sluice/connector/awsiot"
	"sluice/connector/awsiot/awsiottest"
)

// taken are the commands of shadows, in order.
type taken struct {
	commands
	list []sluice.Command
}

func (k *taken) take(_ context.Context, c sluice.Command) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.list = append(k.list, c)
	return nil
}

func (k *taken) await(tb testing.TB, n int) sluice.Command {
	tb.Helper()
	await(tb, fmt.Sprintf("command %d", n), func() bool {
		k.mu.Lock()
		defer k.mu.Unlock()
		return len(k.list) >= n
	})
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.list) != n {
		tb.Fatalf("%d commands, want %d: %+v", len(k.list), n, k.list)
	}
	return k.list[n-1]
}

// fate is a report of what became of a command.
func fate(kind sluice.Kind, correlation, fields string) *sluice.Message {
	return &sluice.Message{
		ID: "01J" + string(kind), Kind: kind, DevEUI: device, Network: "n",
		Document: fmt.Appendf(nil, `{%q:{"DevEUI":%q,"CorrelationID":%q%s}}`, kind, device, correlation, fields),
	}
}

// commander opens a session that takes commands from shadows.
func (p *pool) commander(t *testing.T, c *cloud, generation int) (sluice.Dialer, sluice.Session, *taken) {
	t.Helper()
	d := p.dial(t, generation, c.shadow(t, map[string]any{"desired": true}))
	s := open(t, d, 0)
	k := &taken{}
	subscribe(t, s, k.take)
	return d, s, k
}

func newQuickPool() *pool { return &pool{rig: newRig(), connector: awsiot.New(quick)} }

// A desired downlink becomes one command, however often the delta comes; when
// the network server has taken it, reported follows; how it went on is told.
func TestShadowCommand(t *testing.T) {
	c := newCloud(t, awsiottest.Options{})
	_, s, k := newQuickPool().commander(t, c, 0)
	c.heard(t, "shadows")
	c.desire(t, device, `{"desired":{"downlink":{"payload_hex":"0a","FPort":2,"ValidityTime":60},"color":"red"}}`)
	got := k.await(t, 1)
	correlation := gjson.GetBytes(got.Document, "DevEUI_downlink.CorrelationID").Str
	if len(correlation) != 16 || got.DevEUI != device || got.Source != "$aws/things/"+device+"/shadow/update/delta" || got.ID == "" ||
		string(got.Document) != `{"DevEUI_downlink":{"CorrelationID":"`+correlation+`","FPort":2,"ValidityTime":60,"payload_hex":"0a"}}` {
		t.Errorf("command %+v %s", got, got.Document)
	}
	for n := range 3 { // each update brings the delta again
		handle(t, s, uplinkOf(device, n+1, ""))
		c.shows(t, device, "reported.FCntUp", fmt.Sprint(n+1))
	}
	await(t, "the deltas to be over", func() bool { return c.ClientStats()[c.link()].Acknowledged == 4 })
	k.await(t, 1)
	handle(t, s, fate(sluice.KindDownlinkQueued, "0000000000000000", "")) // another's
	handle(t, s, fate(sluice.KindDownlinkQueued, correlation, `,"DeliveryStatus":200,"CommandID":"01JX"`))
	c.shows(t, device, "reported.downlinkState.state", `"queued"`)
	c.shows(t, device, "delta", `{"color":"red"}`)
	if got := c.state(device, "reported.downlink").Raw; got != `{"FPort":2,"ValidityTime":60,"payload_hex":"0a"}` {
		t.Errorf("reported.downlink %s", got)
	}
	handle(t, s, fate(sluice.KindDownlinkSent, correlation, `,"DeliveryStatus":1`))
	c.shows(t, device, "reported.downlinkState.state", `"sent"`)

	// Another one, of which the delta tells the difference alone.
	c.desire(t, device, `{"desired":{"downlink":{"payload_hex":"0b","ValidityTime":null,"CorrelationID":"00000000000000B2"}}}`)
	if got := k.await(t, 2); string(got.Document) != `{"DevEUI_downlink":{"CorrelationID":"00000000000000B2","FPort":2,"payload_hex":"0b"}}` {
		t.Errorf("command %s", got.Document)
	}
	handle(t, s, fate(sluice.KindDownlinkRejected, "00000000000000b2", `,"DeliveryStatus":350,"DownlinkRejectionCause":"No."`))
	c.shows(t, device, "reported.downlinkState.state", `"rejected"`)
	state := c.state(device, "reported.downlinkState")
	if state.Get("cause").Str != "No." || state.Get("DeliveryStatus").Int() != 350 || state.Get("CommandID").Exists() {
		t.Errorf("state %s", state.Raw)
	}
	handle(t, s, uplinkOf(device, 9, ""))
	c.shows(t, device, "reported.FCntUp", "9")
	c.shows(t, device, "delta", `{"color":"red"}`) // it is done with, and does not loop
	if got := c.state(device, "reported.downlink").Raw; got != `{"CorrelationID":"00000000000000B2","FPort":2,"payload_hex":"0b"}` {
		t.Errorf("reported.downlink %s", got)
	}

	// The same once more is another command when it is named another.
	c.desire(t, device, `{"desired":{"downlink":{"CorrelationID":"00000000000000B3"}}}`)
	k.await(t, 3)
	handle(t, s, fate(sluice.KindDownlinkRejected, "00000000000000B3", `,"DeliveryStatus":0,"DownlinkRejectionCause":"Validity time expired. It is old."`))
	c.shows(t, device, "reported.downlinkState.state", `"expired"`)
	k.await(t, 3)
}

// A delta is acknowledged when its command is taken, not before.
func TestShadowCommandIsOffered(t *testing.T) {
	c := newCloud(t, awsiottest.Options{})
	p := newQuickPool()
	s := open(t, p.dial(t, 0, c.shadow(t, map[string]any{"desired": true})), 0)
	var tries atomic.Int32
	var acknowledged atomic.Uint64
	ready := make(chan struct{})
	subscribe(t, s, func(context.Context, sluice.Command) error {
		switch tries.Add(1) {
		case 1, 2:
			return errors.New("the disk is full")
		case 3:
			<-ready
		}
		return nil
	})
	c.heard(t, "shadows")
	c.desire(t, device, `{"desired":{"downlink":{"FPort":1,"payload_hex":"01"}}}`)
	await(t, "three tries", func() bool { return tries.Load() == 3 })
	acknowledged.Store(c.ClientStats()[c.link()].Acknowledged)
	close(ready)
	await(t, "the acknowledgement", func() bool { return c.ClientStats()[c.link()].Acknowledged == 1 })
	if acknowledged.Load() != 0 {
		t.Error("it was acknowledged before")
	}
}

// What is desired while Sluice is away is taken after: AWS has kept the delta;
// and where it has not, after the device's next uplink. Once each.
func TestShadowCommandWhileAway(t *testing.T) {
	c := newCloud(t, awsiottest.Options{})
	p := newQuickPool()
	d, s, _ := p.commander(t, c, 0)
	c.heard(t, "shadows")
	closeSession(t, s)
	d.Close()
	c.desire(t, device, `{"desired":{"downlink":{"FPort":1,"payload_hex":"01"}}}`)
	d, s, k := p.commander(t, c, 0)
	first := k.await(t, 1)
	closeSession(t, s)
	d.Close()
	const other = "20635F0108000497"
	c.desire(t, other, `{"desired":{"downlink":{"FPort":1,"payload_hex":"02"}}}`)
	if err := c.RestartBroker(false); err != nil {
		t.Fatal(err)
	}
	d = p.dial(t, 0, c.shadow(t, map[string]any{"desired": true, "reported": false}))
	s = open(t, d, 0)
	k = &taken{}
	subscribe(t, s, k.take)
	c.heard(t, "shadows")
	handle(t, s, uplinkOf(other, 1, ""), uplinkOf(other, 2, ""))
	if got := k.await(t, 1); got.DevEUI != other {
		t.Errorf("command %+v", got)
	}
	// That of before, whose fate nobody knows, is read again: its id tells the
	// journal that it is the same.
	handle(t, s, uplinkOf(device, 1, ""))
	again := k.await(t, 2)
	if diff := cmp.Diff(first, again); diff != "" {
		t.Errorf("(-first +again): %s", diff)
	}
	// A fate that comes after a restart finds its command.
	handle(t, s, fate(sluice.KindDownlinkQueued, gjson.GetBytes(first.Document, "DevEUI_downlink.CorrelationID").Str, `,"DeliveryStatus":200`))
	c.shows(t, device, "reported.downlinkState.state", `"queued"`)
}

// A lost link is opened again; a changed configuration takes it over.
func TestShadowLink(t *testing.T) {
	c := newCloud(t, awsiottest.Options{})
	p := newQuickPool()
	d, s, k := p.commander(t, c, 0)
	c.heard(t, "shadows")
	c.Cut(func(id string) bool { return id == c.link() })
	c.desire(t, device, `{"desired":{"downlink":{"FPort":1,"payload_hex":"01"}}}`)
	k.await(t, 1)
	if s.Err() != nil {
		t.Errorf("the session ended: %v", s.Err())
	}
	d2, s2, k2 := p.commander(t, c, 1)
	closeSession(t, s)
	const other = "20635F0108000497"
	c.desire(t, other, `{"desired":{"downlink":{"FPort":1,"payload_hex":"02"}}}`)
	k2.await(t, 1)
	k.await(t, 1)
	d.Close()
	endSession(t, s2)
	d2.Close()
	await(t, "the end of the session of the shadows", func() bool { return !c.ClientStats()[c.link()].Session })
	if events := p.events.Of(sluice.EventShadowFailed); len(events) > 0 {
		t.Errorf("events %+v", events)
	}
}

// Deltas without a command are told once a device; things that are no devices
// are left alone.
func TestShadowIgnored(t *testing.T) {
	c := newCloud(t, awsiottest.Options{})
	p := newQuickPool()
	_, _, k := p.commander(t, c, 0)
	c.heard(t, "shadows")
	c.desire(t, "lamp", `{"desired":{"downlink":{"FPort":1,"payload_hex":"01"}}}`)
	c.desire(t, device, `{"desired":{"color":"red"}}`)
	c.desire(t, device, `{"desired":{"color":"blue"}}`)
	c.desire(t, "20635F0108000497", `{"desired":{"downlink":"on"}}`)
	ignored := func() []sluice.Event { return p.events.Of(sluice.EventDownlinkIgnored) }
	await(t, "the events", func() bool { return len(ignored()) >= 2 })
	c.desire(t, device, `{"desired":{"downlink":{"FPort":1,"payload_hex":"01"}}}`)
	k.await(t, 1)
	if e := ignored(); len(e) != 2 || e[0].DevEUI != device || !strings.Contains(e[0].Detail, "no downlink") || !strings.Contains(e[1].Detail, "no object") {
		t.Errorf("events %+v", e)
	}
}

// Where no persistent session is allowed, commands are taken nevertheless, and
// an event says what is missing.
func TestShadowNotKept(t *testing.T) {
	c := newCloud(t, awsiottest.Options{})
	c.RefusePersistent(true)
	p := newQuickPool()
	_, s, k := p.commander(t, c, 0)
	c.heard(t, "shadows")
	c.desire(t, device, `{"desired":{"downlink":{"FPort":1,"payload_hex":"01"}}}`)
	k.await(t, 1)
	told := false
	for _, e := range p.events.Of(sluice.EventConfigurationOdd) {
		told = told || e.Label == "Shadow changes not kept" && strings.Contains(e.Hint, "PersistentConnect")
	}
	if !told || s.Err() != nil {
		t.Errorf("events %+v, session %v", p.events.Of(""), s.Err())
	}
}
