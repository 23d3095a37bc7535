package journal

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"sluice"
)

// The last entries of a place are found again, done or not, after an end of
// either kind; and it is told which kind it was.
func TestRecent(t *testing.T) {
	for _, orderly := range []bool{true, false} {
		b := open(t, t.TempDir())
		if at, clean := b.j.LastEnd(); !clean || !at.IsZero() {
			t.Errorf("a new journal had ended at %v, orderly %v", at, clean)
		}
		b.append("A", 0, 5)
		b.appendAll([]*sluice.Message{report("B", 0), report("B", 1), report("A", 5)})
		got := &arrivals{}
		b.read(Up("1"), ReadOptions{Handler: got})
		until(t, "all is delivered", func() bool { return got.distinct() == 8 })
		before := time.Now()
		if orderly {
			b.close()
		} else {
			b.crash()
		}
		b = open(t, b.dir)
		at, clean := b.j.LastEnd()
		if clean != orderly || at.After(time.Now()) || at.Before(before.Add(-time.Minute)) {
			t.Errorf("ended at %v, orderly %v, want %v", at, clean, orderly)
		}
		for n, want := range map[int][]string{
			0: nil, 1: {"A-5"}, 2: {"B-1", "A-5"}, 4: {"A-4", "B-0", "B-1", "A-5"},
			100: {"A-0", "A-1", "A-2", "A-3", "A-4", "B-0", "B-1", "A-5"},
		} {
			var ids []string
			if err := b.j.Recent(t.Context(), Up("1"), n, func(m *sluice.Message) { ids = append(ids, m.ID) }); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(ids, want) {
				t.Errorf("the last %d: %v, want %v", n, ids, want)
			}
		}
		if err := b.j.Recent(t.Context(), Up("2"), 1, func(*sluice.Message) { t.Error("an entry of a place without any") }); err != nil {
			t.Error(err)
		}
		b.close()
	}
}

// An entry that is too old is over only once Late has taken note of it, and
// counts as Late says.
func TestLateTakesNote(t *testing.T) {
	b := open(t, t.TempDir())
	var mu sync.Mutex
	now := time.Now()
	b.j.o.Clock = func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		return now
	}
	tries := map[string]int{}
	outcomes := map[string]Outcome{}
	late := func(_ context.Context, m *sluice.Message, tooOld *sluice.Failure) error {
		mu.Lock()
		defer mu.Unlock()
		tries[m.ID]++
		switch {
		case tries[m.ID] == 1:
			return errors.New("it cannot be noted")
		case tries[m.ID] == 2:
			panic("a fault")
		case m.DevEUI == "B":
			return nil
		}
		if tooOld.Message != "It is 9s old, the limit is 8s." {
			t.Errorf("why: %s", tooOld.Message)
		}
		return tooOld
	}
	reached := make(chan struct{}, 2)
	b.read(Up("1"), ReadOptions{
		Concurrency: 2, Late: late,
		Handler: sluice.HandlerFunc(func(context.Context, *sluice.Message) error {
			reached <- struct{}{}
			return &sluice.Failure{Verdict: sluice.Retry, Message: "not now"}
		}),
		Settled: func(m *sluice.Message, o Outcome, _ error) {
			mu.Lock()
			defer mu.Unlock()
			outcomes[m.ID] = o
		},
	})
	for _, device := range []string{"A", "B"} {
		m := report(device, 0)
		m.Received, m.Validity = now, 8*time.Second
		b.appendAll([]*sluice.Message{m})
		<-reached
	}
	mu.Lock()
	now = now.Add(9 * time.Second)
	mu.Unlock()
	b.wants(Up("1"), sluice.Counters{Received: 2, Delivered: 1, Expired: 1})
	until(t, "both are told", func() bool { mu.Lock(); defer mu.Unlock(); return len(outcomes) == 2 })
	mu.Lock()
	defer mu.Unlock()
	if outcomes["A-0"] != Expired || outcomes["B-0"] != Delivered || tries["A-0"] != 3 || tries["B-0"] != 3 {
		t.Errorf("outcomes %v, tries %v", outcomes, tries)
	}
}
