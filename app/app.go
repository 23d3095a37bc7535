// Package app wires the rooms into one process and owns its life: what is
// opened, in which order it runs, and in which order it stops.
package app

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"time"

	"github.com/nats-io/nats.go"

	"sluice"
	"sluice/connection"
	"sluice/connector/awsiot"
	"sluice/flow"
	"sluice/internal/datadir"
	"sluice/journal"
	"sluice/network/thingpark"
	"sluice/store"
)

// GCPercent is the setting of the garbage collector that a process that runs
// Sluice should have, unless GOGC says otherwise: measured at full load, 60
// takes a seventh off the memory that Go's own 100 needs, and nothing off the
// throughput.
const GCPercent = 60

// Connectors are the kinds of clouds that Sluice knows. A build with others
// hands its own list to [New].
func Connectors() []sluice.Connector {
	return []sluice.Connector{awsiot.New(awsiot.Options{})}
}

// Networks are the kinds of network servers that Sluice knows.
func Networks() []sluice.NetworkKind {
	return []sluice.NetworkKind{thingpark.New()}
}

// Options say how a Sluice is to run. Data is required; the zero value of
// everything else is a sensible default.
type Options struct {
	// Data is the data directory; it is made if it is not there.
	Data string
	// Listen is the address of the REST API and of the reports; default
	// 127.0.0.1:8080. Port 0 takes a free one.
	Listen string
	// PublicURL is the address that others reach Sluice at; "" puts no
	// downlinkUrl into uplinks.
	PublicURL string
	// KeyFile holds the key that seals secrets; default secret.key in Data.
	KeyFile string
	// ForgetSecrets makes a new key where the old one is lost.
	ForgetSecrets bool
	// Retention, History, Share and Reserve are the journal's: see
	// [journal.Options].
	Retention, History time.Duration
	Share, Reserve     int64
	// Drain is how long delivery goes on once a stop is asked for; default 5 s.
	Drain   time.Duration
	Version string
	// Connectors and Networks default to all that Sluice knows.
	Connectors []sluice.Connector
	Networks   []sluice.NetworkKind
	Clock      sluice.Clock
	Log        *slog.Logger
	// LogEvents writes each event to Log too, at its level; those that come
	// for each device at level debug.
	LogEvents bool
}

func (o Options) withDefaults() Options {
	if o.Listen == "" {
		o.Listen = "127.0.0.1:8080"
	}
	if o.KeyFile == "" {
		o.KeyFile = filepath.Join(o.Data, "secret.key")
	}
	if o.Drain <= 0 {
		o.Drain = 5 * time.Second
	}
	if o.Connectors == nil {
		o.Connectors = Connectors()
	}
	if o.Networks == nil {
		o.Networks = Networks()
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

func (o Options) validate() error {
	if o.Data == "" {
		return &sluice.Error{
			Code: sluice.CodeInvalid, Message: "No data directory is given",
			Hint: "Name one with --data; it is made if it is not there.",
		}
	}
	return nil
}

// App is one running Sluice.
type App struct {
	options  Options
	cleanups []func() // last in, first out
	listener net.Listener
	token    string
	newToken bool

	dir         *datadir.Dir
	journal     *journal.Journal
	store       *store.Store
	router      *flow.Router
	connections *connection.Supervisor
	networks    *networks
	metrics     *metrics
	expiry      *expiry
	handler     http.Handler
	backups     *nats.Conn    // see backup.go
	deleted     chan struct{} // something stored has changed: see tidy
}

// New opens the data directory and all that lives in it, and listens; nothing
// is served before Run. An error leaves nothing open.
//
// The order of what follows is that of dependence, and it is long because
// this is the one place where every room is known; splitting it would only
// thread its state about.
func New(ctx context.Context, o Options) (*App, error) {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return nil, err
	}
	a := &App{options: o, deleted: make(chan struct{}, 1)}
	if err := a.open(ctx); err != nil {
		a.close()
		return nil, err
	}
	return a, nil
}

// logEvent writes an event to the log. The id of a network is as good as a
// password, so it is left out.
func (a *App) logEvent(e sluice.Event) {
	level := slog.LevelInfo
	switch e.Level {
	case sluice.LevelWarning:
		level = slog.LevelWarn
	case sluice.LevelError:
		level = slog.LevelError
	}
	if e.Type == sluice.EventThingCreated && e.DevEUI != "" {
		level = slog.LevelDebug
	}
	var more []any
	add := func(key, value string) {
		if value != "" {
			more = append(more, key, value)
		}
	}
	add("connection", e.Connection)
	add("device", e.DevEUI)
	add("hint", e.Hint)
	a.options.Log.Log(context.Background(), level, e.Label+": "+e.Detail, more...)
}

// stopLimit is how long an end may take, beside the drain.
const stopLimit = 20 * time.Second

// Addr is the address that Sluice listens on.
func (a *App) Addr() string { return a.listener.Addr().String() }

// Token is the administrator's token.
func (a *App) Token() string { return a.token }

// TokenFile is where the administrator's token is kept, and whether it was
// made just now.
func (a *App) TokenFile() (path string, created bool) { return a.dir.TokenFile(), a.newToken }

// Follow calls f for each event, in order, until stop is called. f must not
// block.
func (a *App) Follow(f func(sluice.Event)) (stop func()) { return a.store.Follow(f) }

// Counters are those of a connection; see [sluice.Counters].
func (a *App) Counters(connection string) sluice.Counters {
	return a.journal.Counters(journal.Up(connection))
}

// Status is how a connection stands.
func (a *App) Status(connection string) (sluice.Status, bool) {
	return a.connections.Status(connection)
}

// Stats counts what came in at the door.
func (a *App) Stats() flow.Stats { return a.router.Stats() }

// Close gives back what New has opened, where Run is not called.
func (a *App) Close() { a.close() }

// Run serves until ctx ends, then stops in the direction of the messages: the
// door first, then what delivers, once it has delivered what it can within
// Options.Drain, then the journal and the store; all of it within Options.Drain
// and 20 s. It returns nil after an orderly end.
func (a *App) Run(ctx context.Context) error {
	defer a.close()
	drain := a.options.Drain
	a.store.Record(sluice.Event{
		Level: sluice.LevelInfo, Type: sluice.EventSystemStarted, Label: "Sluice started",
		Detail: fmt.Sprintf("Sluice %s listens on %s", a.options.Version, a.Addr()),
	})
	a.logged("note that the restore was told", a.dir.ForgetRestored())
	for _, m := range a.store.MissingSecrets() {
		a.store.Record(sluice.Event{
			Level: sluice.LevelWarning, Type: sluice.EventSecretsMissing, Label: "Secrets missing",
			Detail: "The key was lost, and with it these secrets: " + m.String(), Hint: "Enter them again.",
		})
	}
	return runStages(ctx, a.options.Log, drain+stopLimit, []stage{
		{"store", a.store.Run, 5 * time.Second},
		{"journal", a.journal.Run, 5 * time.Second},
		{"metrics", a.metrics.Run, 2 * time.Second},
		{"tidy", a.tidy, 2 * time.Second},
		{"expiry", a.expiry.run, 2 * time.Second},
		{"networks", a.networks.Run, 10 * time.Second},
		{"connections", a.connections.Run, 10 * time.Second},
		{"drain", func(ctx context.Context) error { <-ctx.Done(); a.drain(drain); return nil }, drain + time.Second},
		{"door", a.serve, 5 * time.Second},
	})
}

// serve answers requests until ctx ends, then finishes those under way.
func (a *App) serve(ctx context.Context) error {
	select {
	case <-a.networks.ready:
	case <-ctx.Done():
		return nil
	}
	server := &http.Server{
		Handler:           a.handler,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       30 * time.Second, // the doors of the reports set their own
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(a.options.Log.Handler(), slog.LevelDebug),
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(a.listener) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	bounded, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	if err := server.Shutdown(bounded); err != nil {
		_ = server.Close() // what is still under way is cut; it was not answered
	}
	<-ended
	return nil
}

// drain waits until the open connections have delivered what waits for them,
// at most for limit.
func (a *App) drain(limit time.Duration) {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for a.waiting() {
		select {
		case <-timer.C:
			return
		case <-tick.C:
		}
	}
}

// waiting reports whether an open connection has something to deliver.
func (a *App) waiting() bool {
	for _, c := range a.store.Connections() {
		if s, ok := a.connections.Status(c.ID); ok && s.State == sluice.StateOpened && a.Counters(c.ID).Pending > 0 {
			return true
		}
	}
	return false
}

func (a *App) cleanup(f func()) { a.cleanups = append(a.cleanups, f) }

func (a *App) close() {
	for len(a.cleanups) > 0 {
		last := len(a.cleanups) - 1
		f := a.cleanups[last]
		a.cleanups = a.cleanups[:last]
		f()
	}
}

func (a *App) logged(what string, err error) {
	if err != nil {
		a.options.Log.Error("could not "+what, "error", err)
	}
}
