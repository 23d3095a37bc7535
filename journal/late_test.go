package journal

import (
	"context"
	"fmt"
	"testing"
	"time"

	"sluice"
)

// More than one group waits when the committer wakes: nothing else is needed
// to have the rest committed too.
func TestMoreThanAGroupWaits(t *testing.T) {
	b := open(t, t.TempDir())
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	ms := make([]*sluice.Message, 0, 60)
	for i := range cap(ms) {
		m := report(fmt.Sprintf("D%d", i), i)
		m.Document = make([]byte, 100<<10)
		ms = append(ms, m)
	}
	if err := b.j.Append(ctx, ms...); err != nil {
		t.Fatalf("%v; %d wait", err, b.j.Stats().Waiting)
	}
}

// A message whose outcome was not known lands after the numbers were read
// again: its number is not given a second time, and both are delivered.
func TestALateMessageIsCaughtUp(t *testing.T) {
	for _, other := range []bool{false, true} {
		t.Run(fmt.Sprintf("another place first %v", other), func(t *testing.T) {
			b := open(t, t.TempDir())
			to := func(connection, device string, i int) *sluice.Message {
				m := report(device, i)
				m.Connection = connection
				return m
			}
			for i := range 3 {
				b.appendAll([]*sluice.Message{to("1", "A", i)})
			}
			b.j.committing.Lock()
			b.j.unsure[b.j.place(Up("1"))] = struct{}{}
			if err := b.j.sure(); err != nil {
				t.Fatal(err)
			}
			data := appendBundleHead(nil, 4, 1)
			var enc encoder
			data, _ = enc.appendEntry(data, 4, to("1", "LATE", 0))
			if _, err := b.j.js.Publish(t.Context(), "up.1", data); err != nil {
				t.Fatal(err)
			}
			b.j.committing.Unlock()

			got := &arrivals{}
			b.read(Up("1"), ReadOptions{Handler: got})
			if other {
				b.appendAll([]*sluice.Message{to("2", "B", 0)})
			}
			want := []string{"LATE-0"}
			for i := 10; i < 13; i++ {
				// The number may be taken: then the caller is told, and tries again.
				if err := b.j.Append(t.Context(), to("1", "A", i)); err == nil {
					want = append(want, fmt.Sprintf("A-%d", i))
				} else if other || i > 10 {
					t.Fatalf("append %d: %v", i, err)
				}
			}
			until(t, "all is over", func() bool { return b.j.Counters(Up("1")).Pending == 0 })
			for _, id := range want {
				if got.ids[id] != 1 {
					t.Errorf("%s was accepted and arrived %d times", id, got.ids[id])
				}
			}
			if c := b.j.Counters(Up("1")); !c.Holds() || c.Failed != 0 {
				t.Errorf("%+v", c)
			}
		})
	}
}

// What the stream shows and nobody has committed is not taken: it need not be
// on the disk.
func TestWhatIsNotCommittedIsNotTaken(t *testing.T) {
	b := open(t, t.TempDir())
	b.append("A", 0, 2)
	b.j.committing.Lock()
	defer b.j.committing.Unlock()
	data, _ := new(encoder).appendEntry(appendBundleHead(nil, 3, 1), 3, report("A", 2))
	if _, err := b.j.js.Publish(t.Context(), "up.1", data); err != nil {
		t.Fatal(err)
	}
	p := b.j.place(Up("1"))
	r := &reader{j: b.j, p: p, o: ReadOptions{Concurrency: 1}, devices: map[string]*device{}, wake: make(chan struct{}, 1)}
	r.next, r.nextSeq = 1, 1
	r.ready.push(&device{}) // so that nobody is called to handle what is taken
	r.workers = 1
	for range 3 { // the first takes all that there is
		if err := r.fetch(t.Context(), r.nextSeq, p.lastSeq); err != nil {
			t.Fatal(err)
		}
	}
	if r.next != 3 || r.items != 2 {
		t.Errorf("%d entries are taken, the next is %d; 2 were committed", r.items, r.next)
	}
}
