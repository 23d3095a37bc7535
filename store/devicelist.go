package store

import (
	"slices"
	"sync"

	"sluice"
)

// deviceList is the order of the devices, kept beside the registry: a listing
// sorts only what came since the last one, and what takes long does so
// without the registry's lock, which reports wait for.
type deviceList struct {
	mu     sync.Mutex
	sorted []uint64
	merged int // so many devices of the registry are in sorted
}

// Devices returns the devices from offset on, at most limit, sorted by
// DevEUI, and how many there are in all.
func (s *Store) Devices(offset, limit int) (page []sluice.Device, total int) {
	d := s.devices
	d.list.mu.Lock()
	defer d.list.mu.Unlock()
	d.list.merge(d.newcomers())
	total = len(d.list.sorted)
	offset = min(max(offset, 0), total)
	end := offset + min(max(limit, 0), total-offset)
	page = make([]sluice.Device, 0, end-offset)
	for _, eui := range d.list.sorted[offset:end] {
		if device, ok := d.get(eui); ok {
			page = append(page, device)
		}
	}
	return page, total
}

// newcomers returns the DevEUIs that the list has not seen yet, a block at a
// time, so that reports do not wait for all of them.
func (d *devices) newcomers() []uint64 {
	var euis []uint64
	for {
		n := len(euis)
		euis = d.appendBlock(euis, d.list.merged+n)
		if len(euis) == n {
			return euis
		}
	}
}

// appendBlock appends the DevEUIs of one block, from a place on.
func (d *devices) appendBlock(euis []uint64, from int) []uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	end := min(d.count, (from/blockSize+1)*blockSize)
	for place := from; place < end; place++ {
		euis = append(euis, d.at(uint32(place)).eui)
	}
	return euis
}

// merge brings new DevEUIs into the order.
func (l *deviceList) merge(euis []uint64) {
	if len(euis) == 0 {
		return
	}
	l.merged += len(euis)
	slices.Sort(euis)
	if len(l.sorted) == 0 {
		l.sorted = euis
		return
	}
	old := l.sorted
	l.sorted = make([]uint64, 0, len(old)+len(euis))
	for len(old) > 0 && len(euis) > 0 {
		if old[0] < euis[0] {
			l.sorted, old = append(l.sorted, old[0]), old[1:]
		} else {
			l.sorted, euis = append(l.sorted, euis[0]), euis[1:]
		}
	}
	l.sorted = append(append(l.sorted, old...), euis...)
}
