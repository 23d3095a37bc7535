// Package api is the REST API of Sluice: the resources of ThingPark X IoT Flow
// (connectors, connections, flows, events, downlinkMessages), in its words,
// and ours besides (networks, devices, metrics, health).
//
// The same routes are served at / and under /iot-flow/v1, described by an
// OpenAPI document at /openapi.json and a page to read it at /docs, which
// works without the Internet. Every error has one form,
// {"code","message","hint","fields"}, and names all problems at once.
//
// The door of the reports, POST /ingest/{networkId}, is here too, but goes
// round everything else: see ingest.go.
package api

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"time"

	"sluice"
)

// Options are what the API is made from. All are needed, but those that say
// otherwise.
type Options struct {
	// Token is the administrator's token, asked for as
	// "Authorization: Bearer <token>". Empty: nobody is let in.
	Token string
	// PublicURL is the address that others reach Sluice at, without a slash
	// at its end ("https://sluice.example.com"); empty when unknown, then
	// addresses are given as paths.
	PublicURL string
	// Version of Sluice, for the OpenAPI document; may be empty.
	Version string

	Connectors []sluice.Connector
	// Schema returns the schema of a connector's configurations, with what is
	// common to all connectors; nil: the connector's own.
	Schema func(sluice.ConnectorInfo) json.RawMessage
	// CheckCommon finds what a schema cannot say in the common part of a
	// configuration; paths are relative to it. May be nil.
	CheckCommon func(configuration json.RawMessage) []sluice.Problem
	// CheckAlarms finds what is wrong with the alarms of a connection; paths
	// begin with "alarms". May be nil.
	CheckAlarms  func(alarms json.RawMessage) []sluice.Problem
	NetworkKinds []sluice.NetworkKind

	Connections Connections
	Flows       Flows
	Networks    Networks
	Devices     Devices
	Events      Events
	Messages    Messages // nil: nothing is known of messages
	Supervisor  Supervisor
	Metrics     MetricsSource
	Replays     Replays
	Quarantine  Quarantine
	// Recorder takes the warnings about configurations.
	Recorder sluice.Recorder

	// Ingest returns the door of a network; false when there is none, or when
	// the network is stored but closed. It is asked for each report: it must
	// be as fast as a map.
	Ingest func(networkID string) (http.Handler, bool)
	// NetworkState tells whether a stored network is open, and in a sentence
	// why it is not. nil: all are open.
	NetworkState func(id string) (open bool, reason string)
	// NetworkCounters are those of the commands for a network, at the moment;
	// zero for an unknown one. nil: none ever wait.
	NetworkCounters func(id string) sluice.Counters
	// Ready tells why Sluice cannot do its work; nil when it can. Its
	// sentences are shown to everyone who asks. May be nil: always ready.
	Ready func() error
	// Doctor tests connections; nil: nothing does.
	Doctor Doctor
	// Backup writes a backup to w. Errors that come before anything was
	// written are for the user; after any other the backup is cut off. nil:
	// there are no backups.
	Backup func(ctx context.Context, w io.Writer) error
	// Prometheus serves /metrics; nil: there is none.
	Prometheus http.Handler

	Clock sluice.Clock // nil: time.Now
	Log   *slog.Logger // nil: nothing is logged
}

// New returns the handler of the whole API. It panics where the schema of a
// connector or of a kind of network does not compile: that is a fault in the
// program, which its first start shows.
func New(o Options) http.Handler {
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Schema == nil {
		o.Schema = func(info sluice.ConnectorInfo) json.RawMessage { return info.Schema }
	}
	return newServer(o).handler()
}
