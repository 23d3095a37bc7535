package app

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sluice"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// kind opens networks that do nothing.
type kind struct{}

func (kind) Kind() string                                           { return "k" }
func (kind) Schema() json.RawMessage                                { return nil }
func (kind) Check(json.RawMessage) []sluice.Problem                 { return nil }
func (kind) Open(s sluice.NetworkSpec) (sluice.Network, error)      { return &network{spec: s}, nil }
func (n *network) Handle(context.Context, *sluice.Message) error    { return nil }
func (n *network) ServeHTTP(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }
func (n *network) Close()                                           { n.closed.Store(true) }

type network struct {
	spec   sluice.NetworkSpec
	closed atomic.Bool
}

// shelf holds what is stored.
type shelf struct {
	mu   sync.Mutex
	list []sluice.NetworkConfig
}

func (s *shelf) all() []sluice.NetworkConfig {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]sluice.NetworkConfig{}, s.list...)
}

func (s *shelf) set(list ...sluice.NetworkConfig) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = list
}

func run(t *testing.T, stored *shelf, deliver func(context.Context, string, sluice.Handler) error) *networks {
	t.Helper()
	n := newNetworks([]sluice.NetworkKind{kind{}}, stored.all, sluice.NetworkSpec{Log: slog.New(slog.DiscardHandler)}, deliver)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	<-n.ready
	return n
}

// A door that is being replaced, with a downlink under way that takes its
// time, does not hold up the first report of a new network.
func TestIngestDoesNotWaitForOldDoors(t *testing.T) {
	release := make(chan struct{})
	var reading, stuck atomic.Int32
	stored := &shelf{list: []sluice.NetworkConfig{{ID: "a", Kind: "k"}}}
	n := run(t, stored, func(ctx context.Context, _ string, _ sluice.Handler) error {
		reading.Add(1)
		<-ctx.Done()
		stuck.Add(1)
		<-release
		return nil
	})
	t.Cleanup(func() { close(release) }) // before Run is waited for
	await(t, func() bool { return reading.Load() > 0 })
	stored.set(sluice.NetworkConfig{ID: "a", Kind: "k", Name: "changed"})
	n.Changed()
	await(t, func() bool { return stuck.Load() > 0 })
	stored.set(sluice.NetworkConfig{ID: "a", Kind: "k", Name: "changed"}, sluice.NetworkConfig{ID: "b", Kind: "k"})
	if _, ok := n.Ingest("b"); !ok {
		t.Error("the new network is not there")
	}
	if _, ok := n.Ingest("c"); ok {
		t.Error("a network that is not stored is there")
	}
}

// A reader of commands that ends early is begun again.
func TestCommandsAreReadAgain(t *testing.T) {
	var calls atomic.Int32
	stored := &shelf{list: []sluice.NetworkConfig{{ID: "a", Kind: "k"}}}
	run(t, stored, func(ctx context.Context, _ string, _ sluice.Handler) error {
		if calls.Add(1) == 1 {
			return errors.New("in use")
		}
		<-ctx.Done()
		return nil
	})
	await(t, func() bool { return calls.Load() == 2 })
}

func TestDoorsFollowWhatIsStored(t *testing.T) {
	stored := &shelf{}
	n := run(t, stored, func(ctx context.Context, _ string, _ sluice.Handler) error { <-ctx.Done(); return nil })
	stored.set(sluice.NetworkConfig{ID: "a", Kind: "k"}, sluice.NetworkConfig{ID: "x", Kind: "unknown"})
	n.Changed()
	await(t, func() bool { _, ok := (*n.open.Load())["a"]; return ok })
	if _, ok := n.Ingest("x"); ok {
		t.Error("a network of an unknown kind is open")
	}
	if open, reason := n.State("x"); open || !strings.Contains(reason, `"unknown"`) {
		t.Errorf("its state: %v %q", open, reason)
	}
	if open, reason := n.State("a"); !open || reason != "" {
		t.Errorf("the state of an open one: %v %q", open, reason)
	}
	first := (*n.open.Load())["a"].network.(*network)
	stored.set(sluice.NetworkConfig{ID: "a", Kind: "k", Name: "new"})
	n.Changed()
	await(t, first.closed.Load)
	if got := (*n.open.Load())["a"].config.Name; got != "new" {
		t.Errorf("the open one is %q", got)
	}
	stored.set()
	n.Changed()
	await(t, func() bool { _, ok := n.Ingest("a"); return !ok })
}

func await(t *testing.T, done func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !done() {
		if time.Now().After(deadline) {
			t.Fatal("waited in vain")
		}
		select {
		case <-t.Context().Done():
			t.Fatal(t.Context().Err())
		case <-time.After(time.Millisecond):
		}
	}
}
