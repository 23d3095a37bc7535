// Package awsiot is the connector to AWS IoT Core: uplinks by MQTT 5 over
// mutual TLS or WebSocket, or by HTTPS, commands by a subscription, devices
// registered as things.
//
// A [Connector] checks configurations and makes Dialers. A Dialer opens the
// MQTT sessions of a connection's pool and keeps what they share, above all
// the registry of things. README.md tells how it works and where its figures
// come from.
package awsiot

import (
	"encoding/json"
	"math/rand/v2"
	"net/http"
	"time"

	"sluice"
)

// Options adjust a Connector, for tests. The zero value is for production.
type Options struct {
	// PublishRate is how many publishes a second a session makes at most; 0
	// means 98, just under AWS's quota of 100; negative: as fast as it can.
	PublishRate float64
	// PubackTimeout is how long a publish waits for its acknowledgement
	// before it is to be sent again, and a ping for its answer before the
	// link is given up; 0 means 10 seconds.
	PubackTimeout time.Duration
	// ConnectTimeout bounds the opening of a session; 0 means 30 seconds.
	ConnectTimeout time.Duration
	// KeepAlive is MQTT's, in whole seconds; 0 means 30, the least that AWS
	// takes.
	KeepAlive time.Duration
	// RecheckMissing is how long a thing that was missing is taken for
	// missing without asking again; 0 means one minute.
	RecheckMissing time.Duration
	// RetryThing is the first pause before a thing that could not be made is
	// tried again; it doubles up to 64 times its value. 0 means 5 seconds.
	RetryThing time.Duration
	// WebSocketLife is how long a session over WebSocket lives at most, before
	// another takes its place; it is shortened at random by up to a tenth. 0
	// means 23 hours: AWS closes it after 24.
	WebSocketLife time.Duration
	// ScanFrom is how many devices must wait to be looked up for the lists of
	// things to be read too; 0 means 1750.
	ScanFrom int
	// Transport makes the calls of the AWS IoT API; nil means over the network.
	Transport http.RoundTripper
	// RetryStolen is the first pause before commands are taken again from a
	// session that a stranger has taken; it doubles up to 5 minutes. 0 means
	// 10 seconds.
	RetryStolen time.Duration
	// ShadowSpacing is the least time between two requests to one shadow; 0
	// means one second.
	ShadowSpacing time.Duration
	// Clock is for the dates of certificates and of signatures; nil means
	// time.Now.
	Clock sluice.Clock
	// Rand returns numbers in [0,1) for the jitter of pauses; nil means
	// math/rand.
	Rand func() float64
}

// Connector is the kind of cloud "AWS IoT Core".
type Connector struct {
	o        Options
	desks    *desks
	accounts *accounts
}

var (
	_ sluice.Connector = (*Connector)(nil)
	_ sluice.Expirer   = (*Connector)(nil)
)

// New makes the connector.
func New(o Options) *Connector {
	if o.PublishRate == 0 {
		o.PublishRate = publishRate
	}
	setDefault(&o.PubackTimeout, 10*time.Second)
	setDefault(&o.ConnectTimeout, 30*time.Second)
	setDefault(&o.WebSocketLife, 23*time.Hour)
	setDefault(&o.KeepAlive, 30*time.Second)
	setDefault(&o.RecheckMissing, time.Minute)
	setDefault(&o.RetryThing, 5*time.Second)
	if o.ScanFrom == 0 {
		o.ScanFrom = scanFrom
	}
	setDefault(&o.RetryStolen, 10*time.Second)
	setDefault(&o.ShadowSpacing, shadowSpacing)
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Rand == nil {
		o.Rand = rand.Float64
	}
	return &Connector{o: o, desks: newDesks(), accounts: newAccounts()}
}

func setDefault(d *time.Duration, value time.Duration) {
	if *d == 0 {
		*d = value
	}
}

// Info describes the connector. Id, producer, module and version are
// ThingPark's.
func (c *Connector) Info() sluice.ConnectorInfo {
	return sluice.ConnectorInfo{
		ID:          "actility-aws-iot",
		ProducerID:  "actility",
		ModuleID:    "aws-iot",
		Version:     "2.0.0",
		Name:        "AWS IoT Core",
		Description: "Sends uplinks to AWS IoT Core over MQTT (TLS or WebSocket) or HTTPS, takes commands from it, and registers devices as things.",
		Schema:      json.RawMessage(schema),
	}
}

// Dialer makes the Dialer of a connection, whose configuration has passed
// Check.
func (c *Connector) Dialer(spec sluice.DialerSpec) (sluice.Dialer, error) {
	return newDialer(c.o, c.desks, c.accounts, spec)
}

// Expires tells when the client certificate expires, where it is used.
func (c *Connector) Expires(configuration json.RawMessage) (time.Time, bool) {
	cfg := readConfig(configuration)
	chain, err := readCertificates(cfg.Certificate)
	if err != nil || !cfg.certified() {
		return time.Time{}, false
	}
	return chain[0].NotAfter, true
}
