package store

import (
	"context"
	"errors"
	"iter"
	"log/slog"
	"maps"
	"slices"

	"github.com/nats-io/nats.go/jetstream"

	"sluice"
)

// The subjects and the records of the things' logs: one subject a connection,
// so that its log can go with it.
const (
	thingSubject = "store.things."

	recordThing    = 1 // DevEUI, state, tag, detail
	recordOddThing = 2 // key, state, tag, detail
	recordMore     = 3 // name and mark of the thing whose record follows
)

const (
	// thingBatch is how many things are encoded under one hold of the lock.
	thingBatch = 4096
	// thingBytes is about what a thing takes in the log.
	thingBytes = 16
)

// thingWriter writes the memories behind.
type thingWriter struct {
	js     jetstream.JetStream
	stream jetstream.Stream
	chunk  chunkWriter
	batch  []thingKey // the keys in chunk
}

// openThings reads the memories. Those of connections that are gone are not
// kept: a crash came between the deletion of the connection and theirs.
func openThings(ctx context.Context, js jetstream.JetStream, log *slog.Logger, exists func(connectionID string) bool) (*things, error) {
	stream, err := openStream(ctx, js, jetstream.StreamConfig{
		Name:        "THINGS",
		Description: "Sluice: what connections know of things in the cloud",
		Subjects:    []string{thingSubject + "*"},
	})
	if err != nil {
		return nil, err
	}
	t := &things{byID: make(map[string]*memory), writer: thingWriter{js: js, stream: stream}}
	err = readAll(ctx, js, stream, func(message *jetstream.RawStreamMsg) error {
		id, err := untoken(message.Subject, thingSubject)
		if err != nil {
			log.Error("a part of the things cannot be read", "error", err)
			return nil
		}
		m := t.of(id)
		m.log.loaded(message.Data)
		if !exists(m.connection) {
			m.forgotten = true
			return nil
		}
		if err := m.load(message.Data); err != nil {
			log.Error("a part of the things cannot be read; they are looked up in the cloud again",
				"connection", m.connection, "sequence", message.Sequence, "error", err)
		}
		return nil
	})
	return t, err
}

// newMemory makes an empty memory.
func (t *things) newMemory(connectionID string) *memory {
	return &memory{
		connection: connectionID,
		euis:       make(map[uint64]thing),
		odd:        make(map[string]thing),
		log:        newChunkLog(t.writer.js, t.writer.stream, thingSubject+token(connectionID)),
	}
}

// load takes the records of a chunk.
func (m *memory) load(chunk []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := newChunkReader(chunk)
	for r.more() {
		var key thingKey
		var t sluice.Thing
		kind := r.byte()
		if kind == recordMore {
			t.Name, t.Mark = r.text(), r.eui()
			kind = r.byte()
		}
		switch kind {
		case recordThing:
			key.proper, key.eui = true, r.eui()
		case recordOddThing:
			key.odd = r.text()
		default:
			r.fail()
		}
		t.State, t.Tag, t.Detail = sluice.ThingState(r.word()), r.word(), r.word()
		if r.err == nil {
			m.set(key, newThing(t))
		}
	}
	return r.err
}

// flush writes what has changed. A connection that fails does not keep the
// others from being written.
func (t *things) flush(ctx context.Context) error {
	var errs []error
	for _, m := range t.all() {
		errs = append(errs, t.flushOne(ctx, m))
	}
	return errors.Join(errs...)
}

func (t *things) all() []*memory {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return slices.Collect(maps.Values(t.byID))
}

func (t *things) flushOne(ctx context.Context, m *memory) error {
	w := &t.writer
	if err := m.purge(ctx); err != nil {
		return err
	}
	for {
		m.take(w)
		if w.chunk.empty() {
			return nil
		}
		if err := m.log.append(ctx, w.chunk.buf); err != nil {
			m.giveBack(w.batch)
			return err
		}
	}
}

// tidy shortens the logs of which most is out of date.
func (t *things) tidy(ctx context.Context) error {
	var errs []error
	for _, m := range t.all() {
		if m.log.worn(int64(m.size()) * thingBytes) {
			errs = append(errs, m.log.rewrite(ctx, m.all()))
		}
	}
	return errors.Join(errs...)
}

// purge removes the log of a memory that was forgotten.
func (m *memory) purge(ctx context.Context) error {
	m.mu.Lock()
	forgotten := m.forgotten
	m.forgotten = false
	m.mu.Unlock()
	if !forgotten {
		return nil
	}
	if err := m.log.rewrite(ctx, none); err != nil {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.forgotten = true
		return err
	}
	return nil
}

// none is a log of nothing.
func none(func([]byte) bool) {}

func (m *memory) size() int {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return len(m.euis) + len(m.odd)
}

// take encodes a batch of things that are to be written and takes them off
// the list. Of a memory that was forgotten meanwhile it takes nothing: the log
// is to be purged first.
func (m *memory) take(w *thingWriter) {
	m.mu.Lock()
	defer m.mu.Unlock()
	w.chunk.reset()
	w.batch = w.batch[:0]
	for !m.forgotten && len(m.unsaved) > 0 && len(w.batch) < thingBatch && !w.chunk.full() {
		last := len(m.unsaved) - 1
		key := m.unsaved[last]
		m.unsaved = m.unsaved[:last]
		t, ok := m.find(key)
		if !ok {
			continue
		}
		t.encode(&w.chunk, key)
		t.unsaved = false
		m.set(key, t)
		w.batch = append(w.batch, key)
	}
	if len(m.unsaved) == 0 && cap(m.unsaved) > thingBatch {
		m.unsaved = nil // many came at once; they seldom do
	}
}

// giveBack puts a batch that could not be written back on the list.
func (m *memory) giveBack(batch []thingKey) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, key := range batch {
		if t, ok := m.find(key); ok && !t.unsaved {
			t.unsaved = true
			m.set(key, t)
			m.unsaved = append(m.unsaved, key)
		}
	}
}

func (t thing) encode(w *chunkWriter, key thingKey) {
	if t.more != nil {
		w.byte(recordMore)
		w.text(t.more.name)
		w.eui(t.more.mark)
	}
	if !key.proper {
		w.byte(recordOddThing)
		w.text(key.odd)
	} else {
		w.byte(recordThing)
		w.eui(key.eui)
	}
	shared := t.what.Value()
	w.word(shared.state)
	w.word(shared.tag)
	w.word(shared.detail)
}

// all encodes the whole memory. The chunks are made under one hold of the
// lock, some ten milliseconds for a hundred thousand things, while Get goes on.
func (m *memory) all() iter.Seq[[]byte] {
	m.mu.RLock()
	defer m.mu.RUnlock()
	var chunks [][]byte
	var w chunkWriter
	w.reset()
	put := func(key thingKey, t thing) {
		t.encode(&w, key)
		if w.full() {
			chunks = append(chunks, slices.Clone(w.buf))
			w.reset()
		}
	}
	for eui, t := range m.euis {
		put(thingKey{proper: true, eui: eui}, t)
	}
	for odd, t := range m.odd {
		put(thingKey{odd: odd}, t)
	}
	if !w.empty() {
		chunks = append(chunks, w.buf)
	}
	return slices.Values(chunks)
}
