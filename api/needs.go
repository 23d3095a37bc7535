package api

import (
	"context"
	"time"

	"sluice"
)

// What the API needs of other rooms. Errors are *sluice.Error where a user can
// do something about them. Secrets are in clear on this side.

// Connections keeps connections. secrets are the names of those properties at
// the top level of the configuration that are to be sealed.
type Connections interface {
	Connections() []sluice.Connection // sorted by id
	Connection(id string) (sluice.Connection, error)
	CreateConnection(ctx context.Context, c sluice.Connection, secrets []string) (sluice.Connection, error)
	ReplaceConnection(ctx context.Context, c sluice.Connection, secrets []string) (sluice.Connection, error)
	DeleteConnection(ctx context.Context, id string) error
}

// Flows keeps flows.
type Flows interface {
	Flows() []sluice.Flow // sorted by id
	Flow(id string) (sluice.Flow, error)
	CreateFlow(ctx context.Context, f sluice.Flow) (sluice.Flow, error)
	ReplaceFlow(ctx context.Context, f sluice.Flow) (sluice.Flow, error)
	DeleteFlow(ctx context.Context, id string) error
}

// Networks keeps networks; secrets as in [Connections].
type Networks interface {
	Networks() []sluice.NetworkConfig // sorted by id
	Network(id string) (sluice.NetworkConfig, error)
	CreateNetwork(ctx context.Context, n sluice.NetworkConfig, secrets []string) (sluice.NetworkConfig, error)
	ReplaceNetwork(ctx context.Context, n sluice.NetworkConfig, secrets []string) (sluice.NetworkConfig, error)
	DeleteNetwork(ctx context.Context, id string) error
}

// Devices knows the devices that were seen.
type Devices interface {
	Device(devEUI string) (sluice.Device, bool)
	// Devices returns up to limit devices from offset on, sorted by DevEUI,
	// and how many there are.
	Devices(offset, limit int) ([]sluice.Device, int)
	// ThingsOf returns the things of a device by connection id.
	ThingsOf(devEUI string) map[string]sluice.Thing
}

// EventQuery selects events. Empty fields select all.
type EventQuery struct {
	From, To   time.Time // From <= event's time < To
	Connection string
	DevEUI     string // upper case
	Level      sluice.Level
	Type       sluice.EventType
	Offset     int
	Limit      int
}

// Events reads the log of events.
type Events interface {
	// Events returns the events that q selects, newest first, and how many
	// there are without Offset and Limit.
	Events(ctx context.Context, q EventQuery) ([]sluice.Event, int, error)
}

// Traced is what is known of the ways of messages.
type Traced struct {
	// Traces hold one of each entry, in no order.
	Traces []sluice.Trace
	// Since is the time from which on ways are known; zero: from now on.
	Since time.Time
	// Complete is false where it would have taken too long to look at all.
	Complete bool
}

// Messages tells what became of messages.
type Messages interface {
	// Message returns the ways of a message; none where nothing is known of it.
	Message(ctx context.Context, id string) (Traced, error)
	// MessagesOf returns the ways of the last messages of a device, at most limit
	// messages.
	MessagesOf(ctx context.Context, devEUI string, limit int) (Traced, error)
}

// Supervisor runs the connections.
type Supervisor interface {
	Status(connectionID string) (sluice.Status, bool)
	// Command takes a command that came in at the connection's address and
	// returns the id of its message once it is held durably.
	Command(ctx context.Context, connectionID string, c sluice.Command) (messageID string, err error)
	// Refresh has the things of a connection be looked at in its cloud, and
	// returns how many they are.
	Refresh(connectionID string) (things int, err error)
}

// Replays sends what was received again; see [sluice.Replay]. Connections are
// named by their ids, and exist.
type Replays interface {
	// StartReplay takes the connection, the times, the devices and the rate.
	// CodeConflict: one is under way.
	StartReplay(ctx context.Context, r sluice.Replay) (sluice.Replay, error)
	// Replay returns the one under way, or the last one.
	Replay(connectionID string) (sluice.Replay, bool)
	// StopReplay ends the one under way, if there is one, for good.
	StopReplay(ctx context.Context, connectionID string) error
}

// Quarantine keeps what can never be delivered. All are asked by connection
// id; a number that does not lie there is CodeNotFound.
type Quarantine interface {
	// Quarantined returns up to limit messages from offset on, the newest
	// first and without their documents, and how many there are.
	Quarantined(ctx context.Context, connectionID string, offset, limit int) ([]sluice.Quarantined, int, error)
	QuarantinedMessage(ctx context.Context, connectionID string, number uint64) (*sluice.Quarantined, error)
	// Retry sends a message again, as it was, through the connection as it
	// is; RetryAll all that lie there now, and returns how many were sent,
	// also with an error.
	Retry(ctx context.Context, connectionID string, number uint64) error
	RetryAll(ctx context.Context, connectionID string) (int, error)
	DeleteQuarantined(ctx context.Context, connectionID string, number uint64) error
	DeleteAllQuarantined(ctx context.Context, connectionID string) (int, error)
}

// MetricsSource counts. Both are asked by connection id.
type MetricsSource interface {
	// Counters are those of the moment; zero for an unknown connection.
	Counters(connectionID string) sluice.Counters
	Metrics(connectionID string) (Metrics, error)
}
