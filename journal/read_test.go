package journal

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sluice"
)

func many(devices, each int) []*sluice.Message {
	var ms []*sluice.Message
	for i := range each {
		for d := range devices {
			ms = append(ms, report(fmt.Sprint("D", d), i))
		}
	}
	return ms
}

func wantOrder(t *testing.T, got *arrivals, devices, each int) {
	t.Helper()
	got.mu.Lock()
	defer got.mu.Unlock()
	for d := range devices {
		name := fmt.Sprint("D", d)
		ids := got.order[name]
		if len(ids) != each {
			t.Fatalf("%d entries of %s arrived, want %d", len(ids), name, each)
		}
		for i, id := range ids {
			if want := fmt.Sprintf("%s-%d", name, i); id != want {
				t.Fatalf("entry %d of %s is %s", i, name, id)
			}
		}
	}
}

func TestEntriesOfADeviceArriveInOrder(t *testing.T) {
	for _, backlog := range []bool{true, false} {
		t.Run(fmt.Sprintf("backlog=%v", backlog), func(t *testing.T) {
			b := open(t, t.TempDir())
			if backlog {
				b.appendAll(many(20, 100))
			}
			got := &arrivals{}
			b.read(Up("1"), ReadOptions{Handler: got, Concurrency: 8})
			if !backlog {
				b.appendAll(many(20, 100))
			}
			b.wants(Up("1"), sluice.Counters{Received: 2000, Delivered: 2000})
			wantOrder(t, got, 20, 100)
			if s := b.j.Stats(); backlog && s.Hot > 0 || !backlog && s.Hot == 0 {
				t.Errorf("%+v", s)
			}
		})
	}
}

// Handlers fail at random, some panic; order per device holds, one message of a
// device is in flight at a time, no more than Concurrency are, and the law
// holds whenever it is looked at.
func TestOrderAndLawUnderFailures(t *testing.T) {
	b := open(t, t.TempDir())
	b.j.after = func(d time.Duration, f func()) func() bool { return time.AfterFunc(d/500, f).Stop }
	const devices, each, concurrency = 30, 60, 7
	var inFlight [devices]atomic.Int32
	var total, most atomic.Int32
	var rndMu sync.Mutex
	rnd := rand.New(rand.NewPCG(3, 4))
	got := &arrivals{fail: func(m *sluice.Message) error {
		var d int
		_, _ = fmt.Sscanf(m.DevEUI, "D%d", &d)
		if n := inFlight[d].Add(1); n != 1 {
			t.Errorf("%d messages of %s in flight", n, m.DevEUI)
		}
		defer inFlight[d].Add(-1)
		n := total.Add(1)
		defer total.Add(-1)
		for o := most.Load(); n > o && !most.CompareAndSwap(o, n); o = most.Load() {
		}
		rndMu.Lock()
		k := rnd.IntN(12)
		rndMu.Unlock()
		switch k {
		case 0:
			return errors.New("refused")
		case 1:
			return &sluice.Failure{Verdict: sluice.NotConnected}
		case 2:
			return &sluice.Failure{Verdict: sluice.RetryAfter, After: time.Second}
		case 3:
			panic("a fault of the handler")
		}
		return nil
	}}
	watching, stopWatching := context.WithCancel(t.Context())
	var watcher sync.WaitGroup
	watcher.Go(func() {
		for watching.Err() == nil {
			if c := b.j.Counters(Up("1")); !c.Holds() {
				t.Errorf("the law is broken: %+v", c)
				return
			}
		}
	})
	b.read(Up("1"), ReadOptions{Handler: got, Concurrency: concurrency})
	b.appendAll(many(devices, each))
	b.wants(Up("1"), sluice.Counters{Received: devices * each, Delivered: devices * each})
	stopWatching()
	watcher.Wait()
	wantOrder(t, got, devices, each)
	if n := most.Load(); n > concurrency {
		t.Errorf("%d messages in flight, allowed are %d", n, concurrency)
	}
}

func TestConcurrencyIsUsedAndBounded(t *testing.T) {
	b := open(t, t.TempDir())
	var inFlight atomic.Int32
	release := make(chan struct{})
	b.read(Up("1"), ReadOptions{Concurrency: 7, Handler: sluice.HandlerFunc(func(context.Context, *sluice.Message) error {
		inFlight.Add(1)
		defer inFlight.Add(-1)
		<-release
		return nil
	})})
	b.appendAll(many(20, 5))
	until(t, "as many are in flight as may be", func() bool { return inFlight.Load() == 7 })
	b.append("E", 0, 5)
	if n := inFlight.Load(); n != 7 {
		t.Errorf("%d messages in flight, allowed are 7", n)
	}
	close(release)
	b.wants(Up("1"), sluice.Counters{Received: 105, Delivered: 105})
}

func TestVerdictsAreCounted(t *testing.T) {
	b := open(t, t.TempDir())
	verdicts := map[string]sluice.Verdict{"P": sluice.Permanent, "F": sluice.Filtered, "E": sluice.Expired}
	var mu sync.Mutex
	settled := map[string]Outcome{}
	b.read(Up("1"), ReadOptions{
		Handler: sluice.HandlerFunc(func(_ context.Context, m *sluice.Message) error {
			if v, ok := verdicts[m.DevEUI]; ok {
				return fmt.Errorf("wrapped: %w", &sluice.Failure{Verdict: v})
			}
			return nil
		}),
		Settled: func(m *sluice.Message, o Outcome, err error) {
			mu.Lock()
			defer mu.Unlock()
			settled[m.DevEUI] = o
			if (err == nil) != (o == Delivered) {
				t.Errorf("%s: %v", o, err)
			}
		},
	})
	for _, d := range []string{"P", "F", "E", "D"} {
		b.append(d, 0, 2)
	}
	b.wants(Up("1"), sluice.Counters{Received: 8, Delivered: 2, Failed: 2, Filtered: 2, Expired: 2})
	until(t, "all are told", func() bool { mu.Lock(); defer mu.Unlock(); return len(settled) == 4 })
	if settled["P"] != Failed || settled["F"] != Filtered || settled["E"] != Expired || settled["D"] != Delivered {
		t.Error(settled)
	}
}

// timers stands in for time: what is to be done later is done when the test says so.
type timers struct {
	mu    sync.Mutex
	waits []time.Duration
	fs    []func()
}

func (s *timers) after(d time.Duration, f func()) func() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waits, s.fs = append(s.waits, d), append(s.fs, f)
	return func() bool { return true }
}

// wait waits until a timer is set.
func (s *timers) wait(t *testing.T) {
	t.Helper()
	until(t, "a timer is set", func() bool { s.mu.Lock(); defer s.mu.Unlock(); return len(s.fs) > 0 })
}

// fire waits for a timer, lets it fire and returns how long it was for.
func (s *timers) fire(t *testing.T) time.Duration {
	t.Helper()
	s.wait(t)
	s.mu.Lock()
	d, f := s.waits[0], s.fs[0]
	s.waits, s.fs = s.waits[1:], s.fs[1:]
	s.mu.Unlock()
	f()
	return d
}

func TestWaitsBetweenTries(t *testing.T) {
	b := open(t, t.TempDir(), func(o *Options) { o.Rand = func() float64 { return 1 } })
	clock := &timers{}
	b.j.after = clock.after
	var next atomic.Pointer[sluice.Failure]
	var attempts atomic.Int64
	next.Store(&sluice.Failure{})
	b.read(Up("1"), ReadOptions{
		Handler: sluice.HandlerFunc(func(context.Context, *sluice.Message) error {
			if f := next.Load(); f != nil {
				return f
			}
			return nil
		}),
		Retrying: func(_ *sluice.Message, n int, _ error) { attempts.Store(int64(n)) },
	})
	b.append("D", 0, 1)
	ms := func(n int) time.Duration { return time.Duration(n) * time.Millisecond }
	for _, want := range []time.Duration{ms(250), ms(500), ms(1000), ms(2000), ms(4000), ms(8000), ms(16000)} {
		if got := clock.fire(t); got != want {
			t.Errorf("waited %s, want %s", got, want)
		}
	}
	until(t, "the eighth try has failed", func() bool { return attempts.Load() == 8 })
	next.Store(&sluice.Failure{Verdict: sluice.NotConnected})
	for _, want := range []time.Duration{ms(30000), ms(50), ms(100), ms(200), ms(400), ms(800)} {
		if got := clock.fire(t); got != want {
			t.Errorf("waited %s for a connection, want %s", got, want)
		}
	}
	clock.wait(t)
	next.Store(&sluice.Failure{Verdict: sluice.RetryAfter, After: 77 * time.Second})
	clock.fire(t)
	clock.wait(t)
	next.Store(nil)
	if got := clock.fire(t); got != 77*time.Second {
		t.Errorf("waited %s", got)
	}
	until(t, "nine attempts are told: those without a connection do not count", func() bool { return attempts.Load() == 9 })
	b.wants(Up("1"), sluice.Counters{Received: 1, Delivered: 1})
}

func TestBackoffIsJittered(t *testing.T) {
	for n := 1; n < 40; n++ {
		low, high := backoff(n, 0), backoff(n, 1)
		if low*2 != high || high > maxRetry || low < firstRetry/2 {
			t.Errorf("try %d: %s to %s", n, low, high)
		}
	}
}

func TestWhatIsTooOldExpires(t *testing.T) {
	b := open(t, t.TempDir())
	old, fresh, ancient := report("D", 0), report("D", 1), report("D", 2)
	old.Validity, old.Time = time.Minute, time.Now().Add(-2*time.Minute)
	fresh.Validity, fresh.Time = time.Hour, time.Now().Add(-2*time.Minute)
	ancient.Received = time.Now().Add(-DefaultRetention)
	b.appendAll([]*sluice.Message{old, fresh, ancient})
	var reasons []sluice.Reason
	var mu sync.Mutex
	got := &arrivals{}
	b.read(Up("1"), ReadOptions{Handler: got, Settled: func(_ *sluice.Message, o Outcome, err error) {
		mu.Lock()
		defer mu.Unlock()
		if o == Expired {
			reasons = append(reasons, sluice.ReasonOf(err))
		}
	}})
	b.wants(Up("1"), sluice.Counters{Received: 3, Delivered: 1, Expired: 2})
	until(t, "both are told", func() bool { mu.Lock(); defer mu.Unlock(); return len(reasons) == 2 })
	if !slices.Equal(reasons, []sluice.Reason{sluice.ReasonExpired, sluice.ReasonExpired}) || got.distinct() != 1 {
		t.Error(reasons, got.ids)
	}
}

func TestAHandlerEndsWhenItsEntryExpires(t *testing.T) {
	b := open(t, t.TempDir())
	b.read(Up("1"), ReadOptions{Handler: sluice.HandlerFunc(func(ctx context.Context, _ *sluice.Message) error {
		<-ctx.Done()
		return &sluice.Failure{Verdict: sluice.NotConnected, Err: ctx.Err()}
	})})
	m := report("D", 0)
	m.Validity = 50 * time.Millisecond
	b.appendAll([]*sluice.Message{m})
	b.wants(Up("1"), sluice.Counters{Received: 1, Expired: 1})
}

// An entry that waits for another try expires on time and not after the wait.
func TestAWaitEndsWhenTheEntryExpires(t *testing.T) {
	b := open(t, t.TempDir())
	b.read(Up("1"), ReadOptions{Handler: sluice.HandlerFunc(func(context.Context, *sluice.Message) error {
		return &sluice.Failure{Verdict: sluice.RetryAfter, After: time.Hour}
	})})
	m := report("D", 0)
	m.Validity = 50 * time.Millisecond
	b.appendAll([]*sluice.Message{m})
	b.wants(Up("1"), sluice.Counters{Received: 1, Expired: 1})
}

// One device that gets nowhere, with ten thousand entries, does not stop the
// others; when it gets on, its entries arrive in order.
func TestABlockedDeviceHoldsUpOnlyItself(t *testing.T) {
	b := open(t, t.TempDir())
	release := make(chan struct{})
	got := &arrivals{fail: func(m *sluice.Message) error {
		if m.DevEUI == "D0" {
			<-release
		}
		return nil
	}}
	const n = 10_000
	doc := make([]byte, 1000) // so that they do not all fit in memory
	var ms []*sluice.Message
	for i := range n {
		blocked, free := report("D0", i), report("D1", i)
		blocked.Document = append(doc, blocked.Document...)
		ms = append(ms, blocked, free)
	}
	b.read(Up("1"), ReadOptions{Handler: got, Concurrency: 4})
	b.appendAll(ms)
	b.wants(Up("1"), sluice.Counters{Received: 2 * n, Delivered: n, Pending: n})
	p := b.j.place(Up("1"))
	p.mu.Lock()
	bytes, share := p.reader.bytes, p.reader.share()
	p.mu.Unlock()
	if bytes > share+maxFetchBytes {
		t.Errorf("%d bytes are held, the share is %d", bytes, share)
	}
	close(release)
	b.wants(Up("1"), sluice.Counters{Received: 2 * n, Delivered: 2 * n})
	wantOrder(t, got, 2, n)
}

// Nobody is connected for long: little is held, and all arrives afterwards.
func TestAnOutage(t *testing.T) {
	b := open(t, t.TempDir())
	b.j.after = func(d time.Duration, f func()) func() bool { return time.AfterFunc(d/10, f).Stop }
	var up atomic.Bool
	got := &arrivals{fail: func(*sluice.Message) error {
		if !up.Load() {
			return &sluice.Failure{Verdict: sluice.NotConnected}
		}
		return nil
	}}
	b.read(Up("1"), ReadOptions{Handler: got, Concurrency: 50})
	doc := make([]byte, 1000)
	ms := many(100, 200)
	for _, m := range ms {
		m.Document = append(doc, m.Document...)
	}
	b.appendAll(ms)
	b.wants(Up("1"), sluice.Counters{Received: 20_000, Pending: 20_000})
	up.Store(true)
	b.wants(Up("1"), sluice.Counters{Received: 20_000, Delivered: 20_000})
	wantOrder(t, got, 100, 200)
}

func TestAPlaceHasOneReader(t *testing.T) {
	b := open(t, t.TempDir())
	stop := b.read(Up("1"), ReadOptions{Handler: &arrivals{}})
	until(t, "it is read", func() bool { return b.j.readers.Load() == 1 })
	if err := b.j.Read(t.Context(), Up("1"), ReadOptions{Handler: &arrivals{}}); sluice.CodeOf(err) != sluice.CodeConflict {
		t.Error(err)
	}
	if err := b.j.Drop(t.Context(), Up("1")); sluice.CodeOf(err) != sluice.CodeConflict {
		t.Error(err)
	}
	stop()
	got := &arrivals{}
	b.read(Up("1"), ReadOptions{Handler: got})
	b.append("D", 0, 1)
	b.wants(Up("1"), sluice.Counters{Received: 1, Delivered: 1})
}

// What is given up while it waits in a reader's memory is not handed out.
func TestWhatIsGivenUpIsNotHandedOut(t *testing.T) {
	b := open(t, t.TempDir())
	release, got := make(chan struct{}), &arrivals{}
	got.fail = func(*sluice.Message) error { <-release; return nil }
	b.read(Up("1"), ReadOptions{Handler: got})
	b.append("D", 0, 10)
	p := b.j.place(Up("1"))
	p.mu.Lock()
	if n := p.giveUp(8, 9, Expired); n != 8 {
		t.Errorf("%d were given up", n)
	}
	p.mu.Unlock()
	close(release)
	b.wants(Up("1"), sluice.Counters{Received: 10, Expired: 8, Delivered: 2})
	if n := got.distinct(); n > 3 { // the one that the handler had, and two
		t.Errorf("%d were handed out", n)
	}
}

// When Read ends, it waits for what the handler has, and no longer than the
// grace.
func TestReadWaitsForTheHandler(t *testing.T) {
	b := open(t, t.TempDir())
	entered, release := make(chan struct{}, 2), make(chan struct{})
	handler := sluice.HandlerFunc(func(ctx context.Context, m *sluice.Message) error {
		entered <- struct{}{}
		if m.DevEUI == "A" {
			<-release
			return ctx.Err() // nil: the grace is not over
		}
		<-ctx.Done()
		return ctx.Err()
	})
	stop := b.read(Up("1"), ReadOptions{Handler: handler, Concurrency: 2, Grace: 500 * time.Millisecond})
	b.append("A", 0, 1)
	b.append("B", 0, 1)
	<-entered
	<-entered
	time.AfterFunc(20*time.Millisecond, func() { close(release) })
	stop()
	b.wants(Up("1"), sluice.Counters{Received: 2, Delivered: 1, Pending: 1})
	got := &arrivals{}
	b.read(Up("1"), ReadOptions{Handler: got})
	b.wants(Up("1"), sluice.Counters{Received: 2, Delivered: 2})
	if got.distinct() != 1 || got.ids["B-0"] != 1 {
		t.Error(got.ids)
	}
}
