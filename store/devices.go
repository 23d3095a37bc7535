package store

import (
	"slices"
	"strings"
	"sync"
	"time"
	"unique"

	"sluice"
)

// devices is the registry of devices. It is made for a million of them: some
// hundred bytes each, found by the DevEUI as a number, in blocks, so that no
// report waits until all of them have moved to a larger place.
type devices struct {
	mu     sync.Mutex
	index  map[uint64]uint32 // place in blocks by DevEUI
	blocks [][]device
	count  int
	sets   map[string]*[]string // tag sets in use, so that devices share them
	// urgent and dirty are the places of devices to be written: those that are
	// new or have changed, and those that were only seen again.
	urgent, dirty []uint32

	list   deviceList
	writer deviceWriter
}

// device is what is remembered of one device.
type device struct {
	eui     uint64
	seen    int64 // Unix milliseconds
	name    string
	tags    *[]string // nil: none
	network unique.Handle[string]
	unsaved uint8
}

// What of a device is not written yet.
const (
	unsavedSeen = 1 << iota // when it was seen; its place is in devices.dirty
	unsavedAll              // everything; its place is in devices.urgent
)

// blockSize is how many devices a block has.
const blockSize = 1 << 12

// maxSets is how many tag sets are kept for sharing. Where devices have more,
// the sharing begins anew.
const maxSets = 4096

func newDevices() *devices {
	return &devices{index: make(map[uint64]uint32), sets: make(map[string]*[]string)}
}

// Seen notes that a report came from a device: when, on which network, and
// its tags and name where the report says them. It is fast and waits for
// nothing. Commands and the alarms of base stations are no sign of a device
// and are passed over, as is a DevEUI that is not 16 hexadecimal digits in
// upper case.
func (s *Store) Seen(m *sluice.Message) {
	if m.Kind == sluice.KindBSAlarm || m.IsCommand() {
		return
	}
	if eui, ok := parseEUI(m.DevEUI); ok {
		s.devices.see(eui, m)
	}
}

// Device returns what is known of a device.
func (s *Store) Device(devEUI string) (sluice.Device, bool) {
	eui, ok := parseEUI(strings.ToUpper(devEUI))
	if !ok {
		return sluice.Device{}, false
	}
	return s.devices.get(eui)
}

func (d *devices) see(eui uint64, m *sluice.Message) {
	seen := m.Received.UnixMilli()
	d.mu.Lock()
	defer d.mu.Unlock()
	place, ok := d.index[eui]
	if !ok {
		place = d.add(eui)
	}
	r := d.at(place)
	if seen < r.seen {
		return // overtaken by a later report, which knows better
	}
	changed := !ok
	if r.network.Value() != m.Network {
		r.network = unique.Make(m.Network)
		changed = true
	}
	if m.Name != "" && r.name != m.Name {
		r.name = strings.Clone(m.Name) // not a part of the document, which it would keep
		changed = true
	}
	if m.Tags != nil && !slices.Equal(r.tagList(), m.Tags) {
		r.tags = d.shared(m.Tags)
		changed = true
	}
	if changed {
		d.mark(place, r, unsavedAll)
	} else if seen != r.seen {
		d.mark(place, r, unsavedSeen)
	}
	r.seen = seen
}

// mark puts a device on the list of those to be written.
func (d *devices) mark(place uint32, r *device, what uint8) {
	if r.unsaved&what != 0 {
		return
	}
	r.unsaved |= what
	if what == unsavedAll {
		d.urgent = append(d.urgent, place)
	} else {
		d.dirty = append(d.dirty, place)
	}
}

// at returns the device at a place.
func (d *devices) at(place uint32) *device {
	return &d.blocks[place/blockSize][place%blockSize]
}

// add makes place for a new device.
func (d *devices) add(eui uint64) uint32 {
	place := uint32(d.count)
	if d.count%blockSize == 0 {
		d.blocks = append(d.blocks, make([]device, 0, min(blockSize, max(64, d.count))))
	}
	block := &d.blocks[place/blockSize]
	*block = append(*block, device{eui: eui, network: unique.Make("")})
	d.count++
	d.index[eui] = place
	return place
}

// shared returns a tag set with these tags, the same for all who have them.
func (d *devices) shared(tags []string) *[]string {
	if len(tags) == 0 {
		return nil
	}
	key := strings.Join(tags, "\x00")
	if set, ok := d.sets[key]; ok && slices.Equal(*set, tags) {
		return set
	}
	if len(d.sets) >= maxSets {
		clear(d.sets)
	}
	set := make([]string, len(tags))
	for i, t := range tags {
		set[i] = strings.Clone(t)
	}
	d.sets[key] = &set
	return &set
}

func (r *device) tagList() []string {
	if r.tags == nil {
		return nil
	}
	return *r.tags
}

func (d *devices) get(eui uint64) (sluice.Device, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	place, ok := d.index[eui]
	if !ok {
		return sluice.Device{}, false
	}
	return d.at(place).export(), true
}

// export makes the public form of a device, with a copy of its tags.
func (r *device) export() sluice.Device {
	return sluice.Device{
		DevEUI:   formatEUI(r.eui),
		Name:     r.name,
		Tags:     slices.Clone(r.tagList()),
		Network:  r.network.Value(),
		LastSeen: time.UnixMilli(r.seen).UTC(),
	}
}
