package sluice

import "time"

// Replay re-sends what the journal still holds of a time range to one
// connection, through its configuration and the flows of today: also what
// other connections or no flow had taken. Its messages are marked as replayed
// and counted beside the law of [Counters]. A connection has one at a time.
type Replay struct {
	ID         string      `json:"id"` // a ULID
	Connection string      `json:"connectionId"`
	From       time.Time   `json:"from"` // From <= the report's Received < To
	To         time.Time   `json:"to"`
	Devices    []string    `json:"devices,omitempty"` // DevEUIs in upper case; none: every device
	Rate       float64     `json:"rate,omitempty"`    // messages a second, as asked; 0: a share of what the connection can do
	State      ReplayState `json:"state"`
	Reason     string      `json:"reason,omitempty"` // why it waits or has failed
	Asked      time.Time   `json:"asked"`
	Started    time.Time   `json:"started"` // when the first message was sent
	Ended      time.Time   `json:"ended"`   // zero while it is under way
	// Reached is when the report was received that the replay has come to.
	Reached time.Time `json:"reached"`
	// History is where what the journal holds begins, where that is after From.
	History time.Time `json:"history"`
	// Pace is how many messages a second it sends at most, at the moment.
	Pace float64 `json:"-"`

	// Found = Sent + Filtered + Failed + those that are read and not yet over.
	Found    uint64 `json:"-"`
	Sent     uint64 `json:"sent"`
	Filtered uint64 `json:"filtered"` // not wanted by the connection
	Failed   uint64 `json:"failed"`   // refused for good, or for too long
	// Damaged and Missing entries were met on the way, whomever they were
	// for: those that cannot be read, and those that are not there any more.
	Damaged uint64 `json:"damaged"`
	Missing uint64 `json:"missing"`
}

// ReplayState is how a replay stands.
type ReplayState string

// The states of a replay.
const (
	ReplayRunning ReplayState = "running"
	ReplayWaiting ReplayState = "waiting" // for the connection
	ReplayStopped ReplayState = "stopped" // on request
	ReplayDone    ReplayState = "done"
	ReplayFailed  ReplayState = "failed" // by a fault
)

// Active reports whether the replay is under way.
func (r *Replay) Active() bool { return r.State == ReplayRunning || r.State == ReplayWaiting }
