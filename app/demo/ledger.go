// Package demo is the world around Sluice in one process: an AWS IoT emulator,
// a simulated ThingPark with devices, and a cloud application, with a ledger
// that accounts for every report and command. `sluice demo` and the end-to-end
// tests run in it.
package demo

import (
	"math"
	"slices"
	"sync"
	"time"
)

// ledger accounts for every report: what Sluice accepted must arrive at the
// subscriber, once. A report is known by its device and its FCntUp, which
// count from 1.
type ledger struct {
	mu      sync.Mutex
	devices map[string]*account
	early   map[entry]time.Time // arrived before their answer: when
	late    map[entry]time.Time // accepted, not arrived yet: when the posting began

	accepted, refused, arrived, missing, twice, disordered int
	latencies                                              []time.Duration // since recent was last called
	all                                                    histogram
}

type entry struct {
	devEUI string
	fCnt   uint32
}

// account is one device's: a byte a report, by FCntUp.
type account struct {
	states []state
	last   uint32 // of those that arrived
}

type state struct {
	accepted bool
	arrivals uint8
}

func newLedger() *ledger {
	return &ledger{devices: map[string]*account{}, early: map[entry]time.Time{}, late: map[entry]time.Time{}}
}

// at returns the state of a report; called with the lock held.
func (l *ledger) at(e entry) (*account, *state) {
	a := l.devices[e.devEUI]
	if a == nil {
		a = &account{}
		l.devices[e.devEUI] = a
	}
	for uint32(len(a.states)) <= e.fCnt {
		a.states = append(a.states, state{})
	}
	return a, &a.states[e.fCnt]
}

// answer notes what Sluice answered to a report whose posting began at start:
// accepted is a 200.
func (l *ledger) answer(devEUI string, fCnt uint32, start time.Time, accepted bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := entry{devEUI, fCnt}
	if !accepted {
		l.refused++
		delete(l.early, e) // it arrived all the same: that is allowed
		return
	}
	l.accepted++
	_, s := l.at(e)
	s.accepted = true
	if t, ok := l.early[e]; ok {
		delete(l.early, e)
		l.took(t.Sub(start))
	} else if s.arrivals == 0 {
		l.missing++
		l.late[e] = start
	}
}

// arrive notes that a report arrived at the subscriber.
func (l *ledger) arrive(devEUI string, fCnt uint32, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := entry{devEUI, fCnt}
	a, s := l.at(e)
	if s.arrivals < math.MaxUint8 {
		s.arrivals++
	}
	if s.arrivals > 1 {
		l.twice++
		return
	}
	l.arrived++
	if s.accepted {
		l.missing--
		l.took(now.Sub(l.late[e]))
		delete(l.late, e)
	} else {
		l.early[e] = now
	}
	if fCnt < a.last {
		l.disordered++
	}
	a.last = max(a.last, fCnt)
}

// took notes the time from POST to arrival; called with the lock held.
func (l *ledger) took(d time.Duration) {
	l.latencies = append(l.latencies, d)
	l.all.add(d)
}

// totals is what the ledger says at one moment; missing are accepted and not
// arrived.
type totals struct {
	accepted, refused, arrived, missing, twice, disordered int
}

func (l *ledger) totals() totals {
	l.mu.Lock()
	defer l.mu.Unlock()
	return totals{
		accepted: l.accepted, refused: l.refused, arrived: l.arrived,
		missing: l.missing, twice: l.twice, disordered: l.disordered,
	}
}

// recent returns the percentiles of what arrived since it was last called.
func (l *ledger) recent() (p50, p99 time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	slices.Sort(l.latencies)
	if n := len(l.latencies); n > 0 {
		p50, p99 = l.latencies[n/2], l.latencies[min(n-1, n*99/100)]
	}
	l.latencies = l.latencies[:0]
	return p50, p99
}

// percentile is over the whole run.
func (l *ledger) percentile(p float64) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.percentile(p)
}

// histogram counts durations in classes 5 % wide, from 10 µs on.
type histogram struct {
	classes [512]int
	n       int
}

const (
	histogramBase  = 10 * time.Microsecond
	histogramWidth = 1.05
)

func (h *histogram) add(d time.Duration) {
	class := 0
	if d > histogramBase {
		class = int(math.Log(float64(d)/float64(histogramBase)) / math.Log(histogramWidth))
	}
	h.classes[min(class, len(h.classes)-1)]++
	h.n++
}

// percentile returns the upper edge of the class that p (0..1) falls in.
func (h *histogram) percentile(p float64) time.Duration {
	rest := int(math.Ceil(p * float64(h.n)))
	for i, n := range h.classes {
		if rest -= n; rest <= 0 && h.n > 0 {
			return time.Duration(float64(histogramBase) * math.Pow(histogramWidth, float64(i+1)))
		}
	}
	return 0
}
