package store

import (
	"iter"
	"strings"
	"sync"
	"unique"

	"sluice"
)

// things are the memories of all connections.
type things struct {
	mu   sync.RWMutex
	byID map[string]*memory

	writer thingWriter
}

// memory is what one connection remembers of things in the cloud. Texts that
// many things share, as the connector's tag, are held once.
type memory struct {
	connection string

	mu   sync.RWMutex
	euis map[uint64]thing
	odd  map[string]thing // by keys that are no DevEUI: the id of a base station
	// unsaved are the keys of what is not written yet; forgotten says that
	// what is written does not count any more.
	unsaved   []thingKey
	forgotten bool

	log chunkLog // the writer's
}

// thing is a [sluice.Thing] in half of the memory.
type thing struct {
	state, detail, tag unique.Handle[string]
	name               string
	mark               uint64
	unsaved            bool
}

// thingKey is a DevEUI, or any other text.
type thingKey struct {
	proper bool // it is a DevEUI
	eui    uint64
	odd    string
}

var _ sluice.Things = (*memory)(nil)

// Things returns the memory of a connection. It is always the same for one
// connection, and stays usable after [Store.ForgetThings].
func (s *Store) Things(connectionID string) sluice.Things { return s.things.of(connectionID) }

// ThingsOf returns what the connections know of a device, by their ids.
func (s *Store) ThingsOf(devEUI string) map[string]sluice.Thing {
	s.things.mu.RLock()
	defer s.things.mu.RUnlock()
	all := make(map[string]sluice.Thing)
	for id, m := range s.things.byID {
		if t, ok := m.Get(devEUI); ok {
			all[id] = t
		}
	}
	return all
}

// ForgetThings empties the memory of a connection.
func (s *Store) ForgetThings(connectionID string) { s.things.of(connectionID).forget() }

func (t *things) of(connectionID string) *memory {
	t.mu.RLock()
	m := t.byID[connectionID]
	t.mu.RUnlock()
	if m != nil {
		return m
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if m := t.byID[connectionID]; m != nil {
		return m
	}
	m = t.newMemory(connectionID)
	t.byID[connectionID] = m
	return m
}

// Get returns what is known of a device.
func (m *memory) Get(devEUI string) (sluice.Thing, bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	t, ok := m.find(keyOf(devEUI))
	if !ok {
		return sluice.Thing{}, false
	}
	return t.export(), true
}

// Put notes what is known of a device.
func (m *memory) Put(devEUI string, t sluice.Thing) {
	next := thing{
		state:   unique.Make(string(t.State)),
		detail:  unique.Make(t.Detail),
		tag:     unique.Make(t.Tag),
		name:    t.Name,
		mark:    t.Mark,
		unsaved: true,
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	key := keyOf(devEUI)
	old, ok := m.find(key)
	if ok && old.same(next) {
		return
	}
	if next.name == old.name {
		next.name = old.name // of which there is a copy already
	} else {
		next.name = strings.Clone(next.name)
	}
	if !old.unsaved {
		key.odd = strings.Clone(key.odd)
		m.unsaved = append(m.unsaved, key)
	}
	m.set(key, next)
}

// All goes through all things, while the memory is locked for writing.
func (m *memory) All() iter.Seq2[string, sluice.Thing] {
	return func(yield func(string, sluice.Thing) bool) {
		m.mu.RLock()
		defer m.mu.RUnlock()
		for eui, t := range m.euis {
			if !yield(formatEUI(eui), t.export()) {
				return
			}
		}
		for odd, t := range m.odd {
			if !yield(odd, t.export()) {
				return
			}
		}
	}
}

func (m *memory) forget() {
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.euis)
	clear(m.odd)
	m.unsaved = m.unsaved[:0]
	m.forgotten = true
}

// keyOf makes the key of a DevEUI, or of what a connector keeps under another
// name.
func keyOf(devEUI string) thingKey {
	if eui, ok := parseEUI(devEUI); ok {
		return thingKey{eui: eui, proper: true}
	}
	return thingKey{odd: devEUI}
}

func (m *memory) find(k thingKey) (thing, bool) {
	if !k.proper {
		t, ok := m.odd[k.odd]
		return t, ok
	}
	t, ok := m.euis[k.eui]
	return t, ok
}

func (m *memory) set(k thingKey, t thing) {
	if !k.proper {
		m.odd[k.odd] = t
		return
	}
	m.euis[k.eui] = t
}

// same reports whether two things say the same.
func (t thing) same(o thing) bool {
	return t.state == o.state && t.detail == o.detail && t.tag == o.tag && t.name == o.name && t.mark == o.mark
}

func (t thing) export() sluice.Thing {
	return sluice.Thing{
		State: sluice.ThingState(t.state.Value()), Detail: t.detail.Value(), Tag: t.tag.Value(), Name: t.name, Mark: t.mark,
	}
}
