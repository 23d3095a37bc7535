package journal

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluice"
)

// toOne is the flows of today: every report goes to connection 1.
func toOne(o *Options) {
	o.Route = func(connection string, _ *sluice.Message) (string, bool) { return "today", connection == "1" }
}

// reportFor is a report for a connection, "" for none.
func reportFor(connection, device string, i int) *sluice.Message {
	m := report(device, i)
	m.Connection = connection
	return m
}

// replay starts a replay of all that was received, unless change says
// otherwise, as fast as it goes.
func (b *bench) replay(change ...func(*sluice.Replay)) sluice.Replay {
	b.t.Helper()
	q := sluice.Replay{Connection: "1", From: time.Now().Add(-time.Hour), Rate: 1e6}
	for _, f := range change {
		f(&q)
	}
	r, err := b.j.StartReplay(context.Background(), q)
	if err != nil {
		b.t.Fatal(err)
	}
	return r
}

// replayIs waits until the replay of connection 1 is in a state.
func (b *bench) replayIs(want sluice.ReplayState) sluice.Replay {
	b.t.Helper()
	var r sluice.Replay
	until(b.t, "the replay is "+string(want), func() bool {
		r, _ = b.j.Replay("1")
		return r.State == want
	})
	return r
}

// replayNumbers are those of a replay.
func replayNumbers(r sluice.Replay) string {
	return fmt.Sprintf("found %d sent %d filtered %d failed %d damaged %d missing %d", r.Found, r.Sent, r.Filtered, r.Failed, r.Damaged, r.Missing)
}

// replayArrivals notes what a handler got of a replay.
type replayArrivals struct {
	arrivals
	mu   sync.Mutex
	live int
	odd  []string
}

func (a *replayArrivals) Handle(ctx context.Context, m *sluice.Message) error {
	a.mu.Lock()
	if !m.Replayed {
		a.live++
	} else if m.Connection != "1" || m.Driver != "today" || m.Validity != 0 {
		a.odd = append(a.odd, fmt.Sprintf("%s: %q %q %v", m.ID, m.Connection, m.Driver, m.Validity))
	}
	a.mu.Unlock()
	if !m.Replayed {
		return nil
	}
	return a.arrivals.Handle(ctx, m)
}

func (a *replayArrivals) sent() (ids []string, twice int) {
	a.arrivals.mu.Lock()
	defer a.arrivals.mu.Unlock()
	for id, n := range a.ids {
		ids = append(ids, id)
		twice += n - 1
	}
	slices.Sort(ids)
	return ids, twice
}

// A replay sends what other connections, no flow and the connection itself had
// taken, once each although copies lie in several places, and counts beside
// the law.
func TestAReplaySendsWhatOthersHadTaken(t *testing.T) {
	b := open(t, t.TempDir(), toOne)
	got := &replayArrivals{}
	b.read(Up("1"), ReadOptions{Handler: got, Concurrency: 8})
	var want []string
	for i := range 30 {
		ms := []*sluice.Message{reportFor("", fmt.Sprint("N", i%3), i), reportFor("2", fmt.Sprint("O", i%3), i), reportFor("1", fmt.Sprint("B", i%3), i), reportFor("2", fmt.Sprint("B", i%3), i)}
		for _, m := range ms {
			m.Validity = time.Nanosecond // it is old on purpose
			if m.Connection == "1" {
				m.Validity = 0
			}
			want = append(want, m.ID)
		}
		rejected := reportFor("2", "O1", 1000+i)
		rejected.Kind = sluice.KindDownlinkRejected
		b.appendAll(append(ms, rejected))
	}
	b.wants(Up("1"), sluice.Counters{Received: 30, Delivered: 30})
	before := b.j.Counters(Up("2"))

	b.replay()
	r := b.replayIs(sluice.ReplayDone)
	slices.Sort(want)
	want = slices.Compact(want)
	ids, twice := got.sent()
	if diff := cmp.Diff(want, ids); diff != "" || twice > 0 || len(got.odd) > 0 {
		t.Errorf("%d twice, odd: %v, %s", twice, got.odd, diff)
	}
	if n := replayNumbers(r); n != "found 90 sent 90 filtered 0 failed 0 damaged 0 missing 0" || r.Started.IsZero() || r.Ended.IsZero() {
		t.Errorf("%s %+v", n, r)
	}
	for device, ids := range got.order {
		if !slices.IsSortedFunc(ids, byNumber) {
			t.Errorf("%s: %v", device, ids)
		}
	}
	b.wants(Up("1"), sluice.Counters{Received: 30, Delivered: 30})
	if c := b.j.Counters(Up("2")); c != before || b.j.Replayed("1") != 90 || b.j.Replayed("2") != 0 {
		t.Errorf("%+v, replayed %d and %d", c, b.j.Replayed("1"), b.j.Replayed("2"))
	}
	if b.events.count(sluice.EventReplayStarted) != 1 || b.events.count(sluice.EventReplayEnded) != 1 {
		t.Errorf("%+v", b.events.list)
	}
	b.replay()
	until(t, "the second replay ends", func() bool { return b.j.Replayed("1") == 180 })
}

// byNumber compares ids of a device by the number at their end.
func byNumber(x, y string) int {
	number := func(id string) (n int) {
		_, _ = fmt.Sscan(id[strings.LastIndex(id, "-")+1:], &n)
		return n
	}
	return number(x) - number(y)
}

// The time of receipt, the devices and the flows of now decide.
func TestAReplaySelects(t *testing.T) {
	b := open(t, t.TempDir(), func(o *Options) {
		o.Route = func(_ string, m *sluice.Message) (string, bool) { return "today", m.DevEUI != "C" }
	})
	start := time.Now().Add(-10 * time.Second).Truncate(time.Millisecond)
	for i := range 10 {
		for _, d := range []string{"A", "B", "C"} {
			m := reportFor("2", d, i)
			m.Received = start.Add(time.Duration(i) * time.Second)
			b.appendAll([]*sluice.Message{m})
		}
	}
	got := &replayArrivals{}
	b.read(Up("1"), ReadOptions{Handler: got})
	b.replay(func(q *sluice.Replay) {
		q.From, q.To, q.Devices = start.Add(3*time.Second), start.Add(6*time.Second), []string{"B", "C"}
	})
	b.replayIs(sluice.ReplayDone)
	if ids, _ := got.sent(); !cmp.Equal(ids, []string{"B-3", "B-4", "B-5"}) {
		t.Error(ids)
	}
}

// What still waits for the connection comes by itself, and not by a replay too,
// wherever its copies lie.
func TestAReplayLeavesWhatWaitsAlone(t *testing.T) {
	b := open(t, t.TempDir(), toOne)
	b.appendAll([]*sluice.Message{reportFor("2", "A", 1), reportFor("1", "A", 1), reportFor("1", "A", 2), reportFor("2", "A", 2), reportFor("2", "A", 3)})
	b.replay()
	until(t, "all is read", func() bool { r, _ := b.j.Replay("1"); return r.Found == 1 })
	b.replayIs(sluice.ReplayWaiting)
	got := &replayArrivals{}
	b.read(Up("1"), ReadOptions{Handler: got})
	b.replayIs(sluice.ReplayDone)
	b.wants(Up("1"), sluice.Counters{Received: 2, Delivered: 2})
	if ids, _ := got.sent(); !cmp.Equal(ids, []string{"A-3"}) || got.live != 2 {
		t.Error(ids, got.live)
	}
}

// Live messages and those of a replay never meet: one of a device is in the
// handler's hands at a time, and each kind keeps its order, whatever fails.
func TestAReplayAndLiveTrafficTakeTurns(t *testing.T) {
	b := open(t, t.TempDir(), toOne)
	const devices, each = 12, 40
	for i := range each {
		for d := range devices {
			b.appendAll([]*sluice.Message{reportFor("", fmt.Sprint("D", d), i)})
		}
	}
	var inFlight [devices]atomic.Int32
	var again arrivals
	var held atomic.Bool // a live message is, until one of the replay has come
	var met atomic.Int32 // how often one has come meanwhile
	live := &arrivals{}
	var rndMu sync.Mutex
	rnd := rand.New(rand.NewPCG(5, 6))
	fail := func(m *sluice.Message) error {
		var d int
		_, _ = fmt.Sscanf(m.DevEUI, "D%d", &d)
		if n := inFlight[d].Add(1); n != 1 {
			t.Errorf("%d messages of %s in flight", n, m.DevEUI)
		}
		defer inFlight[d].Add(-1)
		if before := again.distinct(); !m.Replayed && before < devices*each-each && held.CompareAndSwap(false, true) {
			for again.distinct() == before && t.Context().Err() == nil {
				runtime.Gosched()
			}
			held.Store(false)
			met.Add(1)
		}
		rndMu.Lock()
		k := rnd.IntN(60)
		rndMu.Unlock()
		switch k {
		case 0:
			return &sluice.Failure{Verdict: sluice.RetryAfter, After: time.Millisecond}
		case 1:
			return &sluice.Failure{Verdict: sluice.NotConnected}
		case 2:
			panic("a fault of the handler")
		}
		return nil
	}
	b.read(Up("1"), ReadOptions{Concurrency: 16, Handler: sluice.HandlerFunc(func(ctx context.Context, m *sluice.Message) error {
		if err := fail(m); err != nil {
			return err
		}
		if m.Replayed {
			return again.Handle(ctx, m)
		}
		return live.Handle(ctx, m)
	})})
	b.replay()
	for i, end := 0, time.Now().Add(time.Minute); again.distinct() < devices*each; i++ {
		b.append(fmt.Sprint("D", i%devices), 1000+i, 1)
		until(t, "live entries are through, but few", func() bool { return b.j.Counters(Up("1")).Pending <= 3 })
		if time.Now().After(end) {
			t.Fatalf("the replay does not come on: %d sent", again.distinct())
		}
	}
	r := b.replayIs(sluice.ReplayDone)
	wantOrder(t, &again, devices, each)
	until(t, "all live ones are delivered", func() bool { return b.j.Counters(Up("1")).Pending == 0 })
	for device, ids := range live.order {
		if !slices.IsSortedFunc(ids, byNumber) {
			t.Errorf("%s: %v", device, ids)
		}
	}
	if r.Sent != devices*each {
		t.Error(replayNumbers(r))
	}
	t.Logf("%d live ones, %d beside the replay", live.distinct(), met.Load())
	if met.Load() == 0 {
		t.Error("live traffic and the replay never overlapped")
	}
}

// A replay goes on where it was, after an orderly end and after a crash.
func TestAReplaySurvives(t *testing.T) {
	for _, crash := range []bool{false, true} {
		t.Run(fmt.Sprintf("crash=%v", crash), func(t *testing.T) {
			dir := t.TempDir()
			b := open(t, dir, toOne)
			const n = 200
			for i := range n {
				b.appendAll([]*sluice.Message{reportFor("", fmt.Sprint("D", i%5), i), reportFor("2", fmt.Sprint("D", i%5), i)})
			}
			got := &replayArrivals{}
			gate := make(chan struct{}, n)
			got.fail = func(*sluice.Message) error {
				select {
				case <-gate:
					return nil
				default:
					return &sluice.Failure{Verdict: sluice.NotConnected, Message: "Closed."}
				}
			}
			for range n / 2 {
				gate <- struct{}{}
			}
			stop := b.read(Up("1"), ReadOptions{Handler: got, Concurrency: 4})
			b.replay()
			until(t, "half is sent", func() bool { r, _ := b.j.Replay("1"); return r.Sent == n/2 && r.State == sluice.ReplayWaiting })
			if r, _ := b.j.Replay("1"); r.Reason != "Closed." {
				t.Errorf("%+v", r)
			}
			if crash {
				b.crash()
			} else {
				stop()
				b.close()
			}

			got.fail = nil
			b = open(t, dir, toOne)
			b.read(Up("1"), ReadOptions{Handler: got, Concurrency: 4})
			r := b.replayIs(sluice.ReplayDone)
			ids, twice := got.sent()
			if len(ids) != n || twice > n/2 || !crash && twice > 4*5 {
				t.Errorf("%d arrived, %d twice", len(ids), twice)
			}
			for device, ids := range got.order {
				if !slices.IsSortedFunc(ids, byNumber) {
					t.Errorf("%s: %v", device, ids)
				}
			}
			if !crash && r.Sent != uint64(n+twice) || r.Found != r.Sent {
				t.Error(replayNumbers(r), twice)
			}
		})
	}
}

// A replay that was stopped is stopped for good, and makes room for another.
func TestAReplayIsStopped(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir, toOne)
	for i := range 50 {
		b.appendAll([]*sluice.Message{reportFor("", "A", i)})
	}
	if err := b.j.StopReplay(t.Context(), "1"); err != nil {
		t.Error(err)
	}
	held := make(chan struct{})
	got := &replayArrivals{}
	got.fail = func(m *sluice.Message) error {
		switch n := byNumber(m.ID, "A-10"); {
		case n == 0:
			<-held
		case n > 0:
			return &sluice.Failure{Verdict: sluice.NotConnected}
		}
		return nil
	}
	b.read(Up("1"), ReadOptions{Handler: got, Concurrency: 4})
	b.replay()
	until(t, "ten are sent", func() bool { r, _ := b.j.Replay("1"); return r.Sent == 10 })
	if _, err := b.j.StartReplay(t.Context(), sluice.Replay{Connection: "1"}); sluice.CodeOf(err) != sluice.CodeConflict {
		t.Error(err)
	}
	stopped := make(chan error)
	go func() { stopped <- b.j.StopReplay(context.Background(), "1") }()
	close(held)
	if err := <-stopped; err != nil {
		t.Fatal(err)
	}
	r, _ := b.j.Replay("1")
	n, _ := got.sent()
	if r.State != sluice.ReplayStopped || r.Ended.IsZero() || int(r.Sent) != len(n) || len(n) != 11 || b.events.count(sluice.EventReplayStopped) != 1 {
		t.Errorf("%d arrived, %+v", len(n), r)
	}
	if err := b.j.StopReplay(t.Context(), "1"); err != nil || b.events.count(sluice.EventReplayStopped) != 1 {
		t.Error(err)
	}
	b.crash()
	b = open(t, dir, toOne)
	again, _ := b.j.Replay("1")
	r.Pace, again.Pace = 0, 0
	if diff := cmp.Diff(r, again, cmp.Comparer(time.Time.Equal)); diff != "" {
		t.Error(diff)
	}
	got.fail = nil
	b.read(Up("1"), ReadOptions{Handler: got, Concurrency: 4})
	b.replay()
	b.replayIs(sluice.ReplayDone)
	if ids, _ := got.sent(); len(ids) != 50 || b.j.Replayed("1") != r.Sent+50 {
		t.Errorf("%d arrived, %d replayed", len(ids), b.j.Replayed("1"))
	}
}

// What cannot be read, and what is not there any more, is left out, counted
// and told.
func TestAReplayCountsDamage(t *testing.T) {
	b := open(t, t.TempDir(), toOne)
	for i := range 5 {
		b.appendAll([]*sluice.Message{reportFor("2", "A", i)})
	}
	b.j.committing.Lock()
	bad := encodeBundle(6, reportFor("2", "A", 5), reportFor("2", "A", 6))
	bad[len(bad)-1] ^= 1
	if _, err := b.j.js.Publish(t.Context(), string(Up("2")), bad); err != nil {
		t.Fatal(err)
	}
	if err := b.j.stream.DeleteMsg(t.Context(), 3); err != nil {
		t.Fatal(err)
	}
	b.j.committing.Unlock()
	// It comes as a surprise to the committer, which refuses once.
	until(t, "entries are taken again", func() bool { return b.j.Append(t.Context(), reportFor("2", "A", 7)) == nil })
	for i := 8; i < 10; i++ {
		b.appendAll([]*sluice.Message{reportFor("2", "A", i)})
	}
	got := &replayArrivals{}
	b.read(Up("1"), ReadOptions{Handler: got})
	b.replay()
	r := b.replayIs(sluice.ReplayDone)
	ids, _ := got.sent()
	if diff := cmp.Diff([]string{"A-0", "A-1", "A-3", "A-4", "A-5", "A-7", "A-8", "A-9"}, ids); diff != "" {
		t.Error(diff)
	}
	if n := replayNumbers(r); n != "found 8 sent 8 filtered 0 failed 0 damaged 1 missing 1" || b.events.last(sluice.EventReplayEnded).Level != sluice.LevelWarning {
		t.Error(n)
	}
}

// A message that is refused for good is counted and told, and the others go on.
func TestAReplayCountsWhatIsRefused(t *testing.T) {
	b := open(t, t.TempDir(), toOne)
	for i := range 20 {
		b.appendAll([]*sluice.Message{reportFor("", fmt.Sprint("D", i%4), i)})
	}
	got := &replayArrivals{}
	tries := map[string]int{}
	var mu sync.Mutex
	got.fail = func(m *sluice.Message) error {
		mu.Lock()
		defer mu.Unlock()
		tries[m.ID]++
		switch {
		case m.DevEUI == "D0":
			return &sluice.Failure{Verdict: sluice.Permanent, Reason: sluice.ReasonTooLarge, Message: "Too large."}
		case m.DevEUI == "D1":
			return &sluice.Failure{Verdict: sluice.Filtered}
		case m.DevEUI == "D2" && tries[m.ID] == 1:
			return errors.New("once")
		}
		return nil
	}
	b.read(Up("1"), ReadOptions{Handler: got, Concurrency: 4})
	b.replay()
	if n := replayNumbers(b.replayIs(sluice.ReplayDone)); n != "found 20 sent 10 filtered 5 failed 5 damaged 0 missing 0" {
		t.Error(n)
	}
	if e := b.events.last(sluice.EventUplinkFailed); b.events.count(sluice.EventUplinkFailed) != 1 || e.Reason != sluice.ReasonTooLarge || e.DevEUI != "D0" {
		t.Errorf("%+v", e)
	}
	b.wants(Up("1"), sluice.Counters{})
}

// Flows that change while a replay is under way count from then on.
func TestAReplayFollowsTheFlows(t *testing.T) {
	var closed atomic.Bool
	b := open(t, t.TempDir(), func(o *Options) {
		o.Route = func(string, *sluice.Message) (string, bool) { return "today", !closed.Load() }
	})
	for i := range 10 {
		b.appendAll([]*sluice.Message{reportFor("", "A", i)})
	}
	got := &replayArrivals{}
	got.fail = func(m *sluice.Message) error {
		if m.ID == "A-4" {
			closed.Store(true)
		}
		return nil
	}
	b.read(Up("1"), ReadOptions{Handler: got})
	b.replay()
	if n := replayNumbers(b.replayIs(sluice.ReplayDone)); n != "found 10 sent 5 filtered 5 failed 0 damaged 0 missing 0" {
		t.Error(n)
	}
}

// History is kept for a replay that has still to read it, unless the disk
// needs the room; what is gone is counted, and said.
func TestHistoryIsKeptForAReplay(t *testing.T) {
	for _, tight := range []bool{false, true} {
		t.Run(fmt.Sprintf("tight=%v", tight), func(t *testing.T) {
			var ahead atomic.Int64
			clock := func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
			b := open(t, t.TempDir(), toOne, func(o *Options) { o.Clock, o.History = clock, time.Minute })
			// More than a replay reads ahead.
			const n = replayWindow + 2*maxFetch
			for i := 0; i < n; i += 2 {
				b.appendAll([]*sluice.Message{reportFor("", "A", i)})
				b.appendAll([]*sluice.Message{reportFor("", "A", i+1)})
			}
			b.replay()
			b.replayIs(sluice.ReplayWaiting)
			ahead.Store(int64(holdFor / 2))
			b.j.health.tight.Store(tight)
			if err := b.j.trim(t.Context()); err != nil {
				t.Fatal(err)
			}
			got := &replayArrivals{}
			b.read(Up("1"), ReadOptions{Handler: got, Concurrency: 4})
			r := b.replayIs(sluice.ReplayDone)
			ids, _ := got.sent()
			if lost := r.Missing; tight != (lost > 0) || len(ids)+int(lost) != n {
				t.Errorf("%d arrived, %s", len(ids), replayNumbers(r))
			}
		})
	}
}

// A replay of a time that history does not reach back to says so.
func TestAReplayTellsWhereHistoryBegins(t *testing.T) {
	b := open(t, t.TempDir(), toOne)
	b.appendAll([]*sluice.Message{reportFor("", "A", 0)})
	b.read(Up("1"), ReadOptions{Handler: &replayArrivals{}})
	b.replay()
	r := b.replayIs(sluice.ReplayDone)
	if r.History.IsZero() || !strings.Contains(b.events.last(sluice.EventReplayEnded).Detail, "begins at "+replayTime(r.History)) {
		t.Errorf("%+v", r)
	}
	b.replay(func(q *sluice.Replay) { q.From = r.History.Add(time.Nanosecond) })
	until(t, "the second one ends", func() bool { return b.events.count(sluice.EventReplayEnded) == 2 })
	if r, _ := b.j.Replay("1"); !r.History.IsZero() || r.Found != 0 {
		t.Errorf("%+v", r)
	}
}

// A replay ends with its connection.
func TestAReplayIsForgottenWithItsConnection(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir, toOne)
	b.appendAll([]*sluice.Message{reportFor("", "A", 0)})
	b.replay()
	b.replayIs(sluice.ReplayWaiting)
	if !slices.Contains(b.j.Places(), Up("1")) {
		t.Fatal("the place is not known, so nobody would drop it")
	}
	if err := b.j.Drop(t.Context(), Up("1")); err != nil {
		t.Fatal(err)
	}
	if r, ok := b.j.Replay("1"); ok {
		t.Errorf("%+v", r)
	}
	b.close()
	b = open(t, dir, toOne)
	if r, ok := b.j.Replay("1"); ok {
		t.Errorf("%+v", r)
	}
}

// The pace is a share of what the connection can do, or what was asked for,
// and no more than it can.
func TestThePaceOfAReplay(t *testing.T) {
	for _, c := range []struct{ can, asked, want float64 }{
		{0, 0, replayRate}, {980, 0, 245}, {2, 0, 1}, {980, 10, 10}, {980, 5000, 980}, {0, 5000, 5000},
	} {
		j := &Journal{o: Options{Pace: func(string) float64 { return c.can }}.withDefaults()}
		s := &sender{j: j, r: &replay{rec: replayRecord{Replay: sluice.Replay{Rate: c.asked}}}}
		if got := s.pace(); got != c.want || s.r.view().Pace != c.want {
			t.Errorf("can %v, asked %v: %v, want %v", c.can, c.asked, got, c.want)
		}
	}
}
