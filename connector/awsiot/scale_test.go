package awsiot_test

import (
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"sluice"
	"sluice/connector/awsiot"
	"sluice/connector/awsiot/awsiottest"
	"sluice/connector/connectortest"
)

// meter is a wire to the emulator that takes as long as AWS does, by the time
// of the test, and counts what is throttled.
type meter struct {
	http.RoundTripper
	throttled atomic.Int64
}

func (m *meter) RoundTrip(r *http.Request) (*http.Response, error) {
	time.Sleep(60 * time.Millisecond)
	out, err := m.RoundTripper.RoundTrip(r)
	if err == nil && strings.HasPrefix(out.Header.Get("X-Amzn-Errortype"), "Throttling") {
		m.throttled.Add(1)
	}
	return out, err
}

// many has n devices, from one number on, seen for the first time within a
// second, and returns how long each waited at most.
func many(t *testing.T, d sluice.Dialer, from, n int) time.Duration {
	t.Helper()
	var longest atomic.Int64
	var wg sync.WaitGroup
	for i := range n {
		for range 2 { // the first two reports of each
			wg.Go(func() {
				time.Sleep(time.Duration(i) * time.Second / time.Duration(n))
				began := time.Now()
				if err := d.(sluice.Preparer).Prepare(t.Context(), connectortest.Uplink(fmt.Sprintf("%016X", from+i), 1)); err != nil {
					t.Error(err)
				}
				took := int64(time.Since(began))
				for old := longest.Load(); took > old && !longest.CompareAndSwap(old, took); old = longest.Load() {
				}
			})
		}
	}
	wg.Wait()
	return time.Duration(longest.Load())
}

// settled waits until n things are registered.
func (r *rig) settled(n int) {
	for {
		registered := 0
		for _, t := range r.things.All() {
			if t.State == sluice.ThingRegistered {
				registered++
			}
		}
		if registered >= n {
			return
		}
		time.Sleep(time.Second / 2)
	}
}

// scale is how many devices the tests have; AWS makes 100 things a second.
func scale(t *testing.T) int {
	if testing.Short() {
		return 1000
	}
	return 10_000
}

// Ten thousand new devices in a second: each is made, once, as fast as AWS
// allows, and nothing is throttled. None waits longer than it is to, and a
// device that is known does not wait at all.
func TestTenThousandNewDevices(t *testing.T) {
	n := scale(t)
	c := newCloud(t, awsiottest.Options{})
	wire := &meter{RoundTripper: c.ControlTransport()}
	synctest.Test(t, func(t *testing.T) {
		r := newRig()
		d := r.dial(t, awsiot.Options{Transport: wire}, c.with(t, map[string]any{"provisioningTimeout": "10s"}))
		known := connectortest.Uplink("FFFFFFFFFFFFFFFF", 1)
		if err := d.(sluice.Preparer).Prepare(t.Context(), known); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		var wg sync.WaitGroup
		wg.Go(func() {
			for time.Since(began) < time.Duration(n)*time.Second/100 {
				at := time.Now()
				if err := d.(sluice.Preparer).Prepare(t.Context(), known); err != nil || time.Since(at) > 0 {
					t.Errorf("a known device waited %s: %v", time.Since(at), err)
				}
				time.Sleep(time.Second / 10)
			}
		})
		if longest := many(t, d, 0, n); longest > 10*time.Second {
			t.Errorf("a device waited %s", longest)
		}
		wg.Wait()
		r.settled(n + 1)
		took := time.Since(began)
		t.Logf("%d things in %s; %d DescribeThing, %d CreateThing, %d AttachThingPrincipal, %d ListThings", n, took,
			c.Calls("DescribeThing"), c.Calls("CreateThing"), c.Calls("AttachThingPrincipal"), c.Calls("ListThings"))
		if allowed := time.Duration(n) * time.Second / 100; took > allowed*106/100 {
			t.Errorf("it took %s; AWS allows %s", took, allowed)
		}
		if wire.throttled.Load() > 0 {
			t.Errorf("%d calls were throttled", wire.throttled.Load())
		}
		if len(c.Things()) != n+1 || c.Calls("CreateThing") != n+1 || c.Calls("AttachThingPrincipal") != n+1 {
			t.Errorf("%d things, %d creations, %d attachments", len(c.Things()), c.Calls("CreateThing"), c.Calls("AttachThingPrincipal"))
		}
		d.Close()
		if events, things := r.told(t, sluice.EventThingCreated); things != n+1 || events > 10+n/100/10+2 {
			t.Errorf("%d events tell of %d things", events, things)
		}
	})
}

// told is how many events of a type there are, and of how many things they tell.
func (r *rig) told(t *testing.T, of sluice.EventType) (events, things int) {
	t.Helper()
	for _, e := range r.events.Of(of) {
		n := 1
		if e.DevEUI == "" {
			number := strings.Trim(regexp.MustCompile(`(^| )[0-9]+ `).FindString(e.Detail), " ")
			var err error
			if n, err = strconv.Atoi(number); err != nil || !strings.HasSuffix(e.Detail, " others.") || !strings.HasPrefix(e.Label, "Things ") {
				t.Fatalf("it tells of no number: %+v", e)
			}
		}
		events, things = events+1, things+n
	}
	return events, things
}

// A thousand devices that are no things, and are not to be made: some are told
// by themselves, and the others in a sum.
func TestManyMissingThings(t *testing.T) {
	const n = 1000
	c := newCloud(t, awsiottest.Options{})
	wire := &meter{RoundTripper: c.ControlTransport()}
	synctest.Test(t, func(t *testing.T) {
		r := newRig()
		r.common.CreateDevices = false
		d := r.dial(t, awsiot.Options{Transport: wire}, c.with(t, map[string]any{"createDevices": false}))
		for range 3 {
			for i := range n {
				if err := d.(sluice.Preparer).Prepare(t.Context(), connectortest.Uplink(fmt.Sprintf("%016X", i), 1)); err == nil {
					t.Fatal("a device has a thing")
				}
			}
		}
		d.Close()
		if events, things := r.told(t, sluice.EventThingMissing); things != n || events > 12 {
			t.Errorf("%d events tell of %d things", events, things)
		}
	})
}

// Ten thousand things that exist, and an empty memory: the lists find them
// within seconds, where DescribeThing alone took half a minute and attaching
// the certificate once more to each took two.
func TestTenThousandThingsAreFoundByListing(t *testing.T) {
	n := scale(t)
	for _, denied := range []string{"", "ListThings", "ListPrincipalThings"} {
		t.Run("without "+denied, func(t *testing.T) {
			c := newCloud(t, awsiottest.Options{})
			for i := range n {
				name := fmt.Sprintf("%016X", i)
				if _, err := c.CreateThing(name, c.conf["deviceType"].(string), nil); err != nil {
					t.Fatal(err)
				}
				if err := c.AttachPrincipal(name, c.conf["certificateId"].(string)); err != nil {
					t.Fatal(err)
				}
			}
			c.Deny(denied)
			wire := &meter{RoundTripper: c.ControlTransport()}
			synctest.Test(t, func(t *testing.T) {
				r := newRig()
				d := r.dial(t, awsiot.Options{Transport: wire, ScanFrom: n / 6}, c.with(t, nil))
				began := time.Now()
				many(t, d, 0, n)
				r.settled(n)
				took := time.Since(began)
				t.Logf("%d things in %s; %d DescribeThing, %d AttachThingPrincipal, %d ListThings, %d ListPrincipalThings", n, took,
					c.Calls("DescribeThing"), c.Calls("AttachThingPrincipal"), c.Calls("ListThings"), c.Calls("ListPrincipalThings"))
				if wire.throttled.Load() > 0 {
					t.Errorf("%d calls were throttled", wire.throttled.Load())
				}
				if c.Calls("CreateThing") > 0 {
					t.Errorf("%d creations", c.Calls("CreateThing"))
				}
				events := r.events.Of(sluice.EventThingFailed)
				if denied == "" {
					if looked := time.Duration(n) * time.Second / 350; took > looked/2 {
						t.Errorf("it took %s; DescribeThing alone takes %s", took, looked)
					}
					if len(events) > 0 {
						t.Errorf("events: %+v", events)
					}
				} else if len(events) != 1 || !strings.Contains(events[0].Detail, "iot:"+denied) || !strings.Contains(events[0].Detail, "slowly") {
					t.Errorf("events: %+v", events)
				}
				d.Close()
			})
		})
	}
}

// Two connections to one account share what it takes; one to another account
// has its own.
func TestAccountsShareTheirBudget(t *testing.T) {
	const n = 300
	c := newCloud(t, awsiottest.Options{})
	wire := &meter{RoundTripper: c.ControlTransport()}
	synctest.Test(t, func(t *testing.T) {
		connector := awsiot.New(awsiot.Options{Transport: wire})
		began := time.Now()
		var wg sync.WaitGroup
		for i, prefix := range []string{"one-ats", "one-ats"} {
			r := newRig()
			d := r.dialWith(t, connector, c.with(t, map[string]any{"accountPrefix": prefix}))
			wg.Go(func() {
				many(t, d, i*n, n)
				d.Close()
			})
		}
		wg.Wait()
		if took := time.Since(began); took < 2*n*time.Second/100 || wire.throttled.Load() > 0 {
			t.Errorf("%d things in %s, %d calls throttled", 2*n, took, wire.throttled.Load())
		}
	})
}

// Where others use up what the account takes, calls are throttled: the pace
// gives way, all things are made, and it comes back.
func TestPaceGivesWay(t *testing.T) {
	const n = 600
	c := newCloud(t, awsiottest.Options{APIRates: map[string]int{"CreateThing": 30}})
	wire := &meter{RoundTripper: c.ControlTransport()}
	synctest.Test(t, func(t *testing.T) {
		r := newRig()
		d := r.dial(t, awsiot.Options{Transport: wire}, c.with(t, nil))
		began := time.Now()
		many(t, d, 0, n)
		r.settled(n)
		took, throttled := time.Since(began), wire.throttled.Load()
		t.Logf("%d things in %s, %d calls throttled", n, took, throttled)
		if throttled == 0 || throttled > n/2 || took > 3*n*time.Second/30 {
			t.Errorf("%d things in %s, %d calls throttled", n, took, throttled)
		}
		if events := r.events.Of(sluice.EventThingFailed); len(events) > 1 {
			t.Errorf("events: %+v", events)
		}
		d.Close()
	})
}
