// Package ledger accounts for every report of a measurement: what was accepted
// must arrive, once, and each device's in order. It is shared by the load
// generator and the sink, which run in one process and so have one clock. It
// costs them little: a bit a report, and no lookup, since the devices are
// numbered one after another.
package ledger

import (
	"math/bits"
	"sync"
	"sync/atomic"
	"time"
)

// FirstFCnt is the first frame counter of every device: from here on all have
// the same number of digits, so that documents can be changed in place.
const FirstFCnt = 1_000_000

// Ledger is the account of a measurement.
type Ledger struct {
	first   uint64
	devices []device

	accepted, refused, arrived, copies, disordered, strangers atomic.Int64

	answers, deliveries Histogram
}

// device is the account of one device: a bit a report, by frame counter.
type device struct {
	mu                sync.Mutex
	accepted, arrived bitset
	last              uint32 // of those that arrived
}

// New makes the ledger of devices whose DevEUIs are numbered from first.
func New(first uint64, devices int) *Ledger {
	return &Ledger{first: first, devices: make([]device, devices)}
}

// Accept notes that a report was accepted, so long after its posting began.
func (l *Ledger) Accept(devEUI uint64, fCnt uint32, took time.Duration) {
	d := l.at(devEUI)
	if d == nil || fCnt < FirstFCnt {
		l.strangers.Add(1)
		return
	}
	d.mu.Lock()
	d.accepted.add(fCnt - FirstFCnt)
	d.mu.Unlock()
	l.accepted.Add(1)
	l.answers.Add(took)
}

// Refuse notes that a report was refused, or not answered. It may arrive all
// the same.
func (l *Ledger) Refuse() { l.refused.Add(1) }

// Arrive notes that a report arrived, so long after its posting began.
func (l *Ledger) Arrive(devEUI uint64, fCnt uint32, took time.Duration) {
	d := l.at(devEUI)
	if d == nil || fCnt < FirstFCnt {
		l.strangers.Add(1)
		return
	}
	d.mu.Lock()
	fresh := d.arrived.add(fCnt - FirstFCnt)
	late := fCnt < d.last
	d.last = max(d.last, fCnt)
	d.mu.Unlock()
	if !fresh {
		l.copies.Add(1)
		return
	}
	if late {
		l.disordered.Add(1)
	}
	l.arrived.Add(1)
	l.deliveries.Add(took)
}

func (l *Ledger) at(devEUI uint64) *device {
	if i := devEUI - l.first; i < uint64(len(l.devices)) {
		return &l.devices[i]
	}
	return nil
}

// Missing is how many reports were accepted and have not arrived.
func (l *Ledger) Missing() int {
	n := 0
	for i := range l.devices {
		d := &l.devices[i]
		d.mu.Lock()
		n += d.accepted.without(d.arrived)
		d.mu.Unlock()
	}
	return n
}

// Totals are a ledger's counts at one moment.
type Totals struct {
	Accepted, Refused int
	Arrived           int // each report once
	Copies            int // arrivals after the first
	Disordered        int // arrived after a later one of their device
	Strangers         int // what is no report of the load
}

// Totals returns the counts so far.
func (l *Ledger) Totals() Totals {
	return Totals{
		Accepted: int(l.accepted.Load()), Refused: int(l.refused.Load()), Arrived: int(l.arrived.Load()),
		Copies: int(l.copies.Load()), Disordered: int(l.disordered.Load()), Strangers: int(l.strangers.Load()),
	}
}

// Answers holds the times from posting to answer.
func (l *Ledger) Answers() *Histogram { return &l.answers }

// Deliveries holds the times from posting to arrival.
func (l *Ledger) Deliveries() *Histogram { return &l.deliveries }

// bitset is a set of small numbers.
type bitset []uint64

// add adds n and reports whether it is new.
func (b *bitset) add(n uint32) bool {
	word, bit := int(n/64), uint64(1)<<(n%64)
	for len(*b) <= word {
		*b = append(*b, 0)
	}
	fresh := (*b)[word]&bit == 0
	(*b)[word] |= bit
	return fresh
}

// without counts what is in b and not in o.
func (b bitset) without(o bitset) int {
	n := 0
	for i, word := range b {
		if i < len(o) {
			word &^= o[i]
		}
		n += bits.OnesCount64(word)
	}
	return n
}
