package store

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"sluice"
)

// maxEvents is the largest page of events.
const maxEvents = 100

// EventQuery selects events. A zero field selects all.
type EventQuery struct {
	From, To   time.Time // From <= Time < To, to the millisecond
	Connection string
	DevEUI     string // in any case
	Level      sluice.Level
	Type       sluice.EventType
	// Offset is how many of the newest are passed over, Limit how many are
	// returned at most: up to 100, which 0 means too.
	Offset, Limit int
}

// Events returns the events that a query selects, the last recorded first,
// and how many it selects in all. A query looks through the index of all
// events, 64 MiB of them at most, in about a millisecond for 100,000, and reads
// what it returns. The error has CodeUnavailable.
func (s *Store) Events(ctx context.Context, q EventQuery) ([]sluice.Event, int, error) {
	page, total, err := s.events.query(ctx, q)
	if err != nil {
		return nil, 0, unavailable("be read", err)
	}
	return page, total, nil
}

func (v *events) query(ctx context.Context, q EventQuery) ([]sluice.Event, int, error) {
	if err := v.trim(ctx); err != nil {
		return nil, 0, err
	}
	if q.Limit <= 0 || q.Limit > maxEvents {
		q.Limit = maxEvents
	}
	q.Offset = max(q.Offset, 0)
	q.DevEUI = strings.ToUpper(q.DevEUI)

	// Both slices only grow behind what is seen here; they are read unlocked.
	v.mu.Lock()
	pending, entries := v.pending, v.index.entries
	wanted, possible := v.index.compile(q)
	v.mu.Unlock()

	total := 0
	page := make([]sluice.Event, 0, q.Limit)
	var written []eventEntry
	room := func() bool { return total >= q.Offset && len(page)+len(written) < q.Limit }
	for i := len(pending) - 1; i >= 0; i-- {
		if q.selects(pending[i]) {
			if room() {
				page = append(page, pending[i])
			}
			total++
		}
	}
	for i := len(entries) - 1; i >= 0 && possible; i-- {
		if wanted.selects(entries[i]) {
			if room() {
				written = append(written, entries[i])
			}
			total++
		}
	}
	page, err := v.read(ctx, page, written)
	return page, total, err
}

// trim lets the index follow the stream, which lets old events go by itself.
func (v *events) trim(ctx context.Context) error {
	info, err := v.stream.Info(ctx)
	if err != nil {
		return fmt.Errorf("read the events: %w", err)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.index.trim(info.State.FirstSeq)
	return nil
}

// selects reports whether an event is selected.
func (q EventQuery) selects(e sluice.Event) bool {
	return (q.From.IsZero() || e.Time.UnixMilli() >= q.From.UnixMilli()) &&
		(q.To.IsZero() || e.Time.UnixMilli() < q.To.UnixMilli()) &&
		(q.Connection == "" || q.Connection == e.Connection) &&
		(q.DevEUI == "" || q.DevEUI == e.DevEUI) &&
		(q.Level == "" || q.Level == e.Level) &&
		(q.Type == "" || q.Type == e.Type)
}

// indexQuery is a query in the numbers of the index; 0 selects all.
type indexQuery struct {
	from, to   int64
	device     uint64
	connection uint32
	kind       uint16
	level      uint8
}

// compile translates a query. possible is false where it names something
// that no event in the index has.
func (x *eventIndex) compile(q EventQuery) (w indexQuery, possible bool) {
	w = indexQuery{from: math.MinInt64, to: math.MaxInt64, device: x.hash(q.DevEUI)}
	if !q.From.IsZero() {
		w.from = q.From.UnixMilli()
	}
	if !q.To.IsZero() {
		w.to = q.To.UnixMilli()
	}
	connection, ok1 := x.names[q.Connection]
	kind, ok2 := x.names[string(q.Type)]
	level, ok3 := x.names[string(q.Level)]
	w.connection, w.kind, w.level = connection, uint16(kind), uint8(level)
	return w, ok1 && ok2 && ok3
}

func (w indexQuery) selects(e eventEntry) bool {
	return e.at >= w.from && e.at < w.to &&
		(w.connection == 0 || w.connection == e.connection) &&
		(w.device == 0 || w.device == e.device) &&
		(w.level == 0 || w.level == e.level) &&
		(w.kind == 0 || w.kind == e.kind)
}

// read appends written events to a page. One that the stream has let go
// meanwhile is left out.
func (v *events) read(ctx context.Context, page []sluice.Event, written []eventEntry) ([]sluice.Event, error) {
	var lines [][]byte
	chunk := uint64(0)
	for _, w := range written {
		if w.chunk != chunk {
			m, err := v.stream.GetMsg(ctx, w.chunk)
			if errors.Is(err, jetstream.ErrMsgNotFound) {
				continue
			}
			if err != nil {
				return nil, fmt.Errorf("read the events: %w", err)
			}
			chunk, lines = w.chunk, bytes.Split(m.Data, []byte{'\n'})
		}
		if int(w.line) >= len(lines) {
			continue
		}
		var e sluice.Event
		if err := json.Unmarshal(lines[w.line], &e); err != nil {
			return nil, fmt.Errorf("read the event in line %d of %d: %w", w.line, w.chunk, err)
		}
		page = append(page, e)
	}
	return page, nil
}
