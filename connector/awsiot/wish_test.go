package awsiot_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluice"
	"sluice/connector/awsiot"
	"sluice/connector/awsiot/awsiottest"
	"sluice/connector/connectortest"
)

// uplink is a report of a device with a name and tags.
func uplink(devEUI, name string, tags ...string) *sluice.Message {
	m := connectortest.Uplink(devEUI, 1)
	m.Tags = tags
	m.Document = fmt.Appendf(nil, `{"DevEUI_uplink":{"DevEUI":%q,"CustomerData":{"name":%q},"FPort":2}}`, devEUI, name)
	return m
}

// Things are made with the name, the attributes and in the groups that are
// wanted, and changed when the device tells otherwise of itself.
func TestThingsAsTheyAreWanted(t *testing.T) {
	c := newCloud(t, awsiottest.Options{})
	for _, err := range []error{c.CreateThingGroup("meters"), c.CreateThingGroup("city"), c.CreateBillingGroup("water")} {
		if err != nil {
			t.Fatal(err)
		}
	}
	configuration := c.with(t, map[string]any{
		"thingNamePattern":  "lora-{DevEUI}",
		"thingAttributes":   map[string]string{"name": "{CustomerData.name}", "eui": "{DevEUI}", "none": "{Nothing}"},
		"thingTagAttribute": "tags", "thingGroups": []string{"meters", "city"}, "billingGroup": "water",
	})
	r := newRig()
	prepare := r.prepare(t, eager, configuration)
	if err := prepare(uplink(device, "Zähler 7 (Keller)", "Paris:north", "meter")); err != nil {
		t.Fatal(err)
	}
	await(t, "it is registered", func() bool { return r.state(device) == sluice.ThingRegistered })
	name := "lora-" + device
	thing, _ := c.Thing(name)
	want := map[string]string{"name": "Z_hler_7__Keller_", "eui": device, "tags": "Paris:north,meter"}
	if diff := cmp.Diff(want, thing.Attributes); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"city", "meters"}, thing.Groups); diff != "" || thing.BillingGroup != "water" || len(thing.Principals) != 1 {
		t.Errorf("%+v", thing)
	}
	if known, _ := r.things.Get(device); known.Name != "" {
		t.Errorf("the name is remembered although the DevEUI tells it: %+v", known)
	}
	// The same again changes nothing; nor does what is no uplink.
	other := uplink(device, "other")
	other.Kind = sluice.KindNotification
	for _, m := range []*sluice.Message{uplink(device, "Zähler 7 (Keller)", "Paris:north", "meter"), other} {
		if err := prepare(m); err != nil {
			t.Fatal(err)
		}
	}
	if n := c.Calls("UpdateThing"); n > 0 {
		t.Errorf("%d changes of what is the same", n)
	}
	// A device that is renamed, and named once more just after.
	for _, name := range []string{"Roof", "Attic"} {
		if err := prepare(uplink(device, name, "meter")); err != nil {
			t.Fatal(err)
		}
		await(t, "the thing is changed", func() bool {
			thing, _ := c.Thing("lora-" + device)
			return thing.Attributes["name"] == "Roof" && thing.Attributes["tags"] == "meter" && thing.Attributes["eui"] == device
		})
		await(t, "it is remembered", func() bool { k, _ := r.things.Get(device); return k.State == sluice.ThingRegistered && k.Mark != 0 })
	}
	if n := c.Calls("UpdateThing"); n != 1 {
		t.Errorf("%d changes within ten minutes", n)
	}
	if e := r.events.Of(sluice.EventThingFailed); len(e) > 0 {
		t.Errorf("events: %+v", e)
	}
}

// A thing that exists keeps what others gave it and gets what is wanted.
func TestThingThatExistsIsCompleted(t *testing.T) {
	c := newCloud(t, awsiottest.Options{})
	if _, err := c.CreateThing(device, c.conf["deviceType"].(string), map[string]string{"owner": "me", "name": "old"}); err != nil {
		t.Fatal(err)
	}
	r := newRig()
	prepare := r.prepare(t, eager, c.with(t, map[string]any{"thingAttributes": map[string]string{"name": "{CustomerData.name}"}}))
	if err := prepare(uplink(device, "new")); err != nil {
		t.Fatal(err)
	}
	await(t, "it is registered", func() bool { return r.state(device) == sluice.ThingRegistered })
	thing, _ := c.Thing(device)
	if diff := cmp.Diff(map[string]string{"owner": "me", "name": "new"}, thing.Attributes); diff != "" || len(thing.Principals) != 1 {
		t.Error(diff, thing)
	}
}

// A name that AWS does not take, one that no field gives, and one that two
// devices would have: each is told once, and uplinks go all the same.
func TestThingsThatCannotBeNamed(t *testing.T) {
	const second = "20635F0108000002"
	for _, tc := range []struct{ name, first, then, says string }{
		{"refused", "", "two words", `cannot be named "two words"`},
		{"unresolved", "", "", "has no name"},
		{"shared", "pump", "pump", "would both be the thing pump"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := newCloud(t, awsiottest.Options{})
			r := newRig()
			configuration := c.with(t, map[string]any{"thingNamePattern": "{CustomerData.name}"})
			prepare := r.prepare(t, eager, configuration)
			if tc.first != "" {
				if err := prepare(uplink(device, tc.first)); err != nil {
					t.Fatal(err)
				}
				if known, _ := r.things.Get(device); known.Name != tc.first {
					t.Errorf("known: %+v", known)
				}
				prepare = r.prepare(t, eager, configuration) // also after a restart
			}
			for range 3 {
				if err := prepare(uplink(second, tc.then)); err != nil {
					t.Fatal(err)
				}
			}
			e := r.events.Of(sluice.EventThingFailed)
			if len(e) != 1 || !strings.Contains(e[0].Detail, tc.says) || e[0].Hint == "" || r.state(second) != sluice.ThingFailed {
				t.Errorf("%s, events: %+v", r.state(second), e)
			}
		})
	}
}

// What is missing or refused is one event, that says what to do, however many
// devices it concerns, and one when it is mended.
func TestOneEventForACause(t *testing.T) {
	limit := awsiottest.Fault{Action: "CreateThing", Status: 410, Code: "LimitExceededException", Message: "too many things"}
	for _, tc := range []struct {
		name, says string
		conf       map[string]any
		breaks     func(c *cloud)
		mends      func(c *cloud) error
	}{
		{
			"type deprecated", "deprecated", nil,
			func(c *cloud) { c.DeprecateThingType(c.conf["deviceType"].(string)) },
			func(c *cloud) error { return c.UndeprecateThingType(c.conf["deviceType"].(string)) },
		},
		{
			"group missing", `thing group "later"`,
			map[string]any{"thingGroups": []string{"later", "there"}},
			func(*cloud) {},
			func(c *cloud) error { return c.CreateThingGroup("later") },
		},
		{
			"billing group missing", `billing group "later"`,
			map[string]any{"billingGroup": "later"},
			func(*cloud) {},
			func(c *cloud) error { return c.CreateBillingGroup("later") },
		},
		{"limit reached", "limit", nil, func(c *cloud) { c.Fail(limit) }, func(c *cloud) error { c.ClearFaults(); return nil }},
		{"permission", "iot:CreateThing", nil, func(c *cloud) { c.Deny("CreateThing") }, func(c *cloud) error { c.Allow("CreateThing"); return nil }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			const n = 30
			c := newCloud(t, awsiottest.Options{})
			if err := c.CreateThingGroup("there"); err != nil {
				t.Fatal(err)
			}
			r := newRig()
			prepare := r.prepare(t, eager, c.with(t, tc.conf))
			tc.breaks(c)
			for i := range n {
				if err := prepare(connectortest.Uplink(fmt.Sprintf("%016X", i), 1)); err != nil {
					t.Fatal(err)
				}
			}
			await(t, "all have failed", func() bool {
				for i := range n {
					if r.state(fmt.Sprintf("%016X", i)) != sluice.ThingFailed {
						return false
					}
				}
				return true
			})
			if e := r.events.Of(sluice.EventThingFailed); len(e) != 1 || !strings.Contains(e[0].Detail, tc.says) || e[0].Hint == "" && tc.name != "limit" {
				t.Fatalf("events: %+v", e)
			}
			if err := tc.mends(c); err != nil {
				t.Fatal(err)
			}
			await(t, "all are registered", func() bool {
				for i := range n {
					if r.state(fmt.Sprintf("%016X", i)) != sluice.ThingRegistered {
						return false
					}
				}
				return true
			})
			if e := r.events.Of(sluice.EventThingFailed); len(e) != 1 {
				t.Errorf("%d events", len(e))
			}
			if e := r.events.Of(sluice.EventThingRestored); len(e) != 1 || e[0].Level != sluice.LevelInfo {
				t.Errorf("restored: %+v", e)
			}
		})
	}
}

// A policy that denies one thing does not keep the others from being made.
func TestOneThingDenied(t *testing.T) {
	c := newCloud(t, awsiottest.Options{})
	key, err := c.CreateUser("some", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:*","Resource":"*"},
		{"Effect":"Deny","Action":"iot:CreateThing","Resource":"*:thing/`+device+`"}]}`)
	if err != nil {
		t.Fatal(err)
	}
	wire := &meter{RoundTripper: c.ControlTransport()}
	synctest.Test(t, func(t *testing.T) {
		r := newRig()
		d := r.dial(t, awsiot.Options{Transport: wire}, c.with(t, map[string]any{"accessKeyId": key.ID, "secretAccessKey": key.Secret}))
		began := time.Now()
		for i := range 20 {
			for _, eui := range []string{device, fmt.Sprintf("%016X", i)} {
				if err := d.(sluice.Preparer).Prepare(t.Context(), connectortest.Uplink(eui, 1)); err != nil {
					t.Fatal(err)
				}
			}
		}
		r.settled(20)
		if took := time.Since(began); took > 6*time.Second || r.state(device) != sluice.ThingFailed {
			t.Errorf("the others waited %s; it is %s", took, r.state(device))
		}
		d.Close()
	})
}

// A thing that was deleted in AWS is found out when that is asked for, when
// its turn comes, and when AWS says so; it is made again with the next uplink.
func TestDeletedThingIsMadeAgain(t *testing.T) {
	named := map[string]any{"thingNamePattern": "{CustomerData.name}", "thingAttributes": map[string]string{"tag": "{CustomerData.name}"}}
	for _, tc := range []struct {
		name  string
		finds func(r *rig, c *cloud, d sluice.Dialer) error
	}{
		{"on request", func(_ *rig, _ *cloud, d sluice.Dialer) error {
			n, err := d.(sluice.Refresher).Refresh()
			if n != 2 {
				return fmt.Errorf("%d things are looked at: %w", n, err)
			}
			return err
		}},
		{"when a call says so", func(_ *rig, _ *cloud, d sluice.Dialer) error {
			m := uplink(device, "one")
			m.Document = []byte(strings.Replace(string(m.Document), `"name"`, `"renamed":"x","name"`, 1))
			m.Tags = []string{"new"}
			return d.(sluice.Preparer).Prepare(t.Context(), m)
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := newCloud(t, awsiottest.Options{})
			named["thingTagAttribute"] = "tags"
			r := newRig()
			d := r.dial(t, eager, c.with(t, named))
			prepare := d.(sluice.Preparer).Prepare
			for eui, name := range map[string]string{device: "one", "20635F0108000002": "two"} {
				if err := prepare(within(t), uplink(eui, name)); err != nil {
					t.Fatal(err)
				}
				await(t, "it is registered", func() bool { return r.state(eui) == sluice.ThingRegistered })
			}
			if !c.DeleteThing("one") {
				t.Fatal("it is not deleted")
			}
			if err := tc.finds(r, c, d); err != nil {
				t.Fatal(err)
			}
			await(t, "it is found out", func() bool { return r.state(device) == sluice.ThingMissing })
			if e := r.events.Of(sluice.EventThingDeleted); len(e) != 1 || e[0].DevEUI != device {
				t.Errorf("events: %+v", e)
			}
			if _, ok := c.Thing("one"); ok {
				t.Error("it was made again although its device said nothing")
			}
			if err := prepare(within(t), uplink(device, "one")); err != nil {
				t.Fatal(err)
			}
			if thing, ok := c.Thing("one"); !ok || thing.Attributes["tag"] != "one" || len(thing.Principals) != 1 {
				t.Errorf("%+v, %v", thing, ok)
			}
			if r.state("20635F0108000002") != sluice.ThingRegistered {
				t.Error("the other is", r.state("20635F0108000002"))
			}
		})
	}
}

// A changed configuration has things looked at again, without a device that
// waits; memory of another account says nothing.
func TestThingsAfterAChange(t *testing.T) {
	c := newCloud(t, awsiottest.Options{})
	r := newRig()
	if err := r.prepare(t, eager, c.with(t, nil))(connectortest.Uplink(device, 1)); err != nil {
		t.Fatal(err)
	}
	if err := c.CreateThingGroup("meters"); err != nil {
		t.Fatal(err)
	}
	c.Fail(awsiottest.Fault{Status: 503, Code: "ServiceUnavailableException"})
	prepare := r.prepare(t, eager, c.with(t, map[string]any{"thingGroups": []string{"meters"}, "provisioningTimeout": "1h"}))
	if err := prepare(connectortest.Uplink(device, 2)); err != nil { // within the patience of the tests
		t.Fatal(err)
	}
	if r.state(device) != sluice.ThingRegistered {
		t.Error(r.state(device))
	}
	c.ClearFaults()
	await(t, "it is in the group", func() bool { thing, _ := c.Thing(device); return len(thing.Groups) == 1 })
	before := c.Calls("DescribeThing")
	if err := r.prepare(t, eager, c.with(t, map[string]any{"accountPrefix": "another-ats"}))(connectortest.Uplink(device, 3)); err != nil {
		t.Fatal(err)
	}
	if c.Calls("DescribeThing") != before+1 {
		t.Error("another account was not asked")
	}
}

func TestCheckThings(t *testing.T) {
	c := newCloud(t, awsiottest.Options{})
	many := map[string]string{}
	for i := range 51 {
		many[fmt.Sprint("a", i)] = "{DevEUI}"
	}
	for _, tc := range []struct {
		change map[string]any
		path   string // "" for right
	}{
		{map[string]any{"thingNamePattern": "lora:{DevEUI|'x'}", "thingAttributes": map[string]string{"a.b/c": "{CustomerData.name|'None'}"}}, ""},
		{map[string]any{"thingNamePattern": "one"}, "thingNamePattern"},
		{map[string]any{"thingNamePattern": "a b {DevEUI}"}, "thingNamePattern"},
		{map[string]any{"thingNamePattern": "{DevEUI"}, "thingNamePattern"},
		{map[string]any{"thingNamePattern": strings.Repeat("x", 128) + "{DevEUI}"}, "thingNamePattern"},
		{map[string]any{"thingAttributes": map[string]string{"a b": "{DevEUI}"}}, "thingAttributes.a b"},
		{map[string]any{"thingAttributes": map[string]string{"a": "{DevEUI"}}, "thingAttributes.a"},
		{map[string]any{"thingAttributes": map[string]string{"a": ""}}, "thingAttributes.a"},
		{map[string]any{"thingAttributes": many}, "thingAttributes"},
		{map[string]any{"thingAttributes": map[string]string{"a": "x", "b": "x", "c": "x"}, "thingTagAttribute": "d", "deviceType": nil}, "thingAttributes"},
		{map[string]any{"thingAttributes": map[string]string{"a": "x"}, "thingTagAttribute": "a"}, "thingTagAttribute"},
		{map[string]any{"thingTagAttribute": "ä"}, "thingTagAttribute"},
		{map[string]any{"thingGroups": []string{"a", "a"}}, "thingGroups"},
		{map[string]any{"thingGroups": []string{"a b"}}, "thingGroups"},
		{map[string]any{"thingGroups": strings.Split("abcdefghijk", "")}, "thingGroups"},
		{map[string]any{"billingGroup": "a/b"}, "billingGroup"},
		{map[string]any{"thingCheckInterval": "1s"}, "thingCheckInterval"},
		{map[string]any{"thingCheckInterval": "0s"}, ""},
	} {
		_, problems := awsiot.New(awsiot.Options{}).Check(c.with(t, tc.change))
		switch raw, _ := json.Marshal(tc.change); {
		case tc.path == "" && len(problems) > 0, tc.path != "" && (len(problems) != 1 || problems[0].Path != tc.path):
			t.Errorf("%s: %+v", raw, problems)
		}
	}
}
