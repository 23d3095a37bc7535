package sluice

import (
	"errors"
	"sync"
	"time"
)

// Way is where an entry of the journal has come to on its way out. The journal
// makes one for each entry that it hands to a handler; whoever hands the
// message on notes in it what he knows, and whoever asks reads it meanwhile.
// It costs some tens of nanoseconds a note and is never journalled: after a
// restart it begins anew.
//
// All methods may be called by several goroutines, and on nil, which notes
// nothing.
type Way struct {
	mu  sync.Mutex
	now Progress
}

// Progress is what a [Way] has noted.
type Progress struct {
	// Source is where a command came from, for people: the topic.
	Source string
	// Step is what the message waits for now, as a sentence; "" for nothing
	// that is known.
	Step string
	// Session is the session that it was last handed to, Tries how often it
	// was handed to one.
	Session string
	Tries   int
	// Topic is where it was published to in that try, Sent when it was written
	// to the wire; both zero before.
	Topic string
	Sent  time.Time
}

// From notes where a command came from.
func (w *Way) From(source string) {
	if w == nil {
		return
	}
	w.mu.Lock()
	w.now.Source = source
	w.mu.Unlock()
}

// Wait notes what the message waits for: a sentence.
func (w *Way) Wait(step string) {
	if w == nil {
		return
	}
	w.mu.Lock()
	w.now.Step = step
	w.mu.Unlock()
}

// Try notes that the message is handed to a session.
func (w *Way) Try(session string) {
	if w == nil {
		return
	}
	w.mu.Lock()
	w.now.Session, w.now.Step, w.now.Topic, w.now.Sent = session, "", "", time.Time{}
	w.now.Tries++
	w.mu.Unlock()
}

// Write notes that the message was written to the wire.
func (w *Way) Write(topic string, at time.Time) {
	if w == nil {
		return
	}
	w.mu.Lock()
	w.now.Topic, w.now.Sent = topic, at
	w.mu.Unlock()
}

// Progress returns what was noted so far.
func (w *Way) Progress() Progress {
	if w == nil {
		return Progress{}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

// TraceState is where an entry stands, or how it ended.
type TraceState string

// The states of a trace. Those of a command that is over are ThingPark's words.
const (
	TraceWaiting    TraceState = "waiting"    // it will be handed on, as soon as it can be
	TraceSent       TraceState = "sent"       // it is on the wire, and not acknowledged yet
	TraceDelivered  TraceState = "delivered"  // the cloud has acknowledged it
	TraceQueued     TraceState = "queued"     // the network server has taken the command
	TraceRejected   TraceState = "rejected"   // the command was refused, by the network server or by Sluice
	TraceFailed     TraceState = "failed"     // it can never be delivered
	TraceExpired    TraceState = "expired"    // it was too old
	TraceFiltered   TraceState = "filtered"   // the connection does not want it
	TraceUnmatched  TraceState = "unmatched"  // no flow wanted the report
	TraceUnrecorded TraceState = "unrecorded" // it is over; how it ended was not recorded
)

// Open reports whether the entry is not over.
func (s TraceState) Open() bool { return s == TraceWaiting || s == TraceSent }

// Trace is what became of one entry of a message: of its way to one
// connection, or of that of a command to its network.
type Trace struct {
	Message    string // its id
	Kind       Kind
	DevEUI     string
	Network    string
	Connection string // that it is for, or that a command came from; "" with TraceUnmatched
	Number     uint64 // in its place in the journal

	State      TraceState
	Received   time.Time
	Journalled time.Time // zero: it is not in the journal
	Over       time.Time // when it was acknowledged or given up; zero before

	Progress

	// Why it waits, or how it ended, where it was not delivered.
	Reason Reason
	Text   string // a sentence for the user, without secrets
	Hint   string
	Status int // the other side's status code where it gave one
	// Replayed: it was sent again on request, beside the first time.
	Replayed bool
}

// TraceOf begins the trace of a message with what it says itself.
func TraceOf(m *Message, s TraceState) Trace {
	return Trace{
		Message: m.ID, Kind: m.Kind, DevEUI: m.DevEUI, Network: m.Network, Connection: m.Connection, Number: m.Number,
		State: s, Received: m.Received, Journalled: m.Journalled, Progress: m.Way.Progress(),
	}
}

// Because gives the trace the reason, the sentence and the hint of an error.
func (t *Trace) Because(err error) {
	if err == nil {
		return
	}
	t.Reason = ReasonOf(err)
	if f, ok := errors.AsType[*Failure](err); ok {
		t.Text, t.Hint, t.Status = f.Message, f.Hint, f.Status
	} else if e, ok := errors.AsType[*Error](err); ok {
		t.Text, t.Hint = e.Message, e.Hint
	}
}
