// Package store keeps what survives a restart besides messages: connections,
// flows and networks with their secrets sealed, the devices that were seen,
// what connections know of things in the cloud, events, and the ways of messages.
//
// All of it is read from memory. Configuration is written to the JetStream
// key-value bucket CONFIG before a call returns; the rest is written behind by
// [Store.Run], within about a second, and a crash may lose that second.
package store

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"sluice"
)

// Options are what a [Store] is made from.
type Options struct {
	// Conn leads to a server with JetStream. What CONFIG, DEVICES, THINGS and
	// EVENTS hold is as durable as the server's files are: it is to sync always.
	Conn *nats.Conn
	// Reads, when given, answers what looks through much, so that it does not
	// stand before others on Conn.
	Reads *nats.Conn
	// WayAge is how long ways are kept: 24 hours where 0.
	WayAge time.Duration
	// Sealer seals the secrets of connections and networks.
	Sealer sluice.Sealer
	// ForgetSecrets drops the secrets that Sealer cannot open, where Open
	// would return an error.
	ForgetSecrets bool
	Clock         sluice.Clock // time.Now where nil
	Rand          io.Reader    // crypto/rand where nil
	Log           *slog.Logger // silent where nil
	// Failing, if not nil, is called when what is written behind could not be
	// written once more after the first time.
	Failing func()
}

// The beats at which what is written behind is written.
const (
	stateBeat = 500 * time.Millisecond
	eventBeat = 200 * time.Millisecond
	wayBeat   = 250 * time.Millisecond
	// lastFlush bounds the flush at the end of Run.
	lastFlush = 5 * time.Second
)

// Store holds everything. Its methods are safe for use by several goroutines.
type Store struct {
	options Options
	watch   watch

	writing     sync.Mutex // one change of the configuration at a time
	config      *bucket
	connections shelf[sluice.Connection]
	flows       shelf[sluice.Flow]
	networks    shelf[sluice.NetworkConfig]

	devices *devices
	things  *things
	events  *events
	blobs   *blobs
	ways    *ways
}

var _ sluice.Recorder = (*Store)(nil)

// Open reads everything into memory. Where secrets are stored that the Sealer
// cannot open, the error is a [*sluice.Error] that lists them, unless
// Options.ForgetSecrets is set.
func Open(ctx context.Context, o Options) (*Store, error) {
	o.defaults()
	if o.Sealer == nil {
		return nil, sluice.Errorf(sluice.CodeInternal, "the store has no sealer for its secrets")
	}
	js, err := jetstream.New(o.Conn)
	if err != nil {
		return nil, unavailable("be opened", err)
	}
	s := &Store{options: o}
	s.connections = connectionShelf()
	s.flows = flowShelf()
	s.networks = networkShelf()
	if err := s.openConfig(ctx, js); err != nil {
		return nil, err
	}
	if s.devices, err = openDevices(ctx, js, o.Log); err != nil {
		return nil, unavailable("be read", err)
	}
	if s.things, err = openThings(ctx, js, o.Log, s.connections.has); err != nil {
		return nil, unavailable("be read", err)
	}
	if s.events, err = openEvents(ctx, js, o); err != nil {
		return nil, unavailable("be read", err)
	}
	if s.blobs, err = openBlobs(ctx, js, o.Log); err != nil {
		return nil, unavailable("be read", err)
	}
	if s.ways, err = openWays(ctx, js, o); err != nil {
		return nil, unavailable("be read", err)
	}
	return s, nil
}

func (o *Options) defaults() {
	if o.Reads == nil {
		o.Reads = o.Conn
	}
	if o.WayAge <= 0 {
		o.WayAge = defaultWayAge
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Rand == nil {
		o.Rand = rand.Reader
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Failing == nil {
		o.Failing = func() {}
	}
}

// Run writes devices, things, events, ways and blobs behind until ctx ends, and
// then once more what is left, for at most a few seconds. It is called once.
func (s *Store) Run(ctx context.Context) error {
	var writers sync.WaitGroup
	var eventsErr, stateErr, waysErr error
	writers.Go(func() {
		eventsErr = s.beat(ctx, eventBeat, s.events.flush, nil)
	})
	writers.Go(func() {
		stateErr = s.beat(ctx, stateBeat, s.flushState, s.tidyState)
	})
	writers.Go(func() {
		waysErr = s.beat(ctx, wayBeat, s.ways.flush, nil)
	})
	writers.Wait()
	return errors.Join(eventsErr, stateErr, waysErr)
}

// flushState writes the state that is kept beside the configuration. One that
// fails does not keep the others from being written.
func (s *Store) flushState(ctx context.Context) error {
	return errors.Join(s.devices.flush(ctx), s.things.flush(ctx), s.blobs.flush(ctx))
}

// tidyState shortens what has grown too long.
func (s *Store) tidyState(ctx context.Context) error {
	return errors.Join(s.devices.tidy(ctx), s.things.tidy(ctx))
}

// beat calls flush at each beat and once more when ctx ends, and tidy, which
// may be nil, after a flush. A flush under way is not cut off by the end of
// ctx: whether a write that was cut off has happened would be unknown. tidy is
// cut off. What fails is tried again at the next beat; the log is told of the
// first failure and of the recovery.
func (s *Store) beat(ctx context.Context, every time.Duration, flush, tidy func(context.Context) error) error {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			return bounded(ctx, lastFlush, flush)
		case <-ticker.C:
		}
		err := bounded(ctx, lastFlush, flush)
		if err == nil && tidy != nil {
			err = tidy(ctx)
		}
		switch {
		case err != nil && ctx.Err() != nil: // the last flush will tell
		case err != nil && !failing:
			s.options.Log.Error("the store cannot be written; what was not written is kept in memory", "error", err)
		case err != nil:
			s.options.Failing()
		case err == nil && failing:
			s.options.Log.Info("the store can be written again")
		}
		failing = err != nil
	}
}

// bounded calls f with a context of its own time-out that does not end with ctx.
func bounded(ctx context.Context, limit time.Duration, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
	defer cancel()
	return f(ctx)
}

// unavailable is the error of a store that cannot be used now.
func unavailable(what string, err error) error {
	return &sluice.Error{
		Code:    sluice.CodeUnavailable,
		Message: "the store cannot " + what + " now",
		Hint:    "Try again later. If it stays so, look at the log and at the disk of the data directory.",
		Err:     err,
	}
}
