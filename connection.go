package sluice

import (
	"encoding/json"
	"time"
)

// Connection is a configured instance of a connector, as stored.
type Connection struct {
	ID            string          `json:"id"` // a number as text: "8"
	ConnectorID   string          `json:"connectorId"`
	Name          string          `json:"name"`
	Active        bool            `json:"active"` // false: stopped, its backlog is kept
	Alarms        json.RawMessage `json:"alarms,omitempty"`
	Configuration json.RawMessage `json:"configuration"`
	// DownlinkID is the unguessable part of the connection's address for
	// downlinks, POST /downlinkMessages/{DownlinkID}: a UUID.
	DownlinkID string    `json:"downlinkId"`
	Created    time.Time `json:"created"`
	Updated    time.Time `json:"updated"`
	// Revision counts the changes; it tells a changed configuration from the
	// one that is in force.
	Revision uint64 `json:"revision"`
}

// Common is the part of a configuration that every connector has. Names and
// defaults are ThingPark's; their meaning is in its documentation, "About
// connections".
type Common struct {
	Description          string `json:"description"`
	CreateDevices        bool   `json:"createDevices"`
	SendMetadata         bool   `json:"sendMetadata"`
	SendRawDecodedFormat bool   `json:"sendRawDecodedFormat"`
	UplinkTimeValidity   string `json:"uplinkTimeValidity"`
	UplinkRateLimiter    int    `json:"uplinkRateLimiter"` // uplinks a second, 0 = no limit of its own
	DownlinkEnabled      bool   `json:"downlinkEnabled"`
	DownlinkASID         string `json:"downlinkAsId"`
	DownlinkASKey        string `json:"downlinkAsKey"`
	DownlinkPort         int    `json:"downlinkPort"` // 1..224, 0 = none
	// DownlinkReports says which reports of what became of a command go to the
	// cloud: all, rejected, none.
	DownlinkReports string `json:"downlinkReports"`
	// DownlinkRedelivery is how long around a reconnect an equal command is
	// taken as the one before: a duration.
	DownlinkRedelivery string `json:"downlinkRedelivery"`
	ReconnectStrategy  string `json:"reconnectStrategy"`
}

// State is the state of a connection, in ThingPark's words.
type State string

// The states. A connection is OPENED when at least one session is open and,
// where downlinks are enabled, one of them is subscribed.
const (
	StateClosed               State = "CLOSED"
	StateOpening              State = "OPENING"
	StateAuthenticating       State = "AUTHENTICATING"
	StateAuthenticationFailed State = "AUTHENTICATION_FAILED"
	StateOpened               State = "OPENED"
	StateClosing              State = "CLOSING"
	StateDeactivated          State = "DEACTIVATED"
)

// Status is how a connection stands now.
type Status struct {
	State State
	// Since is when it came into this state.
	Since time.Time
	// StartupTime is when it was last opened; zero when never.
	StartupTime time.Time
	// Applied is false while the stored configuration is not the one in
	// force; Reason then says why.
	Applied bool
	Reason  string
	// Sessions are the sessions of the pool that are open.
	Sessions []SessionStatus
	// Wanted is how many sessions the pool is to have for its present load,
	// Size how many it may have.
	Wanted int
	Size   int
	// CommandRate is how many commands a second the cloud has sent the busiest
	// session lately; 0 where that is not known.
	CommandRate float64
}

// SessionStatus is how one session stands.
type SessionStatus struct {
	ID        string    `json:"id"`
	Opened    time.Time `json:"opened"`
	Delivered uint64    `json:"delivered"`
	// Rate is its deliveries in the last whole second.
	Rate     int `json:"rate"`
	InFlight int `json:"inFlight"`
}

// Counters are the counters of a connection, since it was made. Their law:
// Received = Delivered + Pending + Expired + Failed + Filtered.
type Counters struct {
	Received  uint64 `json:"received"`  // journalled for the connection
	Delivered uint64 `json:"delivered"` // acknowledged by the cloud
	Pending   uint64 `json:"pending"`   // waiting or under way
	Expired   uint64 `json:"expired"`   // too old: validity, age, share of the disk
	Failed    uint64 `json:"failed"`    // can never be delivered, or its thing is missing
	Filtered  uint64 `json:"filtered"`  // not wanted by the connection
}

// Holds reports whether the law of the counters holds.
func (c Counters) Holds() bool {
	return c.Received == c.Delivered+c.Pending+c.Expired+c.Failed+c.Filtered
}
