package journal

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"sluice"
)

// A device that is refused without end holds up its own entries only, however
// many follow: also over an end and a crash. In the end all of them arrive, in
// order.
func TestADeviceThatIsRefusedForEverHoldsUpOnlyItself(t *testing.T) {
	const blocked, free, more = 40, windowLimit + 10_000, 500
	dir := t.TempDir()
	var open0 atomic.Bool
	got := &arrivals{fail: func(m *sluice.Message) error {
		if m.DevEUI == "D0" && !open0.Load() {
			return &sluice.Failure{Verdict: sluice.RetryAfter, After: 20 * time.Millisecond}
		}
		return nil
	}}
	b := open(t, dir)
	stop := b.read(Up("1"), ReadOptions{Handler: got, Concurrency: 4})
	var ms []*sluice.Message
	for i := range free {
		if i%(free/blocked) == 0 && i/(free/blocked) < blocked {
			ms = append(ms, report("D0", i/(free/blocked)))
		}
		ms = append(ms, report("D1", i))
	}
	b.appendAll(ms)
	b.wants(Up("1"), sluice.Counters{Received: blocked + free, Delivered: free, Pending: blocked})
	stop()
	b.close()

	b = open(t, dir)
	b.wants(Up("1"), sluice.Counters{Received: blocked + free, Delivered: free, Pending: blocked})
	if n := len(b.j.place(Up("1")).done.parked); n == 0 {
		t.Error("nothing is parked")
	}
	b.read(Up("1"), ReadOptions{Handler: got, Concurrency: 4})
	b.append("D0", blocked, more) // behind those that are parked
	b.wants(Up("1"), sluice.Counters{Received: blocked + free + more, Delivered: free, Pending: blocked + more})
	b.crash()

	b = open(t, dir)
	b.read(Up("1"), ReadOptions{Handler: got, Concurrency: 4})
	open0.Store(true)
	b.wants(Up("1"), sluice.Counters{Received: blocked + free + more, Delivered: blocked + free + more})
	if n := len(got.order["D0"]); n != blocked+more {
		t.Fatalf("%d of D0 arrived", n)
	}
	for i, id := range got.order["D0"] {
		if want := report("D0", i).ID; id != want {
			t.Fatalf("entry %d of D0 is %s, want %s", i, id, want)
		}
	}
	if n := b.events.count(sluice.EventJournalGap); n != 0 {
		t.Errorf("%+v", b.events.list)
	}
}

// What is parked keeps its messages from being trimmed, and expires.
func TestWhatIsParkedIsKeptAndExpires(t *testing.T) {
	now := time.Now()
	clock := func(o *Options) { o.Clock = func() time.Time { return now } }
	dir := t.TempDir()
	b := open(t, dir, clock)
	stop := b.read(Up("1"), ReadOptions{Handler: &arrivals{fail: func(m *sluice.Message) error {
		if m.ID == "D-3" {
			return errors.New("not yet")
		}
		return nil
	}}})
	b.append("D", 0, 3)
	b.append("D", 3, 1)
	b.append("E", 0, 5)
	b.wants(Up("1"), sluice.Counters{Received: 9, Delivered: 8, Pending: 1})
	stop()
	p := b.j.place(Up("1"))
	p.mu.Lock()
	p.done.park(p.seq)
	p.rewind()
	p.touch()
	p.mu.Unlock()
	b.j.books.changed(p, true)
	b.close()

	b = open(t, dir, clock)
	now = now.Add(2 * DefaultHistory)
	for range 2 {
		if err := b.j.trim(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if all := b.entriesOf(Up("1")); len(all) != 6 || all[0].ID != "D-3" {
		t.Fatalf("%d are left", len(all))
	}
	b.wants(Up("1"), sluice.Counters{Received: 9, Delivered: 8, Pending: 1})
	now = now.Add(DefaultRetention)
	if err := b.j.trim(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.wants(Up("1"), sluice.Counters{Received: 9, Delivered: 8, Expired: 1})
}

// What is parked and cannot be read any more is counted.
func TestWhatIsParkedAndLostIsSeen(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir)
	b.append("D", 0, 10)
	p := b.j.place(Up("1"))
	p.mu.Lock()
	p.seq = 1
	p.done.park(1)
	p.done.park(2)
	p.mu.Unlock()
	if err := b.j.stream.DeleteMsg(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	b.read(Up("1"), ReadOptions{Handler: &arrivals{}})
	b.wants(Up("1"), sluice.Counters{Received: 10, Delivered: 9, Failed: 1})
	if n := b.events.count(sluice.EventJournalGap); n != 1 {
		t.Errorf("%+v", b.events.list)
	}
}

func TestABookKeepsWhatIsParked(t *testing.T) {
	var w window
	for n := uint64(1); n <= maxParked; n++ {
		w.add(2 * n)
		if !w.park(n / 3) {
			t.Fatal("no room")
		}
	}
	if w.park(1) || w.floor != 2*maxParked || w.has(5) || !w.has(6) {
		t.Fatalf("%d parked, floor %d", len(w.parked), w.floor)
	}
	p := newPlace("up.1")
	p.done, p.last = w, 3*maxParked
	book := p.appendBook(nil)
	q := newPlace("up.1")
	if err := q.readBook(book); err != nil || len(book) > 48<<10 || q.pending() != p.pending() || q.oldest() != 0 {
		t.Fatalf("%v, %d bytes, %d and %d pending", err, len(book), q.pending(), p.pending())
	}
	if !q.done.add(5) || q.done.add(5) || q.done.add(6) || q.pending() != p.pending()-1 {
		t.Error("a parked entry is not done once")
	}
	if n := q.done.unpark(9); n != 4 || len(q.done.parked) != maxParked-5 {
		t.Errorf("%d done, %d left", n, len(q.done.parked))
	}
}
