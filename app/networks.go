package app

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/http"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"sluice"
	"sluice/internal/lifetime"
)

// networks keeps a door open for each stored network: it takes its reports
// and hands it the commands that wait for it in the journal.
type networks struct {
	kinds   map[string]sluice.NetworkKind
	stored  func() []sluice.NetworkConfig
	spec    sluice.NetworkSpec // what every network is given
	deliver func(ctx context.Context, id string, to sluice.Handler) error
	log     *slog.Logger

	mu      sync.Mutex // one reconciliation at a time
	old     []*door    // replaced or deleted, to be closed by Run
	failed  map[string]failure
	open    atomic.Pointer[map[string]*door]
	changed chan struct{}
	ready   chan struct{} // closed once the doors of the start are open
}

// failure is why a network could not be opened with a configuration; it is not
// tried again before that changes.
type failure struct {
	config sluice.NetworkConfig
	err    error
}

// door is an open network with the goroutine that reads its commands.
type door struct {
	config  sluice.NetworkConfig
	network sluice.Network
	reports http.Handler // nil for a kind that is not posted to
	stop    func()       // nil before it reads; waits
}

func newNetworks(kinds []sluice.NetworkKind, stored func() []sluice.NetworkConfig, spec sluice.NetworkSpec,
	deliver func(context.Context, string, sluice.Handler) error,
) *networks {
	n := &networks{
		kinds: map[string]sluice.NetworkKind{}, failed: map[string]failure{}, stored: stored, spec: spec, deliver: deliver, log: spec.Log,
		changed: make(chan struct{}, 1), ready: make(chan struct{}),
	}
	for _, k := range kinds {
		n.kinds[k.Kind()] = k
	}
	n.open.Store(&map[string]*door{})
	return n
}

// Ingest returns the door that takes the reports of a network. A network that
// was stored a moment ago is opened on the spot.
func (n *networks) Ingest(id string) (http.Handler, bool) {
	d, ok := (*n.open.Load())[id]
	if !ok {
		if !slices.ContainsFunc(n.stored(), func(c sluice.NetworkConfig) bool { return c.ID == id }) {
			return nil, false
		}
		n.reconcile()
		d, ok = (*n.open.Load())[id]
	}
	if !ok || d.reports == nil {
		return nil, false
	}
	return d.reports, true
}

// State tells whether a stored network is open, or why not.
func (n *networks) State(id string) (open bool, reason string) {
	if _, open := (*n.open.Load())[id]; !open {
		n.reconcile() // it may have been stored a moment ago
	}
	if _, open := (*n.open.Load())[id]; open {
		return true, ""
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return false, errorText(n.failed[id].err)
}

func errorText(err error) string {
	var e *sluice.Error
	switch {
	case err == nil:
		return ""
	case errors.As(err, &e):
		return e.Message
	default:
		return err.Error()
	}
}

// Changed tells that stored networks changed.
func (n *networks) Changed() {
	select {
	case n.changed <- struct{}{}:
	default:
	}
}

// Run keeps the doors as they are stored, and reads their commands.
func (n *networks) Run(ctx context.Context) error {
	defer n.closeAll()
	for first := true; ; first = false {
		n.reconcile()
		n.read(ctx)
		n.closeOld()
		if first {
			close(n.ready)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-n.changed:
		}
	}
}

// reconcile opens what is stored and not open, and takes out of use what is no
// longer stored or has changed. It does not wait for what is under way.
func (n *networks) reconcile() {
	n.mu.Lock()
	defer n.mu.Unlock()
	before := *n.open.Load()
	after := make(map[string]*door, len(before))
	opened := false
	stored := n.stored()
	maps.DeleteFunc(n.failed, func(id string, _ failure) bool {
		return !slices.ContainsFunc(stored, func(c sluice.NetworkConfig) bool { return c.ID == id })
	})
	for _, c := range stored {
		if d, ok := before[c.ID]; ok && reflect.DeepEqual(d.config, c) {
			after[c.ID] = d
			continue
		}
		if d := n.openDoor(c); d != nil {
			after[c.ID] = d
			opened = true
		}
	}
	n.open.Store(&after)
	for id, d := range before {
		if after[id] != d {
			n.old = append(n.old, d)
		}
	}
	if opened || len(n.old) > 0 {
		n.Changed() // Run reads the commands of the new ones, and closes the old
	}
}

// closeOld closes the doors that were taken out of use, and waits for what is
// under way in them.
func (n *networks) closeOld() {
	n.mu.Lock()
	old := n.old
	n.old = nil
	n.mu.Unlock()
	for _, d := range old {
		d.close()
	}
}

// openDoor opens a network, unless it has failed before; nil where it cannot.
// The lock is held.
func (n *networks) openDoor(c sluice.NetworkConfig) *door {
	if f, ok := n.failed[c.ID]; ok && reflect.DeepEqual(f.config, c) {
		return nil
	}
	delete(n.failed, c.ID)
	network, err := n.openNetwork(c)
	if err != nil {
		n.failed[c.ID] = failure{config: c, err: err}
		n.log.Error("network not opened", "network", c.Name, "error", err)
		return nil
	}
	d := &door{config: c, network: network}
	d.reports, _ = network.(http.Handler)
	return d
}

func (n *networks) openNetwork(c sluice.NetworkConfig) (sluice.Network, error) {
	kind, ok := n.kinds[c.Kind]
	if !ok {
		return nil, sluice.Errorf(sluice.CodeInvalid, "This Sluice knows no networks of the kind %q.", c.Kind)
	}
	spec := n.spec
	spec.NetworkConfig = c
	spec.Log = n.log.With("network", c.Name) // its id is as good as a password
	return kind.Open(spec)
}

// read begins to read the commands of each door that is not read yet.
func (n *networks) read(ctx context.Context) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for id, d := range *n.open.Load() {
		if d.stop != nil {
			continue
		}
		own, cancel := context.WithCancel(ctx)
		done := make(chan struct{})
		d.stop = func() { cancel(); <-done }
		// Where the door replaces another, that one still reads for a moment:
		// then the loop tries again.
		loop := lifetime.Loop{
			Name: "commands for " + d.config.Name, Min: 100 * time.Millisecond, Max: 10 * time.Second,
			Rand: rand.Float64, Log: n.log,
		}
		go func() {
			defer close(done)
			loop.Run(own, func(ctx context.Context) error { return n.deliver(ctx, id, d.network) })
		}()
	}
}

func (n *networks) closeAll() {
	n.closeOld()
	n.mu.Lock()
	open := *n.open.Load()
	n.open.Store(&map[string]*door{})
	n.mu.Unlock()
	var wg sync.WaitGroup
	for _, d := range open {
		wg.Go(d.close)
	}
	wg.Wait()
}

func (d *door) close() {
	if d.stop != nil {
		d.stop()
	}
	d.network.Close()
}
