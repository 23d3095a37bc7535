package store

import (
	"context"
	"iter"
	"log/slog"
	"unique"

	"github.com/nats-io/nats.go/jetstream"
)

// The subject and the records of the devices' log.
const (
	deviceSubject = "store.devices"

	recordDevice = 1 // DevEUI, seen, network, name, tags
	recordSeen   = 2 // DevEUI, seen
)

const (
	// deviceBatch is how many devices are encoded under one hold of the lock.
	deviceBatch = 1024
	// deviceBytes is about what a device takes in the log.
	deviceBytes = 48
)

// deviceWriter writes the registry behind.
type deviceWriter struct {
	log   chunkLog
	chunk chunkWriter
	batch []uint32 // the places in chunk
}

// openDevices reads the registry.
func openDevices(ctx context.Context, js jetstream.JetStream, log *slog.Logger) (*devices, error) {
	stream, err := openStream(ctx, js, jetstream.StreamConfig{
		Name:        "DEVICES",
		Description: "Sluice: the devices that were seen",
		Subjects:    []string{deviceSubject},
	})
	if err != nil {
		return nil, err
	}
	d := newDevices()
	d.writer.log = newChunkLog(js, stream, deviceSubject)
	err = readAll(ctx, js, stream, func(m *jetstream.RawStreamMsg) error {
		d.writer.log.loaded(m.Data)
		if err := d.load(m.Data); err != nil {
			log.Error("a part of the devices cannot be read; they appear again when they are seen", "sequence", m.Sequence, "error", err)
		}
		return nil
	})
	return d, err
}

// load takes the records of a chunk.
func (d *devices) load(chunk []byte) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	r := newChunkReader(chunk)
	for r.more() {
		kind, eui, seen := r.byte(), r.eui(), r.time()
		switch kind {
		case recordSeen:
			if place, ok := d.index[eui]; ok && r.err == nil {
				d.at(place).seen = seen
			}
		case recordDevice:
			d.loadDevice(r, eui, seen)
		default:
			r.fail()
		}
	}
	return r.err
}

func (d *devices) loadDevice(r *chunkReader, eui uint64, seen int64) {
	network, name := r.word(), r.text()
	var tags []string
	for range r.number() {
		if r.err != nil {
			break
		}
		tags = append(tags, r.word())
	}
	if r.err != nil {
		return
	}
	place, ok := d.index[eui]
	if !ok {
		place = d.add(eui)
	}
	known := d.at(place)
	known.seen, known.name, known.network, known.tags = seen, name, unique.Make(network), d.shared(tags)
}

// flush writes what has changed, new devices first.
func (d *devices) flush(ctx context.Context) error {
	w := &d.writer
	for {
		d.take()
		if w.chunk.empty() {
			return nil
		}
		if err := w.log.append(ctx, w.chunk.buf); err != nil {
			d.giveBack()
			return err
		}
	}
}

// tidy shortens the log where most of it is out of date.
func (d *devices) tidy(ctx context.Context) error {
	if !d.writer.log.worn(int64(d.size()) * deviceBytes) {
		return nil
	}
	return d.writer.log.rewrite(ctx, d.all())
}

func (d *devices) size() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.count
}

// take encodes a batch of devices that are to be written and takes them off
// the lists.
func (d *devices) take() {
	d.mu.Lock()
	defer d.mu.Unlock()
	w := &d.writer
	w.chunk.reset()
	w.batch = w.batch[:0]
	for _, list := range []*[]uint32{&d.urgent, &d.dirty} {
		for len(*list) > 0 && len(w.batch) < deviceBatch && !w.chunk.full() {
			last := len(*list) - 1
			place := (*list)[last]
			*list = (*list)[:last]
			r := d.at(place)
			if r.unsaved == 0 {
				continue // written already, by the other list
			}
			r.encode(&w.chunk, r.unsaved&unsavedAll != 0)
			r.unsaved = 0
			w.batch = append(w.batch, place)
		}
	}
}

// giveBack puts a batch that could not be written back on the list.
func (d *devices) giveBack() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, place := range d.writer.batch {
		d.mark(place, d.at(place), unsavedAll)
	}
}

func (r *device) encode(w *chunkWriter, all bool) {
	kind := byte(recordSeen)
	if all {
		kind = recordDevice
	}
	w.byte(kind)
	w.eui(r.eui)
	w.number(uint64(max(r.seen, 0)))
	if !all {
		return
	}
	w.word(r.network.Value())
	w.text(r.name)
	w.number(uint64(len(r.tagList())))
	for _, t := range r.tagList() {
		w.word(t)
	}
}

// all encodes the whole registry, a batch under each hold of the lock.
// Devices that come or change meanwhile are on the lists and are written
// after it.
func (d *devices) all() iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		var w chunkWriter
		for next := d.encodeSome(&w, 0); !w.empty(); next = d.encodeSome(&w, next) {
			if !yield(w.buf) {
				return
			}
		}
	}
}

// encodeSome encodes the devices from a place on and returns the place after
// them. Without devices the chunk stays empty.
func (d *devices) encodeSome(w *chunkWriter, from int) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	w.reset()
	place := from
	for end := min(d.count, from+deviceBatch); place < end && !w.full(); place++ {
		d.at(uint32(place)).encode(w, true)
	}
	return place
}
