package journal

import (
	"bytes"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluice"
)

func fullMessage() *sluice.Message {
	return &sluice.Message{
		ID: "01J", Kind: sluice.KindUplink, DevEUI: "000000000F1D8693", Network: "n1", Connection: "8",
		Driver:   sluice.DriverAuto,
		Received: time.Date(2026, 2, 3, 4, 5, 6, 7, time.UTC), Time: time.Date(1800, 1, 1, 0, 0, 0, 999_999_999, time.UTC),
		Validity: 10 * time.Minute, Fingerprint: "\x00\xff", Name: "café", Tags: []string{"a", ""},
		Retries: 1 << 40, Retried: time.Date(2026, 2, 10, 4, 5, 6, 0, time.UTC),
		Credentials: []byte{1, 2}, Document: []byte(`{"DevEUI_uplink":{}}`),
	}
}

func decodeAll(t testing.TB, data []byte) []sluice.Message {
	t.Helper()
	b, err := openBundle(data)
	if err != nil {
		t.Fatal(err)
	}
	var ms []sluice.Message
	for b.more() {
		number, body, err := b.take()
		if err != nil {
			t.Fatal(err)
		}
		var m sluice.Message
		if err := decodeEntry(&m, number, body); err != nil {
			t.Fatal(err)
		}
		ms = append(ms, m)
	}
	return ms
}

func encodeBundle(first uint64, ms ...*sluice.Message) []byte {
	var e encoder
	data := appendBundleHead(nil, first, len(ms))
	for i, m := range ms {
		data, _ = e.appendEntry(data, first+uint64(i), m)
	}
	return data
}

func TestEntriesComeBackAsTheyWere(t *testing.T) {
	noTags, emptyTags := fullMessage(), fullMessage()
	noTags.Tags, emptyTags.Tags = nil, []string{}
	command := fullMessage()
	command.Kind, command.Time, command.Document = sluice.KindDownlink, time.Time{}, bytes.Repeat([]byte("x"), 70_000)
	ms := []*sluice.Message{fullMessage(), {}, noTags, emptyTags, command}
	want := make([]sluice.Message, 0, len(ms))
	for i, m := range ms {
		w := *m
		w.Number = 41 + uint64(i)
		if w.Document == nil {
			w.Document = []byte{}
		}
		want = append(want, w)
	}
	if diff := cmp.Diff(want, decodeAll(t, encodeBundle(41, ms...))); diff != "" {
		t.Error(diff)
	}
}

func TestEncodedSizeIsEnough(t *testing.T) {
	for _, m := range []*sluice.Message{fullMessage(), {}} {
		if got, bound := len(encodeBundle(1<<63, m)), encodedSize(m)+bundleHeadSize; got > bound {
			t.Errorf("%d bytes, thought to be at most %d", got, bound)
		}
	}
}

func TestEachFlippedBitIsSeen(t *testing.T) {
	data := encodeBundle(7, fullMessage(), fullMessage())
	want := decodeAll(t, data)
	for i := range len(data) * 8 {
		bad := bytes.Clone(data)
		bad[i/8] ^= 1 << (i % 8)
		b, err := openBundle(bad)
		for n := 0; err == nil && b.more(); n++ {
			var number uint64
			var body []byte
			if number, body, err = b.take(); err != nil {
				break
			}
			var m sluice.Message
			if decodeEntry(&m, number, body) == nil && !(n < len(want) && cmp.Equal(m, want[n])) {
				t.Fatalf("bit %d flipped: entry %d reads as something else", i, number)
			}
		}
		if err == nil && b.count == 2 {
			t.Fatalf("bit %d flipped and not seen", i)
		}
	}
}

func FuzzBundle(f *testing.F) {
	f.Add(encodeBundle(1, fullMessage(), &sluice.Message{}))
	f.Add([]byte{})
	f.Fuzz(func(_ *testing.T, data []byte) {
		b, err := openBundle(data)
		for err == nil && b.more() {
			var body []byte
			if _, body, err = b.take(); err == nil {
				var m sluice.Message
				err = decodeEntry(&m, 1, body)
			}
		}
	})
}

func FuzzMeta(f *testing.F) {
	f.Add(appendMeta(nil, fullMessage()))
	f.Fuzz(func(t *testing.T, meta []byte) {
		body := append(appendUvarint(len(meta)), meta...)
		var m, again sluice.Message
		if decodeEntry(&m, 1, body) != nil {
			return
		}
		data := encodeBundle(1, &m)
		b, _ := openBundle(data)
		_, body, err := b.take()
		if err != nil {
			t.Fatal(err)
		}
		if err := decodeEntry(&again, 1, body); err != nil || !cmp.Equal(m, again) {
			t.Fatalf("%v: %s", err, cmp.Diff(m, again))
		}
	})
}

func FuzzBook(f *testing.F) {
	p := newPlace("up.1")
	p.last, p.delivered = 9, 3
	for _, n := range []uint64{1, 2, 5} {
		p.done.add(n)
	}
	f.Add(p.appendBook(nil))
	f.Fuzz(func(t *testing.T, book []byte) {
		p, again := newPlace("up.1"), newPlace("up.1")
		if p.readBook(book) != nil {
			return
		}
		if err := again.readBook(p.appendBook(nil)); err != nil || again.counters() != p.counters() {
			t.Fatalf("%v: %+v, want %+v", err, again.counters(), p.counters())
		}
	})
}

func appendUvarint(n int) []byte {
	var b []byte
	for n >= 0x80 {
		b, n = append(b, byte(n)|0x80), n>>7
	}
	return append(b, byte(n))
}
