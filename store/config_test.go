package store_test

import (
	"encoding/json"
	"regexp"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go/jetstream"

	"sluice"
	"sluice/store"
)

func TestFlows(t *testing.T) {
	h := newHouse(t)
	s := h.store()
	flow := sluice.Flow{
		Name: "all", Driver: &sluice.FlowDriver{ID: sluice.DriverAuto},
		Matchers:   []sluice.Matcher{{Type: sluice.MatcherThing, Tags: []string{"a", "b"}}},
		Connectors: []sluice.FlowConnector{{ID: "actility-aws-iot", ConnectionID: "1", UplinkTimeValidity: "10m"}},
	}
	first := must[sluice.Flow](t)(s.CreateFlow(ctx(), flow))
	flow.Matchers[0].Tags[0] = "changed from outside"
	second := must[sluice.Flow](t)(s.CreateFlow(ctx(), sluice.Flow{Name: "none"}))
	second.Name = "renamed"
	must[sluice.Flow](t)(s.ReplaceFlow(ctx(), second))
	third := must[sluice.Flow](t)(s.CreateFlow(ctx(), sluice.Flow{Name: "gone"}))
	if err := s.DeleteFlow(ctx(), third.ID); err != nil {
		t.Fatal(err)
	}
	if err := s.DeleteFlow(ctx(), third.ID); sluice.CodeOf(err) != sluice.CodeNotFound {
		t.Errorf("deleted twice: %v", err)
	}
	h.restart()
	s = h.store()
	first.Matchers[0].Tags[0] = "a" // shared with flow
	if diff := cmp.Diff([]sluice.Flow{first, second}, s.Flows()); diff != "" {
		t.Error(diff)
	}
	if _, err := s.Flow("3"); sluice.CodeOf(err) != sluice.CodeNotFound {
		t.Errorf("flow 3: %v", err)
	}
}

func TestNetworks(t *testing.T) {
	h := newHouse(t)
	s := h.store()
	n := must[sluice.NetworkConfig](t)(s.CreateNetwork(ctx(), asNetwork("Acme"), []string{"asKey"}))
	if !regexp.MustCompile(`^[a-z2-7]{26}$`).MatchString(n.ID) || !n.Created.Equal(start) {
		t.Errorf("network = %+v", n)
	}
	n.Name = "Acme 2"
	must[sluice.NetworkConfig](t)(s.ReplaceNetwork(ctx(), n, []string{"asKey"}))
	h.restart()
	s = h.store()
	if diff := cmp.Diff(n, must[sluice.NetworkConfig](t)(s.Network(n.ID))); diff != "" {
		t.Error(diff)
	}
	if err := s.DeleteNetwork(ctx(), n.ID); err != nil {
		t.Fatal(err)
	}
	h.restart()
	if all := h.store().Networks(); len(all) != 0 {
		t.Errorf("networks = %v", all)
	}
}

// TestCrash copies the files while the server runs and starts another server
// on the copy: what a write has returned from is there.
func TestCrash(t *testing.T) {
	h := newHouse(t)
	s := h.store()
	c, n := furnish(t, s)
	f := must[sluice.Flow](t)(s.CreateFlow(ctx(), sluice.Flow{Name: "f"}))
	dir := t.TempDir()
	copyTree(t, h.dir, dir)

	crashed := *h
	crashed.server, crashed.conn = serve(t, dir)
	defer crashed.close()
	s = crashed.store()
	if diff := cmp.Diff([]sluice.Connection{c}, s.Connections()); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]sluice.Flow{f}, s.Flows()); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(n, must[sluice.NetworkConfig](t)(s.Network(n.ID))); diff != "" {
		t.Error(diff)
	}
}

// TestTwoStores: a second process cannot overwrite what it has not read.
func TestTwoStores(t *testing.T) {
	h := newHouse(t)
	a := h.store()
	c := must[sluice.Connection](t)(a.CreateConnection(ctx(), awsConnection("x"), awsSecrets))
	b := h.store()
	c.Name = "by a"
	must[sluice.Connection](t)(a.ReplaceConnection(ctx(), c, awsSecrets))
	c.Name = "by b"
	if _, err := b.ReplaceConnection(ctx(), c, awsSecrets); sluice.CodeOf(err) != sluice.CodePrecondition {
		t.Errorf("err = %v, want CodePrecondition", err)
	}
	// The refusal has made it read again.
	if got := must[sluice.Connection](t)(b.Connection(c.ID)); got.Name != "by a" || got.Revision != 2 {
		t.Errorf("b has %+v", got)
	}
	if got := must[sluice.Connection](t)(b.CreateConnection(ctx(), awsConnection("y"), nil)); got.ID != "2" {
		t.Errorf("id = %s", got.ID)
	}
	if got := must[sluice.Connection](t)(a.CreateConnection(ctx(), awsConnection("z"), nil)); got.ID != "3" {
		t.Errorf("id = %s", got.ID)
	}
}

func TestWatch(t *testing.T) {
	s := newHouse(t).store()
	var calls atomic.Int32
	var running atomic.Bool
	seen := 0
	stop := s.Watch(func() {
		if running.Swap(true) {
			t.Error("called twice at once")
		}
		seen = len(s.Connections())
		calls.Add(1)
		running.Store(false)
	})
	must[sluice.Connection](t)(s.CreateConnection(ctx(), awsConnection("x"), nil))
	if calls.Load() != 1 || seen != 1 {
		t.Errorf("%d calls, %d connections seen", calls.Load(), seen)
	}
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if _, err := s.CreateConnection(ctx(), awsConnection("x"), nil); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if seen != 21 {
		t.Errorf("the last call saw %d connections, want 21", seen)
	}
	stop()
	before := calls.Load()
	must[sluice.Flow](t)(s.CreateFlow(ctx(), sluice.Flow{}))
	if calls.Load() != before {
		t.Error("called after stop")
	}
}

func TestStoreUnavailable(t *testing.T) {
	h := newHouse(t)
	s := h.store()
	h.conn.Close()
	_, err := s.CreateConnection(ctx(), awsConnection("x"), awsSecrets)
	if sluice.CodeOf(err) != sluice.CodeUnavailable {
		t.Errorf("create: %v", err)
	}
	if _, _, err := s.Events(ctx(), store.EventQuery{}); sluice.CodeOf(err) != sluice.CodeUnavailable {
		t.Errorf("events: %v", err)
	}
	if _, err := h.tryStore(); sluice.CodeOf(err) != sluice.CodeUnavailable {
		t.Errorf("open: %v", err)
	}
}

func TestEmptyConfigurationIsAnObject(t *testing.T) {
	s := newHouse(t).store()
	c := must[sluice.Connection](t)(s.CreateConnection(ctx(), sluice.Connection{}, nil))
	if diff := cmp.Diff(json.RawMessage(`{}`), c.Configuration); diff != "" {
		t.Error(diff)
	}
}

// TestOnlyBlobsAndWaysMayLag: under a server that syncs always, all else is
// synced.
func TestOnlyBlobsAndWaysMayLag(t *testing.T) {
	h := newHouse(t)
	h.store()
	js := jetStream(t, h.conn)
	for name, want := range map[string]jetstream.PersistModeType{
		"KV_CONFIG": jetstream.DefaultPersistMode,
		"DEVICES":   jetstream.DefaultPersistMode,
		"THINGS":    jetstream.DefaultPersistMode,
		"EVENTS":    jetstream.DefaultPersistMode,
		"BLOBS":     jetstream.AsyncPersistMode,
		"WAYS":      jetstream.AsyncPersistMode,
	} {
		c := must[jetstream.Stream](t)(js.Stream(ctx(), name)).CachedInfo().Config
		if c.PersistMode != want || c.Storage != jetstream.FileStorage {
			t.Errorf("%s has the mode %s, in %s", name, c.PersistMode, c.Storage)
		}
	}
}
