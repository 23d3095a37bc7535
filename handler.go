package sluice

import "context"

// Handler is the one verb of Sluice, in both directions.
//
// nil means: I hold it durably (or the other side has acknowledged it),
// forget it. Any error leaves the message with the caller; what the caller
// does next is told by [VerdictOf]. Handle may block, for pacing or until a
// session opens; it ends with the context's error when the context ends.
// Handle is safe for use by several goroutines.
type Handler interface {
	Handle(ctx context.Context, m *Message) error
}

// HandlerFunc is a function as a [Handler].
type HandlerFunc func(ctx context.Context, m *Message) error

// Handle calls f.
func (f HandlerFunc) Handle(ctx context.Context, m *Message) error { return f(ctx, m) }
