package store

import (
	"hash/maphash"
	"slices"
	"time"

	"sluice"
)

const millisecond = time.Millisecond

// eventIndex is what queries need of the events that are written: 40 bytes
// each, in the order in which they were recorded.
type eventIndex struct {
	entries []eventEntry
	seed    maphash.Seed
	// names are connections, types and levels, which are few, as numbers.
	names map[string]uint32
}

// eventEntry is where an event lies and what queries ask for.
type eventEntry struct {
	at         int64  // Unix milliseconds
	chunk      uint64 // the sequence of its chunk
	device     uint64 // the hash of the DevEUI; 0 for none
	connection uint32
	kind       uint16
	line       uint16 // its line in the chunk
	level      uint8
}

func newEventIndex() eventIndex {
	return eventIndex{seed: maphash.MakeSeed(), names: map[string]uint32{"": 0}}
}

// add indexes an event that lies on a line of a chunk.
func (x *eventIndex) add(e sluice.Event, chunk uint64, line int) {
	x.entries = append(x.entries, eventEntry{
		at:         e.Time.UnixMilli(),
		chunk:      chunk,
		device:     x.hash(e.DevEUI),
		connection: x.number(e.Connection),
		kind:       uint16(x.number(string(e.Type))),
		line:       uint16(line),
		level:      uint8(x.number(string(e.Level))),
	})
}

func (x *eventIndex) number(name string) uint32 {
	n, ok := x.names[name]
	if !ok {
		n = uint32(len(x.names))
		x.names[name] = n
	}
	return n
}

// hash stands for a DevEUI. That two devices share one is as good as
// impossible, and would show an event too much.
func (x *eventIndex) hash(devEUI string) uint64 {
	if devEUI == "" {
		return 0
	}
	return maphash.String(x.seed, devEUI) | 1
}

// trim forgets the events of chunks that the stream has let go.
func (x *eventIndex) trim(first uint64) {
	n, _ := slices.BinarySearchFunc(x.entries, first, func(e eventEntry, first uint64) int {
		if e.chunk < first {
			return -1
		}
		return 1
	})
	x.entries = x.entries[n:]
}
