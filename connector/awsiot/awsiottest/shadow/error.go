package shadow

import (
	"fmt"
	"time"
)

// Error is a request that was rejected. Codes and messages are those of the
// guide, "Device Shadow error messages".
type Error struct {
	Code    int // an HTTP status
	Message string

	clientToken string
	now         time.Time
}

func (e *Error) Error() string { return fmt.Sprintf("%d: %s", e.Code, e.Message) }

// Document is what is published to the topic that ends with "/rejected".
func (e *Error) Document() []byte {
	o := answer{"code": e.Code, "message": e.Message, "timestamp": e.now.Unix()}
	return encode(o.token(e.clientToken))
}

func newError(code int, message string) *Error { return &Error{Code: code, Message: message} }

func (e *Error) with(clientToken string) *Error {
	e.clientToken = clientToken
	return e
}

func (e *Error) at(now time.Time) *Error {
	e.now = now
	return e
}

// TooManyRequests is the error of a request too many at a time or a second.
// The guide describes when it comes and has no text for it: inferred.
func TooManyRequests(now time.Time) *Error {
	return newError(429, "Too many requests").at(now)
}

// NewError is an error for a carrier's own reasons.
func NewError(code int, message string, now time.Time) *Error {
	return newError(code, message).at(now)
}

// Reject is an error for a request that is refused whatever it asks for.
func Reject(code int, message string, request []byte, now time.Time) *Error {
	token, _ := parseToken(request)
	return newError(code, message).with(token).at(now)
}

func tooLarge() *Error { return newError(413, "The payload exceeds the maximum size allowed") }

// noShadow names a named shadow as users' logs show it, with the thing before
// it; the guide's tutorial shows the name alone.
func noShadow(id ID) *Error {
	name := id.Thing
	if id.Name != "" {
		name += "~" + id.Name
	}
	return newError(404, "No shadow exists with name: '"+name+"'")
}
