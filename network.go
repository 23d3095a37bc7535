package sluice

import (
	"encoding/json"
	"log/slog"
	"time"
)

// NetworkConfig is a configured door to a network server, as stored.
type NetworkConfig struct {
	ID            string          `json:"id"` // unguessable: it is the address that reports come in at
	Kind          string          `json:"kind"`
	Name          string          `json:"name"`
	Configuration json.RawMessage `json:"configuration"`
	Created       time.Time       `json:"created"`
}

// NetworkKind is a kind of network server: thingpark, later chirpstack, tts.
type NetworkKind interface {
	// Kind is its name in NetworkConfig.Kind.
	Kind() string
	// Schema is the JSON Schema (draft-04) of its configuration. A property
	// with "format": "password" is a secret.
	Schema() json.RawMessage
	// Check finds what the schema cannot say. Paths are relative to the
	// configuration ("downlinkUrl").
	Check(configuration json.RawMessage) []Problem
	// Open makes the door. It does no network input or output. The
	// configuration in spec has passed Schema and Check.
	Open(spec NetworkSpec) (Network, error)
}

// NetworkSpec is all that a [Network] is made from.
type NetworkSpec struct {
	NetworkConfig         // secrets in clear
	Reports       Handler // takes each report; nil means durable
	Events        Recorder
	Sealer        Sealer
	Clock         Clock
	Log           *slog.Logger
}

// Network is an open door to one network server. Its Handle hands a command
// (Kind [KindDownlink]) to the server; nil means the server has queued it, a
// Failure with verdict Permanent that it refused (Status and Message are the
// server's).
//
// A kind whose server posts its reports over HTTP also implements
// net/http.Handler: the door of POST /ingest/{networkId}.
type Network interface {
	Handler
	// Close ends what Open began and waits for it.
	Close()
}

// Sealer encrypts small secrets for storage and opens them again.
type Sealer interface {
	Seal(clear []byte) ([]byte, error)
	Open(sealed []byte) ([]byte, error)
}
