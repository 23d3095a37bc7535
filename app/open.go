package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"

	"github.com/nats-io/nats.go"

	"sluice"
	"sluice/api"
	"sluice/connection"
	"sluice/flow"
	"sluice/internal/datadir"
	"sluice/internal/natsd"
	"sluice/internal/seal"
	"sluice/journal"
	"sluice/store"
)

// open opens everything, in the order of dependence, and notes how to close
// it again.
func (a *App) open(ctx context.Context) error {
	o := a.options
	dir, err := datadir.Open(o.Data)
	if err != nil {
		return err
	}
	a.dir = dir
	a.cleanup(func() { a.logged("unlock the data directory", dir.Close()) })
	if a.token, a.newToken, err = dir.AdminToken(); err != nil {
		return err
	}
	key, err := seal.OpenFile(o.KeyFile)
	if err != nil {
		return err
	}
	js, err := a.openJetStream(ctx)
	if err != nil {
		return err
	}
	if a.store, err = store.Open(ctx, store.Options{
		Conn: js.writes, Reads: js.reads, WayAge: journal.DefaultHistory, Sealer: key, ForgetSecrets: o.ForgetSecrets, Clock: o.Clock, Log: o.Log,
		Failing: func() { a.journal.Doubt() }, // it runs only when the journal is open
	}); err != nil {
		return err
	}
	if o.LogEvents {
		a.cleanup(a.store.Follow(a.logEvent))
	}
	// Only now: a key that is missing although secrets were sealed with it
	// is an error, which the store tells.
	if _, err := key.Ensure(); err != nil {
		return err
	}
	if w := key.Warning(); w != "" {
		o.Log.Warn(w)
	}
	a.backups = js.backups
	if a.journal, err = journal.Open(ctx, journal.Options{
		Conn: js.writes, Reads: js.reads, Quarantine: js.quarantine, Dir: dir.Path(), Restart: js.server.Restart,
		Names: js.server.Names(journal.Stream).Sync, Damage: js.damage(), Restored: restoredFrom(dir),
		Retention: o.Retention, History: o.History, Share: o.Share, Reserve: o.Reserve,
		Events: a.store, Clock: o.Clock, Log: o.Log,
		// Asked once the journal runs, when wire has made both.
		Route: func(id string, m *sluice.Message) (string, bool) { return a.router.To(id, m) },
		Pace:  func(id string) float64 { return a.connections.Pace(id) },
	}); err != nil {
		return err
	}
	// The streams that were made just now last.
	if err := js.server.SyncNames(); err != nil {
		return err
	}
	earlier, err := a.earlierCommands(ctx)
	if err != nil {
		return err
	}
	a.wire(key, earlier)
	if a.listener, err = net.Listen("tcp", o.Listen); err != nil {
		return &sluice.Error{
			Code: sluice.CodeConflict, Message: fmt.Sprintf("cannot listen on %s", o.Listen),
			Hint: "Another program uses the address, or it is not this machine's: choose another with --listen.", Err: err,
		}
	}
	a.cleanup(func() { _ = a.listener.Close() }) // closed by the server, as a rule
	return nil
}

// jetStream is the embedded server with its connections: reads, backups and
// what is written to quarantine go their own ways, so that they do not stand
// before a commit.
type jetStream struct {
	server                             *natsd.Server
	writes, reads, quarantine, backups *nats.Conn
}

// damage says what was found damaged on the disk.
func (js jetStream) damage() []string {
	var texts []string
	for _, d := range js.server.Damage() {
		texts = append(texts, d.String())
	}
	return texts
}

func (a *App) openJetStream(ctx context.Context) (js jetStream, err error) {
	if js.server, err = natsd.Start(ctx, natsd.Options{Dir: a.dir.JournalDir(), SyncAlways: true, Log: a.options.Log}); err != nil {
		return js, err
	}
	a.cleanup(js.server.Close)
	for _, conn := range []**nats.Conn{&js.writes, &js.reads, &js.quarantine, &js.backups} {
		if *conn, err = js.server.Connect(); err != nil {
			return js, err
		}
		a.cleanup((*conn).Close)
	}
	return js, nil
}

// wire makes the rooms that live in memory and ties them together.
func (a *App) wire(sealer *seal.File, earlier connection.Earlier) {
	o := a.options
	a.router = flow.New(flow.Options{Journal: writer{a}, Devices: a.store, Clock: o.Clock})
	a.metrics = newMetrics(a.journal, a.store, a.router, o.Clock, o.Log)
	a.connections = connection.New(connection.Options{
		Connectors: o.Connectors,
		Journal:    reader{a},
		Commands:   taken{a},
		Reports:    a.journaled(),
		Earlier:    earlier,
		Counted:    a.metrics.command,
		Things:     a.store.Things,
		Events:     a.store,
		Sealer:     sealer,
		Instance:   a.dir.Instance(),
		PublicURL:  o.PublicURL,
		Clock:      o.Clock,
		Rand:       rand.Float64,
		Log:        o.Log,
	})
	a.networks = newNetworks(o.Networks, a.store.Networks,
		sluice.NetworkSpec{Reports: a.router, Events: a.store, Sealer: sealer, Clock: o.Clock, Log: o.Log}, a.deliverCommands)
	a.expiry = newExpiry(a.store, o.Connectors, o.Clock)
	a.cleanup(a.store.Watch(a.reconcile))
	a.reconcile()
	a.handler = api.New(api.Options{
		Token: a.token, PublicURL: o.PublicURL, Version: o.Version,
		Connectors: o.Connectors, Schema: connection.Schema, CheckCommon: connection.CheckCommon, CheckAlarms: connection.CheckAlarms, NetworkKinds: o.Networks,
		Connections: a.store, Flows: a.store, Networks: a.store, Devices: a.store,
		Events: events{a.store}, Messages: traces{a.journal, a.store}, Supervisor: a.connections, Metrics: a.metrics,
		Replays: a.journal, Quarantine: quarantine{a.journal}, Recorder: a.store,
		NetworkState: a.networkState, NetworkCounters: func(id string) sluice.Counters { return a.journal.Counters(journal.Down(id)) },
		Ingest: a.networks.Ingest, Ready: a.ready, Prometheus: a.prometheus(),
		Doctor: Doctor{Connectors: o.Connectors, Instance: a.dir.Instance(), Clock: o.Clock},
		Backup: func(ctx context.Context, w io.Writer) error { return a.backup(ctx, w, sealer.ID()) }, Clock: o.Clock, Log: o.Log,
	})
}

// reconcile tells the rooms what is stored now.
func (a *App) reconcile() {
	ids := []string{}
	for _, n := range a.store.Networks() {
		ids = append(ids, n.ID)
	}
	a.router.Set(a.store.Flows(), ids)
	a.connections.Apply(a.store.Connections())
	a.networks.Changed()
	a.expiry.changed()
	select {
	case a.deleted <- struct{}{}:
	default:
	}
}

// networkState tells whether a network is open, or why not.
func (a *App) networkState(id string) (open bool, reason string) {
	open, reason = a.networks.State(id)
	if missing := a.store.MissingOfNetwork(id); !open && len(missing) > 0 {
		names := strings.Join(missing, ", ")
		reason = fmt.Sprintf("This network is closed: its %s was lost with the key file. PUT /networks/{id} with the %s again.", names, names)
	}
	return open, reason
}

// journaled takes reports that Sluice makes itself for one connection.
func (a *App) journaled() sluice.Handler {
	return sluice.HandlerFunc(func(ctx context.Context, m *sluice.Message) error {
		return a.journal.Append(ctx, m)
	})
}

// ready tells whether reports can be taken.
func (a *App) ready() error {
	select {
	case <-a.networks.ready:
		return a.journal.Err()
	default:
		return errors.New("the networks are not open yet")
	}
}

// events fits the store's log of events to the API.
type events struct{ store *store.Store }

func (e events) Events(ctx context.Context, q api.EventQuery) ([]sluice.Event, int, error) {
	return e.store.Events(ctx, store.EventQuery(q))
}

// reader fits the journal to the connections.
type reader struct{ app *App }

func (r reader) Read(ctx context.Context, id string, handler sluice.Handler, concurrency int,
	settled func(*sluice.Message, sluice.Verdict, error),
) error {
	return r.app.journal.Read(ctx, journal.Up(id), journal.ReadOptions{
		Handler: handler, Concurrency: concurrency,
		Settled: func(m *sluice.Message, o journal.Outcome, err error) {
			r.app.metrics.settled(id, m)
			r.app.passed(m, o, err)
			settled(m, verdictOf(o), err)
		},
	})
}

// writer fits the journal to the flows, and tells the connections what is
// journalled for them.
type writer struct{ app *App }

func (w writer) Append(ctx context.Context, ms ...*sluice.Message) error {
	if err := w.app.journal.Append(ctx, ms...); err != nil {
		return err
	}
	for _, m := range ms {
		w.app.connections.Received(m)
		w.app.taken(m)
	}
	return nil
}

// verdictOf puts an outcome in the words of the contract; that of what was
// delivered is not looked at.
func verdictOf(o journal.Outcome) sluice.Verdict {
	switch o {
	case journal.Expired:
		return sluice.Expired
	case journal.Filtered:
		return sluice.Filtered
	default:
		return sluice.Permanent
	}
}
