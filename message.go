package sluice

import "time"

// Kind names the sort of document that a Message holds: the root key of
// ThingPark's report or command.
type Kind string

// The kinds of documents. KindDownlinkQueued and KindDownlinkRejected are made
// by Sluice, when a network server has taken a downlink and when it never will;
// the others are made by network servers, and KindDownlink by applications.
// Source: ThingPark X IoT Flow documentation, "Message".
const (
	KindUplink           Kind = "DevEUI_uplink"
	KindDownlinkSent     Kind = "DevEUI_downlink_Sent"
	KindDownlinkQueued   Kind = "DevEUI_downlink_Queued"
	KindDownlinkRejected Kind = "DevEUI_downlink_Rejected"
	KindLocation         Kind = "DevEUI_location"
	KindNotification     Kind = "DevEUI_notification"
	KindMulticastSummary Kind = "DevEUI_multicast_summary"
	KindAlarm            Kind = "DevEUI_alarm"
	KindBSAlarm          Kind = "BS_alarm"
	KindDownlink         Kind = "DevEUI_downlink"
)

// Message is one report or command, kept byte for byte as received, with its
// identity beside it. Whoever is handed a *Message must not change it; a room
// that needs another value copies the struct (the Document is shared).
type Message struct {
	// ID is unique and sorts by time (a ULID, 26 characters). It is made at
	// the door and travels to the cloud, so that a receiver can drop a copy.
	ID string
	// Kind is the root key of Document.
	Kind Kind
	// DevEUI is 16 hexadecimal digits in upper case. For a BS_alarm, which
	// has no device, it is the base station's LrrID in upper case.
	DevEUI string
	// Network is the id of the network that a report came from, or that a
	// command is for.
	Network string
	// Connection is the id of the connection that an entry is for, or that a
	// command came from. Empty: no flow wanted the report.
	Connection string
	// Driver is the driver id of the flow that matched; "" decodes nothing.
	Driver string
	// Received is when the message came in at the door.
	Received time.Time
	// Time is when the base station took the frame: the document's Time. Zero
	// when the document has none that can be read.
	Time time.Time
	// Validity is how old the report may be, counted from Time (or Received)
	// to delivery; 0 for no limit. Of a command it is the ValidityTime, counted
	// from Received.
	Validity time.Duration
	// Fingerprint is equal for two copies of one report (of one command, for
	// its redelivery) and differs for any two others; "" when copies are not
	// looked for.
	Fingerprint string
	// Tags are the routing tags that the document carries (CustomerData.tags
	// and ModelCfg), as written there; nil when the document has no place for
	// tags.
	Tags []string
	// Name is the device's name where the document carries one.
	Name string
	// Credentials are the AS_ID and AS_KEY of a command that brought its own
	// or has those of its connection: [Credentials] as JSON, sealed. Nil: the
	// network's own are used.
	Credentials []byte
	// Document is the JSON document with its root key, as it came.
	Document []byte
	// Payload is what a session sends where that differs from Document, of
	// which topic patterns still read; nil: the Document is sent. It is never
	// journalled.
	Payload []byte
	// Replayed marks a message that a [Replay] sends: an old one, which may
	// have been delivered before. It is never journalled.
	Replayed bool
	// Number is the entry's running number in its place in the journal, from
	// 1 without gaps; 0 before it is journalled.
	Number uint64
	// Journalled is when the entry came into the journal; zero before. It is
	// told by the journal, not written in the entry.
	Journalled time.Time
	// Way is where those note it who hand the message on; nil: nobody asks. It
	// is never journalled, and shared by copies of the struct.
	Way *Way
	// Retries is the number of the entry that this one sends again out of
	// quarantine, at an operator's wish, and Retried when that was wished; 0
	// as a rule. Such a message has no validity any more.
	Retries uint64
	Retried time.Time
}

// Credentials sign a downlink: ThingPark's AS_ID and AS_KEY.
type Credentials struct {
	ASID  string `json:"asId"`
	ASKey string `json:"asKey"`
}

// Body is what a session sends: Payload, or Document where there is none.
func (m *Message) Body() []byte {
	if m.Payload != nil {
		return m.Payload
	}
	return m.Document
}

// IsFate reports whether it is a report that Sluice made of what became of a
// command.
func (m *Message) IsFate() bool {
	return m.Kind == KindDownlinkQueued || m.Kind == KindDownlinkRejected
}

// IsCommand reports whether the message travels from the cloud to a device.
func (m *Message) IsCommand() bool { return m.Kind == KindDownlink }

// Limit is how old the message may be, counted from Born, where a connection
// has a limit of its own: the shorter one; 0 for none.
func (m *Message) Limit(own time.Duration) time.Duration {
	switch {
	case m.Retries != 0:
		return 0
	case m.Validity == 0 || own != 0 && own < m.Validity:
		return own
	default:
		return m.Validity
	}
}

// Born is the time that validity counts from: Time, or Received where the
// document has no time.
func (m *Message) Born() time.Time {
	if m.Time.IsZero() {
		return m.Received
	}
	return m.Time
}
