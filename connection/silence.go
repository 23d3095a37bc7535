package connection

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"sluice"
)

const (
	// silenceMemory is how many intervals of a device are remembered: the usual
	// one is their median.
	silenceMemory = 8
	// silenceLeast is how many a device needs for a usual one.
	silenceLeast = 3
	// silenceBurst is within which uplinks count as one.
	silenceBurst = 5 * time.Second
	// silenceFloor is the shortest silence that is told.
	silenceFloor = 5 * time.Minute
	// silenceDevices bounds the devices that are watched.
	silenceDevices = 50_000
	// silenceForget is how long after the alarm a device is forgotten.
	silenceForget = 30 * 24 * time.Hour
	// silenceTold is how many devices are told by name in a minute.
	silenceTold = 10
)

// silence tells of devices that have stopped reporting.
type silence struct {
	rule alarmRule

	mu      sync.Mutex
	devices map[string]*rhythm
	back    []string // report again, to be told
	again   int      // their number
}

// rhythm is when a device reports. Intervals are in seconds.
type rhythm struct {
	last      time.Time
	intervals [silenceMemory]uint32
	n         int
	silent    bool // it was told
}

func newSilence(r alarmRule) *silence {
	return &silence{rule: r, devices: make(map[string]*rhythm)}
}

// heard notes an uplink of a device.
func (s *silence) heard(devEUI string, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d, ok := s.devices[devEUI]
	if !ok {
		if len(s.devices) < silenceDevices {
			s.devices[devEUI] = &rhythm{last: now}
		}
		return
	}
	gap := now.Sub(d.last)
	if gap < silenceBurst {
		return
	}
	d.last = now
	if d.silent {
		// The gap was no usual one.
		d.silent = false
		if s.again++; len(s.back) < silenceTold {
			s.back = append(s.back, devEUI)
		}
		return
	}
	d.intervals[d.n%silenceMemory] = uint32(min(gap/time.Second, 1<<32-1))
	d.n++
}

// usual is the usual interval of a device; 0: not known yet.
func (d *rhythm) usual() time.Duration {
	n := min(d.n, silenceMemory)
	if n < silenceLeast {
		return 0
	}
	sorted := d.intervals
	slices.Sort(sorted[:n])
	return time.Duration(sorted[n/2]) * time.Second
}

// check tells of the devices that have fallen silent since, and of those that
// report again.
func (s *silence) check(now time.Time, tell func(level sluice.Level, label, detail, devEUI string)) {
	s.mu.Lock()
	type quiet struct {
		devEUI     string
		gap, usual time.Duration
	}
	var found []quiet
	more := 0
	for devEUI, d := range s.devices {
		gap := now.Sub(d.last)
		if d.silent {
			if gap > silenceForget {
				delete(s.devices, devEUI)
			}
			continue
		}
		usual := d.usual()
		if usual == 0 || float64(gap) < s.rule.factor*float64(usual) || gap < silenceFloor {
			continue
		}
		d.silent = true
		if len(found) < silenceTold {
			found = append(found, quiet{devEUI, gap, usual})
		} else {
			more++
		}
	}
	back, again := s.back, s.again-len(s.back)
	s.back, s.again = nil, 0
	s.mu.Unlock()

	for _, q := range found {
		tell(sluice.LevelWarning, "Device silent", s.rule.text(fmt.Sprintf(
			"Device %s has not reported for %s; it usually does every %s.", q.devEUI, q.gap.Round(time.Second), q.usual)), q.devEUI)
	}
	if more > 0 {
		tell(sluice.LevelWarning, "Device silent", s.rule.text(fmt.Sprintf("%d more devices have fallen silent.", more)), "")
	}
	for _, devEUI := range back {
		tell(sluice.LevelInfo, "Device reports again", "Device "+devEUI+" reports again.", devEUI)
	}
	if again > 0 {
		tell(sluice.LevelInfo, "Device reports again", fmt.Sprintf("%d more devices report again.", again), "")
	}
}

// Received tells that a report was journalled for the connection that it
// names. The alarm of silence goes by it, as it must not take a backlog for
// silence. It is fast and never blocks for long.
func (s *Supervisor) Received(m *sluice.Message) {
	if m.Kind != sluice.KindUplink || m.Connection == "" {
		return
	}
	r, ok := s.runner(m.Connection)
	if !ok {
		return
	}
	if a := r.alarms.Load(); a != nil && a.silence != nil {
		a.silence.heard(m.DevEUI, time.Now())
	}
}
