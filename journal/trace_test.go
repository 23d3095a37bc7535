package journal

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"sluice"
)

// ofDevice is a report with an id as those of the door.
func ofDevice(device string, i int) *sluice.Message {
	m := report(device, i)
	m.ID = ulid.MustNew(ulid.Timestamp(m.Received), nil).String()[:16] + fmt.Sprintf("%010d", i)
	return m
}

func (b *bench) put(ms ...*sluice.Message) {
	b.t.Helper()
	if err := b.j.Append(context.Background(), ms...); err != nil {
		b.t.Fatalf("Append: %v", err)
	}
}

// traced returns the one trace of a message.
func (b *bench) traced(m *sluice.Message) sluice.Trace {
	b.t.Helper()
	ts := b.tracedAll(m)
	if len(ts) != 1 {
		b.t.Fatalf("%d traces of %s, want 1: %+v", len(ts), m.ID, ts)
	}
	return ts[0]
}

func (b *bench) tracedAll(m *sluice.Message) []sluice.Trace {
	b.t.Helper()
	ts, err := b.j.Trace(context.Background(), m.ID, ulid.Time(ulid.MustParse(m.ID).Time()))
	if err != nil {
		b.t.Fatal(err)
	}
	return ts
}

func (b *bench) waiting(device string, limit int) []string {
	b.t.Helper()
	ts, complete, err := b.j.Waiting(context.Background(), device, limit)
	if err != nil || !complete {
		b.t.Fatalf("Waiting: complete %v, %v", complete, err)
	}
	var ids []string
	for _, t := range ts {
		if t.DevEUI != device || !t.State.Open() {
			b.t.Errorf("%+v", t)
		}
		ids = append(ids, t.Message)
	}
	return ids
}

// TestTrace follows messages from where nobody reads them to their end.
func TestTrace(t *testing.T) {
	b := open(t, t.TempDir())
	one, two := ofDevice("A", 1), ofDevice("A", 2)
	other := *one // the same message for another connection
	other.Connection = "2"
	none := ofDevice("A", 3)
	none.Connection = ""
	b.put(one, &other)
	b.put(two, ofDevice("B", 4), none)

	ts := b.tracedAll(one)
	if len(ts) != 2 || ts[0].Connection == ts[1].Connection {
		t.Fatalf("traces of a message for two connections: %+v", ts)
	}
	for _, got := range ts {
		if got.State != sluice.TraceWaiting || got.Text == "" || got.Journalled.IsZero() || got.Number != 1 || got.DevEUI != "A" {
			t.Errorf("nobody reads: %+v", got)
		}
	}
	if got := b.traced(none); got.State != sluice.TraceUnmatched {
		t.Errorf("no flow wanted it: %+v", got)
	}
	if got := b.tracedAll(ofDevice("A", 9)); len(got) != 0 {
		t.Errorf("of a message that is not there: %+v", got)
	}
	if got := b.waiting("A", 10); !slices.Contains(got, two.ID) || len(got) != 3 {
		t.Errorf("waiting = %v", got)
	}

	written, acknowledge := make(chan struct{}), make(chan error)
	stop := b.read(Up("1"), ReadOptions{Concurrency: 2, Handler: sluice.HandlerFunc(func(ctx context.Context, m *sluice.Message) error {
		if m.DevEUI != "A" {
			return nil
		}
		m.Way.Try("session 7")
		m.Way.Write("t/"+m.DevEUI, time.Now())
		written <- struct{}{}
		return <-acknowledge
	})})
	<-written
	got := b.tracedAll(one)
	i := slices.IndexFunc(got, func(t sluice.Trace) bool { return t.Connection == "1" })
	if g := got[i]; g.State != sluice.TraceSent || g.Session != "session 7" || g.Topic != "t/A" || g.Sent.IsZero() || g.Tries != 1 {
		t.Errorf("on the wire: %+v", g)
	}
	if g := b.traced(two); g.State != sluice.TraceWaiting || !strings.Contains(g.Text, "earlier message of its device") {
		t.Errorf("behind another: %+v", g)
	}

	acknowledge <- &sluice.Failure{Reason: sluice.ReasonThrottled, Message: "Too fast.", Hint: "Slower."}
	until(t, "the failure is told", func() bool {
		g := b.tracedAll(one)[i]
		return g.State == sluice.TraceWaiting && g.Reason == sluice.ReasonThrottled && g.Text == "Too fast." && g.Hint == "Slower."
	})
	if g := b.traced(two); g.Reason != sluice.ReasonThrottled || !strings.Contains(g.Text, "Too fast.") {
		t.Errorf("behind one that fails: %+v", g)
	}
	<-written
	if g := b.tracedAll(one)[i]; g.Tries != 2 || g.State != sluice.TraceSent {
		t.Errorf("another try: %+v", g)
	}
	acknowledge <- nil
	<-written
	if g := b.tracedAll(one)[i]; g.State != sluice.TraceUnrecorded {
		t.Errorf("over: %+v", g)
	}
	if got := b.waiting("A", 10); len(got) != 2 {
		t.Errorf("waiting = %v, want that for the other connection and the one on the wire", got)
	}
	acknowledge <- nil
	b.wants(Up("1"), sluice.Counters{Received: 3, Delivered: 3})
	if got := b.waiting("B", 10); len(got) != 0 {
		t.Errorf("waiting = %v", got)
	}
	stop()
}

// TestNewestWaiting finds the newest of a device in a backlog that no reader
// has taken, and what is parked.
func TestNewestWaiting(t *testing.T) {
	b := open(t, t.TempDir())
	var ids []string
	for i := range 40 {
		var ms []*sluice.Message
		for k := range 30 {
			ms = append(ms, ofDevice(fmt.Sprint("crowd", k), 1000*i+k))
		}
		mine := ofDevice("A", i)
		ids = append(ids, mine.ID)
		b.put(append(ms, mine)...)
		elsewhere := ofDevice("C", i) // other places lie in between
		elsewhere.Connection = "2"
		b.put(elsewhere)
	}
	slices.Reverse(ids)
	check := func(when string) {
		t.Helper()
		if got := b.waiting("A", 25); !slices.Equal(got, ids[:25]) {
			t.Errorf("%s: %v, want %v", when, got, ids[:25])
		}
		if got := b.waiting("A", 100); !slices.Equal(got, ids) {
			t.Errorf("%s: %v, want %v", when, got, ids)
		}
	}
	check("without a reader")
	down := make(chan struct{})
	stop := b.read(Up("1"), ReadOptions{Handler: sluice.HandlerFunc(func(ctx context.Context, m *sluice.Message) error {
		select {
		case down <- struct{}{}:
		case <-ctx.Done():
		}
		return errors.New("down")
	})})
	<-down
	check("with a reader that is down")
	stop()

	// Parked are all of the older half, as if the floor had been raised over them.
	got, err := b.j.entries.batch(context.Background(), string(Up("1")), 1, maxFetch, maxFetchBytes)
	if err != nil {
		t.Fatal(err)
	}
	p := b.j.place(Up("1"))
	p.mu.Lock()
	for _, s := range got[:len(got)/2] {
		o, err := openBundle(s.data)
		if err != nil {
			t.Fatal(err)
		}
		for range o.count {
			p.done.park(s.seq)
		}
		p.seq = s.seq + 1
	}
	p.mu.Unlock()
	check("with many that are parked")
}
