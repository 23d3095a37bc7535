// Package thingpark is the door to a ThingPark network server (Actility):
// reports come in by HTTP POST as its LRC sends them to an application server
// (the LRC to AS tunnel), commands go out to its downlink address.
//
// Facts of the protocol are from Actility's public sources: the documentation
// of ThingPark X IoT Flow, the samples in actility/thingpark-integrations, and
// KPN's lora-reference; the tests carry the vectors that they publish.
package thingpark

import (
	"bufio"
	"crypto/rand"
	"encoding/json"
	"io"
	"log/slog"
	"time"

	"sluice"
)

// Kind is the kind "thingpark" of network servers.
type Kind struct {
	ids *idSource
}

var _ sluice.NetworkKind = (*Kind)(nil)

// New makes the kind. Message ids draw from the system's randomness.
func New() *Kind { return newKind(bufio.NewReader(rand.Reader)) }

func newKind(entropy io.Reader) *Kind { return &Kind{ids: newIDSource(entropy)} }

// Kind returns "thingpark".
func (k *Kind) Kind() string { return "thingpark" }

// Schema is the JSON Schema (draft-04) of a network's configuration.
func (k *Kind) Schema() json.RawMessage { return json.RawMessage(schema) }

// Check finds what the schema cannot say.
func (k *Kind) Check(configuration json.RawMessage) []sluice.Problem {
	_, problems := readConfig(configuration)
	return problems
}

// Open makes the door of a network. The result also is an http.Handler, which
// takes the network's reports.
func (k *Kind) Open(spec sluice.NetworkSpec) (sluice.Network, error) {
	c, problems := readConfig(spec.Configuration)
	if len(problems) > 0 {
		return nil, &sluice.Error{Code: sluice.CodeInvalid, Message: "The configuration of the network is not valid.", Fields: problems}
	}
	if spec.Clock == nil {
		spec.Clock = time.Now
	}
	if spec.Log == nil {
		spec.Log = slog.New(slog.DiscardHandler)
	}
	n := &Network{
		id:       spec.ID,
		config:   c,
		reports:  spec.Reports,
		sealer:   spec.Sealer,
		clock:    spec.Clock,
		log:      spec.Log,
		ids:      k.ids,
		refusals: newRefusals(spec.ID, spec.Events, refusalPeriod),
		client:   newClient(),
	}
	return n, nil
}
