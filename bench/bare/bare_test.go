package bare

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sluice/bench/ledger"
	"sluice/bench/load"
	"sluice/bench/sink"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestKeeps accepts reports while the sink is away, opens the bridge again with
// a torn record at the end of its log, and wants every report to arrive.
func TestKeeps(t *testing.T) {
	l := ledger.New(load.FirstDevEUI, 8)
	s, err := sink.New(sink.Options{Ledger: l})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Stop()
	s.Stop()
	o := Options{Listen: "127.0.0.1:0", Data: t.TempDir(), Sink: s.Addr(), Papers: s.Papers()}
	b := open(t, o)
	ctx, cancel := context.WithCancel(t.Context())
	g, err := load.New(load.Options{Devices: 8, Concurrency: 4, Ledger: l, Target: func() load.Target {
		return load.Target{URL: "http://" + b.Addr() + "/"}
	}})
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		defer cancel()
		await(t, "reports to be accepted", func() bool { return l.Totals().Accepted >= 50 })
	}()
	g.Run(ctx, 0)
	shut(t, b)
	if n := l.Totals().Arrived; n != 0 {
		t.Fatalf("%d reports arrived at a sink that is away", n)
	}
	path := filepath.Join(o.Data, "log")
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("0251C0DE00000001\x00\x00\x10\x00torn"); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	b = open(t, o)
	defer shut(t, b)
	await(t, "all to arrive", func() bool { return l.Missing() == 0 })
	if got := l.Totals(); got.Disordered+got.Strangers+got.Copies > 0 {
		t.Errorf("written down: %+v", got)
	}
	answer, err := http.Post("http://"+b.Addr()+"/", "application/json", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	if answer.StatusCode != http.StatusBadRequest {
		t.Errorf("a report without a device is answered %d", answer.StatusCode)
	}
}

func TestAlone(t *testing.T) {
	l := ledger.New(load.FirstDevEUI, 50)
	s, err := sink.New(sink.Options{Ledger: l})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Stop()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Alone(ctx, s.Addr(), s.Papers(), 50) }()
	await(t, "reports to arrive", func() bool { return l.Totals().Arrived > 200 })
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if got := l.Totals(); got.Disordered+got.Strangers+got.Copies > 0 {
		t.Errorf("written down: %+v", got)
	}
}

func open(t *testing.T, o Options) *Bridge {
	t.Helper()
	b, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func shut(t *testing.T, b *Bridge) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := b.Close(ctx); err != nil {
		t.Error(err)
	}
}

func await(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !done(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Errorf("waited in vain for %s", what)
			return
		}
	}
}
