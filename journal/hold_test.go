package journal

import (
	"context"
	"strings"
	"testing"
	"time"

	"sluice"
)

// While entries are held, none goes.
func TestHold(t *testing.T) {
	b := open(t, t.TempDir(), func(o *Options) { o.History = time.Nanosecond })
	b.append("D", 0, 5)
	b.read(Up("1"), ReadOptions{Handler: &arrivals{}})
	b.wants(Up("1"), sluice.Counters{Received: 5, Delivered: 5})
	p := b.j.place(Up("1"))
	until(t, "the book is written", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return !p.dirty
	})
	left := func() uint64 {
		t.Helper()
		info, err := b.j.stream.Info(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return info.State.Msgs
	}
	held, release, err := b.j.Hold(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := b.j.Hold(t.Context()); sluice.CodeOf(err) != sluice.CodeConflict {
		t.Errorf("held twice: %v", err)
	}
	for range 3 { // a book that was written is believed the next time
		if err := b.j.trim(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if n := left(); n != 5 {
		t.Errorf("%d of 5 entries are left", n)
	}
	b.append("D", 5, 1) // goes on
	m := report("D", 0)
	m.Connection = "2"
	b.appendAll([]*sluice.Message{m})
	if err := b.j.Drop(t.Context(), Up("2")); sluice.CodeOf(err) != sluice.CodeConflict {
		t.Errorf("dropped: %v", err)
	}
	if held.Err() != nil {
		t.Error("the hold has ended")
	}
	release()
	if held.Err() == nil {
		t.Error("the hold has not ended")
	}
	if err := b.j.Drop(t.Context(), Up("2")); err != nil {
		t.Errorf("after the hold: %v", err)
	}
	for range 3 {
		if err := b.j.trim(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if n := left(); n > 2 {
		t.Errorf("%d entries are left after the hold", n)
	}
}

// Holding is given up where the disk has no room for it.
func TestHoldOnAFullDisk(t *testing.T) {
	b := open(t, t.TempDir())
	held, release, err := b.j.Hold(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	b.j.health.disk.Store(unavailable("The disk is nearly full.", ""))
	if err := b.j.trim(t.Context()); err != nil {
		t.Fatal(err)
	}
	if cause := context.Cause(held); sluice.CodeOf(cause) != sluice.CodeUnavailable {
		t.Errorf("it is still held: %v", cause)
	}
	release()
	if _, _, err := b.j.Hold(t.Context()); sluice.CodeOf(err) != sluice.CodeUnavailable {
		t.Errorf("held on a full disk: %v", err)
	}
	b.j.health.disk.Store(nil)
}

// While books are held, none is written, and all are after it.
func TestHoldBooks(t *testing.T) {
	b := open(t, t.TempDir())
	release := b.j.HoldBooks()
	before := b.j.Stats().Books
	b.append("D", 0, 5)
	if b.j.books.writes.TryLock() {
		t.Fatal("books can be written")
	}
	if n := b.j.Stats().Books; n != before {
		t.Errorf("%d books were written", n-before)
	}
	release()
	until(t, "the book is written", func() bool { return b.j.Stats().Books > before })
}

// The first start on a backup is told, and is no unclean restart.
func TestARestoreIsTold(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir)
	b.append("D", 0, 3)
	b.crash()
	b = open(t, dir, func(o *Options) { o.Restored = "a backup of yesterday" })
	d := b.events.last(sluice.EventSystemRestored).Detail
	if !strings.Contains(d, "restored from a backup of yesterday. 3 entries wait") || b.events.count(sluice.EventJournalUnclean) != 0 {
		t.Fatalf("%+v", b.events.list)
	}
}
