package store

import (
	"context"

	"github.com/nats-io/nats.go/jetstream"

	"sluice"
)

// Flush writes what waits, as the last flush of Run does, and then tidies up.
func (s *Store) Flush(ctx context.Context) error {
	if err := s.flushState(ctx); err != nil {
		return err
	}
	if err := s.events.flush(ctx); err != nil {
		return err
	}
	if err := s.ways.flush(ctx); err != nil {
		return err
	}
	return s.tidyState(ctx)
}

// SetSlack sets how much longer than need be the logs of devices and of a
// connection's things may be.
func (s *Store) SetSlack(connectionID string, slack int64) {
	s.devices.writer.log.slack = slack
	s.things.of(connectionID).log.slack = slack
}

// LoseAnswer writes events without hearing of it, as when the answer is lost.
func (s *Store) LoseAnswer(ctx context.Context) error {
	v := s.events
	if err := v.fill(); err != nil {
		return err
	}
	_, err := v.js.Publish(ctx, eventSubject, v.chunk.data.Bytes(), jetstream.WithMsgID(v.chunk.id))
	return err
}

// EUI reads a DevEUI and writes it again.
func EUI(s string) (string, bool) {
	n, ok := parseEUI(s)
	return formatEUI(n), ok
}

// LoadChunk reads a chunk as devices and as things.
func LoadChunk(chunk []byte) (deviceCount, thingCount int) {
	d := newDevices()
	_ = d.load(chunk)
	m := (&things{}).newMemory("1")
	_ = m.load(chunk)
	return d.count, m.size()
}

// PublishWays writes a message to the log of ways as it is.
func (s *Store) PublishWays(ctx context.Context, chunk []byte) error {
	_, err := s.ways.js.Publish(ctx, waySubject, chunk)
	return err
}

// LoadWays reads a chunk of the log of ways.
func LoadWays(chunk []byte) (ts []sluice.Trace) {
	for r := newChunkReader(chunk); r.more(); {
		if t := r.way(); r.err == nil {
			ts = append(ts, t)
		}
	}
	return ts
}

// SaveWays writes a chunk of the log of ways.
func SaveWays(ts []sluice.Trace) []byte {
	var w chunkWriter
	w.reset()
	for i := range ts {
		w.way(&ts[i])
	}
	return w.buf
}
