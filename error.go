package sluice

import (
	"errors"
	"fmt"
	"time"
)

// Code is the part of an error that programs read. The values follow
// ThingPark's pattern: com-4001 for HTTP 401, com-4004 for 404.
type Code string

// The codes.
const (
	CodeInvalid      Code = "com-4000" // 400: the request is wrong as it stands
	CodeUnauthorized Code = "com-4001" // 401
	CodeNotFound     Code = "com-4004" // 404
	CodeConflict     Code = "com-4009" // 409: right in itself, but not now
	CodePrecondition Code = "com-4012" // 412: changed meanwhile
	CodeTooLarge     Code = "com-4013" // 413
	CodeInternal     Code = "com-5000" // 500
	CodeUnavailable  Code = "com-5003" // 503: try again later
)

// Problem is one thing wrong with what a user sent.
type Problem struct {
	// Path leads to the value: "configuration.privateKey", "matchers[0].key".
	Path string `json:"path"`
	// Message says what is wrong and what is wanted.
	Message string `json:"message"`
}

// Error is an error with three readers: Code for programs, Message and Hint
// (the next thing to do) and Fields for the user, Err for the operator's log.
// No secret may stand in any of them.
type Error struct {
	Code    Code
	Message string
	Hint    string
	Fields  []Problem
	Err     error
}

func (e *Error) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("%s: %v", e.Message, e.Err)
	}
	return e.Message
}

func (e *Error) Unwrap() error { return e.Err }

// Errorf makes an [Error] with a code and a sentence.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// CodeOf returns the code of err: CodeInternal for an error that has none,
// "" for nil.
func CodeOf(err error) Code {
	if err == nil {
		return ""
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	return CodeInternal
}

// Verdict tells the journal, the only room that retries, what a failed
// delivery means.
type Verdict int

// The verdicts.
const (
	// Retry: try again after a backoff. Any error that is no [Failure] means this.
	Retry Verdict = iota
	// RetryAfter: try again after Failure.After.
	RetryAfter
	// NotConnected: the session was lost or none is open; try again as soon
	// as one is. The try does not count as one.
	NotConnected
	// Permanent: it will never succeed; count it as failed, say why.
	Permanent
	// Filtered: the connection is not meant to have it; count it as filtered.
	// Nothing is wrong.
	Filtered
	// Expired: it is too old to be delivered; count it as expired.
	Expired
)

// Reason is one of a closed set of causes: a metric's label, and what the
// console shows.
type Reason string

// The reasons.
const (
	ReasonInternal       Reason = "internal"        // a fault of Sluice's own
	ReasonTimeout        Reason = "timeout"         // no answer in time
	ReasonDisconnected   Reason = "disconnected"    // the link was lost
	ReasonUnreachable    Reason = "unreachable"     // no link could be made
	ReasonTLS            Reason = "tls"             // the TLS handshake failed
	ReasonAuthentication Reason = "authentication"  // who we are was refused
	ReasonNotAuthorized  Reason = "not_authorized"  // what we do was refused
	ReasonThrottled      Reason = "throttled"       // too much, too fast
	ReasonTakenOver      Reason = "taken_over"      // another client uses our id
	ReasonThingMissing   Reason = "thing_missing"   // the device is no thing in the cloud
	ReasonThingPending   Reason = "thing_pending"   // its thing is still being made
	ReasonPattern        Reason = "pattern"         // a pattern does not resolve
	ReasonTopic          Reason = "topic"           // the topic is not allowed
	ReasonTooLarge       Reason = "too_large"       // the payload is over the limit
	ReasonRejected       Reason = "rejected"        // the other side read it and said no
	ReasonMalformed      Reason = "malformed"       // the document cannot be read
	ReasonConfiguration  Reason = "configuration"   // the configuration does not allow it
	ReasonUnknownDevice  Reason = "unknown_device"  // no network has seen the device
	ReasonUnknownNetwork Reason = "unknown_network" // the network is gone
	ReasonExpired        Reason = "expired"         // too old
	ReasonFiltered       Reason = "filtered"        // not wanted by the connection
)

// Failure is the error of a delivery, or of opening a session, with its
// verdict.
type Failure struct {
	Verdict Verdict
	After   time.Duration // with RetryAfter
	Reason  Reason
	Message string // a sentence for the user, without secrets
	Hint    string // the next thing to do, may be empty
	Status  int    // the other side's status code where it gave one
	Err     error  // detail for the operator
}

func (f *Failure) Error() string {
	if f.Err != nil {
		return fmt.Sprintf("%s: %v", f.Message, f.Err)
	}
	return f.Message
}

func (f *Failure) Unwrap() error { return f.Err }

// VerdictOf returns the verdict of err and, with RetryAfter, the delay.
func VerdictOf(err error) (Verdict, time.Duration) {
	if f, ok := errors.AsType[*Failure](err); ok {
		return f.Verdict, f.After
	}
	return Retry, 0
}

// ReasonOf returns the reason of err; ReasonInternal for an error without one.
func ReasonOf(err error) Reason {
	if f, ok := errors.AsType[*Failure](err); ok && f.Reason != "" {
		return f.Reason
	}
	return ReasonInternal
}
