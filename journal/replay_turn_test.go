package journal

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"sluice"
)

// What is live of a device goes before what a replay has of it, also what
// comes after the replay has asked for its turn.
func TestLiveEntriesGoFirst(t *testing.T) {
	b := open(t, t.TempDir(), toOne)
	b.appendAll([]*sluice.Message{reportFor("", "A", 1)})
	var mu sync.Mutex
	var order []string
	began, release := make(chan struct{}), make(chan struct{})
	b.read(Up("1"), ReadOptions{Concurrency: 32, Handler: sluice.HandlerFunc(func(_ context.Context, m *sluice.Message) error {
		if m.ID == "A-100" {
			close(began)
			<-release
		}
		mu.Lock()
		defer mu.Unlock()
		order = append(order, m.ID)
		return nil
	})})
	b.append("A", 100, 1)
	<-began
	b.replay()
	p := b.j.place(Up("1"))
	until(t, "the replay waits for its turn", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.reader.devices["A"].turn != nil
	})
	b.append("A", 101, 1)
	b.append("B", 102, 1) // of another device: it is through before
	until(t, "the other device is through", func() bool { return b.j.Counters(Up("1")).Delivered == 1 })
	close(release)
	b.replayIs(sluice.ReplayDone)
	mu.Lock()
	defer mu.Unlock()
	if want := []string{"B-102", "A-100", "A-101", "A-1"}; !slices.Equal(order, want) {
		t.Errorf("%v, want %v", order, want)
	}
}

// A replay sees when the handler has enough of live entries.
func TestCrowded(t *testing.T) {
	b := open(t, t.TempDir(), toOne)
	p := b.j.makePlace(Up("1"))
	if p.crowded() {
		t.Error("crowded, and nobody reads")
	}
	release := make(chan struct{})
	b.read(Up("1"), ReadOptions{Concurrency: 24, Handler: sluice.HandlerFunc(func(context.Context, *sluice.Message) error {
		<-release
		return nil
	})})
	for i, want := range []bool{false, false, true} {
		b.append(fmt.Sprint("D", i), i, 1)
		until(t, fmt.Sprintf("with %d under way, crowded is %v", i+1, want), func() bool { return p.crowded() == want })
	}
	close(release)
	until(t, "there is room again", func() bool { return !p.crowded() })
}

// A turn that cannot come is given back: the device is in backoff, the reader
// ends, or there is none.
func TestATurnIsGivenBack(t *testing.T) {
	b := open(t, t.TempDir(), toOne)
	b.append("A", 0, 1)
	p := b.j.place(Up("1"))
	results := make(chan error, 1)
	turnOf := func(device string) *turn {
		return &turn{m: reportFor("1", device, 7), ctx: context.Background(), done: func(err error) { results <- err }}
	}
	verdict := func(err error) sluice.Verdict { v, _ := sluice.VerdictOf(err); return v }
	if err := p.lend(turnOf("A")); verdict(err) != sluice.NotConnected {
		t.Errorf("without a reader: %v", err)
	}
	began, release := make(chan struct{}, 9), make(chan struct{})
	stop := b.read(Up("1"), ReadOptions{Handler: sluice.HandlerFunc(func(context.Context, *sluice.Message) error {
		began <- struct{}{}
		<-release
		return &sluice.Failure{Verdict: sluice.RetryAfter, After: time.Hour}
	})})
	<-began
	if err := p.lend(turnOf("A")); err != nil {
		t.Fatal(err)
	}
	close(release)
	if err := <-results; verdict(err) != sluice.RetryAfter {
		t.Errorf("in backoff: %v", err)
	}
	if err := p.lend(turnOf("A")); verdict(err) != sluice.RetryAfter {
		t.Errorf("during backoff: %v", err)
	}

	release = make(chan struct{})
	defer close(release)
	b.append("B", 1, 1)
	<-began
	waiting := turnOf("B")
	if err := p.lend(waiting); err != nil {
		t.Fatal(err)
	}
	p.withdraw(waiting, errors.New("withdrawn"))
	if err := <-results; err == nil || err.Error() != "withdrawn" {
		t.Error(err)
	}
	if err := p.lend(turnOf("B")); err != nil {
		t.Fatal(err)
	}
	go stop()
	if err := <-results; verdict(err) != sluice.NotConnected {
		t.Errorf("the reader has ended: %v", err)
	}
}

// A message is tried for so long, while the connection takes messages.
func TestThePatienceOfAReplay(t *testing.T) {
	now := time.Now()
	for _, c := range []struct {
		since, up time.Duration // ago
		failed    bool
	}{{time.Minute, time.Hour, false}, {time.Hour, time.Hour, true}, {time.Hour, time.Minute, false}} {
		j := &Journal{o: Options{}.withDefaults()}
		s := &sender{j: j, r: &replay{}, devices: map[string]*replayed{}, up: now.Add(-c.up)}
		it := &item{m: report("A", 1), since: now.Add(-c.since)}
		d := &replayed{key: "A"}
		d.items.push(it)
		s.again(result{d, it, errors.New("refused")}, 0, now)
		if failed := s.r.view().Failed == 1; failed != c.failed || failed == (len(s.delayed) == 1) {
			t.Errorf("%+v: failed %v, %d delayed", c, failed, len(s.delayed))
		}
	}
}
