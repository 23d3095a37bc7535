package connection

import (
	"fmt"
	"sync"
	"time"

	"sluice"
)

// alarms watches what comes through a connection, or does not. Its check is
// called once a minute while the connection is active; it measures by the
// monotonic clock, and finds the windows by the wall clock.
type alarms struct {
	rules   []alarmRule
	silence *silence // nil: none is configured

	mu        sync.Mutex
	delivered uint64 // uplinks

	// The rest belongs to the goroutine that calls check.
	marks  []mark // at most an hour and a minute, oldest first
	states []alarmState
}

// mark is how many uplinks had been delivered at a time.
type mark struct {
	at    time.Time
	count uint64
}

// alarmState is how a low-rate alarm stands.
type alarmState struct {
	raised time.Time // zero: it is not
	window window    // of the last check; zero: outside
	mark   mark      // when the window was entered
	whole  bool      // it was seen from its start
}

// alarmHour is what rates are counted over.
const alarmHour = time.Hour

func newAlarms(rules []alarmRule) *alarms {
	if len(rules) == 0 {
		return nil
	}
	a := &alarms{rules: rules, states: make([]alarmState, len(rules))}
	for _, r := range rules {
		if r.factor > 0 {
			a.silence = newSilence(r)
		}
	}
	return a
}

// uplink counts a delivered uplink.
func (a *alarms) uplink() {
	if a == nil {
		return
	}
	a.mu.Lock()
	a.delivered++
	a.mu.Unlock()
}

// check raises and ends alarms. now is of the monotonic clock, wall of the one
// that people read.
func (a *alarms) check(now, wall time.Time, tell func(level sluice.Level, label, detail, devEUI string)) {
	if a == nil {
		return
	}
	a.mu.Lock()
	m := mark{now, a.delivered}
	a.mu.Unlock()
	a.marks = append(a.marks, m)
	for len(a.marks) > 1 && now.Sub(a.marks[1].at) >= alarmHour {
		a.marks = a.marks[1:]
	}
	for i := range a.rules {
		if a.rules[i].factor == 0 {
			a.rate(&a.rules[i], &a.states[i], m, wall, tell)
		}
	}
	if a.silence != nil {
		a.silence.check(now, tell)
	}
}

// rate judges one low-rate alarm. Inside its window it counts the last hour,
// from the first whole hour of the window on; a window that is shorter is
// judged at its end, by its share of an hour.
func (a *alarms) rate(r *alarmRule, s *alarmState, m mark, wall time.Time, tell func(level sluice.Level, label, detail, devEUI string)) {
	win, inside := r.window(wall)
	if s.window != (window{}) && (!inside || win != s.window) {
		short := s.window.end.Sub(s.window.start)
		count := m.count - s.mark.count
		switch {
		case !s.raised.IsZero():
			a.end(r, s, m.at, "its time is over", tell)
		case short < alarmHour && s.whole && float64(count) < float64(int(r.rate*short.Hours())):
			tell(sluice.LevelWarning, "Low rate", r.text(fmt.Sprintf("%d uplinks were delivered from %s to %s, less than %g an hour.",
				count, r.clock(s.window.start), r.clock(s.window.end), r.rate)), "")
		}
		s.window = window{}
	}
	if !inside {
		return
	}
	if s.window == (window{}) {
		s.window, s.mark = win, m
		s.whole = wall.Sub(win.start) < 2*summaryEvery
	}
	first := a.marks[0]
	if wall.Sub(win.start) < alarmHour || m.at.Sub(first.at) < alarmHour {
		return // not yet a whole hour that was seen
	}
	count := m.count - first.count
	switch low := float64(count) < r.rate; {
	case low && s.raised.IsZero():
		s.raised = m.at
		tell(sluice.LevelWarning, "Low rate", r.text(fmt.Sprintf(
			"%d uplinks were delivered within the last hour, the least is %g.", count, r.rate)), "")
	case !low && !s.raised.IsZero() && m.at.Sub(s.raised) >= alarmHour:
		a.end(r, s, m.at, fmt.Sprintf("%d uplinks were delivered within the last hour", count), tell)
	}
}

// end ends an alarm. It lasts an hour at least, so that a rate about the limit
// is not told each minute.
func (a *alarms) end(r *alarmRule, s *alarmState, now time.Time, why string, tell func(level sluice.Level, label, detail, devEUI string)) {
	tell(sluice.LevelInfo, "Low rate over", r.text(fmt.Sprintf("The alarm ends after %s: %s.",
		now.Sub(s.raised).Round(time.Minute), why)), "")
	s.raised = time.Time{}
}

// watch judges the alarms, once a minute.
func (r *runner) watch(now time.Time) {
	if r.quitting || !r.want.Active {
		return
	}
	r.alarms.Load().check(now, r.o.Clock(), func(level sluice.Level, label, detail, devEUI string) {
		e := r.event(level, sluice.EventAlarm, label, detail, nil)
		e.DevEUI = devEUI
		r.o.Events.Record(e)
	})
}

// adoptAlarms takes over the alarms of a connection. Those that did not change
// keep what they have seen, unless the connection was not active.
func (r *runner) adoptAlarms(c sluice.Connection, active bool) {
	if text := string(c.Alarms); text != r.alarming || !active {
		rules, problems := readAlarms(c.Alarms)
		for _, p := range problems {
			r.log.Warn("an alarm cannot be read", "path", p.Path, "problem", p.Message)
		}
		r.alarming = text
		r.alarms.Store(newAlarms(rules))
	}
}
