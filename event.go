package sluice

import "time"

// Level is how much an [Event] matters.
type Level string

// The levels.
const (
	LevelInfo    Level = "info"
	LevelWarning Level = "warning"
	LevelError   Level = "error"
)

// EventType is one of a closed set of things that happen.
type EventType string

// The types of events.
const (
	EventConnectionOpening   EventType = "connection.opening"
	EventConnectionOpened    EventType = "connection.opened"
	EventConnectionClosing   EventType = "connection.closing"
	EventConnectionClosed    EventType = "connection.closed"
	EventConnectionFailed    EventType = "connection.failed"      // could not be opened
	EventConnectionApplied   EventType = "connection.applied"     // a changed configuration is in force
	EventConnectionUnapplied EventType = "connection.not_applied" // it is not; the old one works on
	EventCertificateExpiring EventType = "certificate.expiring"   // or expired
	EventCredentialsFailed   EventType = "credentials.failed"     // could not be had or renewed
	EventConfigurationOdd    EventType = "configuration.odd"      // taken, but looks wrong
	EventSessionLost         EventType = "session.lost"
	EventUplinkFailed        EventType = "uplink.failed"
	EventUplinkExpired       EventType = "uplink.expired"
	EventUplinkRefused       EventType = "uplink.refused" // at the door
	EventDownlinkRejected    EventType = "downlink.rejected"
	EventDownlinkIgnored     EventType = "downlink.ignored"
	EventDownlinkExpired     EventType = "downlink.expired"
	EventDownlinkRedelivered EventType = "downlink.redelivered" // came again from the cloud, and is one
	EventDownlinkNearLimit   EventType = "downlink.near_limit"  // they come near what the cloud sends one session
	EventThingCreated        EventType = "thing.created"
	EventThingFailed         EventType = "thing.failed"
	EventThingMissing        EventType = "thing.missing"
	EventThingDeleted        EventType = "thing.deleted"  // found to be gone from the cloud
	EventThingRestored       EventType = "thing.restored" // what kept things from being registered is over
	EventShadowFailed        EventType = "shadow.failed"  // it does not tell the latest values
	EventJournalFull         EventType = "journal.full"
	EventJournalGap          EventType = "journal.gap"
	EventJournalRestarted    EventType = "journal.restarted" // its storage was opened again after an error
	EventJournalUnclean      EventType = "journal.unclean"   // the last end was not orderly
	EventJournalShare        EventType = "journal.share"     // a place has given up what its share does not hold
	EventQuarantineShrunk    EventType = "quarantine.shrunk" // it has given up its oldest messages: there was no room
	EventSelfCheck           EventType = "self_check.failed" // counters, positions and the stream disagree
	EventAlarm               EventType = "alarm"             // of those that a connection is configured with
	EventReplayStarted       EventType = "replay.started"
	EventReplayEnded         EventType = "replay.ended"
	EventReplayStopped       EventType = "replay.stopped" // on request
	EventReplayFailed        EventType = "replay.failed"  // by a fault
	EventSystemStarted       EventType = "system.started"
	EventSystemRestored      EventType = "system.restored" // this is the first start on a backup
	EventSystemStopped       EventType = "system.stopped"
	EventEventsDropped       EventType = "events.dropped"  // they came faster than they could be written
	EventSecretsMissing      EventType = "secrets.missing" // lost with their key, to be entered again
)

// Event is what happened that an operator wants to read. It is shown as
// "<Label>: <Detail>", as ThingPark does.
type Event struct {
	ID         string    `json:"id"`
	Time       time.Time `json:"time"`
	Level      Level     `json:"level"`
	Type       EventType `json:"type"`
	Label      string    `json:"label"`  // "Connection opening"
	Detail     string    `json:"detail"` // a sentence, without secrets
	Hint       string    `json:"hint,omitempty"`
	Reason     Reason    `json:"reason,omitempty"`
	Connection string    `json:"connectionId,omitempty"`
	Network    string    `json:"networkId,omitempty"`
	DevEUI     string    `json:"devEUI,omitempty"`
	Message    string    `json:"messageId,omitempty"`
}

// Recorder takes events. Record fills ID and Time where they are empty,
// never blocks and never fails; it is safe for use by several goroutines.
type Recorder interface {
	Record(e Event)
}

// Clock tells the time. It is handed in, so that tests can set it.
type Clock func() time.Time
