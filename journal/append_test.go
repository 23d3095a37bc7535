package journal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"sluice"
)

// entriesOf reads all that the stream holds of a place.
func (b *bench) entriesOf(p Place) []sluice.Message {
	b.t.Helper()
	var all []sluice.Message
	for from := uint64(1); ; {
		got, err := b.j.entries.batch(b.t.Context(), string(p), from, 100, maxFetchBytes)
		if errors.Is(err, errNotFound) {
			return all
		}
		if err != nil {
			b.t.Fatal(err)
		}
		for _, s := range got {
			all = append(all, decodeAll(b.t, s.data)...)
			from = s.seq + 1
		}
	}
}

// wantNumbers checks that the numbers of a place are 1 to n.
func (b *bench) wantNumbers(p Place, n int) {
	b.t.Helper()
	all := b.entriesOf(p)
	if len(all) != n {
		b.t.Errorf("%s holds %d entries, want %d", p, len(all), n)
	}
	for i, m := range all {
		if m.Number != uint64(i+1) {
			b.t.Fatalf("entry %d of %s has number %d", i+1, p, m.Number)
		}
	}
}

func TestNumbersHaveNoGaps(t *testing.T) {
	for _, places := range []int{1, 3, 60} { // 60: as atomic batches
		t.Run(fmt.Sprint(places), func(t *testing.T) {
			b := open(t, t.TempDir())
			var wg sync.WaitGroup
			for c := range 120 {
				wg.Go(func() {
					for i := range 10 {
						m := report("D", i)
						m.Connection = fmt.Sprint(c%places + 1)
						if err := b.j.Append(context.Background(), m); err != nil {
							t.Error(err)
						}
					}
				})
			}
			wg.Wait()
			for c := range places {
				b.wantNumbers(Up(fmt.Sprint(c+1)), 1200/places)
			}
			if s := b.j.Stats(); s.Entries != 1200 || places == 60 && s.Batches == 0 {
				t.Errorf("stats: %+v", s)
			}
		})
	}
}

func TestAppendToSeveralPlaces(t *testing.T) {
	b := open(t, t.TempDir())
	one, two, none, down := report("D", 1), report("D", 1), report("D", 1), report("D", 1)
	two.Connection, none.Connection, down.Kind = "2", "", sluice.KindDownlink
	if err := b.j.Append(context.Background(), one, two, none, down); err != nil {
		t.Fatal(err)
	}
	for _, p := range []Place{Up("1"), Up("2"), Up(""), Down("n")} {
		b.wantNumbers(p, 1)
	}
	b.wants(Up("1"), sluice.Counters{Received: 1, Pending: 1})
	b.wants(Up(""), sluice.Counters{Received: 1, Filtered: 1})
}

func TestAppendRefusesWhatCannotBeAnEntry(t *testing.T) {
	b := open(t, t.TempDir())
	large, odd, nowhere := report("D", 1), report("D", 1), report("D", 1)
	large.Document = make([]byte, 1<<20)
	odd.Connection = "a.b"
	nowhere.Kind, nowhere.Network = sluice.KindDownlink, ""
	for _, c := range []struct {
		m    *sluice.Message
		want sluice.Code
	}{{large, sluice.CodeTooLarge}, {odd, sluice.CodeInvalid}, {nowhere, sluice.CodeInvalid}} {
		if err := b.j.Append(context.Background(), c.m); sluice.CodeOf(err) != c.want {
			t.Errorf("%v, want %s", err, c.want)
		}
	}
	limit := report("D", 1)
	limit.Document = make([]byte, maxEntry-1024)
	if err := b.j.Append(context.Background(), limit); err != nil {
		t.Error(err)
	}
}

func TestAppendGivesUpWithItsContext(t *testing.T) {
	b := open(t, t.TempDir())
	b.stop() // nothing commits
	b.j.queue.ended = false
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	if err := b.j.Append(ctx, report("D", 1)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	if n := b.j.Stats().Waiting; n != 0 || b.j.queue.bytes != 0 {
		t.Errorf("%d entries, %d bytes still wait", n, b.j.queue.bytes)
	}
}

func TestTheQueueIsBounded(t *testing.T) {
	b := open(t, t.TempDir())
	b.stop()
	b.j.queue.ended = false
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	doc := bytes.Repeat([]byte("x"), 512<<10)
	for i := range 100 {
		wg.Go(func() {
			m := report("D", i)
			m.Document = doc
			_ = b.j.Append(ctx, m)
		})
	}
	until(t, "the queue is full", func() bool {
		b.j.queue.mu.Lock()
		defer b.j.queue.mu.Unlock()
		return len(b.j.queue.items) == 100
	})
	var big []*sluice.Message
	for i := range 60 {
		m := report("D", i)
		m.Document = doc
		big = append(big, m)
	}
	if err := b.j.Append(ctx, big...); sluice.CodeOf(err) != sluice.CodeUnavailable {
		t.Errorf("%v", err)
	}
	cancel()
	wg.Wait()
	if b.j.queue.bytes != 0 {
		t.Errorf("%d bytes still wait", b.j.queue.bytes)
	}
}

// When the server goes by another last sequence than it has told, as after
// damage, a group is refused as a whole and published again.
func TestAnotherLastSequenceLeavesNoGap(t *testing.T) {
	for _, places := range []int{1, 40} {
		t.Run(fmt.Sprint(places), func(t *testing.T) {
			b := open(t, t.TempDir())
			b.append("D", 0, 3)
			if _, err := b.j.js.Publish(t.Context(), "up.foreign", encodeBundle(1, report("D", 1))); err != nil {
				t.Fatal(err)
			}
			var ms []*sluice.Message
			for i := range places {
				m := report("D", 3)
				m.Connection = fmt.Sprint(i + 1)
				ms = append(ms, m)
			}
			for n := uint64(4); n < 6; n++ {
				if err := b.j.Append(context.Background(), ms...); err != nil {
					t.Fatal(err)
				}
				b.wantNumbers(Up("1"), int(n))
				b.wants(Up("1"), sluice.Counters{Received: n, Pending: n})
			}
			if err := b.j.Err(); err != nil {
				t.Error(err)
			}
		})
	}
}

// An entry whose append failed for its caller may be in: it counts.
func TestAnUnknownOutcomeIsReadAgain(t *testing.T) {
	b := open(t, t.TempDir())
	got := &arrivals{}
	b.read(Up("1"), ReadOptions{Handler: got})
	b.append("D", 0, 2)
	b.j.committing.Lock()
	p := b.j.place(Up("1"))
	if _, err := b.j.js.Publish(t.Context(), "up.1", encodeBundle(3, report("D", 2))); err != nil {
		t.Fatal(err)
	}
	b.j.unsure[p] = struct{}{}
	b.j.committing.Unlock()
	b.append("D", 3, 1)
	b.wants(Up("1"), sluice.Counters{Received: 4, Delivered: 4})
	b.wantNumbers(Up("1"), 4)
}

func TestTheReserveOfTheDisk(t *testing.T) {
	b := open(t, t.TempDir(), func(o *Options) { o.Dir, o.Reserve = "/", 1000 })
	free := int64(5000)
	b.stop() // the tests calls checkDisk itself
	b.j.queue.ended = false
	b.j.diskFree = func(string) (int64, error) { return free, nil }
	b.j.checkDisk()
	if b.j.Err() != nil {
		t.Fatal(b.j.Err())
	}
	free = 999
	b.j.checkDisk()
	b.j.checkDisk()
	if err := b.j.Append(context.Background(), report("D", 1)); sluice.CodeOf(err) != sluice.CodeUnavailable || b.j.Err() == nil {
		t.Errorf("%v, %v", err, b.j.Err())
	}
	if n := b.events.count(sluice.EventJournalFull); n != 1 {
		t.Errorf("%d events", n)
	}
	free = 1020
	b.j.checkDisk()
	if b.j.Err() == nil {
		t.Error("open again although hardly anything is free")
	}
	free = 2000
	b.j.checkDisk()
	b.j.checkDisk()
	if b.j.Err() != nil || b.events.count(sluice.EventJournalFull) != 2 {
		t.Error(b.j.Err(), b.events.list)
	}
}

func TestTheDiskIsSeen(t *testing.T) {
	if free, err := diskFree(t.TempDir()); err != nil || free <= 0 {
		t.Error(free, err)
	}
}

func TestAfterTheEndNothingIsTaken(t *testing.T) {
	b := open(t, t.TempDir())
	b.append("D", 0, 1)
	b.stop()
	if err := b.j.Append(context.Background(), report("D", 1)); sluice.CodeOf(err) != sluice.CodeUnavailable {
		t.Error(err)
	}
	if b.j.Err() == nil {
		t.Error("no error after the end")
	}
}
