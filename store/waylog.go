package store

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/oklog/ulid/v2"

	"sluice"
)

const (
	waySubject = "store.ways"
	// defaultWayAge is how long ways are kept, and wayBytes how much of them:
	// about five million.
	defaultWayAge = 24 * time.Hour
	wayBytes      = 256 << 20

	recordWay = 1
)

// flags of a record.
const (
	wayReplayed = 1 << iota
	wayPlainID  // the id is no ULID, and stands there as text
	wayPlainEUI // the device is no DevEUI, and stands there as text
	wayWhy      // reason, text, hint and status follow
	waySource   // the source follows
)

// deviceMark stands for the DevEUI in a topic, so that the topics of all
// devices are one word of a chunk.
const deviceMark = "\x00"

// openWays makes the stream of the ways. They are many and matter less than
// what they tell of: the server need not flush at each write.
func openWays(ctx context.Context, js jetstream.JetStream, o Options) (*ways, error) {
	w := &ways{js: js, search: make(chan struct{}, 1)}
	if _, err := openStream(ctx, js, jetstream.StreamConfig{
		Name:        "WAYS",
		Description: "Sluice: what became of messages, many to a message",
		Subjects:    []string{waySubject},
		MaxAge:      o.WayAge,
		MaxBytes:    wayBytes,
		Discard:     jetstream.DiscardOld,
		PersistMode: jetstream.AsyncPersistMode,
	}); err != nil {
		return nil, err
	}
	var err error
	if w.reads, err = jetstream.New(o.Reads); err != nil {
		return nil, err
	}
	w.stream, err = w.reads.Stream(ctx, "WAYS")
	return w, err
}

// wayChunk is a message that is to be written. One that fails is tried again
// as it is and under the same id, so that the server drops the copy where the
// first try has succeeded after all.
type wayChunk struct {
	chunkWriter
	records int
	id      string
}

// flush writes what waits.
func (w *ways) flush(ctx context.Context) error {
	for {
		if w.chunk.records == 0 {
			w.fill()
		}
		if w.chunk.records == 0 {
			return nil
		}
		ctx, cancel := context.WithTimeout(ctx, writeTimeout)
		_, err := w.js.Publish(ctx, waySubject, w.chunk.buf, jetstream.WithMsgID(w.chunk.id))
		cancel()
		if err != nil {
			return fmt.Errorf("write the ways of messages: %w", err)
		}
		w.written()
	}
}

// fill makes a chunk of the oldest.
func (w *ways) fill() {
	c := &w.chunk
	c.reset()
	for _, piece := range w.waiting() {
		for i := range piece {
			if c.full() {
				return
			}
			if c.records == 0 {
				c.id = ulid.Make().String()
			}
			c.way(&piece[i])
			c.records++
		}
	}
}

// written drops what the chunk holds from what waits.
func (w *ways) written() {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := w.chunk.records
	w.count -= n
	for n > 0 {
		first := min(n, len(w.pending[0]))
		if w.pending[0] = w.pending[0][first:]; len(w.pending[0]) == 0 {
			w.pending = w.pending[1:]
		}
		n -= first
	}
	w.chunk.records = 0
}

// way writes a record: kind, flags, id, device, words, numbers, times.
func (w *chunkWriter) way(t *sluice.Trace) {
	id, err := ulid.ParseStrict(t.Message)
	eui, isEUI := parseEUI(t.DevEUI)
	flags := wayFlags(t)
	if err != nil {
		flags |= wayPlainID
	}
	if !isEUI {
		flags |= wayPlainEUI
	}
	w.byte(recordWay)
	w.byte(flags)
	if flags&wayPlainID != 0 {
		w.text(t.Message)
	} else {
		w.buf = append(w.buf, id[:]...)
	}
	if flags&wayPlainEUI != 0 {
		w.text(t.DevEUI)
	} else {
		w.eui(eui)
	}
	for _, s := range [...]string{
		string(t.Kind), t.Network, t.Connection, string(t.State), t.Session, markDevice(t.Topic, t.DevEUI),
	} {
		w.word(s)
	}
	w.number(t.Number)
	w.number(uint64(max(t.Tries, 0)))
	w.times(t)
	if flags&wayWhy != 0 {
		w.word(string(t.Reason))
		w.word(cut(t.Text))
		w.word(cut(t.Hint))
		w.number(uint64(max(t.Status, 0)))
	}
	if flags&waySource != 0 {
		w.word(markDevice(t.Source, t.DevEUI))
	}
}

func wayFlags(t *sluice.Trace) (flags byte) {
	if t.Replayed {
		flags |= wayReplayed
	}
	if t.Reason != "" || t.Text != "" || t.Hint != "" || t.Status != 0 {
		flags |= wayWhy
	}
	if t.Source != "" {
		flags |= waySource
	}
	return flags
}

// times writes when it was received, in milliseconds, 0 for never, and what
// came after: 0 for what did not come, else the difference to that, plus 1
// where it is not negative, as it is where the clock was set back.
func (w *chunkWriter) times(t *sluice.Trace) {
	first := int64(0)
	if !t.Received.IsZero() {
		first = t.Received.UnixMilli()
	}
	w.buf = binary.AppendVarint(w.buf, first)
	for _, at := range [...]time.Time{t.Journalled, t.Sent, t.Over} {
		d := int64(0)
		if !at.IsZero() {
			if d = at.UnixMilli() - first; d >= 0 {
				d++
			}
		}
		w.buf = binary.AppendVarint(w.buf, d)
	}
}

// way reads a record.
func (r *chunkReader) way() (t sluice.Trace) {
	if r.byte() != recordWay {
		r.fail()
	}
	flags := r.byte()
	if flags&wayPlainID != 0 {
		t.Message = r.text()
	} else {
		t.Message = r.ulid()
	}
	if flags&wayPlainEUI != 0 {
		t.DevEUI = r.text()
	} else {
		t.DevEUI = formatEUI(r.eui())
	}
	t.Kind, t.Network, t.Connection = sluice.Kind(r.word()), r.word(), r.word()
	t.State, t.Session, t.Topic = sluice.TraceState(r.word()), r.word(), unmarkDevice(r.word(), t.DevEUI)
	t.Number, t.Tries = r.number(), int(min(r.number(), math.MaxInt32))
	r.times(&t)
	if flags&wayWhy != 0 {
		t.Reason, t.Text, t.Hint = sluice.Reason(r.word()), r.word(), r.word()
		t.Status = int(min(r.number(), math.MaxInt32))
	}
	if flags&waySource != 0 {
		t.Source = unmarkDevice(r.word(), t.DevEUI)
	}
	t.Replayed = flags&wayReplayed != 0
	return t
}

func (r *chunkReader) times(t *sluice.Trace) {
	first := r.signed()
	if first != 0 {
		t.Received = time.UnixMilli(first).UTC()
	}
	for _, at := range [...]*time.Time{&t.Journalled, &t.Sent, &t.Over} {
		switch d := r.signed(); {
		case d > 0:
			*at = time.UnixMilli(first + d - 1).UTC()
		case d < 0:
			*at = time.UnixMilli(first + d).UTC()
		}
	}
}

func (r *chunkReader) ulid() string {
	var id ulid.ULID
	if len(r.buf) < len(id) {
		r.fail()
		return ""
	}
	copy(id[:], r.buf)
	r.buf = r.buf[len(id):]
	return id.String()
}

func (r *chunkReader) signed() int64 {
	n, size := binary.Varint(r.buf)
	if size <= 0 {
		r.fail()
		return 0
	}
	r.buf = r.buf[size:]
	return n
}

func markDevice(text, devEUI string) string {
	if devEUI == "" || !strings.Contains(text, devEUI) {
		return text
	}
	return strings.ReplaceAll(text, devEUI, deviceMark)
}

func unmarkDevice(text, devEUI string) string { return strings.ReplaceAll(text, deviceMark, devEUI) }
