// Package flow matches a report to the connections that want it, and a
// command to the network that its device was last seen on, and hands both to
// the journal. It stands between the socket and the journal, so it is short
// and fast: a match takes well under a microsecond, and nothing here waits
// but for the journal's own answer.
package flow

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"sluice"
)

// Journal takes entries; nil means that all of them are durable.
type Journal interface {
	Append(ctx context.Context, ms ...*sluice.Message) error
}

// Devices is what the router asks and tells of devices.
type Devices interface {
	// Seen remembers that a report of a device came in.
	Seen(m *sluice.Message)
	// Device returns what is known of a device.
	Device(devEUI string) (sluice.Device, bool)
}

// Options are what a [Router] is made from.
type Options struct {
	Journal Journal
	Devices Devices
	Clock   sluice.Clock
	// Window is how long a report is remembered, so that its copy is
	// recognised: at least half of it, at most all. Default 10 minutes.
	Window time.Duration
	// WindowSize is how many reports each half of the window holds at most.
	// Default 200,000: about 10 MiB, and three to seven minutes at 1,000
	// reports a second.
	WindowSize int
}

// Stats counts what passed the router since it was made.
type Stats struct {
	Reports    uint64 // new reports, each counted once
	Duplicates uint64 // copies that were answered with their first
	Unmatched  uint64 // new reports that no flow wanted
	Commands   uint64 // commands handed to a network's place in the journal
}

// Router routes messages by the flows it was last given. It is a
// [sluice.Handler] for reports and for commands; its nil means that the
// journal holds the message for everyone who wants it.
type Router struct {
	journal Journal
	devices Devices
	window  *window
	table   atomic.Pointer[table]

	reports, duplicates, unmatched, commands atomic.Uint64
	copies                                   sync.Map // connection id to *atomic.Uint64
}

var _ sluice.Handler = (*Router)(nil)

// New makes a router without flows: until Set is called, reports are
// journalled as wanted by none.
func New(o Options) *Router {
	if o.Window <= 0 {
		o.Window = 10 * time.Minute
	}
	if o.WindowSize <= 0 {
		o.WindowSize = 200_000
	}
	r := &Router{journal: o.Journal, devices: o.Devices, window: newWindow(o.Clock, o.Window, o.WindowSize)}
	r.table.Store(newTable(nil, nil))
	return r
}

// Set replaces the flows and the ids of the networks that exist. It takes
// effect for messages that come after.
func (r *Router) Set(flows []sluice.Flow, networks []string) {
	r.table.Store(newTable(flows, networks))
}

// Stats returns the counts so far.
func (r *Router) Stats() Stats {
	return Stats{
		Reports:    r.reports.Load(),
		Duplicates: r.duplicates.Load(),
		Unmatched:  r.unmatched.Load(),
		Commands:   r.commands.Load(),
	}
}

// Handle routes a report or a command. A copy of a report that is already
// durable, or is just becoming so, is answered with its first; of a copy that
// leads to other connections than its first did, because it came from another
// network with other tags, those have the copy.
func (r *Router) Handle(ctx context.Context, m *sluice.Message) error {
	if m.IsCommand() {
		return r.command(ctx, m)
	}
	var few [4]*sluice.Message
	entries := r.entries(m, few[:0])
	if m.Fingerprint == "" {
		return r.report(ctx, m, entries)
	}
	var names [4]string
	wants := names[:0]
	for _, e := range entries {
		wants = append(wants, e.Connection)
	}
	var lacked []string
	known, err := r.window.once(ctx, m.Fingerprint, wants, func(lacks []string, known bool) error {
		lacked = lacks
		if known {
			return r.journal.Append(ctx, lacking(entries, lacks)...)
		}
		return r.report(ctx, m, entries)
	})
	if known && err == nil {
		r.copied(m, without(wants, lacked))
	}
	return err
}

// lacking returns the entries for the connections in lacks, which are some of
// theirs, in their order.
func lacking(entries []*sluice.Message, lacks []string) []*sluice.Message {
	if len(lacks) == len(entries) {
		return entries
	}
	rest := make([]*sluice.Message, 0, len(lacks))
	for _, e := range entries {
		if slices.Contains(lacks, e.Connection) {
			rest = append(rest, e)
		}
	}
	return rest
}

// copied counts a copy for the connections that have its first. A copy from
// another network does not move the device there: commands go by the network
// that was the first to report. Two that report every frame would otherwise
// take turns, each with a counter of downlink frames of its own.
func (r *Router) copied(m *sluice.Message, connections []string) {
	r.duplicates.Add(1)
	if d, ok := r.devices.Device(m.DevEUI); !ok || d.Network == m.Network {
		r.devices.Seen(m)
	}
	for _, connection := range connections {
		n, ok := r.copies.Load(connection)
		if !ok {
			n, _ = r.copies.LoadOrStore(connection, new(atomic.Uint64))
		}
		n.(*atomic.Uint64).Add(1)
	}
}

// Duplicates is how many copies of a connection's reports were recognised
// since the router was made.
func (r *Router) Duplicates(connection string) uint64 {
	if n, ok := r.copies.Load(connection); ok {
		return n.(*atomic.Uint64).Load()
	}
	return 0
}

// tags are the report's own, or those of the device's last report where this
// one has no place for them: locations and notifications of some servers.
func (r *Router) tags(m *sluice.Message) []string {
	if m.Tags != nil {
		return m.Tags
	}
	d, _ := r.devices.Device(m.DevEUI)
	return d.Tags
}

// entries appends an entry for each connection that wants the report.
func (r *Router) entries(m *sluice.Message, to []*sluice.Message) []*sluice.Message {
	r.table.Load().match(m.DevEUI, r.tags(m), func(d *destination) {
		e := *m
		e.Connection, e.Driver, e.Validity = d.connection, d.driver, d.validity
		to = append(to, &e)
	})
	return to
}

// report journals a report for the connections that want it.
func (r *Router) report(ctx context.Context, m *sluice.Message, entries []*sluice.Message) error {
	none := len(entries) == 0
	if none {
		entries = append(entries, m)
	}
	if err := r.journal.Append(ctx, entries...); err != nil {
		return err
	}
	r.reports.Add(1)
	if none {
		r.unmatched.Add(1)
	}
	r.devices.Seen(m)
	return nil
}

// To tells whether a report goes to a connection by the flows of now, and by
// which driver it is decoded.
func (r *Router) To(connection string, m *sluice.Message) (driver string, ok bool) {
	r.table.Load().match(m.DevEUI, r.tags(m), func(d *destination) {
		if d.connection == connection {
			driver, ok = d.driver, true
		}
	})
	return driver, ok
}

func (r *Router) command(ctx context.Context, m *sluice.Message) error {
	t := r.table.Load()
	network, known := "", false
	if d, ok := r.devices.Device(m.DevEUI); ok {
		network, known = d.Network, t.networks[d.Network]
	}
	if !known {
		// A device that no report came from yet, or whose network was
		// deleted: with one network there is no doubt where it belongs.
		if t.only == "" {
			return &sluice.Failure{
				Verdict: sluice.Permanent, Reason: sluice.ReasonUnknownDevice,
				Message: "No network has seen the device " + m.DevEUI + " yet",
				Hint:    "A command goes to the network of the device's last report. Wait for its first report, or check the DevEUI.",
			}
		}
		network = t.only
	}
	e := *m
	e.Network = network
	if err := r.journal.Append(ctx, &e); err != nil {
		return err
	}
	r.commands.Add(1)
	return nil
}
