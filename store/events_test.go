package store_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go/jetstream"

	"sluice"
	"sluice/store"
)

// sample is event n of a story in which everything takes its turn.
func sample(n int) sluice.Event {
	e := sluice.Event{
		Time:       start.Add(time.Duration(n) * time.Second),
		Level:      []sluice.Level{sluice.LevelInfo, sluice.LevelWarning, sluice.LevelError}[n%3],
		Type:       []sluice.EventType{sluice.EventThingCreated, sluice.EventUplinkFailed}[n%2],
		Label:      "Sample",
		Detail:     fmt.Sprintf("Event %d of a story with a few words in it, as events have.\nAnd a second line.", n),
		Reason:     sluice.ReasonTimeout,
		Connection: fmt.Sprint(n % 5),
	}
	if n%7 != 0 {
		e.DevEUI = eui(n % 7)
	}
	return e
}

func details(es []sluice.Event) (numbers []int) {
	for _, e := range es {
		var n int
		_, _ = fmt.Sscanf(e.Detail, "Event %d", &n)
		numbers = append(numbers, n)
	}
	return numbers
}

// events asks for events, which is to succeed.
func events(t testing.TB, s *store.Store, q store.EventQuery) ([]sluice.Event, int) {
	t.Helper()
	page, total, err := s.Events(ctx(), q)
	if err != nil {
		t.Fatal(err)
	}
	return page, total
}

func TestEventQueries(t *testing.T) {
	const n = 3000
	queries := map[string]struct {
		query  store.EventQuery
		wanted func(i int) bool
	}{
		"all":         {store.EventQuery{}, func(int) bool { return true }},
		"from":        {store.EventQuery{From: start.Add(2000 * time.Second)}, func(i int) bool { return i >= 2000 }},
		"to":          {store.EventQuery{To: start.Add(50 * time.Second)}, func(i int) bool { return i < 50 }},
		"connection":  {store.EventQuery{Connection: "3"}, func(i int) bool { return i%5 == 3 }},
		"device":      {store.EventQuery{DevEUI: strings.ToLower(eui(4))}, func(i int) bool { return i%7 == 4 }},
		"level":       {store.EventQuery{Level: sluice.LevelError}, func(i int) bool { return i%3 == 2 }},
		"type":        {store.EventQuery{Type: sluice.EventUplinkFailed}, func(i int) bool { return i%2 == 1 }},
		"no such":     {store.EventQuery{Connection: "77"}, func(int) bool { return false }},
		"no device":   {store.EventQuery{DevEUI: "FFFFFFFFFFFFFFFF"}, func(int) bool { return false }},
		"offset":      {store.EventQuery{Offset: 2990}, func(int) bool { return true }},
		"far offset":  {store.EventQuery{Offset: 5000}, func(int) bool { return true }},
		"limit":       {store.EventQuery{Limit: 3}, func(int) bool { return true }},
		"great limit": {store.EventQuery{Limit: 1000}, func(int) bool { return true }},
		"everything": {
			store.EventQuery{
				From: start.Add(100 * time.Second), To: start.Add(2500 * time.Second), Connection: "1",
				DevEUI: eui(2), Level: sluice.LevelWarning, Type: sluice.EventThingCreated, Offset: 3, Limit: 4,
			},
			func(i int) bool {
				return i >= 100 && i < 2500 && i%5 == 1 && i%7 == 2 && i%3 == 1 && i%2 == 0
			},
		},
	}
	h := newHouse(t)
	s := h.store()
	check := func(when string) {
		t.Helper()
		for name, q := range queries {
			var want []int
			for i := n - 1; i >= 0; i-- {
				if q.wanted(i) {
					want = append(want, i)
				}
			}
			wantTotal := len(want)
			want = want[min(q.query.Offset, len(want)):]
			limit := q.query.Limit
			if limit == 0 || limit > 100 {
				limit = 100
			}
			want = want[:min(limit, len(want))]
			page, total := events(t, s, q.query)
			if got := details(page); !slices.Equal(got, want) || total != wantTotal {
				t.Errorf("%s, %s: %v of %d, want %v of %d", when, name, got, total, want, wantTotal)
			}
		}
	}
	for i := range n / 2 {
		s.Record(sample(i))
	}
	stop := run(t, s)
	waitFor(t, "the first half is written", func() bool { return lastSequence(t, jetStream(t, h.conn), "EVENTS") > 0 })
	stop()
	for i := n / 2; i < n; i++ {
		s.Record(sample(i))
	}
	check("half of them written")
	stop = run(t, s)
	stop()
	check("all of them written")
	h.restart()
	s = h.store()
	check("after a restart")
}

func TestEventIsCompleteAndVisibleAtOnce(t *testing.T) {
	h := newHouse(t)
	s := h.store()
	stop := run(t, s)
	want := sample(1)
	want.Hint, want.Network, want.Message = "do this", "net", "01J"
	s.Record(want)
	s.Record(sluice.Event{Level: sluice.LevelInfo, Detail: strings.Repeat("ä", 5000)})
	check := func() {
		t.Helper()
		page, total := events(t, s, store.EventQuery{})
		if total != 2 {
			t.Fatalf("%d events", total)
		}
		if d := page[0].Detail; len(d) > 2100 || strings.ContainsRune(d, '\uFFFD') || !strings.HasSuffix(d, "ä…") {
			t.Errorf("a long detail was not cut well: %d bytes", len(d))
		}
		if !page[0].Time.Equal(start) || len(page[0].ID) != 26 {
			t.Errorf("event = %+v", page[0])
		}
		want.ID = page[1].ID
		if diff := cmp.Diff(want, page[1]); diff != "" || len(want.ID) != 26 {
			t.Error(diff)
		}
	}
	check()
	stop()
	h.restart()
	s = h.store()
	check()
}

func TestEventIDsSort(t *testing.T) {
	s := newHouse(t).store()
	for range 1000 {
		s.Record(sluice.Event{})
	}
	last := ""
	for offset := 900; offset >= 0; offset -= 100 {
		page, _ := events(t, s, store.EventQuery{Offset: offset})
		slices.Reverse(page)
		for _, e := range page {
			if e.ID <= last {
				t.Fatalf("%s after %s", e.ID, last)
			}
			last = e.ID
		}
	}
}

func TestTooManyEvents(t *testing.T) {
	h := newHouse(t)
	s := h.store()
	const n = 20_000
	for i := range n {
		s.Record(sample(i))
	}
	page, total := events(t, s, store.EventQuery{Limit: 1})
	if total > 8192 || total < 7168 || details(page)[0] != n-1 {
		t.Fatalf("%d events, the newest is %v", total, details(page))
	}
	run(t, s)
	told := func() int {
		_, n := events(t, s, store.EventQuery{Type: sluice.EventEventsDropped})
		return n
	}
	waitFor(t, "an event tells of those dropped", func() bool { return told() == 1 })
	page, _ = events(t, s, store.EventQuery{Type: sluice.EventEventsDropped})
	if want := fmt.Sprintf("%d events were dropped", n-total); !strings.HasPrefix(page[0].Detail, want) {
		t.Errorf("detail = %q, want %q", page[0].Detail, want)
	}
}

// TestLostAnswer: a chunk that is written again is not there twice.
func TestLostAnswer(t *testing.T) {
	h := newHouse(t)
	s := h.store()
	for i := range 10 {
		s.Record(sample(i))
	}
	if err := s.LoseAnswer(ctx()); err != nil {
		t.Fatal(err)
	}
	s.Record(sample(10))
	if err := s.Flush(ctx()); err != nil {
		t.Fatal(err)
	}
	check := func(when string) {
		t.Helper()
		page, total := events(t, s, store.EventQuery{})
		if want := []int{10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0}; !slices.Equal(details(page), want) || total != 11 {
			t.Errorf("%s: %v of %d", when, details(page), total)
		}
	}
	check("written")
	h.restart()
	s = h.store()
	check("after a restart")
}

// TestOldEventsGo: what the stream lets go is not counted any more.
func TestOldEventsGo(t *testing.T) {
	h := newHouse(t)
	s := h.store()
	for i := range 9 {
		s.Record(sample(i))
		if i%3 == 2 {
			if err := s.Flush(ctx()); err != nil {
				t.Fatal(err)
			}
		}
	}
	stream := must[jetstream.Stream](t)(jetStream(t, h.conn).Stream(ctx(), "EVENTS"))
	for keep := 2; keep >= 0; keep-- {
		if err := stream.Purge(ctx(), jetstream.WithPurgeKeep(uint64(keep))); err != nil {
			t.Fatal(err)
		}
		page, total := events(t, s, store.EventQuery{})
		if total != keep*3 || len(page) != keep*3 {
			t.Errorf("%d kept: %d of %d events", keep, len(page), total)
		}
	}
}

func TestFollow(t *testing.T) {
	s := newHouse(t).store()
	run(t, s)
	var mu sync.Mutex
	var got []int
	stop := s.Follow(func(e sluice.Event) {
		mu.Lock()
		defer mu.Unlock()
		got = append(got, details([]sluice.Event{e})[0])
	})
	blocked := make(chan struct{})
	stopSlow := s.Follow(func(sluice.Event) { <-blocked })
	var want []int
	for i := range 1000 {
		s.Record(sample(i)) // does not wait for the slow one
		want = append(want, i)
	}
	waitFor(t, "all events have come", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(got) == len(want)
	})
	stop()
	stop()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	s.Record(sample(1))
	close(blocked)
	stopSlow()
	if len(got) != len(want) {
		t.Error("called after stop")
	}
}

func TestRunReportsWhatItCannotWrite(t *testing.T) {
	h := newHouse(t)
	s := h.store()
	s.Record(sample(1))
	s.Seen(uplink(1, start))
	s.Things("1").Put(eui(1), sluice.Thing{})
	if err := s.PutBlob("k", []byte("v")); err != nil {
		t.Fatal(err)
	}
	h.conn.Close()
	done, cancel := canceled()
	defer cancel()
	if err := s.Run(done); err == nil {
		t.Error("Run says that all is written")
	}
	// What could not be written is still to be written.
	h.restart()
	if err := s.Run(done); err == nil {
		t.Error("Run says that all is written over a closed connection")
	}
}

func TestBlobs(t *testing.T) {
	h := newHouse(t)
	s := h.store()
	stop := run(t, s)
	for key, value := range map[string]string{"metrics/1": "one", "metrics/2": "two", "": "empty key", "empty": ""} {
		if err := s.PutBlob(key, []byte(value)); err != nil {
			t.Fatal(err)
		}
	}
	waitFor(t, "they are written", func() bool { return streamState(t, jetStream(t, h.conn), "BLOBS").Msgs == 4 })
	for range 3 {
		if err := s.PutBlob("metrics/1", []byte("uno")); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.PutBlob("metrics/2", nil); err != nil {
		t.Fatal(err)
	}
	if err := s.PutBlob("large", make([]byte, 1<<20)); sluice.CodeOf(err) != sluice.CodeTooLarge {
		t.Errorf("err = %v", err)
	}
	check := func() {
		t.Helper()
		for key, want := range map[string]string{"metrics/1": "uno", "": "empty key", "empty": ""} {
			if got, ok := s.Blob(key); !ok || string(got) != want {
				t.Errorf("%q = %q, %v", key, got, ok)
			}
		}
		for _, key := range []string{"metrics/2", "large"} {
			if got, ok := s.Blob(key); ok {
				t.Errorf("%q = %q", key, got)
			}
		}
	}
	check()
	stop()
	h.restart()
	s = h.store()
	check()
}

func BenchmarkRecord(b *testing.B) {
	s := newHouse(b).store()
	run(b, s)
	e := sample(1)
	b.ReportAllocs()
	for b.Loop() {
		s.Record(e)
	}
}

func BenchmarkEvents100k(b *testing.B) {
	h := newHouse(b)
	s := h.store()
	const n = 100_000
	before := heap()
	for i := range n {
		s.Record(sample(i))
		if i%1000 == 0 {
			if err := s.Flush(ctx()); err != nil {
				b.Fatal(err)
			}
		}
	}
	if err := s.Flush(ctx()); err != nil {
		b.Fatal(err)
	}
	size := float64(heap()-before) / 1e6
	h.restart()
	began := time.Now()
	s = h.store()
	opened := float64(time.Since(began).Milliseconds())
	b.Run("newest", func(b *testing.B) {
		for b.Loop() {
			events(b, s, store.EventQuery{Limit: 20})
		}
		b.ReportMetric(size, "MB")
		b.ReportMetric(opened, "ms-open")
	})
	b.Run("scattered", func(b *testing.B) {
		for b.Loop() {
			if _, total := events(b, s, store.EventQuery{DevEUI: eui(3), Connection: "2", Level: sluice.LevelError, Limit: 100}); total == 0 {
				b.Fatal(errors.New("nothing found"))
			}
		}
	})
}
