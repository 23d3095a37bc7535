package app

import (
	"time"

	"sluice"
)

// The steps and spans of the two windows that a connection's metrics show.
const (
	minuteStep   = time.Minute
	quarterStep  = 15 * time.Minute
	minutePoints = 60 // the last hour
	quarterCount = 96 // the last day
)

// snapshot is the counters of a connection at one moment.
type snapshot struct {
	Time time.Time `json:"t"`
	sluice.Counters
	// Retried counts what was sent again out of quarantine, and is not in
	// Failed any more.
	Retried         uint64 `json:"retried,omitempty"`
	DownlinksOK     uint64 `json:"downOk"`
	DownlinksFailed uint64 `json:"downFailed"`
}

// series is the snapshots of one window, the oldest first. The first of them
// is the base that the others are counted from.
type series struct {
	Step  time.Duration `json:"step"`
	Limit int           `json:"limit"` // steps kept
	Snaps []snapshot    `json:"snaps"`
}

// add appends s when a step has begun since the last one.
func (r *series) add(s snapshot) {
	if n := len(r.Snaps); n > 0 && !s.Time.Truncate(r.Step).After(r.Snaps[n-1].Time.Truncate(r.Step)) {
		return
	}
	r.Snaps = append(r.Snaps, s)
	if over := len(r.Snaps) - (r.Limit + 1); over > 0 {
		r.Snaps = append(r.Snaps[:0], r.Snaps[over:]...)
	}
}

// window returns the snapshots that lie in the span before now, and now's own
// as the last. The first is the base: the newest that is at least a span old,
// or else the oldest there is.
func (r *series) window(now snapshot) []snapshot {
	from := now.Time.Add(-r.Step * time.Duration(r.Limit))
	first := 0
	for i, s := range r.Snaps {
		if !s.Time.After(from) {
			first = i
		}
	}
	in := make([]snapshot, 0, len(r.Snaps)-first+1)
	in = append(in, r.Snaps[first:]...)
	return append(in, now)
}

// since returns what was counted between two snapshots; Pending is as it
// stands at the later one. What was sent again out of quarantine had failed
// nevertheless: Failed never goes back.
func since(base, now snapshot) sluice.Counters {
	return sluice.Counters{
		Received:  grown(base.Received, now.Received),
		Delivered: grown(base.Delivered, now.Delivered),
		Expired:   grown(base.Expired, now.Expired),
		Failed:    grown(base.Failed+base.Retried, now.Failed+now.Retried),
		Filtered:  grown(base.Filtered, now.Filtered),
		Pending:   now.Pending,
	}
}

// grown is the growth of a counter. After a crash the journal counts from a
// little before, which may lie before the snapshot: that is no growth.
func grown(before, now uint64) uint64 {
	if now < before {
		return 0
	}
	return now - before
}
