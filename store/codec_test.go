package store_test

import (
	"bytes"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"sluice"
	"sluice/store"
)

func TestEUI(t *testing.T) {
	for text, good := range map[string]bool{
		"0000000000000000":  true,
		"20635F0123456789":  true,
		"FFFFFFFFFFFFFFFF":  true,
		"20635f0123456789":  false,
		"20635G0123456789":  false,
		"20635F012345678":   false,
		"20635F01234567890": false,
		"":                  false,
	} {
		got, ok := store.EUI(text)
		if ok != good || good && got != text {
			t.Errorf("%q: %q, %v", text, got, ok)
		}
	}
}

// FuzzChunk reads damaged chunks. Whatever is in them, what was read before
// the damage counts and the rest is refused.
func FuzzChunk(f *testing.F) {
	h := newHouse(f)
	s := h.store()
	connections(f, s, 1)
	for i := range 3 {
		s.Seen(uplink(i, start))
		s.Things("1").Put(eui(i), sluice.Thing{State: sluice.ThingFailed, Detail: "why"})
		s.Things("1").Put("odd", sluice.Thing{State: sluice.ThingRegistered})
	}
	if err := s.Flush(ctx()); err != nil {
		f.Fatal(err)
	}
	for _, name := range []string{"DEVICES", "THINGS"} {
		stream := must[jetstream.Stream](f)(jetStream(f, h.conn).Stream(ctx(), name))
		m := must[*jetstream.RawStreamMsg](f)(stream.GetMsg(ctx(), 1))
		f.Add(m.Data)
		for n := range m.Data {
			f.Add(m.Data[:n])
		}
	}
	f.Add([]byte{1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f})
	f.Fuzz(func(t *testing.T, chunk []byte) {
		whole := bytes.Clone(chunk)
		devices, things := store.LoadChunk(chunk)
		if devices > len(chunk)/10 || things > len(chunk)/4 {
			t.Errorf("%d devices and %d things in %d bytes", devices, things, len(chunk))
		}
		if !bytes.Equal(whole, chunk) {
			t.Error("the chunk was changed")
		}
	})
}
