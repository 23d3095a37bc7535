package connection

import (
	"math"
	"time"
)

const (
	// loadMemory is how far back a load looks: what was that long ago counts
	// for 1/e.
	loadMemory = 3 * time.Second
	// loadMargin is by how much two loads differ by chance, besides a tenth.
	loadMargin = 0.5
	// homesMax bounds how many devices are remembered, twice over; see lookup.
	homesMax = 20_000
	// homesAge is how long a device that sends nothing is remembered, at least.
	homesAge = 10 * time.Minute
)

// home is what is remembered of a device.
type home struct {
	lane *lane
	load load
}

// load is a fading mean over time of a number of messages under way.
type load struct {
	mean float64
	at   time.Time
}

// update brings the mean up to now; n were under way since the last update.
func (l *load) update(now time.Time, n int) {
	if dt := now.Sub(l.at); dt > 0 {
		l.mean = float64(n) + (l.mean-float64(n))*math.Exp(-float64(dt)/float64(loadMemory))
		l.at = now
	}
}

// lookup finds or makes what is remembered of a device. Memory is bounded by
// two maps: when the younger has grown full or old, it takes the place of the
// older, whose devices are forgotten. Forgetting costs nothing but a move.
func (ls *lanes) lookup(devEUI string, now time.Time) *home {
	h, ok := ls.homes[devEUI]
	if !ok {
		if len(ls.homes) >= homesMax || now.Sub(ls.rotated) >= homesAge {
			ls.homes, ls.older, ls.rotated = make(map[string]*home), ls.homes, now
		}
		if h, ok = ls.older[devEUI]; ok {
			delete(ls.older, devEUI)
		} else {
			h = &home{load: load{at: now}}
		}
		ls.homes[devEUI] = h
	}
	return h
}

// work is what a session has to do: lately, and just now.
func (l *lane) work() float64 { return l.load.mean + float64(l.outstanding) }

// clearlyBusier reports whether a device with a load had better move from l to
// o: because the two would be nearer to each other then, by more than chance
// makes them differ.
func (l *lane) clearlyBusier(o *lane, device float64) bool {
	return o.outstanding <= l.outstanding && l.load.mean-o.load.mean > device+loadMargin+l.load.mean/10
}
