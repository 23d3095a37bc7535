package app

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"sluice"
	"sluice/journal"
)

// collector reads the counters of the rooms when Prometheus asks.
type collector struct {
	app                                               *App
	reports, duplicates, unmatched, commands          *prometheus.Desc
	received, outcomes, pending, opened, wanted, most *prometheus.Desc
	state, applied, downlinks, downlinksPending       *prometheus.Desc
	expires, commandsIn, commandsAgain                *prometheus.Desc
	replayed, waysDropped                             *prometheus.Desc
	quarantined, retried, dropped, commandRate        *prometheus.Desc
}

func (a *App) prometheus() http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(newCollector(a), collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{})
}

func newCollector(a *App) *collector {
	connection := []string{"connection", "name"}
	with := func(more ...string) []string { return append(append([]string{}, connection...), more...) }
	desc := prometheus.NewDesc
	return &collector{
		app:              a,
		reports:          desc("sluice_reports_total", "Reports accepted, copies not counted.", nil, nil),
		duplicates:       desc("sluice_reports_duplicate_total", "Copies of reports, answered with their first.", nil, nil),
		unmatched:        desc("sluice_reports_unmatched_total", "Reports that no flow wanted.", nil, nil),
		commands:         desc("sluice_commands_total", "Commands taken from clouds and journalled.", nil, nil),
		received:         desc("sluice_connection_received_total", "Entries journalled for the connection.", connection, nil),
		replayed:         desc("sluice_connection_replayed_total", "Messages that replays have sent; not among the outcomes.", connection, nil),
		outcomes:         desc("sluice_connection_outcomes_total", "Entries that are over, by outcome: received + retried = all outcomes + pending.", with("outcome"), nil),
		pending:          desc("sluice_connection_pending", "Entries that wait or are under way.", connection, nil),
		quarantined:      desc("sluice_connection_quarantined", "Messages that lie in quarantine.", connection, nil),
		retried:          desc("sluice_connection_retried_total", "Messages that were sent again out of quarantine.", connection, nil),
		dropped:          desc("sluice_connection_quarantine_dropped_total", "Messages that a full quarantine has given up.", connection, nil),
		opened:           desc("sluice_connection_sessions", "Sessions that are open.", connection, nil),
		wanted:           desc("sluice_connection_sessions_wanted", "Sessions that the pool is to have for its present load.", connection, nil),
		most:             desc("sluice_connection_sessions_max", "Sessions that the pool may have.", connection, nil),
		state:            desc("sluice_connection_state", "1 for the state that the connection is in.", with("state"), nil),
		applied:          desc("sluice_connection_applied", "1 when the stored configuration is the one in force.", connection, nil),
		expires:          desc("sluice_connection_certificate_expires_seconds", "When the connection's certificate expires, in Unix time.", connection, nil),
		commandsIn:       desc("sluice_connection_downlinks_received_total", "Commands taken from the connection's cloud.", connection, nil),
		commandsAgain:    desc("sluice_connection_downlinks_redelivered_total", "Commands that came again from the cloud, and were sent once.", connection, nil),
		commandRate:      desc("sluice_connection_downlinks_per_second", "Commands that the cloud has sent the busiest of the connection's sessions, a second, over the last 5. AWS sends one 100.", connection, nil),
		downlinks:        desc("sluice_connection_downlinks_total", "Commands of the connection that are over, by outcome.", with("outcome"), nil),
		waysDropped:      desc("sluice_ways_dropped_total", "Messages whose way was not written, because they came faster than that.", nil, nil),
		downlinksPending: desc("sluice_downlinks_pending", "Commands that wait for the network servers.", nil, nil),
	}
}

// Describe says nothing: the labels come and go with the connections, so the
// collector is an unchecked one.
func (c *collector) Describe(chan<- *prometheus.Desc) {}

// Collect reads everything at one moment.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	counter := func(d *prometheus.Desc, v uint64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	stats := c.app.router.Stats()
	counter(c.reports, stats.Reports)
	counter(c.duplicates, stats.Duplicates)
	counter(c.unmatched, stats.Unmatched)
	counter(c.commands, stats.Commands)
	counter(c.waysDropped, c.app.store.DroppedWays())
	// Summed up: the id of a network is as good as a password, and names need
	// not be unique.
	var waiting uint64
	for _, n := range c.app.store.Networks() {
		waiting += c.app.journal.Counters(journal.Down(n.ID)).Pending
	}
	gauge(c.downlinksPending, float64(waiting))
	for _, stored := range c.app.store.Connections() {
		id, name := stored.ID, stored.Name
		n, quarantine := c.app.journal.Account(journal.Up(id))
		counter(c.received, n.Received, id, name)
		counter(c.outcomes, n.Delivered, id, name, "delivered")
		counter(c.outcomes, n.Expired, id, name, "expired")
		counter(c.outcomes, n.Failed+quarantine.Retried, id, name, "failed") // a counter never goes back
		counter(c.outcomes, n.Filtered, id, name, "filtered")
		gauge(c.pending, float64(n.Pending), id, name)
		commands := c.app.metrics.commands(id)
		counter(c.commandsIn, commands.Received, id, name)
		counter(c.commandsAgain, commands.Redelivered, id, name)
		counter(c.downlinks, commands.Queued, id, name, "queued")
		counter(c.downlinks, commands.Rejected, id, name, "rejected")
		counter(c.downlinks, commands.Expired, id, name, "expired")
		counter(c.replayed, c.app.journal.Replayed(id), id, name)
		gauge(c.quarantined, float64(quarantine.Messages), id, name)
		counter(c.retried, quarantine.Retried, id, name)
		counter(c.dropped, quarantine.Dropped, id, name)
		if at, ok := c.app.expiry.Expires(stored); ok {
			gauge(c.expires, float64(at.Unix()), id, name)
		}
		status, known := c.app.connections.Status(id)
		if !known {
			continue
		}
		gauge(c.opened, float64(len(status.Sessions)), id, name)
		gauge(c.wanted, float64(status.Wanted), id, name)
		gauge(c.most, float64(status.Size), id, name)
		gauge(c.commandRate, status.CommandRate, id, name)
		gauge(c.applied, oneIf(status.Applied), id, name)
		for _, s := range []sluice.State{
			sluice.StateClosed, sluice.StateOpening, sluice.StateAuthenticating,
			sluice.StateAuthenticationFailed, sluice.StateOpened, sluice.StateClosing, sluice.StateDeactivated,
		} {
			gauge(c.state, oneIf(s == status.State), id, name, string(s))
		}
	}
}

func oneIf(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
