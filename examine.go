package sluice

import (
	"context"
	"encoding/json"
)

// Examiner is an optional ability of a [Connector]: to try a configuration,
// step by step, and to tell of each step how it went and what to do next.
//
// The configuration may be one that Check refuses. What is tried harms
// nothing: it uses names and client ids of its own, and leaves nothing behind.
// ctx bounds it. report is called once for each step, one after another, in
// the order in which they are to be read: the first that failed is the one to
// look at. DialerSpec.Things and Events may be nil.
type Examiner interface {
	Examine(ctx context.Context, spec DialerSpec, x Examination, report func(Step))
}

// Examination says how a configuration is to be examined.
type Examination struct {
	// Problems are those that are known before: of the schema, of what is
	// common to all connectors. Paths are relative to the configuration.
	Problems []Problem
	// Create allows it to make something in the cloud, and to delete it
	// again: some permissions cannot be tried otherwise.
	Create bool
	// Topic is where a test message is published and received; "" is the
	// connector's choice.
	Topic string
	// Silent forbids it to publish anything.
	Silent bool
}

// StepState is how a step of an examination went.
type StepState string

// The states of a step.
const (
	StepOK      StepState = "ok"
	StepWarning StepState = "warning" // it works, but not as it should
	StepFailed  StepState = "failed"
	StepSkipped StepState = "skipped" // not tried; Detail says why
)

// Step is one step of an examination.
type Step struct {
	ID    string    `json:"id"`    // for programs: "port"
	Title string    `json:"title"` // for people: "Port opens"
	State StepState `json:"state"`
	// Cause is for programs: what is wrong, "port_refused"; "" where nothing is.
	Cause        string  `json:"cause,omitempty"`
	Milliseconds float64 `json:"milliseconds"`   // it took
	Detail       string  `json:"detail"`         // what was found, in a sentence
	Hint         string  `json:"hint,omitempty"` // the next thing to do
}

// Advisor is an optional ability of a [Connector]: to write down what the
// cloud must allow for a configuration to work, and no more than that.
type Advisor interface {
	// Advise fails where the configuration says too little. It does no input
	// or output.
	Advise(spec DialerSpec, w Wish) (Advice, error)
}

// Wish says what is to be written down.
type Wish struct {
	// Account is the cloud's own name of the account, where the configuration
	// does not tell it; "": not known.
	Account string
	// Examine adds what an [Examiner] needs besides, to find out more.
	Examine bool
}

// Advice is what the cloud must allow: documents in the cloud's own form.
type Advice struct {
	Documents []Document
	// Notes are sentences on what is to be filled in or known.
	Notes []string
}

// Document is one document of an [Advice].
type Document struct {
	Name  string          // for programs: "iotPolicy"
	Title string          // for people
	JSON  json.RawMessage // the document
}
