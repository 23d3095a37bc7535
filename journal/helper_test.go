package journal

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sluice"
	"sluice/internal/natsd"
)

// nats-server ends some of its goroutines without waiting for them when it is
// shut down: they are gone a moment later, which goleak allows for.
func TestMain(m *testing.M) {
	if os.Getenv(damageChild) != "" {
		damageMain()
		return
	}
	if dir := os.Getenv(backlogChild); dir != "" {
		if err := backlogMain(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	if childMain() {
		return
	}
	goleak.VerifyTestMain(m)
}

// bench is a journal that runs, on a server of its own.
type bench struct {
	t       testing.TB
	dir     string
	server  *natsd.Server
	j       *Journal
	events  *events
	stop    func()
	crashed bool
}

// open opens a journal on a directory and runs it.
func open(t testing.TB, dir string, change ...func(*Options)) *bench {
	t.Helper()
	b := &bench{t: t, dir: dir, events: &events{}}
	var err error
	if b.server, err = natsd.Start(t.Context(), natsd.Options{Dir: dir, SyncAlways: true}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.server.Close)
	conn, err := b.server.Connect()
	if err != nil {
		t.Fatal(err)
	}
	reads, err := b.server.Connect()
	if err != nil {
		t.Fatal(err)
	}
	o := Options{Conn: conn, Reads: reads, Events: b.events, Restart: b.server.Restart, Log: slog.New(slog.DiscardHandler)}
	for _, f := range change {
		f(&o)
	}
	if b.j, err = Open(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	b.run()
	return b
}

func (b *bench) run() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.j.Run(ctx) }()
	b.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil && !b.crashed {
			b.t.Errorf("Run: %v", err)
		}
	})
	b.t.Cleanup(b.stop)
}

// close ends the journal in order.
func (b *bench) close() {
	b.stop()
	b.server.Close()
}

// crash ends the journal without its last book.
func (b *bench) crash() {
	b.crashed = true
	b.server.Close()
	b.stop()
}

// read reads a place until the returned function is called, which waits.
func (b *bench) read(p Place, o ReadOptions) (stop func()) {
	b.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.j.Read(ctx, p, o) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil && !b.crashed {
			b.t.Errorf("Read: %v", err)
		}
	})
	b.t.Cleanup(stop)
	return stop
}

// append appends n reports of a device to connection 1, numbered in their
// documents from first, one after another.
func (b *bench) append(device string, first, n int) {
	b.t.Helper()
	for i := first; i < first+n; i++ {
		if err := b.j.Append(context.Background(), report(device, i)); err != nil {
			b.t.Fatalf("Append: %v", err)
		}
	}
}

// appendAll appends reports many at a time.
func (b *bench) appendAll(ms []*sluice.Message) {
	b.t.Helper()
	for len(ms) > 0 {
		n := min(len(ms), 500)
		if err := b.j.Append(context.Background(), ms[:n]...); err != nil {
			b.t.Fatalf("Append: %v", err)
		}
		ms = ms[n:]
	}
}

func report(device string, i int) *sluice.Message {
	return &sluice.Message{
		ID: fmt.Sprintf("%s-%d", device, i), Kind: sluice.KindUplink, DevEUI: device, Network: "n", Connection: "1",
		Received: time.Now(), Document: fmt.Appendf(nil, `{"DevEUI_uplink":{"DevEUI":%q,"FCntUp":%d}}`, device, i),
	}
}

// until waits for a condition.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); {
		if time.Now().After(end) {
			t.Fatalf("waited in vain until %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// wants waits for the counters of a place.
func (b *bench) wants(p Place, want sluice.Counters) {
	b.t.Helper()
	var got sluice.Counters
	defer func() {
		if got != want {
			b.t.Errorf("counters of %s: %+v, want %+v", p, got, want)
		}
	}()
	until(b.t, fmt.Sprintf("the counters are %+v", want), func() bool {
		got = b.j.Counters(p)
		if !got.Holds() {
			b.t.Fatalf("the law is broken: %+v", got)
		}
		return got == want
	})
}

type events struct {
	mu   sync.Mutex
	list []sluice.Event
}

func (e *events) Record(ev sluice.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.list = append(e.list, ev)
}

func (e *events) count(typ sluice.EventType) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	n := 0
	for _, ev := range e.list {
		if ev.Type == typ {
			n++
		}
	}
	return n
}

// arrivals is a handler that notes what it gets.
type arrivals struct {
	mu  sync.Mutex
	ids map[string]int
	// order has the ids of each device, in the order of their first arrival.
	order map[string][]string
	fail  func(m *sluice.Message) error
}

func (a *arrivals) Handle(_ context.Context, m *sluice.Message) error {
	if a.fail != nil {
		if err := a.fail(m); err != nil {
			return err
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ids == nil {
		a.ids, a.order = map[string]int{}, map[string][]string{}
	}
	if a.ids[m.ID]++; a.ids[m.ID] == 1 {
		a.order[m.DevEUI] = append(a.order[m.DevEUI], m.ID)
	}
	return nil
}

func (a *arrivals) distinct() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.ids)
}
