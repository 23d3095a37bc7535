package journal

import (
	"errors"
	"fmt"
	"testing"

	"sluice"
)

// A place that holds more than its share gives up its own oldest, and no other
// place is touched.
func TestAPlaceKeepsToItsShare(t *testing.T) {
	const share = 100_000
	for _, reading := range []bool{false, true} {
		t.Run(fmt.Sprintf("reading=%v", reading), func(t *testing.T) {
			b := open(t, t.TempDir(), func(o *Options) { o.Share = share })
			refused := &arrivals{fail: func(*sluice.Message) error { return errors.New("not yet") }}
			if reading {
				b.read(Up("1"), ReadOptions{Handler: refused, Concurrency: 2})
			}
			const n = 400
			for i := range n {
				m := report(fmt.Sprint("D", i%7), i)
				m.Document = append(m.Document, make([]byte, 1000)...)
				other := report("E", i)
				other.Connection = "2"
				if err := b.j.Append(t.Context(), m, other); err != nil {
					t.Fatal(err)
				}
			}
			for range 2 {
				if err := b.j.trim(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			c := b.j.Counters(Up("1"))
			held := c.Pending * 1100
			if !c.Holds() || c.Received != n || c.Expired+c.Pending != n || held > share+5000 || held < share*8/10 {
				t.Errorf("%+v", c)
			}
			if c := b.j.Counters(Up("2")); c.Pending != n {
				t.Errorf("the other place: %+v", c)
			}
			e := b.events.last(sluice.EventJournalShare)
			if b.events.count(sluice.EventJournalShare) != 1 || e.Connection != "1" {
				t.Errorf("%+v", b.events.list)
			}
			if err := b.j.Check(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

// What a place holds is known also after it was opened again, and nothing is
// held in the end.
func TestTheBacklogIsKept(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir)
	b.append("D", 0, 100)
	before := b.j.place(Up("1")).backlog
	if before < 100*50 {
		t.Fatalf("%d bytes", before)
	}
	b.close()
	b = open(t, dir)
	if after := b.j.place(Up("1")).backlog; after != before {
		t.Errorf("%d bytes, before %d", after, before)
	}
	b.read(Up("1"), ReadOptions{Handler: &arrivals{}})
	b.wants(Up("1"), sluice.Counters{Received: 100, Delivered: 100})
	p := b.j.place(Up("1"))
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.backlog != 0 {
		t.Errorf("%d bytes are held of nothing", p.backlog)
	}
}
