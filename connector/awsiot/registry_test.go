package awsiot_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluice"
	"sluice/connector/awsiot"
	"sluice/connector/awsiot/awsiottest"
	"sluice/connector/connectortest"
)

// eager tries again at once what could not be made.
var eager = awsiot.Options{RetryThing: 20 * time.Millisecond, RecheckMissing: 50 * time.Millisecond}

// prepare makes the dialer of a configuration and the Preparer that it is.
func (r *rig) prepare(tb testing.TB, o awsiot.Options, configuration json.RawMessage) func(m *sluice.Message) error {
	tb.Helper()
	p, ok := r.dial(tb, o, configuration).(sluice.Preparer)
	if !ok {
		tb.Fatal("the Dialer is no Preparer")
	}
	return func(m *sluice.Message) error { return p.Prepare(within(tb), m) }
}

func (r *rig) state(devEUI string) sluice.ThingState {
	t, _ := r.things.Get(devEUI)
	return t.State
}

func TestThingIsMadeOnceAndRemembered(t *testing.T) {
	c := newCloud(t, awsiottest.Options{})
	r := newRig()
	prepare := r.prepare(t, eager, c.with(t, nil))
	for i := range 3 {
		if err := prepare(connectortest.Uplink(device, i)); err != nil {
			t.Fatal(err)
		}
	}
	thing, ok := c.Thing(device)
	if !ok || thing.TypeName != c.conf["deviceType"] || len(thing.Principals) != 1 || thing.Principals[0] != c.conf["certificateId"] {
		t.Errorf("the thing is %+v, %v", thing, ok)
	}
	calls := func() []int {
		return []int{c.Calls("DescribeThing"), c.Calls("CreateThing"), c.Calls("AttachThingPrincipal")}
	}
	if diff := cmp.Diff([]int{1, 1, 1}, calls()); diff != "" {
		t.Error("calls", diff)
	}
	if e := r.events.Of(sluice.EventThingCreated); len(e) != 1 || e[0].DevEUI != device || e[0].Level != sluice.LevelInfo || e[0].Connection != "8" {
		t.Errorf("events: %+v", e)
	}
	// After a restart, with the same configuration, nothing is asked.
	if err := r.prepare(t, eager, c.with(t, nil))(connectortest.Uplink(device, 9)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]int{1, 1, 1}, calls()); diff != "" {
		t.Error("calls after a restart", diff)
	}
	// With another certificate it is asked, and attached.
	other, err := c.CreateKeysAndCertificate(true)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.prepare(t, eager, c.with(t, map[string]any{"certificateId": other.ARN}))(connectortest.Uplink(device, 10)); err != nil {
		t.Fatal(err)
	}
	await(t, "the other certificate is attached", func() bool {
		thing, _ := c.Thing(device)
		return len(thing.Principals) == 2
	})
	if diff := cmp.Diff([]int{2, 1, 2}, calls()); diff != "" {
		t.Error("calls for another certificate", diff)
	}
}

func TestThingThatExists(t *testing.T) {
	c := newCloud(t, awsiottest.Options{})
	if err := c.CreateThingType("other"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.CreateThing(device, "other", nil); err != nil {
		t.Fatal(err)
	}
	r := newRig()
	if err := r.prepare(t, eager, c.with(t, nil))(connectortest.Uplink(device, 1)); err != nil {
		t.Fatal(err)
	}
	thing, _ := c.Thing(device)
	if c.Calls("CreateThing") != 0 || thing.TypeName != "other" || len(thing.Principals) != 1 {
		t.Errorf("%d creations, %+v", c.Calls("CreateThing"), thing)
	}
	if known, _ := r.things.Get(device); known.State != sluice.ThingRegistered || known.Detail == "" {
		t.Errorf("known: %+v", known)
	}
	if e := r.events.Of(sluice.EventThingFailed); len(e) != 1 || !strings.Contains(e[0].Detail, `"other"`) {
		t.Errorf("events: %+v", e)
	}
}

// Many devices at once: each is asked for once, each is made.
func TestManyThingsAtOnce(t *testing.T) {
	const n = 100
	c := newCloud(t, awsiottest.Options{})
	prepare := newRig().prepare(t, eager, c.with(t, nil))
	var wg sync.WaitGroup
	for i := range 2 * n {
		wg.Go(func() {
			if err := prepare(connectortest.Uplink(fmt.Sprintf("%016X", i%n), 1)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if len(c.Things()) != n || c.Calls("DescribeThing") != n || c.Calls("CreateThing") != n || c.Calls("AttachThingPrincipal") != n {
		t.Errorf("%d things, %d %d %d calls", len(c.Things()), c.Calls("DescribeThing"), c.Calls("CreateThing"), c.Calls("AttachThingPrincipal"))
	}
}

func TestThrottledRegistry(t *testing.T) {
	c := newCloud(t, awsiottest.Options{})
	r := newRig()
	prepare := r.prepare(t, eager, c.with(t, nil))
	c.ThrottleRegistry(5) // more than the SDK tries by itself
	if err := prepare(connectortest.Uplink(device, 1)); err != nil {
		t.Fatal(err)
	}
	if r.state(device) != sluice.ThingRegistered || len(r.events.Of(sluice.EventThingFailed)) > 0 {
		t.Errorf("%s, %+v", r.state(device), r.events.Of(sluice.EventThingFailed))
	}
}

// A missing permission is one event that names it; uplinks do not wait, and the
// things are made once it is given.
func TestPermissionMissing(t *testing.T) {
	for _, action := range []string{"DescribeThing", "CreateThing", "AttachThingPrincipal"} {
		t.Run(action, func(t *testing.T) {
			c := newCloud(t, awsiottest.Options{})
			r := newRig()
			prepare := r.prepare(t, eager, c.with(t, nil))
			c.Deny(action)
			for i := range 20 {
				if err := prepare(connectortest.Uplink(fmt.Sprintf("%016X", i), 1)); err != nil {
					t.Fatal(err)
				}
			}
			events := r.events.Of(sluice.EventThingFailed)
			if len(events) != 1 {
				t.Fatalf("%d events: %+v", len(events), events)
			}
			e := events[0]
			if !strings.Contains(e.Detail, "iot:"+action) || e.Reason != sluice.ReasonNotAuthorized || e.Level != sluice.LevelError || e.Hint == "" {
				t.Errorf("%+v", e)
			}
			key := c.AccessKeyID()
			if text := e.Detail + e.Hint; strings.Contains(text, key) || strings.Contains(text, c.SecretAccessKey()) || !strings.Contains(text, key[:4]+"…"+key[len(key)-4:]) {
				t.Errorf("the key: %s", text)
			}
			c.Allow(action)
			await(t, "all are made", func() bool {
				for i := range 20 {
					if r.state(fmt.Sprintf("%016X", i)) != sluice.ThingRegistered {
						return false
					}
				}
				return true
			})
		})
	}
}

func TestCredentialsRefused(t *testing.T) {
	c := newCloud(t, awsiottest.Options{})
	for _, change := range []map[string]any{
		{"secretAccessKey": "lymHcNdzddzerrZHnV5Q5YN/GTMFNiARtAj/7dz4358"},
		{"accessKeyId": "AKIAJUJWTO76B3XZGHYA"},
	} {
		r := newRig()
		if err := r.prepare(t, eager, c.with(t, change))(connectortest.Uplink(device, 1)); err != nil {
			t.Fatal(err)
		}
		e := r.events.Of(sluice.EventThingFailed)
		if len(e) != 1 || e[0].Reason != sluice.ReasonAuthentication || !strings.Contains(e[0].Hint, "clock") {
			t.Fatalf("%+v", e)
		}
		for _, secret := range change {
			if strings.Contains(e[0].Detail, secret.(string)) {
				t.Errorf("a secret is shown: %s", e[0].Detail)
			}
		}
	}
}

func TestThingTypeMissing(t *testing.T) {
	c := newCloud(t, awsiottest.Options{})
	r := newRig()
	prepare := r.prepare(t, eager, c.with(t, map[string]any{"deviceType": "tomorrow"}))
	if err := prepare(connectortest.Uplink(device, 1)); err != nil {
		t.Fatal(err)
	}
	e := r.events.Of(sluice.EventThingFailed)
	if len(e) != 1 || !strings.Contains(e[0].Detail, `"tomorrow"`) || !strings.Contains(e[0].Hint, "create-thing-type") {
		t.Errorf("%+v", e)
	}
	if err := c.CreateThingType("tomorrow"); err != nil {
		t.Fatal(err)
	}
	await(t, "it is made", func() bool { return r.state(device) == sluice.ThingRegistered })
}

// A registry that is down holds a device up no longer than the time-out; its
// thing is made later.
func TestRegistryDown(t *testing.T) {
	c := newCloud(t, awsiottest.Options{})
	r := newRig()
	prepare := r.prepare(t, eager, c.with(t, map[string]any{"provisioningTimeout": "50ms"}))
	c.Fail(awsiottest.Fault{Status: 503, Code: "ServiceUnavailableException", Message: "later"})
	if err := prepare(connectortest.Uplink(device, 1)); err != nil {
		t.Fatal(err)
	}
	if s := r.state(device); s == sluice.ThingRegistered || s == sluice.ThingMissing {
		t.Errorf("state %s", s)
	}
	c.ClearFaults()
	await(t, "it is made", func() bool { return r.state(device) == sluice.ThingRegistered })
}

// Nobody answers: uplinks go after the time-out, and closing does not hang.
func TestRegistrySilent(t *testing.T) {
	c := newCloud(t, awsiottest.Options{})
	silent := listen(t, nil, func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) })
	r := newRig()
	d := r.dial(t, eager, c.with(t, map[string]any{"controlEndpoint": "http://" + silent, "provisioningTimeout": "30ms"}))
	if err := d.(sluice.Preparer).Prepare(within(t), connectortest.Uplink(device, 1)); err != nil {
		t.Fatal(err)
	}
	d.Close()
}

// Closing ends the wait of a device; so does its context.
func TestCloseWhilePreparing(t *testing.T) {
	c := newCloud(t, awsiottest.Options{})
	silent := listen(t, nil, func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) })
	d := newRig().dial(t, eager, c.with(t, map[string]any{"controlEndpoint": "http://" + silent}))
	ctx, cancel := context.WithCancel(t.Context())
	results := make(chan error, 2)
	go func() { results <- d.(sluice.Preparer).Prepare(ctx, connectortest.Uplink(device, 1)) }()
	cancel()
	if err := <-results; err != context.Canceled {
		t.Errorf("cancelled: %v", err)
	}
	go func() { results <- d.(sluice.Preparer).Prepare(within(t), connectortest.Uplink("00000000000000AA", 1)) }()
	d.Close()
	if err := <-results; err != nil { // nil where Prepare came after Close
		if f := failureOf(t, err); f.Verdict != sluice.NotConnected {
			t.Errorf("closed: %+v", f)
		}
	}
}

// With createDevices off, a device that is no thing is skipped, which is told
// once; a thing that is made by hand is found.
func TestThingMissing(t *testing.T) {
	c := newCloud(t, awsiottest.Options{})
	r := newRig()
	r.common.CreateDevices = false
	prepare := r.prepare(t, eager, c.with(t, map[string]any{"createDevices": false}))
	for i := range 5 {
		if f := failureOf(t, prepare(connectortest.Uplink(device, i))); f.Verdict != sluice.Permanent || f.Reason != sluice.ReasonThingMissing {
			t.Fatalf("%+v", f)
		}
	}
	if e := r.events.Of(sluice.EventThingMissing); len(e) != 1 || e[0].DevEUI != device {
		t.Errorf("%+v", e)
	}
	if r.state(device) != sluice.ThingMissing || c.Calls("CreateThing") > 0 {
		t.Errorf("%s, %d creations", r.state(device), c.Calls("CreateThing"))
	}
	if _, err := c.CreateThing(device, "", nil); err != nil {
		t.Fatal(err)
	}
	await(t, "it is found", func() bool { return prepare(connectortest.Uplink(device, 9)) == nil })
	if c.Calls("AttachThingPrincipal") > 0 {
		t.Error("a thing that is not ours was changed")
	}
}

func TestNothingToPrepare(t *testing.T) {
	c := newCloud(t, awsiottest.Options{})
	r := newRig()
	station := connectortest.Uplink("08040059", 1)
	station.Kind = sluice.KindBSAlarm
	rejected := connectortest.Uplink("20635F010800049F", 1) // as it was mistyped
	rejected.Kind = sluice.KindDownlinkRejected
	for _, m := range []*sluice.Message{station, rejected} {
		if err := r.prepare(t, eager, c.with(t, nil))(m); err != nil {
			t.Error(err)
		}
	}
	if err := r.prepare(t, eager, c.with(t, map[string]any{"accessKeyId": nil, "secretAccessKey": nil}))(connectortest.Uplink(device, 1)); err != nil {
		t.Error(err)
	}
	if len(c.Things()) > 0 || c.Calls("DescribeThing") > 0 {
		t.Error("the registry was asked")
	}
}

// The registry is reached over TLS with the configured authority.
func TestRegistryOverTLS(t *testing.T) {
	c := newCloud(t, awsiottest.Options{ControlTLS: true})
	r := newRig()
	if err := r.prepare(t, eager, c.with(t, nil))(connectortest.Uplink(device, 1)); err != nil {
		t.Fatal(err)
	}
	if r.state(device) != sluice.ThingRegistered {
		t.Errorf("%s %+v", r.state(device), r.events.Of(""))
	}
}

func BenchmarkPrepareKnown(b *testing.B) { benchmarkPrepare(b, nil) }

// Two attributes are read from each uplink, to see whether they have changed.
func BenchmarkPrepareKnownWithAttributes(b *testing.B) {
	benchmarkPrepare(b, map[string]any{
		"thingAttributes": map[string]string{"name": "{CustomerData.name}", "port": "{FPort}"},
	})
}

func benchmarkPrepare(b *testing.B, changes map[string]any) {
	c := newCloud(b, awsiottest.Options{})
	p := newRig().dial(b, eager, c.with(b, changes)).(sluice.Preparer)
	m, ctx := uplink(device, "Pump"), within(b)
	if err := p.Prepare(ctx, m); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		_ = p.Prepare(ctx, m)
	}
}
