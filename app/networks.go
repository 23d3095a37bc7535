package app

import (
	"context"
	"log/slog"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"

	"sluice"
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
	open    atomic.Pointer[map[string]*door]
	changed chan struct{}
	ready   chan struct{} // closed once the doors of the start are open
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
		kinds: map[string]sluice.NetworkKind{}, stored: stored, spec: spec, deliver: deliver, log: spec.Log,
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

// reconcile opens what is stored and not open, and closes what is no longer
// stored or has changed.
func (n *networks) reconcile() {
	n.mu.Lock()
	defer n.mu.Unlock()
	before := *n.open.Load()
	after := make(map[string]*door, len(before))
	for _, c := range n.stored() {
		if d, ok := before[c.ID]; ok && reflect.DeepEqual(d.config, c) {
			after[c.ID] = d
			continue
		}
		if d := n.openDoor(c); d != nil {
			after[c.ID] = d
		}
	}
	n.open.Store(&after)
	for id, d := range before {
		if after[id] != d {
			d.close()
		}
	}
	if len(after) != len(before) || !slices.Equal(slices.Sorted(maps.Keys(after)), slices.Sorted(maps.Keys(before))) {
		n.Changed() // Run is to read the commands of the new ones
	}
}

func (n *networks) openDoor(c sluice.NetworkConfig) *door {
	kind, ok := n.kinds[c.Kind]
	if !ok {
		n.log.Error("network of an unknown kind", "network", c.ID, "kind", c.Kind)
		return nil
	}
	spec := n.spec
	spec.NetworkConfig = c
	spec.Log = n.log.With("network", c.ID)
	network, err := kind.Open(spec)
	if err != nil {
		n.log.Error("network not opened", "network", c.ID, "error", err)
		return nil
	}
	d := &door{config: c, network: network}
	d.reports, _ = network.(http.Handler)
	return d
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
		go func() {
			defer close(done)
			if err := n.deliver(own, id, d.network); err != nil && own.Err() == nil {
				n.log.Error("commands are not read", "network", id, "error", err)
			}
		}()
	}
}

func (n *networks) closeAll() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, d := range *n.open.Load() {
		d.close()
	}
	n.open.Store(&map[string]*door{})
}

func (d *door) close() {
	if d.stop != nil {
		d.stop()
	}
	d.network.Close()
}
