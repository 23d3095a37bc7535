package awsiot_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sluice"
	"sluice/connector/awsiot"
	"sluice/connector/awsiot/awsiottest"
	"sluice/connector/connectortest"
)

// Within a day each thing is looked at once, evenly, at a small share of what
// AWS takes; those that were deleted are found out. Nothing is remembered
// wrongly by that, and after a restart nothing is asked for a known device.
func TestAllThingsAreLookedAtWithinADay(t *testing.T) {
	const n, deleted = 200, 5
	c := newCloud(t, awsiottest.Options{})
	wire := &meter{RoundTripper: c.ControlTransport()}
	synctest.Test(t, func(t *testing.T) {
		r := newRig()
		o := awsiot.Options{Transport: wire}
		d := r.dial(t, o, c.with(t, nil))
		many(t, d, 0, n)
		r.settled(n)
		d.Close()
		asked := c.Calls("DescribeThing")
		d = r.dial(t, o, c.with(t, nil)) // a restart
		many(t, d, 0, n)
		if c.Calls("DescribeThing") > asked {
			t.Error("AWS was asked for devices that are known")
		}
		for i := range deleted {
			c.DeleteThing(fmt.Sprintf("%016X", i))
		}
		time.Sleep(12 * time.Hour)
		if half := c.Calls("DescribeThing") - asked; half < n*45/100 || half > n*55/100 {
			t.Errorf("%d of %d were looked at in half a day", half, n)
		}
		time.Sleep(13 * time.Hour)
		if e := r.events.Of(sluice.EventThingDeleted); len(e) != deleted {
			t.Errorf("%d events: %+v", len(e), e)
		}
		r.settled(n - deleted)
		if err := d.(sluice.Preparer).Prepare(t.Context(), connectortest.Uplink(fmt.Sprintf("%016X", 0), 1)); err != nil {
			t.Error(err)
		}
		if _, ok := c.Thing(fmt.Sprintf("%016X", 0)); !ok {
			t.Error("it was not made again")
		}
		d.Close()
	})
}

// No rounds are made where none are wanted; what is asked for is done all the
// same, at half of DescribeThing's pace at most, so that new devices go first.
func TestRefreshLeavesRoom(t *testing.T) {
	const n = 1000
	c := newCloud(t, awsiottest.Options{})
	wire := &meter{RoundTripper: c.ControlTransport()}
	synctest.Test(t, func(t *testing.T) {
		r := newRig()
		d := r.dial(t, awsiot.Options{Transport: wire}, c.with(t, map[string]any{"thingCheckInterval": "0s"}))
		many(t, d, 0, n)
		r.settled(n)
		asked := c.Calls("DescribeThing")
		time.Sleep(48 * time.Hour)
		if c.Calls("DescribeThing") > asked {
			t.Error("things were looked at")
		}
		if got, err := d.(sluice.Refresher).Refresh(); got != n || err != nil {
			t.Errorf("%d things, %v", got, err)
		}
		time.Sleep(time.Second)
		if waited := many(t, d, n, 1); waited > time.Second {
			t.Errorf("a new device waited %s", waited)
		}
		time.Sleep(n * time.Second / 160)
		if looked := c.Calls("DescribeThing") - asked - 1; looked != n {
			t.Errorf("%d of %d were looked at", looked, n)
		}
		d.Close()
	})
}

// Many things that were deleted are a few events, and their number.
func TestManyDeletedThings(t *testing.T) {
	const n = 200
	c := newCloud(t, awsiottest.Options{})
	wire := &meter{RoundTripper: c.ControlTransport()}
	synctest.Test(t, func(t *testing.T) {
		r := newRig()
		d := r.dial(t, awsiot.Options{Transport: wire}, c.with(t, nil))
		many(t, d, 0, n)
		r.settled(n)
		for i := range n {
			c.DeleteThing(fmt.Sprintf("%016X", i))
		}
		if _, err := d.(sluice.Refresher).Refresh(); err != nil {
			t.Error(err)
		}
		time.Sleep(15 * time.Minute)
		e := r.events.Of(sluice.EventThingDeleted)
		if len(e) != 11 || !strings.HasPrefix(e[10].Detail, "190 things are not in AWS IoT any more") {
			t.Errorf("%d events: %+v", len(e), e)
		}
		d.Close()
	})
}
