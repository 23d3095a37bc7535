package store_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/oklog/ulid/v2"

	"sluice"
	"sluice/store"
)

// idAt is an id of a message that was received at a time.
func idAt(t time.Time, n int) string {
	var id ulid.ULID
	if err := id.SetTime(ulid.Timestamp(t)); err != nil {
		panic(err)
	}
	_ = id.SetEntropy(fmt.Appendf(nil, "%010d", n))
	return id.String()
}

// passage is the trace of the n-th message of a device, received now.
func passage(device string, n int) sluice.Trace {
	now := time.Now().UTC().Truncate(time.Millisecond)
	return sluice.Trace{
		Message: idAt(now, n), Kind: sluice.KindUplink, DevEUI: device, Network: "n", Connection: "1", Number: uint64(n),
		State: sluice.TraceDelivered, Received: now, Journalled: now.Add(2 * time.Millisecond), Over: now.Add(9 * time.Millisecond),
		Progress: sluice.Progress{
			Session: "sluice-1-0", Tries: 1, Topic: "tpx/things/" + device + "/uplink", Sent: now.Add(5 * time.Millisecond),
		},
	}
}

// same compares traces in no order.
func same(t *testing.T, got, want []sluice.Trace) {
	t.Helper()
	sorted := cmpopts.SortSlices(func(a, b sluice.Trace) bool { return a.Message+a.Connection < b.Message+b.Connection })
	if d := cmp.Diff(want, got, sorted, cmpopts.EquateEmpty()); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
}

func TestWaysAreWrittenAsTheyAre(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 123e6, time.UTC)
	all := []sluice.Trace{
		passage(eui(1), 1),
		{
			Message: "no ULID", Kind: sluice.KindBSAlarm, DevEUI: "080E0FF3", State: sluice.TraceFailed, Received: now, Over: now.Add(-time.Hour),
			Reason: sluice.ReasonTopic, Text: "The topic is too long.", Hint: "Shorten it.", Replayed: true,
		},
		{
			Message: idAt(now, 1), Kind: sluice.KindDownlink, DevEUI: eui(2), Network: "n", Connection: "2", State: sluice.TraceRejected,
			Received: now, Journalled: now, Over: now.Add(-time.Millisecond), Status: 350, Reason: sluice.ReasonRejected,
			Progress: sluice.Progress{Source: "x/" + eui(2) + "/down", Tries: 3},
		},
		{DevEUI: "", State: sluice.TraceUnmatched},
		passage(eui(1), 2),
	}
	chunk := store.SaveWays(all)
	same(t, store.LoadWays(chunk), all)
	for cutAt := range chunk { // damage is seen, and costs no more than what follows
		for i, got := range store.LoadWays(chunk[:cutAt]) {
			if d := cmp.Diff(all[i], got); d != "" {
				t.Fatalf("cut at %d: (-want +got)\n%s", cutAt, d)
			}
		}
	}
	var many []sluice.Trace
	for i := range 1000 {
		many = append(many, passage(eui(i), i))
	}
	if n := len(store.SaveWays(many)); n > 1000*64 {
		t.Errorf("a delivered message takes %d bytes: words and topics are not shared", n/1000)
	}
}

func TestWays(t *testing.T) {
	h := newHouse(t)
	s := h.store()
	one, other := passage(eui(1), 1), passage(eui(1), 1)
	other.Connection, other.Message, other.State, other.Text = "2", one.Message, sluice.TraceFailed, "No."
	s.Passed(one)
	s.Passed(other)
	s.Passed(passage(eui(2), 2))

	look := func(s *store.Store) {
		t.Helper()
		p := must[store.Passage](t)(s.WaysOf(ctx(), one.Message, one.Received, nil))
		same(t, p.Traces, []sluice.Trace{one, other})
		p = must[store.Passage](t)(s.WaysOfDevice(ctx(), eui(1), 20))
		same(t, p.Traces, []sluice.Trace{one, other})
		if !p.Complete {
			t.Error("not all was looked through")
		}
		p = must[store.Passage](t)(s.WaysOf(ctx(), idAt(start, 3), start, nil))
		same(t, p.Traces, nil)
	}
	look(s) // from memory, before anything is written
	if err := s.Flush(ctx()); err != nil {
		t.Fatal(err)
	}
	look(s)
	h.restart()
	s = h.store()
	look(s)
	p := must[store.Passage](t)(s.WaysOfDevice(ctx(), eui(1), 20))
	if p.Since.IsZero() || p.Since.Before(one.Received) {
		t.Errorf("known since %s, the first was written after %s", p.Since, one.Received)
	}
}

// TestWaysOfDevice finds the newest messages of a device with all of their
// ways, although one of them is over long after those that came after it.
func TestWaysOfDevice(t *testing.T) {
	h := newHouse(t)
	s := h.store()
	flush := func() {
		t.Helper()
		if err := s.Flush(ctx()); err != nil {
			t.Fatal(err)
		}
	}
	var all []sluice.Trace
	for i := range 60 {
		all = append(all, passage(eui(1), i))
		s.Passed(all[i])
		s.Passed(passage(eui(2), i))
		flush() // a message of the stream each
		for time.Now().UTC().Truncate(time.Millisecond).Equal(all[i].Received) {
			time.Sleep(100 * time.Microsecond)
		}
	}
	late := all[57]
	late.Connection = "2"
	for i := range 40 { // the second way of the third last comes behind others
		s.Passed(passage(eui(2), 100+i))
		flush()
	}
	early, second := all[0], all[1]
	early.Connection, second.Connection = "2", "2"
	s.Passed(early)
	s.Passed(second)
	s.Passed(late)
	flush()

	p := must[store.Passage](t)(s.WaysOfDevice(ctx(), eui(1), 3))
	var got []sluice.Trace // more may be found than was asked for
	for _, f := range p.Traces {
		if !f.Received.Before(all[57].Received) {
			got = append(got, f)
		}
	}
	same(t, got, []sluice.Trace{all[57], late, all[58], all[59]})
	p = must[store.Passage](t)(s.WaysOfDevice(ctx(), eui(1), 100))
	same(t, p.Traces, append([]sluice.Trace{late, early, second}, all...))
	p = must[store.Passage](t)(s.WaysOfDevice(ctx(), eui(3), 100))
	same(t, p.Traces, nil)
}

// TestWaysNeverHoldUp notes more than can wait while nothing is written: what
// is over it is dropped and counted, and the oldest are kept.
func TestWaysNeverHoldUp(t *testing.T) {
	h := newHouse(t)
	s := h.store()
	const most, more = 16384, 100
	for i := range most + more {
		s.Passed(passage(eui(i), i))
	}
	if n := s.DroppedWays(); n != more {
		t.Errorf("%d dropped, want %d", n, more)
	}
	if err := s.Flush(ctx()); err != nil {
		t.Fatal(err)
	}
	for i, want := range map[int]int{0: 1, most - 1: 1, most: 0} {
		p := must[store.Passage](t)(s.WaysOfDevice(ctx(), eui(i), 1))
		if len(p.Traces) != want {
			t.Errorf("device %d: %d traces, want %d", i, len(p.Traces), want)
		}
	}
	s.Passed(passage(eui(most), most))
	p := must[store.Passage](t)(s.WaysOfDevice(ctx(), eui(most), 1))
	if len(p.Traces) != 1 {
		t.Error("once there is room, ways are noted again")
	}
}

// TestDamagedWays passes over what cannot be read.
func TestDamagedWays(t *testing.T) {
	h := newHouse(t)
	s := h.store()
	one, two := passage(eui(1), 1), passage(eui(1), 2)
	chunk := store.SaveWays([]sluice.Trace{one, two})
	for _, bad := range [][]byte{nil, []byte("no chunk"), chunk[:len(chunk)-3]} {
		if err := s.PublishWays(ctx(), bad); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.PublishWays(ctx(), store.SaveWays([]sluice.Trace{two})); err != nil {
		t.Fatal(err)
	}
	p := must[store.Passage](t)(s.WaysOfDevice(ctx(), eui(1), 10))
	same(t, p.Traces, []sluice.Trace{one, two})
}

// TestWaysWhileTheyAreWritten looks while ways come and go from memory to the
// log: what was noted is found at any moment.
func TestWaysWhileTheyAreWritten(t *testing.T) {
	h := newHouse(t)
	s := h.store()
	running, stop := context.WithCancel(ctx())
	done := make(chan error, 1)
	go func() { done <- s.Run(running) }()
	for i := range 300 {
		w := passage(eui(i%7), i)
		s.Passed(w)
		p := must[store.Passage](t)(s.WaysOf(ctx(), w.Message, w.Received, func(found []sluice.Trace) bool { return len(found) > 0 }))
		if len(p.Traces) == 0 {
			t.Fatalf("the way of message %d is not found", i)
		}
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// BenchmarkPassed is what a delivered message pays for its way, and, beside
// it, what writing it behind costs.
func BenchmarkPassed(b *testing.B) {
	h := newHouse(b)
	s := h.store()
	w := passage(eui(1), 1)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		m := sluice.Message{
			ID: w.Message, Kind: w.Kind, DevEUI: w.DevEUI, Network: "n", Connection: "1", Received: w.Received, Journalled: w.Journalled,
			Way: new(sluice.Way),
		}
		m.Way.Wait("It waits for a place in a session.")
		m.Way.Try(w.Session)
		m.Way.Write(w.Topic, w.Sent)
		t := sluice.TraceOf(&m, sluice.TraceDelivered)
		t.Over = w.Over
		s.Passed(t)
		if i%10000 == 9999 {
			b.StopTimer()
			if err := s.Flush(ctx()); err != nil {
				b.Fatal(err)
			}
			b.StartTimer()
		}
	}
}

// BenchmarkWriteWays is what writing a way behind costs.
func BenchmarkWriteWays(b *testing.B) {
	h := newHouse(b)
	s := h.store()
	var ways []sluice.Trace
	for i := range 10000 {
		ways = append(ways, passage(eui(i), i))
	}
	b.ReportAllocs()
	for range b.N/len(ways) + 1 {
		for i := range ways {
			s.Passed(ways[i])
		}
		if err := s.Flush(ctx()); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkWaysOfDevice looks for a device that is not there, through a log of
// a million messages.
func BenchmarkWaysOfDevice(b *testing.B) {
	h := newHouse(b)
	s := h.store()
	for i := range 1_000_000 {
		s.Passed(passage(eui(i%50000), i))
		if i%10000 == 9999 {
			if err := s.Flush(ctx()); err != nil {
				b.Fatal(err)
			}
		}
	}
	for b.Loop() {
		p, err := s.WaysOfDevice(ctx(), eui(60000), 20)
		if err != nil || !p.Complete || len(p.Traces) != 0 {
			b.Fatalf("%+v %v", p, err)
		}
	}
}
