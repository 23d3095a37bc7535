package api_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"sluice"
	"sluice/api"
)

// memory is a store in memory. What it does not do: seal, watch, survive.
type memory struct {
	mu          sync.Mutex
	clock       sluice.Clock
	last        int
	connections map[string]sluice.Connection
	flows       map[string]sluice.Flow
	networks    map[string]sluice.NetworkConfig
	devices     []sluice.Device
	things      map[string]map[string]sluice.Thing
	events      []sluice.Event
	sealed      []string // the secrets named in the last write
	broken      error    // what writes fail with
}

var (
	_ api.Connections = (*memory)(nil)
	_ api.Flows       = (*memory)(nil)
	_ api.Networks    = (*memory)(nil)
	_ api.Devices     = (*memory)(nil)
	_ api.Events      = (*memory)(nil)
)

func newMemory(clock sluice.Clock) *memory {
	return &memory{
		clock:       clock,
		connections: map[string]sluice.Connection{},
		flows:       map[string]sluice.Flow{},
		networks:    map[string]sluice.NetworkConfig{},
		things:      map[string]map[string]sluice.Thing{},
	}
}

func (m *memory) id() string { m.last++; return strconv.Itoa(m.last) }

func sorted[T any](all map[string]T) []T {
	out := []T{}
	for _, id := range slices.SortedFunc(maps.Keys(all), func(a, b string) int {
		return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b))
	}) {
		out = append(out, all[id])
	}
	return out
}

func one[T any](m *memory, all map[string]T, noun, id string) (T, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	v, ok := all[id]
	if !ok {
		return v, sluice.Errorf(sluice.CodeNotFound, "there is no %s with the id %q", noun, id)
	}
	return v, nil
}

func (m *memory) Connections() []sluice.Connection {
	m.mu.Lock()
	defer m.mu.Unlock()
	return sorted(m.connections)
}

func (m *memory) Connection(id string) (sluice.Connection, error) {
	return one(m, m.connections, "connection", id)
}

func (m *memory) CreateConnection(_ context.Context, c sluice.Connection, secrets []string) (sluice.Connection, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.broken != nil {
		return c, m.broken
	}
	c.ID = m.id()
	c.DownlinkID = fmt.Sprintf("00000000-0000-4000-8000-%012s", c.ID)
	c.Created, c.Updated, c.Revision = m.clock(), m.clock(), 1
	c.Configuration = bytes.Clone(c.Configuration)
	m.connections[c.ID], m.sealed = c, secrets
	return c, nil
}

func (m *memory) ReplaceConnection(_ context.Context, c sluice.Connection, secrets []string) (sluice.Connection, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.broken != nil {
		return c, m.broken
	}
	old := m.connections[c.ID]
	if c.Revision != old.Revision || c.DownlinkID != old.DownlinkID || !c.Created.Equal(old.Created) {
		return c, errors.New("not made from the stored connection")
	}
	c.Updated = m.clock()
	c.Revision++
	m.connections[c.ID], m.sealed = c, secrets
	return c, nil
}

func (m *memory) DeleteConnection(_ context.Context, id string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.connections, id)
	return m.broken
}

func (m *memory) Flows() []sluice.Flow {
	m.mu.Lock()
	defer m.mu.Unlock()
	return sorted(m.flows)
}

func (m *memory) Flow(id string) (sluice.Flow, error) { return one(m, m.flows, "flow", id) }

func (m *memory) CreateFlow(ctx context.Context, f sluice.Flow) (sluice.Flow, error) {
	m.mu.Lock()
	f.ID = m.id()
	m.mu.Unlock()
	return m.ReplaceFlow(ctx, f)
}

func (m *memory) ReplaceFlow(_ context.Context, f sluice.Flow) (sluice.Flow, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.broken != nil {
		return f, m.broken
	}
	m.flows[f.ID] = f
	return f, nil
}

func (m *memory) DeleteFlow(_ context.Context, id string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.flows, id)
	return m.broken
}

func (m *memory) Networks() []sluice.NetworkConfig {
	m.mu.Lock()
	defer m.mu.Unlock()
	return sorted(m.networks)
}

func (m *memory) Network(id string) (sluice.NetworkConfig, error) {
	return one(m, m.networks, "network", id)
}

func (m *memory) CreateNetwork(ctx context.Context, n sluice.NetworkConfig, secrets []string) (sluice.NetworkConfig, error) {
	m.mu.Lock()
	n.ID = "net" + m.id()
	n.Created = m.clock()
	m.mu.Unlock()
	return m.ReplaceNetwork(ctx, n, secrets)
}

func (m *memory) ReplaceNetwork(_ context.Context, n sluice.NetworkConfig, secrets []string) (sluice.NetworkConfig, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.broken != nil {
		return n, m.broken
	}
	m.networks[n.ID], m.sealed = n, secrets
	return n, nil
}

func (m *memory) DeleteNetwork(_ context.Context, id string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.networks, id)
	return m.broken
}

func (m *memory) Device(devEUI string) (sluice.Device, bool) {
	for _, d := range m.devices {
		if d.DevEUI == devEUI {
			return d, true
		}
	}
	return sluice.Device{}, false
}

func (m *memory) Devices(offset, limit int) ([]sluice.Device, int) {
	from := min(offset, len(m.devices))
	return m.devices[from:min(from+limit, len(m.devices))], len(m.devices)
}

func (m *memory) ThingsOf(devEUI string) map[string]sluice.Thing { return m.things[devEUI] }

func (m *memory) Record(e sluice.Event) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e.ID, e.Time = m.id(), m.clock()
	m.events = append(m.events, e)
}

func (m *memory) Events(_ context.Context, q api.EventQuery) ([]sluice.Event, int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.broken != nil {
		return nil, 0, m.broken
	}
	chosen := slices.DeleteFunc(slices.Clone(m.events), func(e sluice.Event) bool {
		return !q.From.IsZero() && e.Time.Before(q.From) || !q.To.IsZero() && !e.Time.Before(q.To) ||
			q.Connection != "" && e.Connection != q.Connection || q.DevEUI != "" && e.DevEUI != q.DevEUI ||
			q.Level != "" && e.Level != q.Level || q.Type != "" && e.Type != q.Type
	})
	slices.Reverse(chosen)
	from := min(q.Offset, len(chosen))
	return chosen[from:min(from+q.Limit, len(chosen))], len(chosen), nil
}

// supervisor is a supervisor that only says what it is told to say.
type supervisor struct {
	mu       sync.Mutex
	status   map[string]sluice.Status
	counters map[string]sluice.Counters
	metrics  api.Metrics
	commands []sluice.Command
	refuse   error
}

func (s *supervisor) Refresh(string) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return 3, s.refuse
}

func (s *supervisor) Status(id string) (sluice.Status, bool) {
	st, ok := s.status[id]
	return st, ok
}

func (s *supervisor) Command(_ context.Context, id string, c sluice.Command) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refuse != nil {
		return "", s.refuse
	}
	s.commands = append(s.commands, c)
	return "message-for-" + id, nil
}

func (s *supervisor) Counters(id string) sluice.Counters { return s.counters[id] }

func (s *supervisor) Metrics(string) (api.Metrics, error) { return s.metrics, s.refuse }

// tick is a clock that stands still until it is moved.
type tick struct {
	mu  sync.Mutex
	now time.Time
}

func (c *tick) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *tick) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}
