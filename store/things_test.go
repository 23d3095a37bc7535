package store_test

import (
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"sluice"
	"sluice/store"
)

func jetStream(t testing.TB, conn *nats.Conn) jetstream.JetStream {
	t.Helper()
	return must[jetstream.JetStream](t)(jetstream.New(conn))
}

func streamState(t testing.TB, js jetstream.JetStream, name string) jetstream.StreamState {
	t.Helper()
	s := must[jetstream.Stream](t)(js.Stream(ctx(), name))
	return must[*jetstream.StreamInfo](t)(s.Info(ctx())).State
}

func lastSequence(t testing.TB, js jetstream.JetStream, name string) uint64 {
	t.Helper()
	return streamState(t, js, name).LastSeq
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// connections makes connections, so that their things are kept.
func connections(t testing.TB, s *store.Store, n int) {
	t.Helper()
	for range n {
		must[sluice.Connection](t)(s.CreateConnection(ctx(), sluice.Connection{Name: "c"}, nil))
	}
}

func TestThingsSurviveRestart(t *testing.T) {
	h := newHouse(t)
	s := h.store()
	connections(t, s, 2)
	stop := run(t, s)
	registered := sluice.Thing{State: sluice.ThingRegistered, Tag: "abc", Name: "pump-1", Mark: 1<<63 + 7}
	failed := sluice.Thing{State: sluice.ThingFailed, Detail: "iot:CreateThing is not allowed", Tag: "abc"}
	s.Things("1").Put("20635F0000000001", failed)
	s.Things("1").Put("20635F0000000001", registered)
	s.Things("1").Put("20635F0000000002", failed)
	s.Things("2").Put("20635F0000000001", failed)
	s.Things("2").Put("100000A1", registered) // a base station's id
	check := func(when string) {
		t.Helper()
		if got, ok := s.Things("1").Get("20635F0000000001"); !ok || got != registered {
			t.Errorf("%s: %+v, %v", when, got, ok)
		}
		if got, ok := s.Things("2").Get("100000A1"); !ok || got != registered {
			t.Errorf("%s: %+v, %v", when, got, ok)
		}
		for _, none := range []string{"", "20635F0000000003", "0000000000000000"} {
			if got, ok := s.Things("1").Get(none); ok {
				t.Errorf("%s: %q is %+v", when, none, got)
			}
		}
		want := map[string]sluice.Thing{"1": registered, "2": failed}
		if diff := cmp.Diff(want, s.ThingsOf("20635F0000000001")); diff != "" {
			t.Errorf("%s: %s", when, diff)
		}
	}
	check("at once")
	stop()
	h.restart()
	s = h.store()
	check("after a restart")
}

func TestForgetThings(t *testing.T) {
	h := newHouse(t)
	s := h.store()
	connections(t, s, 3)
	stop := run(t, s)
	js := jetStream(t, h.conn)
	thing := sluice.Thing{State: sluice.ThingRegistered}
	for _, id := range []string{"1", "2", "3"} {
		s.Things(id).Put("20635F0000000001", thing)
	}
	waitFor(t, "the things are written", func() bool { return streamState(t, js, "THINGS").Msgs == 3 })
	memory := s.Things("1")
	s.ForgetThings("1")
	if _, ok := memory.Get("20635F0000000001"); ok {
		t.Error("the thing is still known")
	}
	memory.Put("20635F0000000009", thing)
	if err := s.DeleteConnection(ctx(), "2"); err != nil {
		t.Fatal(err)
	}
	stop()
	h.restart()
	s = h.store()
	if got := s.ThingsOf("20635F0000000001"); len(got) != 1 || got["3"] != thing {
		t.Errorf("things = %v", got)
	}
	if _, ok := s.Things("1").Get("20635F0000000009"); !ok {
		t.Error("what came after forgetting was lost")
	}
	if n := streamState(t, jetStream(t, h.conn), "THINGS").Msgs; n != 2 {
		t.Errorf("%d messages are kept", n)
	}
}

// TestThingsOfGoneConnection: a crash came between the deletion of the
// connection and that of its things.
func TestThingsOfGoneConnection(t *testing.T) {
	h := newHouse(t)
	s := h.store()
	connections(t, s, 1)
	stop := run(t, s)
	s.Things("1").Put("20635F0000000001", sluice.Thing{State: sluice.ThingRegistered})
	stop()
	if err := s.DeleteConnection(ctx(), "1"); err != nil { // nobody runs the store
		t.Fatal(err)
	}
	h.restart()
	s = h.store()
	if got := s.ThingsOf("20635F0000000001"); len(got) != 0 {
		t.Errorf("things = %v", got)
	}
	run(t, s)
	waitFor(t, "they are removed", func() bool { return streamState(t, jetStream(t, h.conn), "THINGS").Msgs == 0 })
}

func eui(n int) string { return fmt.Sprintf("20635F%010X", n) }

func TestThingsConcurrently(t *testing.T) {
	s := newHouse(t).store()
	run(t, s)
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 3000 {
				m := s.Things(fmt.Sprint(w % 2))
				m.Put(eui(i), sluice.Thing{State: sluice.ThingPending, Tag: fmt.Sprint(w)})
				m.Get(eui(i))
				s.ThingsOf(eui(i))
				if i%1000 == 0 {
					s.ForgetThings("0")
				}
			}
		})
	}
	wg.Wait()
}

// TestHundredThousandThings: with names and marks of their own they take less
// than 20 MB, and all are there after a restart.
func TestHundredThousandThings(t *testing.T) {
	const n = 100_000
	h := newHouse(t)
	s := h.store()
	connections(t, s, 1)
	thing := func(i int) sluice.Thing {
		return sluice.Thing{
			State: sluice.ThingRegistered, Tag: "0123456789abcdef0123456789abcdef",
			Name: fmt.Sprintf("north-meter-%08d", i), Mark: uint64(i) * 0x9E3779B97F4A7C15,
		}
	}
	before := heap()
	for i := range n {
		s.Things("1").Put(eui(i), thing(i))
	}
	mb := float64(int64(heap()-before)) / 1e6
	t.Logf("%d things take %.1f MB, with the list of those to be written", n, mb)
	if mb > 20 {
		t.Error("that is more than 20 MB")
	}
	if got, _ := s.Things("1").Get(eui(1)); got != thing(1) { // and it is still there
		t.Errorf("%+v", got)
	}
	run(t, s)() // writes them
	h.restart()
	s = h.store()
	count := 0
	for devEUI, got := range s.Things("1").All() {
		count++
		if got.Name == "" || got.State != sluice.ThingRegistered {
			t.Fatalf("%s: %+v", devEUI, got)
		}
	}
	if last, _ := s.Things("1").Get(eui(n - 1)); count != n || last != thing(n-1) {
		t.Errorf("%d things after a restart, the last is %+v", count, last)
	}
}

func BenchmarkThings100k(b *testing.B) {
	h := newHouse(b)
	s := h.store()
	connections(b, s, 1)
	stop := run(b, s)
	euis := make([]string, 100_000)
	for i := range euis {
		euis[i] = eui(i)
	}
	before := heap()
	for _, e := range euis {
		s.Things("1").Put(e, sluice.Thing{State: sluice.ThingRegistered, Tag: "0123456789abcdef"})
	}
	size := float64(heap()-before) / 1e6
	began := time.Now()
	stop()
	wrote := float64(time.Since(began).Milliseconds())
	h.restart()
	for b.Loop() {
		s = h.store()
	}
	b.ReportMetric(size, "MB")
	b.ReportMetric(wrote, "ms-write")
	if _, ok := s.Things("1").Get(euis[99_999]); !ok {
		b.Error("not found")
	}
}

func BenchmarkThingGet(b *testing.B) {
	s := newHouse(b).store()
	things := s.Things("1")
	for i := range 1000 {
		things.Put(eui(i), sluice.Thing{State: sluice.ThingRegistered})
	}
	key := eui(500)
	b.ReportAllocs()
	for b.Loop() {
		things.Get(key)
	}
}
