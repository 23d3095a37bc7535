package journal

import (
	"strings"
	"testing"

	"sluice"
)

func (e *events) last(typ sluice.EventType) (last sluice.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, ev := range e.list {
		if ev.Type == typ {
			last = ev
		}
	}
	return last
}

func TestAnEndThatWasNotOrderlyIsTold(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir)
	b.append("D", 0, 3)
	b.close()
	b = open(t, dir)
	b.append("D", 3, 2)
	if n := b.events.count(sluice.EventJournalUnclean); n != 0 {
		t.Fatalf("told of an end in order: %+v", b.events.list)
	}
	p := b.j.place(Up("1"))
	until(t, "the book is written", func() bool {
		b.j.books.writes.Lock()
		defer b.j.books.writes.Unlock()
		p.mu.Lock()
		defer p.mu.Unlock()
		return !p.dirty
	})
	b.crash()

	b = open(t, dir)
	if d := b.events.last(sluice.EventJournalUnclean).Detail; !strings.Contains(d, "5 entries wait") || !strings.Contains(d, "None is lost") {
		t.Fatalf("%+v", b.events.list)
	}
	for seq := uint64(4); seq <= 5; seq++ {
		if err := b.j.stream.DeleteMsg(t.Context(), seq); err != nil {
			t.Fatal(err)
		}
	}
	b.crash()
	b = open(t, dir)
	if d := b.events.last(sluice.EventJournalUnclean).Detail; !strings.Contains(d, "3 entries wait") || !strings.Contains(d, "2 are lost") {
		t.Fatalf("%+v", b.events.list)
	}
	b.close()
	b = open(t, dir)
	if n := b.events.count(sluice.EventJournalUnclean); n != 0 {
		t.Fatalf("told again: %+v", b.events.list)
	}
}

func TestCheck(t *testing.T) {
	b := open(t, t.TempDir())
	b.append("D", 0, 5)
	b.read(Up("1"), ReadOptions{Handler: &arrivals{}})
	b.wants(Up("1"), sluice.Counters{Received: 5, Delivered: 5})
	if err := b.j.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	p := b.j.place(Up("1"))
	broken := func(change, back func(), want string) {
		t.Helper()
		p.mu.Lock()
		change()
		p.mu.Unlock()
		err := b.j.Check(t.Context())
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
		p.mu.Lock()
		back()
		p.mu.Unlock()
	}
	broken(func() { p.delivered++ }, func() { p.delivered-- }, "do not add up")
	broken(func() { p.last--; p.delivered--; p.done.floor--; p.done.high-- },
		func() { p.last++; p.delivered++; p.done.floor++; p.done.high++ }, "the stream has entry 5")
	broken(func() { p.last++ }, func() { p.last-- }, "entry 6 of up.1 waits")
	broken(func() { p.done.high = 9 }, func() { p.done.high = 5 }, "its last entry is 5")

	p.mu.Lock()
	p.failed++
	p.mu.Unlock()
	told := b.j.selfCheck(t.Context(), "")
	told = b.j.selfCheck(t.Context(), told)
	if n := b.events.count(sluice.EventSelfCheck); n != 1 {
		t.Errorf("told %d times: %s", n, told)
	}
	p.mu.Lock()
	p.failed--
	p.mu.Unlock()
	if told = b.j.selfCheck(t.Context(), told); told != "" {
		t.Error(told)
	}
}
