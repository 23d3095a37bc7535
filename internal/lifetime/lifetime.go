// Package lifetime runs long-lived loops: each has a name, starts again after
// an error or a panic, with a growing delay, and ends with its context.
package lifetime

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"
)

// steady is how long a run must last for the delays to start anew.
const steady = time.Minute

// Loop describes a loop.
type Loop struct {
	Name string
	// Min and Max bound the delay before a further run: it doubles from Min to
	// Max, and half of it is random.
	Min, Max time.Duration
	Rand     func() float64 // 0 <= x < 1
	Log      *slog.Logger
}

// Run calls f until ctx ends. f is to return when ctx ends; when it returns
// earlier, with an error or without, or panics, that is logged and it is
// called again after a delay. Run returns when the last call has.
func (l Loop) Run(ctx context.Context, f func(ctx context.Context) error) {
	delay := l.Min
	for ctx.Err() == nil {
		began := time.Now()
		err := Guard(func() error { return f(ctx) })
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) >= steady {
			delay = l.Min
		}
		wait := delay/2 + time.Duration(l.Rand()*float64(delay/2))
		l.Log.Error("loop ended early, starts again", "loop", l.Name, "after", wait, "err", err)
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
		delay = min(2*delay, l.Max)
	}
}

// Guard calls f and turns a panic of it into an error.
func Guard(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &PanicError{Value: p, Stack: debug.Stack()}
		}
	}()
	return f()
}

// PanicError is the error that a panic became.
type PanicError struct {
	Value any
	Stack []byte
}

func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v\n%s", e.Value, e.Stack) }
