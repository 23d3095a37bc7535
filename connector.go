package sluice

import (
	"context"
	"encoding/json"
	"iter"
	"log/slog"
	"time"
)

// ConnectorInfo describes a kind of cloud, in ThingPark's words.
type ConnectorInfo struct {
	ID          string // "actility-aws-iot": producer and module
	ProducerID  string // "actility"
	ModuleID    string // "aws-iot"
	Version     string
	Name        string // "AWS IoT Core"
	Description string
	// Schema is the JSON Schema (draft-04) of the configuration: the
	// connector's own properties; the common ones are added by Sluice. A
	// property with "format": "password" is a secret: sealed at rest and
	// shown as "*****".
	Schema json.RawMessage
}

// Connector is a kind of cloud.
type Connector interface {
	Info() ConnectorInfo
	// Check finds what the schema cannot say, in a configuration that is
	// valid JSON but may have failed the schema. Problems forbid it;
	// warnings are told as events. Paths are relative to the configuration.
	Check(configuration json.RawMessage) (warnings, problems []Problem)
	// Dialer prepares to open sessions with a configuration that has passed
	// Check. It does no input or output.
	Dialer(spec DialerSpec) (Dialer, error)
}

// Expirer is an optional ability of a [Connector]: to tell when a configuration
// ceases to be accepted by itself, as when its certificate expires; false where
// it does not.
type Expirer interface {
	Expires(configuration json.RawMessage) (time.Time, bool)
}

// Keeper is an optional ability of a [Connector]: to name the properties that a
// changed configuration keeps from the stored one where it leaves them out. All
// others that are left out are gone. Both configurations may be invalid.
type Keeper interface {
	Keeps(stored, changed json.RawMessage) []string
}

// DialerSpec is all that a [Dialer] is made from.
type DialerSpec struct {
	Connection Connection // secrets in clear
	Common     Common     // the common part of its configuration, read
	// Instance tells this installation of Sluice from any other: 8 lower-case
	// letters and digits, the same after a restart.
	Instance string
	// Generation alternates between 0 and 1: sessions of a changed
	// configuration open under other client ids before the old ones close.
	Generation int
	Things     Things
	Events     Recorder
	Clock      Clock
	Log        *slog.Logger
}

// Dialer opens the sessions of a pool with one configuration. What the
// sessions share (the registry client, what is known of things) lives here.
//
// A Dialer may also be a [Preparer], a [Prober], a [Pacer], a [Refresher], a
// [Grower], a [Sharer] and a [Gauger].
type Dialer interface {
	// Size is how many sessions the pool has, at most where it is a [Grower].
	Size() int
	// Open opens the session of a lane, 0 <= lane < Size, and returns when
	// the cloud has accepted it or not. authenticating is called once the
	// wire is up and the cloud is asked who we are. An error is a *Failure:
	// ReasonAuthentication, ReasonNotAuthorized and ReasonTLS mean that
	// trying again without a change will hardly help. ctx bounds the opening,
	// not the session's life.
	Open(ctx context.Context, lane int, authenticating func()) (Session, error)
	// Close ends what Dialer began, other than sessions, and waits for it.
	Close()
}

// Session is one live link of a connection.
//
// Handle publishes a message, paced under the cloud's quota, and returns nil
// once the cloud has acknowledged it (or, where the configuration asks for no
// acknowledgement, once it is written). Message.Body is what is sent; patterns
// read the Document. What is written to the wire is noted in Message.Way: topic
// and time. Handle is called by several goroutines, never twice at once for one device.
//
// A Session may also be a [Subscriber].
type Session interface {
	Handler
	// Done is closed when the link is lost or closed; Err then says why (a
	// *Failure), nil after Close.
	Done() <-chan struct{}
	Err() error
	// ID names the session for people: for MQTT the client id.
	ID() string
	// Close ends the link in an orderly way, with those publishes that are
	// under way, and waits; ctx bounds it.
	Close(ctx context.Context) error
}

// Preparer is an optional ability of a [Dialer]: to make ready what a message
// needs in the cloud (its thing) before a session is chosen. It may block; it
// is never called twice at once for one device. A Failure with Permanent
// skips the message.
type Preparer interface {
	Prepare(ctx context.Context, m *Message) error
}

// Prober is an optional ability of a [Dialer]: to find out whether the cloud
// can be reached, without what a cloud counts or limits (for MQTT: link and TLS
// handshake, but no CONNECT). While a connection is down it is asked every 2 to
// 3 seconds, so it must be cheap, and leave nothing behind. nil means that
// Open is worth a try; an error is a *Failure as that of Open. Probe may be
// called several times at once, also while Open runs.
type Prober interface {
	Probe(ctx context.Context) error
}

// Pacer is an optional ability of a [Dialer]: to tell the pace that it keeps
// each session to, in messages a second; 0: none.
type Pacer interface {
	Pace() float64
}

// Refresher is an optional ability of a [Dialer]: to look at once whether all
// that it remembers of the cloud's registry is still there, as it otherwise
// does in its own time. It returns how many things it looks at; the looking
// goes on in the background.
type Refresher interface {
	Refresh() (things int, err error)
}

// Grower is an optional ability of a [Dialer]: to have a pool that grows with
// its load and shrinks without. It has Least to Size sessions; without this
// ability it always has Size.
type Grower interface {
	Least() int
}

// Sharer is an optional ability of a [Dialer]: to have the cloud share the
// commands out among several sessions, where they are too many for one. Each of
// the lanes below Shares is subscribed then, and a command comes to one of them.
// With 1, any one session is subscribed.
type Sharer interface {
	Shares() int
}

// Gauger is an optional ability of a [Dialer]: to tell how many commands a
// second the cloud has sent the busiest of its sessions, over the last seconds.
type Gauger interface {
	CommandRate() float64
}

// Subscriber is an optional ability of a [Session]: to receive commands.
// Subscribe returns once the cloud has granted it. take is called for each
// command, one after another; the cloud's message is acknowledged only when
// take returns nil. Subscribe is called once for a session.
type Subscriber interface {
	Subscribe(ctx context.Context, take func(ctx context.Context, c Command) error) error
}

// Ender is an optional ability of a [Session]: to end for good. Close leaves
// with the cloud what it keeps for a connection that comes back, such as the
// commands that are published meanwhile; End is Close and has the cloud keep
// nothing. A connection that is deleted or deactivated, and a pool whose place
// another one took, ends its sessions; a process that stops closes them. End
// spares what another session of the same process goes on with. A cloud keeps
// things for a limited time: where Close was called instead, no harm is done
// but that what it kept may come when the connection is activated again.
type Ender interface {
	End(ctx context.Context) error
}

// Command is what a cloud sent, before it is known to be a downlink.
type Command struct {
	// DevEUI as the topic says it, in upper case; "" when it does not.
	DevEUI string
	// Source says where it came from, for people: the topic.
	Source string
	// Document is the payload as it came.
	Document []byte
	// ID is the publisher's own id of the message, where the protocol has
	// one; "": none.
	ID string
}

// ThingState is what is known of a device in the cloud's registry.
type ThingState string

// The states of a thing.
const (
	ThingRegistered ThingState = "registered" // it exists, with its principal
	ThingMissing    ThingState = "missing"    // it does not exist and is not to be made
	ThingPending    ThingState = "pending"    // it is being made
	ThingFailed     ThingState = "failed"     // it could not be made so far
)

// Thing is what a connection remembers of a device in the cloud's registry.
type Thing struct {
	State  ThingState `json:"state"`
	Detail string     `json:"detail,omitempty"` // why, where it failed
	// Tag is the connector's own mark, such as a hash of the configuration
	// that the thing was made with. Few things have tags that differ.
	Tag string `json:"tag,omitempty"`
	// Name is the thing's name in the cloud; "" where the DevEUI tells it.
	Name string `json:"name,omitempty"`
	// Mark is the connector's own too: a hash of what the device itself put
	// into the thing.
	Mark uint64 `json:"-"`
}

// Things is a connection's memory of things. It survives a restart, but the
// last second of it may be lost in a crash. Keys are DevEUIs in upper case.
// The methods are safe for use by several goroutines; Get and Put are fast.
type Things interface {
	Get(devEUI string) (Thing, bool)
	Put(devEUI string, t Thing)
	// All goes through all that is remembered, in any order. The memory must
	// not be used meanwhile by who goes through it.
	All() iter.Seq2[string, Thing]
}
