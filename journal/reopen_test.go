package journal

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"sluice"
)

// Everything that was appended arrives, over ends in order and crashes, in
// order; the counters agree with the position each time.
func TestConservationAcrossReopening(t *testing.T) {
	dir := t.TempDir()
	got := &arrivals{}
	const devices, rounds, each = 10, 6, 40
	for round := range rounds {
		b := open(t, dir)
		stop := b.read(Up("1"), ReadOptions{Handler: got, Concurrency: 3})
		var ms []*sluice.Message
		for i := range each {
			for d := range devices {
				ms = append(ms, report(fmt.Sprint("D", d), round*each+i))
			}
		}
		b.appendAll(ms)
		until(t, "some are read", func() bool { return got.distinct() > round*each*devices+each })
		if round%2 == 0 {
			stop()
			b.close()
		} else {
			b.crash() // the reader meets a server that is gone
		}
		if c := b.j.Counters(Up("1")); !c.Holds() {
			t.Fatalf("the law is broken: %+v", c)
		}
	}
	b := open(t, dir)
	const n = devices * rounds * each
	b.read(Up("1"), ReadOptions{Handler: got, Concurrency: 3})
	b.wants(Up("1"), sluice.Counters{Received: n, Delivered: n})
	wantOrder(t, got, devices, rounds*each)
}

// An end in order loses nothing of the position, also of what is done above
// the floor: nothing arrives twice.
func TestAnEndInOrderKeepsThePosition(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir)
	stop := b.read(Up("1"), ReadOptions{Concurrency: 4, Handler: sluice.HandlerFunc(func(ctx context.Context, m *sluice.Message) error {
		if m.DevEUI == "D0" {
			<-ctx.Done()
			return ctx.Err()
		}
		return nil
	}), Grace: 10 * time.Millisecond})
	b.appendAll(many(5, 50))
	b.wants(Up("1"), sluice.Counters{Received: 250, Delivered: 200, Pending: 50})
	stop()
	b.close()

	b = open(t, dir)
	b.wants(Up("1"), sluice.Counters{Received: 250, Delivered: 200, Pending: 50})
	got := &arrivals{}
	b.read(Up("1"), ReadOptions{Handler: got})
	b.wants(Up("1"), sluice.Counters{Received: 250, Delivered: 250})
	if got.distinct() != 50 || len(got.order["D0"]) != 50 {
		t.Errorf("%d arrived again", got.distinct())
	}
	b.append("D", 0, 1)
	b.wants(Up("1"), sluice.Counters{Received: 251, Delivered: 251})
}

func TestAGapIsSeen(t *testing.T) {
	b := open(t, t.TempDir())
	b.append("D", 0, 10) // one after another: ten messages of the stream
	for _, seq := range []uint64{1, 4, 5, 10} {
		if err := b.j.stream.DeleteMsg(t.Context(), seq); err != nil {
			t.Fatal(err)
		}
	}
	got := &arrivals{}
	b.read(Up("1"), ReadOptions{Handler: got})
	b.wants(Up("1"), sluice.Counters{Received: 10, Delivered: 6, Failed: 4})
	if n := b.events.count(sluice.EventJournalGap); n != 3 || b.j.Stats().Lost != 4 {
		t.Errorf("%d events: %+v", n, b.events.list)
	}
	b.append("D", 10, 3)
	b.wants(Up("1"), sluice.Counters{Received: 13, Delivered: 9, Failed: 4})
}

func TestALostEndIsSeen(t *testing.T) {
	for _, keep := range []uint64{0, 3} {
		t.Run(fmt.Sprint(keep), func(t *testing.T) {
			dir := t.TempDir()
			b := open(t, dir)
			b.append("D", 0, 10)
			b.append("D", 10, 1)
			for seq := keep + 1; seq <= 11; seq++ {
				if err := b.j.stream.DeleteMsg(t.Context(), seq); err != nil {
					t.Fatal(err)
				}
			}
			b.close()
			b = open(t, dir)
			b.wants(Up("1"), sluice.Counters{Received: 11, Pending: 11})
			b.append("D", 11, 1)
			got := &arrivals{}
			b.read(Up("1"), ReadOptions{Handler: got})
			b.wants(Up("1"), sluice.Counters{Received: 12, Delivered: keep + 1, Failed: 11 - keep})
			if b.events.count(sluice.EventJournalGap) != 1 {
				t.Errorf("%+v", b.events.list)
			}
		})
	}
}

// A place whose stream and sequences are gone, but whose book is not, works on.
func TestALostStreamIsSeen(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir)
	b.append("D", 0, 10)
	b.stop()
	if err := b.j.js.DeleteStream(t.Context(), streamEntries); err != nil {
		t.Fatal(err)
	}
	b.close()
	b = open(t, dir)
	b.append("D", 10, 2)
	got := &arrivals{}
	b.read(Up("1"), ReadOptions{Handler: got})
	b.wants(Up("1"), sluice.Counters{Received: 12, Delivered: 2, Failed: 10})
}

// Without its book a place is delivered again from its first entry on.
func TestALostBookIsSeen(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir)
	got := &arrivals{}
	b.read(Up("1"), ReadOptions{Handler: got})
	b.append("D", 0, 10)
	b.wants(Up("1"), sluice.Counters{Received: 10, Delivered: 10})
	if err := b.j.purge(t.Context(), Up("1"), 6); err != nil {
		t.Fatal(err)
	}
	b.stop()
	if err := b.j.js.DeleteStream(t.Context(), streamBooks); err != nil {
		t.Fatal(err)
	}
	b.server.Close()
	b = open(t, dir)
	b.wants(Up("1"), sluice.Counters{Received: 10, Delivered: 5, Pending: 5})
	if b.events.count(sluice.EventJournalGap) != 1 {
		t.Errorf("%+v", b.events.list)
	}
	b.read(Up("1"), ReadOptions{Handler: got})
	b.wants(Up("1"), sluice.Counters{Received: 10, Delivered: 10})
}

// A flipped bit in a block costs what it hits, and is told.
func TestAFlippedBitIsSeen(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir)
	b.append("D", 0, 50)
	b.crash()
	blocks, err := filepath.Glob(filepath.Join(dir, "jetstream", "*", "streams", streamEntries, "msgs", "*.blk"))
	if err != nil || len(blocks) != 1 {
		t.Fatal(blocks, err)
	}
	data, err := os.ReadFile(blocks[0])
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/2] ^= 4
	if err := os.WriteFile(blocks[0], data, 0o600); err != nil {
		t.Fatal(err)
	}
	b = open(t, dir)
	got := &arrivals{}
	b.read(Up("1"), ReadOptions{Handler: got})
	b.append("D", 50, 1)
	until(t, "all is done", func() bool { return b.j.Counters(Up("1")).Pending == 0 })
	c := b.j.Counters(Up("1"))
	if !c.Holds() || c.Delivered < 2 || c.Received != c.Delivered+c.Failed {
		t.Errorf("%+v", c)
	}
	t.Logf("a flipped bit cost %d of 50 entries; %+v", c.Failed, b.events.list)
}

func TestDrop(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir)
	var ms []*sluice.Message
	for i := range 300 {
		m := report("D", i)
		m.Connection = fmt.Sprint(i%3 + 1)
		ms = append(ms, m)
	}
	b.appendAll(ms)
	b.read(Up("2"), ReadOptions{Handler: &arrivals{}})
	b.wants(Up("2"), sluice.Counters{Received: 100, Delivered: 100})
	if err := b.j.Drop(t.Context(), Up("1")); err != nil {
		t.Fatal(err)
	}
	if err := b.j.Drop(t.Context(), Up("never")); err != nil {
		t.Fatal(err)
	}
	b.wants(Up("1"), sluice.Counters{})
	if n := len(b.entriesOf(Up("1"))); n != 0 {
		t.Errorf("%d entries are left", n)
	}
	b.append("D", 0, 2)
	b.wantNumbers(Up("1"), 2)
	if err := b.j.Drop(t.Context(), Up("3")); err != nil {
		t.Fatal(err)
	}
	b.close()
	b = open(t, dir)
	b.wants(Up("1"), sluice.Counters{Received: 2, Pending: 2})
	b.wants(Up("2"), sluice.Counters{Received: 100, Delivered: 100})
	b.wants(Up("3"), sluice.Counters{})
	if n := len(b.j.Places()); n != 2 {
		t.Errorf("places: %v", b.j.Places())
	}
}

func TestHistoryIsTrimmed(t *testing.T) {
	now := time.Now()
	dir := t.TempDir()
	b := open(t, dir, func(o *Options) { o.Clock = func() time.Time { return now }; o.History = time.Hour })
	got := &arrivals{fail: func(m *sluice.Message) error {
		if m.ID == "D-7" {
			return &sluice.Failure{Verdict: sluice.RetryAfter, After: time.Hour}
		}
		return nil
	}}
	stop := b.read(Up("1"), ReadOptions{Handler: got})
	b.append("D", 0, 10)
	none := report("D", 0)
	none.Connection = ""
	b.appendAll([]*sluice.Message{none})
	b.appendAll([]*sluice.Message{none})
	b.wants(Up("1"), sluice.Counters{Received: 10, Delivered: 7, Pending: 3})
	stop()
	b.close() // its book is written
	b = open(t, dir, func(o *Options) { o.Clock = func() time.Time { return now }; o.History = time.Hour })

	trim := func() {
		t.Helper()
		if err := b.j.trim(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	trim()
	if n := len(b.entriesOf(Up("1"))); n != 10 {
		t.Fatalf("%d entries are left before anything is old", n)
	}
	now = now.Add(2 * time.Hour)
	trim()
	trim()
	if all := b.entriesOf(Up("1")); len(all) != 3 || all[0].ID != "D-7" {
		t.Fatalf("%d entries are left", len(all))
	}
	if n := len(b.entriesOf(Up(""))); n != 1 {
		t.Errorf("%d entries of nobody are left", n)
	}
	b.wants(Up("1"), sluice.Counters{Received: 10, Delivered: 7, Pending: 3})

	now = now.Add(DefaultRetention)
	trim()
	trim()
	b.wants(Up("1"), sluice.Counters{Received: 10, Delivered: 7, Expired: 3})
	if b.events.count(sluice.EventUplinkExpired) != 1 {
		t.Errorf("%+v", b.events.list)
	}
	b.append("D", 10, 1)
	b.wants(Up("1"), sluice.Counters{Received: 11, Delivered: 7, Expired: 3, Pending: 1})
	b.close()
	b = open(t, dir)
	b.read(Up("1"), ReadOptions{Handler: &arrivals{}})
	b.wants(Up("1"), sluice.Counters{Received: 11, Delivered: 8, Expired: 3})
}

func TestHistoryShrinksWithItsSize(t *testing.T) {
	b := open(t, t.TempDir(), func(o *Options) { o.HistoryBytes = 1 })
	b.append("D", 0, 3)
	h, err := b.j.history(t.Context())
	if err != nil || h >= DefaultHistory/10 {
		t.Error(h, err)
	}
}

func TestOpenNeedsAServer(t *testing.T) {
	if _, err := Open(t.Context(), Options{}); err == nil {
		t.Error("opened without a connection")
	}
	b := open(t, t.TempDir())
	b.close()
	if _, err := Open(t.Context(), b.j.o); err == nil {
		t.Error("opened with a closed connection")
	}
}
