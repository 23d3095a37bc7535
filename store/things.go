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

// thing is a [sluice.Thing] in a fraction of the memory.
type thing struct {
	what    unique.Handle[what]
	more    *more // nil for most
	unsaved bool
}

// what is the part of a thing that many things share.
type what struct{ state, detail, tag string }

// more is the part that is a thing's own.
type more struct {
	name string
	mark uint64
}

func newThing(t sluice.Thing) thing {
	n := thing{what: unique.Make(what{string(t.State), t.Detail, t.Tag})}
	if t.Name != "" || t.Mark != 0 {
		n.more = &more{strings.Clone(t.Name), t.Mark}
	}
	return n
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
	next := newThing(t)
	next.unsaved = true
	m.mu.Lock()
	defer m.mu.Unlock()
	key := keyOf(devEUI)
	old, ok := m.find(key)
	if ok && old.same(next) {
		return
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
func (t thing) same(o thing) bool { return t.what == o.what && t.own() == o.own() }

// own is the part that is the thing's own.
func (t thing) own() more {
	if t.more == nil {
		return more{}
	}
	return *t.more
}

func (t thing) export() sluice.Thing {
	w, own := t.what.Value(), t.own()
	return sluice.Thing{State: sluice.ThingState(w.state), Detail: w.detail, Tag: w.tag, Name: own.name, Mark: own.mark}
}
