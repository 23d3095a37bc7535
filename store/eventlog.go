package store

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/tidwall/gjson"

	"sluice"
)

const (
	eventSubject = "store.events"
	eventAge     = 30 * 24 * time.Hour
	eventBytes   = 64 << 20
	// maxLines is how many events one message holds.
	maxLines = 1024
)

// eventChunk is a message that is to be written: events as lines of JSON.
// One that fails is tried again as it is and under the same id, so that the
// server drops the copy where the first try has succeeded after all.
type eventChunk struct {
	data  bytes.Buffer
	lines int
	id    string
}

// openEvents makes the index of what is written.
func openEvents(ctx context.Context, js jetstream.JetStream, o Options) (*events, error) {
	stream, err := openStream(ctx, js, jetstream.StreamConfig{
		Name:        "EVENTS",
		Description: "Sluice: events, many to a message, a line of JSON each",
		Subjects:    []string{eventSubject},
		MaxAge:      eventAge,
		MaxBytes:    eventBytes,
		Discard:     jetstream.DiscardOld,
	})
	if err != nil {
		return nil, err
	}
	v := newEvents(o.Clock, o.Rand)
	v.js, v.stream = js, stream
	err = readAll(ctx, js, stream, func(m *jetstream.RawStreamMsg) error {
		v.load(m)
		return nil
	})
	return v, err
}

// load indexes the events of a message. A line that cannot be read is passed
// over.
func (v *events) load(m *jetstream.RawStreamMsg) {
	v.mu.Lock()
	defer v.mu.Unlock()
	line := 0
	for text := range bytes.SplitSeq(m.Data, []byte{'\n'}) {
		if e, ok := skim(text); ok {
			v.index.add(e, m.Sequence, line)
		}
		line++
	}
}

// skim reads what the index needs of an event, some times faster than all of
// it would be read: at the start there may be hundreds of thousands.
func skim(text []byte) (e sluice.Event, ok bool) {
	gjson.ParseBytes(text).ForEach(func(name, value gjson.Result) bool {
		switch name.Str {
		case "time":
			var err error
			e.Time, err = time.Parse(time.RFC3339Nano, value.Str)
			ok = err == nil
		case "level":
			e.Level = sluice.Level(value.Str)
		case "type":
			e.Type = sluice.EventType(value.Str)
		case "connectionId":
			e.Connection = value.Str
		case "devEUI":
			e.DevEUI = value.Str
		}
		return true
	})
	return e, ok
}

// flush writes the events that wait.
func (v *events) flush(ctx context.Context) error {
	for {
		if err := v.fill(); err != nil {
			return err
		}
		if v.chunk.lines == 0 {
			return nil
		}
		ack, err := v.js.Publish(ctx, eventSubject, v.chunk.data.Bytes(), jetstream.WithMsgID(v.chunk.id))
		if err != nil {
			return fmt.Errorf("write events: %w", err)
		}
		v.written(ack.Sequence)
	}
}

// fill makes a chunk of the oldest events, unless one is left from a try that
// has failed.
func (v *events) fill() error {
	if v.chunk.lines > 0 {
		return nil
	}
	v.mu.Lock()
	oldest := v.pending[:min(len(v.pending), maxLines)]
	v.writing = len(oldest)
	v.mu.Unlock()
	v.chunk.data.Reset()
	encoder := json.NewEncoder(&v.chunk.data)
	for i, e := range oldest {
		if i == 0 {
			v.chunk.id = e.ID
		}
		if err := encoder.Encode(e); err != nil {
			return fmt.Errorf("encode an event: %w", err)
		}
		v.chunk.lines++
		if v.chunk.data.Len() >= chunkSize {
			break
		}
	}
	return nil
}

// written moves the events of the chunk from those that wait to the index.
func (v *events) written(sequence uint64) {
	dropped := v.move(sequence)
	if dropped > 0 {
		v.record(sluice.Event{
			Level:  sluice.LevelWarning,
			Type:   sluice.EventEventsDropped,
			Label:  "Events dropped",
			Detail: fmt.Sprintf("%d events were dropped, because they came faster than they could be written.", dropped),
			Hint:   "Look at the log and at the disk of the data directory.",
		})
	}
}

func (v *events) move(sequence uint64) (dropped int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for line, e := range v.pending[:v.chunk.lines] {
		v.index.add(e, sequence, line)
	}
	v.pending = v.pending[v.chunk.lines:]
	v.chunk.lines, v.writing = 0, 0
	dropped, v.dropped = v.dropped, 0
	return dropped
}
