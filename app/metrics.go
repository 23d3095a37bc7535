package app

import (
	"context"
	"encoding/json"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"sluice"
	"sluice/api"
	"sluice/connection"
	"sluice/flow"
	"sluice/journal"
	"sluice/store"
)

// keepEvery is how many samples pass between two writes of the windows.
const keepEvery = 5

// metrics keeps, for each connection, what the journal's counters were over
// the last hour and day. The totals are the journal's own; the windows are
// written every few minutes and at the end, and a crash loses what came since.
type metrics struct {
	journal *journal.Journal
	store   *store.Store
	router  *flow.Router
	clock   sluice.Clock
	log     *slog.Logger

	mu      sync.Mutex
	records map[string]*record
}

// record is what is kept of one connection; its exported part is written.
type record struct {
	Hour, Day       series
	DownlinksOK     uint64
	DownlinksFailed uint64
	Commands        api.Commands
	// Duplicates counted before this start of Sluice.
	Duplicates uint64
	// active is when a device's last message was settled, in Unix seconds,
	// by its DevEUI as a number. It begins anew with each start.
	active map[uint64]int64
}

func newMetrics(j *journal.Journal, s *store.Store, r *flow.Router, clock sluice.Clock, log *slog.Logger) *metrics {
	return &metrics{journal: j, store: s, router: r, clock: clock, log: log, records: map[string]*record{}}
}

// begin gives the windows of a new record their first snapshot: zero at the
// time when the connection was made or, where that lies before the window,
// what is counted now.
func (r *record) begin(created time.Time, now snapshot) {
	for _, s := range []*series{&r.Hour, &r.Day} {
		first := snapshot{Time: created}
		if now.Time.Sub(created) > s.Step*time.Duration(s.Limit) {
			first = now
		}
		s.add(first)
	}
}

func blobKey(connection string) string { return "metrics." + connection }

// record returns a connection's record, read from the store the first time;
// called with the lock held.
func (m *metrics) record(id string) *record {
	r, ok := m.records[id]
	if ok {
		return r
	}
	r = &record{}
	if blob, ok := m.store.Blob(blobKey(id)); ok {
		if err := json.Unmarshal(blob, r); err != nil {
			r = &record{} // of an older form: the windows begin anew
		}
	}
	r.Hour.Step, r.Hour.Limit = minuteStep, minutePoints
	r.Day.Step, r.Day.Limit = quarterStep, quarterCount
	if c, err := m.store.Connection(id); err == nil && len(r.Hour.Snaps) == 0 {
		r.begin(c.Created, m.now(id, r))
	}
	r.active = map[uint64]int64{}
	m.records[id] = r
	return r
}

// settled notes that a message of a device is over.
func (m *metrics) settled(id string, message *sluice.Message) {
	eui, err := strconv.ParseUint(message.DevEUI, 16, 64)
	if err != nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.record(id).active[eui] = m.clock().Unix()
}

// command notes what became of a command of a connection.
func (m *metrics) command(id string, f connection.Fate) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.record(id)
	switch f {
	case connection.FateReceived:
		r.Commands.Received++
	case connection.FateRedelivered:
		r.Commands.Redelivered++
	case connection.FateQueued:
		r.Commands.Queued++
		r.DownlinksOK++
	case connection.FateRejected:
		r.Commands.Rejected++
		r.DownlinksFailed++
	case connection.FateExpired:
		r.Commands.Expired++
		r.DownlinksFailed++
	}
}

func (m *metrics) commands(id string) api.Commands {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.record(id).Commands
}

// now is called with the lock held.
func (m *metrics) now(id string, r *record) snapshot {
	counters, quarantine := m.journal.Account(journal.Up(id))
	return snapshot{
		Time: m.clock(), Counters: counters, Retried: quarantine.Retried,
		DownlinksOK: r.DownlinksOK, DownlinksFailed: r.DownlinksFailed,
	}
}

// Run takes a sample each minute until ctx ends.
func (m *metrics) Run(ctx context.Context) error {
	tick := time.NewTicker(minuteStep)
	defer tick.Stop()
	for n := 1; ; n++ {
		m.sample()
		if n%keepEvery == 0 {
			m.keep()
		}
		select {
		case <-ctx.Done():
			m.keep()
			return nil
		case <-tick.C:
		}
	}
}

func (m *metrics) sample() {
	connections := m.store.Connections()
	m.mu.Lock()
	defer m.mu.Unlock()
	known := make(map[string]bool, len(connections))
	for _, c := range connections {
		known[c.ID] = true
		r := m.record(c.ID)
		s := m.now(c.ID, r)
		r.Hour.add(s)
		r.Day.add(s)
	}
	dayAgo := m.clock().Add(-24 * time.Hour).Unix()
	for id, r := range m.records {
		if !known[id] {
			delete(m.records, id)
			continue
		}
		for eui, last := range r.active {
			if last < dayAgo {
				delete(r.active, eui)
			}
		}
	}
}

// keep hands the windows to the store.
func (m *metrics) keep() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for id, r := range m.records {
		kept := *r
		kept.Duplicates += m.router.Duplicates(id)
		blob, err := json.Marshal(kept)
		if err != nil {
			continue // numbers and times: it cannot fail
		}
		if err := m.store.PutBlob(blobKey(id), blob); err != nil {
			m.log.Error("metrics not kept", "connection", id, "error", err)
		}
	}
}

// Counters are a connection's counters at this moment.
func (m *metrics) Counters(id string) sluice.Counters { return m.journal.Counters(journal.Up(id)) }

// Metrics is what the API shows of a connection.
func (m *metrics) Metrics(id string) (api.Metrics, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.record(id)
	now := m.now(id, r)
	quarantine := m.journal.QuarantineStats(journal.Up(id))
	return api.Metrics{
		Time:        api.At(now.Time),
		Total:       api.Counters(now.Counters),
		Duplicates:  r.Duplicates + m.router.Duplicates(id),
		Replayed:    m.journal.Replayed(id),
		Quarantined: quarantine.Messages,
		Retried:     now.Retried,
		Dropped:     quarantine.Dropped,
		Commands:    r.Commands,
		LastHour:    r.view(&r.Hour, now),
		LastDay:     r.view(&r.Day, now),
	}, nil
}

func (r *record) view(s *series, now snapshot) api.Window {
	snaps := s.window(now)
	base := snaps[0]
	all := since(base, now)
	from := base.Time
	if earliest := now.Time.Add(-s.Step * time.Duration(s.Limit)); from.Before(earliest) {
		from = earliest
	}
	w := api.Window{
		From: api.At(from), To: api.At(now.Time),
		Uplinks:       api.Outcomes{OK: all.Delivered, Failed: all.Failed + all.Expired},
		Downlinks:     api.Outcomes{OK: now.DownlinksOK - base.DownlinksOK, Failed: now.DownlinksFailed - base.DownlinksFailed},
		PendingBefore: base.Pending,
		Retried:       grown(base.Retried, now.Retried),
		Counters:      api.Counters(all),
	}
	for i := 1; i < len(snaps); i++ {
		step := since(snaps[i-1], snaps[i])
		w.Points = append(w.Points, api.Point{
			Time: api.At(snaps[i-1].Time), Received: step.Received, Delivered: step.Delivered,
			Failed: step.Failed, Expired: step.Expired, Filtered: step.Filtered, Pending: step.Pending,
			Retried: grown(snaps[i-1].Retried, snaps[i].Retried),
		})
	}
	for _, last := range r.active {
		if last >= from.Unix() {
			w.ActiveDevices++
		}
	}
	return w
}
