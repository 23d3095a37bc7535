package flow_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"sluice"
	"sluice/flow"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// journal is a journal in memory, with a hook before each append.
type journal struct {
	mu      sync.Mutex
	entries []sluice.Message
	before  func() error
}

func (j *journal) Append(_ context.Context, ms ...*sluice.Message) error {
	if j.before != nil {
		if err := j.before(); err != nil {
			return err
		}
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, m := range ms {
		j.entries = append(j.entries, *m)
	}
	return nil
}

// places lists where entries went: "connection/driver/validity".
func (j *journal) places() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	var ps []string
	for _, e := range j.entries {
		ps = append(ps, fmt.Sprintf("%s/%s/%s", e.Connection, e.Driver, e.Validity))
	}
	return ps
}

// devices is a registry in memory.
type devices struct {
	mu sync.Mutex
	m  map[string]sluice.Device
}

func (d *devices) Seen(m *sluice.Message) {
	d.mu.Lock()
	defer d.mu.Unlock()
	dev := d.m[m.DevEUI]
	dev.DevEUI, dev.Network = m.DevEUI, m.Network
	if m.Tags != nil {
		dev.Tags = m.Tags
	}
	d.m[m.DevEUI] = dev
}

func (d *devices) Device(eui string) (sluice.Device, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	dev, ok := d.m[eui]
	return dev, ok
}

type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func setup() (*flow.Router, *journal, *devices, *clock) {
	j, d := &journal{}, &devices{m: map[string]sluice.Device{}}
	c := &clock{now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	return flow.New(flow.Options{Journal: j, Devices: d, Clock: c.Now, Window: 10 * time.Minute, WindowSize: 1000}), j, d, c
}

func to(connection string) sluice.FlowConnector {
	return sluice.FlowConnector{ID: "actility-aws-iot", ConnectionID: connection}
}

const eui = "20635F0108000496"

func TestMatching(t *testing.T) {
	all := sluice.Flow{ID: "1", Connectors: []sluice.FlowConnector{to("1")}}
	key := sluice.Flow{
		ID: "2", Driver: &sluice.FlowDriver{ID: sluice.DriverAuto},
		Matchers:   []sluice.Matcher{{Type: "key", Key: "lora:20635f0108000496"}},
		Connectors: []sluice.FlowConnector{{ConnectionID: "2", UplinkTimeValidity: "10m"}},
	}
	tags := sluice.Flow{
		ID:         "3",
		Matchers:   []sluice.Matcher{{Type: "thing", Tags: []string{"Water", "paris"}}, {Type: "thing", Tags: []string{"gas"}}},
		Connectors: []sluice.FlowConnector{to("3"), to("1")},
	}
	both := sluice.Flow{
		ID: "4", Driver: &sluice.FlowDriver{ID: "later:one:1"},
		Matchers:   []sluice.Matcher{{Type: "key", Key: "lora:" + eui}, {Type: "thing", Tags: []string{"gas"}}},
		Connectors: []sluice.FlowConnector{to("2")},
	}
	tests := []struct {
		name  string
		flows []sluice.Flow
		tags  []string
		want  []string
	}{
		{"no flow", nil, nil, []string{"//0s"}},
		{"every device", []sluice.Flow{all}, nil, []string{"1//0s"}},
		{"key in any case, with driver and validity", []sluice.Flow{key}, nil, []string{"2/actility:auto:1/10m0s"}},
		{"all tags, without regard to case", []sluice.Flow{tags}, []string{"PARIS", "water", "x"}, []string{"3//0s", "1//0s"}},
		{"one tag missing", []sluice.Flow{tags}, []string{"water"}, []string{"//0s"}},
		{"matchers are alternatives", []sluice.Flow{tags}, []string{"GAS"}, []string{"3//0s", "1//0s"}},
		{"several flows, each connection once", []sluice.Flow{all, key, tags}, []string{"gas"}, []string{"1//0s", "2/actility:auto:1/10m0s", "3//0s"}},
		{"the first flow wins", []sluice.Flow{both, key}, []string{"gas"}, []string{"2/later:one:1/0s"}},
		{"the order of flows decides, not the kind", []sluice.Flow{key, both}, []string{"gas"}, []string{"2/actility:auto:1/10m0s"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r, j, _, _ := setup()
			r.Set(test.flows, []string{"n"})
			if err := r.Handle(t.Context(), &sluice.Message{Kind: sluice.KindUplink, DevEUI: eui, Network: "n", Tags: test.tags}); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, j.places()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestTagsOfLastReportStandIn(t *testing.T) {
	r, j, _, _ := setup()
	r.Set([]sluice.Flow{{Matchers: []sluice.Matcher{{Type: "thing", Tags: []string{"gas"}}}, Connectors: []sluice.FlowConnector{to("1")}}}, nil)
	for _, m := range []sluice.Message{
		{Kind: sluice.KindUplink, DevEUI: eui, Tags: []string{"gas"}},
		{Kind: sluice.KindLocation, DevEUI: eui},
		{Kind: sluice.KindUplink, DevEUI: eui, Tags: []string{}},
	} {
		if err := r.Handle(t.Context(), &m); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff([]string{"1//0s", "1//0s", "//0s"}, j.places()); diff != "" {
		t.Error(diff)
	}
}

func TestCopyIsAnsweredWithItsFirst(t *testing.T) {
	r, j, _, clock := setup()
	m := &sluice.Message{Kind: sluice.KindUplink, DevEUI: eui, Fingerprint: "f1"}
	handle := func() {
		t.Helper()
		if err := r.Handle(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	handle()
	handle()
	clock.add(4 * time.Minute)
	handle()
	clock.add(2 * time.Minute)
	handle() // in the older half
	if n := len(j.places()); n != 1 {
		t.Fatalf("journalled %d times, want once", n)
	}
	clock.add(11 * time.Minute)
	handle()
	if n := len(j.places()); n != 2 {
		t.Fatalf("journalled %d times, want twice: the window is over", n)
	}
	if s := r.Stats(); s.Reports != 2 || s.Duplicates != 3 || s.Unmatched != 2 {
		t.Errorf("stats = %+v", s)
	}
}

func TestCopyWaitsForItsFirst(t *testing.T) {
	broken := errors.New("journal broken")
	for _, test := range []struct {
		name      string
		outcome   error // of the first
		appends   int   // in the end
		duplicate uint64
	}{{"that succeeds", nil, 1, 1}, {"that fails", broken, 2, 0}} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, j, _, _ := setup()
				release := make(chan error)
				appends := 0
				j.before = func() error { appends++; return <-release }
				m := &sluice.Message{Kind: sluice.KindUplink, DevEUI: eui, Fingerprint: "f1"}
				first, second := make(chan error, 1), make(chan error, 1)
				go func() { first <- r.Handle(t.Context(), m) }()
				synctest.Wait()
				go func() { second <- r.Handle(t.Context(), m) }()
				synctest.Wait()
				if appends != 1 || len(second) != 0 {
					t.Fatalf("%d appends, %d answers: the copy does not wait", appends, len(second))
				}
				release <- test.outcome
				if err := <-first; !errors.Is(err, test.outcome) {
					t.Errorf("first = %v", err)
				}
				synctest.Wait()
				if test.outcome != nil {
					release <- nil // the copy has taken its place
				}
				if err := <-second; err != nil {
					t.Errorf("copy = %v", err)
				}
				if appends != test.appends || r.Stats().Duplicates != test.duplicate {
					t.Errorf("%d appends, %d duplicates", appends, r.Stats().Duplicates)
				}
			})
		})
	}
}

// Two networks report one frame: it is journalled once, and the device stays
// with the network that was first.
func TestCopyFromAnotherNetwork(t *testing.T) {
	r, j, d, _ := setup()
	r.Set([]sluice.Flow{{Connectors: []sluice.FlowConnector{to("1")}}}, []string{"a", "b"})
	handle := func(network, fingerprint string) {
		t.Helper()
		if err := r.Handle(t.Context(), &sluice.Message{Kind: sluice.KindUplink, DevEUI: eui, Network: network, Fingerprint: fingerprint}); err != nil {
			t.Fatal(err)
		}
	}
	for _, order := range [][2]string{{"a", "b"}, {"b", "a"}} {
		for _, network := range order {
			handle(network, "frame"+order[0])
			if got := d.m[eui].Network; got != order[0] {
				t.Errorf("%v: the device is with %q", order, got)
			}
		}
	}
	if got := j.places(); len(got) != 2 || r.Stats().Duplicates != 2 || r.Duplicates("1") != 2 {
		t.Errorf("journalled for %v, %+v, %d duplicates", got, r.Stats(), r.Duplicates("1"))
	}
}

// A copy that leads to other connections than its first, because its network
// knows other tags of the device, is not lost for them.
func TestCopyReachesWhoLacksIt(t *testing.T) {
	r, j, _, _ := setup()
	flow := func(tag, connection string) sluice.Flow {
		return sluice.Flow{Matchers: []sluice.Matcher{{Type: "thing", Tags: []string{tag}}}, Connectors: []sluice.FlowConnector{to(connection)}}
	}
	r.Set([]sluice.Flow{flow("gas", "1"), flow("paris", "2")}, []string{"a", "b"})
	for _, tags := range [][]string{{}, {"gas"}, {"gas", "paris"}, {"paris"}, {"gas"}, {}} {
		m := &sluice.Message{Kind: sluice.KindUplink, DevEUI: eui, Network: "a", Fingerprint: "f", Tags: tags}
		if err := r.Handle(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff([]string{"//0s", "1//0s", "2//0s"}, j.places()); diff != "" {
		t.Error(diff)
	}
	if s := r.Stats(); s.Reports != 1 || s.Duplicates != 5 || r.Duplicates("1") != 2 || r.Duplicates("2") != 1 {
		t.Errorf("%+v, %d and %d duplicates", s, r.Duplicates("1"), r.Duplicates("2"))
	}
}

func TestWindowIsBounded(t *testing.T) {
	r, j, _, _ := setup()
	handle := func(i int) {
		if err := r.Handle(t.Context(), &sluice.Message{DevEUI: eui, Fingerprint: fmt.Sprint(i)}); err != nil {
			t.Fatal(err)
		}
	}
	const n = 2_500 // both halves, and more
	for i := range n {
		handle(i)
	}
	handle(0)     // forgotten: a new report
	handle(n - 1) // remembered
	if got := len(j.places()); got != n+1 {
		t.Errorf("journalled %d, want %d", got, n+1)
	}
}

func TestCommandGoesWhereTheDeviceWasLastSeen(t *testing.T) {
	r, j, _, _ := setup()
	r.Set(nil, []string{"a", "b"})
	for _, network := range []string{"a", "b"} {
		if err := r.Handle(t.Context(), &sluice.Message{Kind: sluice.KindUplink, DevEUI: eui, Network: network}); err != nil {
			t.Fatal(err)
		}
	}
	command := &sluice.Message{Kind: sluice.KindDownlink, DevEUI: eui, Connection: "8"}
	if err := r.Handle(t.Context(), command); err != nil {
		t.Fatal(err)
	}
	last := j.entries[len(j.entries)-1]
	if last.Network != "b" || last.Connection != "8" {
		t.Errorf("command went to network %q from connection %q", last.Network, last.Connection)
	}

	unknown := &sluice.Message{Kind: sluice.KindDownlink, DevEUI: "0000000000000001"}
	err := r.Handle(t.Context(), unknown)
	if v, _ := sluice.VerdictOf(err); v != sluice.Permanent || sluice.ReasonOf(err) != sluice.ReasonUnknownDevice {
		t.Errorf("unknown device among two networks: %v", err)
	}
	r.Set(nil, []string{"a"})
	if err := r.Handle(t.Context(), unknown); err != nil {
		t.Errorf("unknown device, one network: %v", err)
	}
	if err := r.Handle(t.Context(), command); err != nil {
		t.Errorf("device of a deleted network, one network left: %v", err)
	}
	if got := r.Stats().Commands; got != 3 {
		t.Errorf("commands = %d, want 3", got)
	}
	if got := j.entries[len(j.entries)-1].Network; got != "a" {
		t.Errorf("command of the deleted network went to %q", got)
	}
}

type discard struct{}

func (discard) Append(context.Context, ...*sluice.Message) error { return nil }

// A report with a fingerprint, as all are that come from a network.
func BenchmarkWindow(b *testing.B) {
	r := flow.New(flow.Options{Journal: discard{}, Devices: &devices{m: map[string]sluice.Device{}}, Clock: time.Now})
	r.Set([]sluice.Flow{{Connectors: []sluice.FlowConnector{to("1")}}}, nil)
	m := &sluice.Message{Kind: sluice.KindUplink, DevEUI: eui}
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		m.Fingerprint = fmt.Sprintf("%022d", n)
		_ = r.Handle(b.Context(), m)
	}
}

func BenchmarkHandle(b *testing.B) {
	d := &devices{m: map[string]sluice.Device{}}
	for _, n := range []int{1, 100} {
		b.Run(fmt.Sprintf("flows=%d", n), func(b *testing.B) {
			var flows []sluice.Flow
			for i := range n {
				flows = append(flows, sluice.Flow{
					Matchers:   []sluice.Matcher{{Type: "thing", Tags: []string{"gas", fmt.Sprint(i % 10)}}},
					Connectors: []sluice.FlowConnector{to(fmt.Sprint(i))},
				})
			}
			r := flow.New(flow.Options{Journal: discard{}, Devices: d, Clock: time.Now})
			r.Set(flows, nil)
			m := &sluice.Message{Kind: sluice.KindUplink, DevEUI: eui, Tags: []string{"gas", "0"}}
			b.ReportAllocs()
			for b.Loop() {
				_ = r.Handle(b.Context(), m)
			}
		})
	}
}
