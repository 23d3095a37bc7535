package journal

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"sluice"
)

// watch wants the law to hold at every moment until it is stopped.
func (b *bench) watch(name Place) (stop func()) {
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-done:
				return
			default:
			}
			if c := b.j.Counters(name); !c.Holds() || c.Failed > 1<<62 {
				b.t.Errorf("the law is broken: %+v", c)
				return
			}
		}
	}()
	return func() { close(done); <-ended }
}

// What is sent again is delivered, last of its device, under its own id, and
// is one message for the counters at every moment.
func TestRetry(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir)
	var mended atomic.Bool
	got := &arrivals{fail: func(m *sluice.Message) error {
		if mended.Load() {
			return nil
		}
		return only(poison, "D-1", "D-3")(m)
	}}
	stop := b.read(Up("1"), ReadOptions{Handler: got})
	unwatch := b.watch(Up("1"))
	b.append("D", 0, 5)
	b.wants(Up("1"), sluice.Counters{Received: 5, Delivered: 3, Failed: 2})

	if err := b.j.Retry(t.Context(), Up("1"), 2); err != nil { // nothing is mended
		t.Fatal(err)
	}
	b.wants(Up("1"), sluice.Counters{Received: 5, Delivered: 3, Failed: 2})
	b.wantsQuarantined(6, 4)
	if err := b.j.Retry(t.Context(), Up("1"), 2); sluice.CodeOf(err) != sluice.CodeNotFound {
		t.Errorf("sent again twice: %v", err)
	}
	mended.Store(true)
	if n, err := b.j.RetryAll(t.Context(), Up("1")); n != 2 || err != nil {
		t.Fatal(n, err)
	}
	b.wants(Up("1"), sluice.Counters{Received: 5, Delivered: 5})
	b.wantsQuarantined()
	if got.distinct() != 5 || got.ids["D-1"] != 1 || got.order["D"][3] != "D-3" {
		t.Errorf("arrived: %v", got.order)
	}
	b.append("D", 5, 1)
	b.wants(Up("1"), sluice.Counters{Received: 6, Delivered: 6})
	unwatch()
	b.sound()
	stop()
	b.close()
	b = open(t, dir)
	b.wants(Up("1"), sluice.Counters{Received: 6, Delivered: 6})
	b.sound()
	if s := b.j.QuarantineStats(Up("1")); s != (QuarantineStats{Retried: 3}) {
		t.Errorf("%+v", s)
	}
}

// Many are sent again in steps, and all leave.
func TestRetryAllOfMany(t *testing.T) {
	b := open(t, t.TempDir())
	var mended atomic.Bool
	got := &arrivals{fail: func(m *sluice.Message) error {
		if mended.Load() {
			return nil
		}
		return poison(m)
	}}
	b.read(Up("1"), ReadOptions{Handler: got, Concurrency: 8})
	unwatch := b.watch(Up("1"))
	defer unwatch()
	const devices, each = 30, 10
	b.appendAll(many(devices, each))
	b.wants(Up("1"), sluice.Counters{Received: devices * each, Failed: devices * each})
	mended.Store(true)
	begun := time.Now()
	if n, err := b.j.RetryAll(t.Context(), Up("1")); n != devices*each || err != nil {
		t.Fatal(n, err)
	}
	t.Logf("%d sent again in %v", devices*each, time.Since(begun))
	b.wants(Up("1"), sluice.Counters{Received: devices * each, Delivered: devices * each})
	wantOrder(t, got, devices, each)
	b.wantsQuarantined()
	info, err := b.j.wards.stream.Info(t.Context())
	if err != nil || info.State.Msgs != 0 {
		t.Errorf("%+v %v", info, err)
	}
	b.sound()
}

// A message that is sent again does not expire by its validity, nor at once by
// the retention, which begins anew.
func TestARetriedMessageDoesNotExpireAtOnce(t *testing.T) {
	var now atomic.Int64
	begun := time.Now()
	dir := t.TempDir()
	clock := func(o *Options) { o.Clock = func() time.Time { return begun.Add(time.Duration(now.Load())) } }
	b := open(t, dir, clock)
	stop := b.read(Up("1"), ReadOptions{Handler: &arrivals{fail: poison}})
	m := report("D", 0)
	m.Received, m.Validity = begun, time.Minute
	b.appendAll([]*sluice.Message{m})
	b.wants(Up("1"), sluice.Counters{Received: 1, Failed: 1})
	stop()
	now.Store(int64(2 * DefaultRetention))
	if err := b.j.Retry(t.Context(), Up("1"), 1); err != nil {
		t.Fatal(err)
	}
	b.close()
	b = open(t, dir, clock)
	var seen atomic.Pointer[sluice.Message]
	offline := sluice.HandlerFunc(func(_ context.Context, m *sluice.Message) error {
		seen.Store(m)
		return &sluice.Failure{Verdict: sluice.NotConnected}
	})
	stop = b.read(Up("1"), ReadOptions{Handler: offline})
	until(t, "it is tried", func() bool { return seen.Load() != nil })
	if got := seen.Load(); got.Retries != 1 || got.Limit(time.Second) != 0 || !got.Received.Equal(begun) || got.ID != m.ID {
		t.Errorf("%+v", got)
	}
	b.wants(Up("1"), sluice.Counters{Received: 1, Pending: 1})
	now.Add(int64(DefaultRetention) + 1)
	b.wants(Up("1"), sluice.Counters{Received: 1, Expired: 1})
	stop()
}

// frozen keeps the book of connection 1 as it is now: as a crash does that
// comes before the next is written.
func (b *bench) frozen() (release func()) {
	b.t.Helper()
	p := b.j.place(Up("1"))
	until(b.t, "the book is written", func() bool {
		b.j.books.writes.Lock()
		p.mu.Lock()
		defer p.mu.Unlock()
		if !p.dirty {
			return true
		}
		b.j.books.writes.Unlock()
		return false
	})
	return b.j.books.writes.Unlock
}

// A crash at every step of a retry: the counters hold, the message is one, and
// cannot be sent again once it was.
func TestACrashInARetry(t *testing.T) {
	for _, step := range []string{"before", "appended", "noted", "removed", "booked"} {
		for _, booked := range []bool{true, false} { // that it failed
			t.Run(fmt.Sprint(step, " booked=", booked), func(t *testing.T) {
				dir := t.TempDir()
				b := open(t, dir)
				b.append("D", 0, 3)
				release := func() {}
				if !booked {
					release = b.frozen()
				}
				stop := b.read(Up("1"), ReadOptions{Handler: &arrivals{fail: only(poison, "D-1")}})
				b.wants(Up("1"), sluice.Counters{Received: 3, Delivered: 2, Failed: 1})
				stop()
				if booked {
					release = b.frozen()
				}
				late := step == "booked" || step == "noted"
				if late {
					release()
				}
				retryUntil(t, b, step)
				if late {
					release = b.frozen()
				}
				crashFrozen(b, release)

				b = open(t, dir)
				b.sound()
				if c := b.j.Counters(Up("1")); !c.Holds() || c.Received != 3 {
					t.Fatalf("%+v", c)
				}
				got := &arrivals{}
				if step == "before" {
					got.fail = only(poison, "D-1")
				}
				b.read(Up("1"), ReadOptions{Handler: got})
				if step == "before" {
					b.wants(Up("1"), sluice.Counters{Received: 3, Delivered: 2, Failed: 1})
					b.wantsQuarantined(2)
					b.sound()
					return
				}
				b.wants(Up("1"), sluice.Counters{Received: 3, Delivered: 3})
				b.wantsQuarantined()
				if got.ids["D-1"] != 1 {
					t.Errorf("arrived %d times", got.ids["D-1"])
				}
				if err := b.j.Retry(t.Context(), Up("1"), 2); sluice.CodeOf(err) != sluice.CodeNotFound {
					t.Errorf("sent again twice: %v", err)
				}
				until(t, "its record is gone", func() bool {
					info, err := b.j.wards.stream.Info(context.Background())
					return err == nil && info.State.Msgs == 0
				})
				b.sound()
			})
		}
	}
}

// retryUntil sends entry 2 again as far as a step.
func retryUntil(t *testing.T, b *bench, step string) {
	t.Helper()
	switch step {
	case "before":
	case "appended", "noted":
		// As Retry, without what follows on the append.
		q, err := b.j.QuarantinedMessage(t.Context(), Up("1"), 2)
		if err != nil {
			t.Fatal(err)
		}
		leave, err := enter(t.Context(), b.j.wards.turn) // keepHouse sweeps, too
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(leave)
		m := *q.Message
		m.Number, m.Retries, m.Retried = 0, 2, time.Now()
		if err := b.j.Append(t.Context(), &m); err != nil {
			t.Fatal(err)
		}
	default:
		if err := b.j.Retry(t.Context(), Up("1"), 2); err != nil {
			t.Fatal(err)
		}
	}
}

// crashFrozen crashes before any other book is written.
func crashFrozen(b *bench, release func()) {
	b.crashed = true
	b.server.Close()
	release()
	b.stop()
}

// A retry whose append is not known to have come in counts when it is found,
// and is not made a second time.
func TestARetryThatComesInLate(t *testing.T) {
	b := open(t, t.TempDir())
	got := &arrivals{fail: func(m *sluice.Message) error {
		if m.Retries == 0 {
			return poison(m)
		}
		return nil
	}}
	b.read(Up("1"), ReadOptions{Handler: got})
	b.append("D", 0, 1)
	b.wants(Up("1"), sluice.Counters{Received: 1, Failed: 1})
	q, err := b.j.QuarantinedMessage(t.Context(), Up("1"), 1)
	if err != nil {
		t.Fatal(err)
	}
	m := *q.Message
	m.Retries, m.Retried = 1, time.Now()
	data, _ := new(encoder).appendEntry(appendBundleHead(nil, 2, 1), 2, &m)
	if _, err := b.j.js.Publish(t.Context(), string(Up("1")), data); err != nil {
		t.Fatal(err)
	}
	p := b.j.place(Up("1"))
	b.j.committing.Lock()
	b.j.unsure[p] = struct{}{}
	b.j.committing.Unlock()
	if err := b.j.Retry(t.Context(), Up("1"), 1); err != nil { // it was sent again, if not by this
		t.Error(err)
	}
	b.wants(Up("1"), sluice.Counters{Received: 1, Delivered: 1})
	b.wantsQuarantined()
	b.sound()
	if got.ids["D-0"] != 1 {
		t.Errorf("arrived %d times", got.ids["D-0"])
	}
}

// Without its book a place knows from quarantine what had failed.
func TestALostBookKeepsTheQuarantine(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir)
	stop := b.read(Up("1"), ReadOptions{Handler: &arrivals{fail: only(poison, "D-1", "D-8")}})
	b.append("D", 0, 10)
	b.wants(Up("1"), sluice.Counters{Received: 10, Delivered: 8, Failed: 2})
	stop()
	if err := b.j.purge(t.Context(), Up("1"), 6); err != nil {
		t.Fatal(err)
	}
	b.stop()
	if err := b.j.js.DeleteStream(t.Context(), streamBooks); err != nil {
		t.Fatal(err)
	}
	b.server.Close()
	b = open(t, dir)
	b.wants(Up("1"), sluice.Counters{Received: 10, Delivered: 4, Failed: 1, Pending: 5})
	b.wantsQuarantined(2)
	b.read(Up("1"), ReadOptions{Handler: &arrivals{}})
	if n, err := b.j.RetryAll(t.Context(), Up("1")); n != 1 || err != nil {
		t.Error(n, err)
	}
	b.wants(Up("1"), sluice.Counters{Received: 10, Delivered: 10})
	b.wantsQuarantined()
}

// Whatever is quarantined and sent again over ends in order and crashes, each
// message is delivered or lies in quarantine, and the counters know it.
func TestConservationWithQuarantine(t *testing.T) {
	dir, last := t.TempDir(), 0
	var failing atomic.Bool
	got := &arrivals{fail: func(m *sluice.Message) error {
		if failing.Load() && m.DevEUI != "D0" && len(m.ID)%2 == 0 {
			return poison(m)
		}
		return nil
	}}
	const devices, rounds, each = 5, 6, 20
	for round := range rounds {
		b := open(t, dir)
		b.sound()
		failing.Store(round < rounds/2)
		stop := b.read(Up("1"), ReadOptions{Handler: got, Concurrency: 3})
		unwatch := b.watch(Up("1"))
		for i := range each {
			for d := range devices {
				b.append(fmt.Sprint("D", d), round*each+i, 1)
			}
			if i%5 == 4 {
				if _, err := b.j.RetryAll(t.Context(), Up("1")); err != nil {
					t.Fatal(err)
				}
			}
		}
		last += devices * each
		unwatch()
		if round%2 == 0 {
			b.crash()
		} else {
			stop()
			b.close()
		}
	}
	b := open(t, dir)
	b.read(Up("1"), ReadOptions{Handler: got, Concurrency: 3})
	until(t, "nothing waits", func() bool { return b.j.Counters(Up("1")).Pending == 0 })
	if _, err := b.j.RetryAll(t.Context(), Up("1")); err != nil {
		t.Fatal(err)
	}
	b.wants(Up("1"), sluice.Counters{Received: uint64(last), Delivered: uint64(last)})
	b.wantsQuarantined()
	if got.distinct() != last {
		t.Errorf("%d arrived of %d", got.distinct(), last)
	}
	b.sound()
}

// What was sent again counts once where the book is lost, or was never written,
// too.
func TestARetryWithoutABook(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir)
	stop := b.read(Up("1"), ReadOptions{Handler: &arrivals{fail: poison}})
	b.append("D", 0, 3)
	b.wants(Up("1"), sluice.Counters{Received: 3, Failed: 3})
	stop()
	if n, err := b.j.RetryAll(t.Context(), Up("1")); n != 3 || err != nil {
		t.Fatal(n, err)
	}
	b.wants(Up("1"), sluice.Counters{Received: 3, Pending: 3})
	b.stop()
	if err := b.j.js.DeleteStream(t.Context(), streamBooks); err != nil {
		t.Fatal(err)
	}
	b.server.Close()
	b = open(t, dir)
	b.read(Up("1"), ReadOptions{Handler: &arrivals{}})
	b.wants(Up("1"), sluice.Counters{Received: 3, Delivered: 3})
	b.wantsQuarantined()
}
