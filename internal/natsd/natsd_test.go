package natsd

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"
)

// nats-server ends some of its goroutines without waiting for them when it is
// shut down: they are gone a moment later, which goleak allows for.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func start(t *testing.T, o Options) *Server {
	t.Helper()
	s, err := Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func stream(t *testing.T, s *Server) (jetstream.JetStream, *nats.Conn) {
	t.Helper()
	nc, err := s.Connect()
	if err != nil {
		t.Fatal(err)
	}
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateOrUpdateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}}); err != nil {
		t.Fatal(err)
	}
	return js, nc
}

func TestWhatIsStoredIsThereAfterARestart(t *testing.T) {
	o := Options{Dir: t.TempDir(), SyncAlways: true}
	s := start(t, o)
	js, nc := stream(t, s)
	if _, err := js.Publish(t.Context(), "s", []byte("x")); err != nil {
		t.Fatal(err)
	}
	s.Close()
	s.Close()
	if !nc.IsClosed() {
		t.Error("the connection is open after Close")
	}
	if _, err := s.Connect(); err == nil {
		t.Error("connected to a closed server")
	}
	js, _ = stream(t, start(t, o))
	if m, err := js.Stream(t.Context(), "S"); err != nil || m.CachedInfo().State.Msgs != 1 {
		t.Error(m, err)
	}
}

func TestItListensOnNoPort(t *testing.T) {
	s := start(t, Options{Dir: t.TempDir()})
	if a := s.srv.Addr(); a != nil {
		t.Errorf("it listens on %s", a)
	}
}

func TestStartTellsWhyNot(t *testing.T) {
	if _, err := Start(t.Context(), Options{}); err == nil {
		t.Error("started without a directory")
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Start(t.Context(), Options{Dir: file})
	if err == nil || !strings.Contains(err.Error(), "not a directory") {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Nanosecond)
	defer cancel()
	if _, err := Start(ctx, Options{Dir: t.TempDir()}); err == nil {
		t.Error("started although there was no time")
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func TestTheLogIsHandedOver(t *testing.T) {
	var b lockedBuffer
	s := start(t, Options{Dir: t.TempDir(), Log: slog.New(slog.NewTextHandler(&b, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	s.Close()
	if !strings.Contains(b.b.String(), "component=nats-server") {
		t.Errorf("log: %s", b.b.String())
	}
	l := newLogger(nil)
	l.Noticef("n")
	l.Warnf("w")
	l.Errorf("e")
	l.Debugf("d")
	l.Tracef("t")
	if l.fatal() != nil {
		t.Error(l.fatal())
	}
	l.Fatalf("no %s", "disk")
	l.Fatalf("later")
	if err := l.fatal(); err == nil || err.Error() != "no disk" {
		t.Error(err)
	}
}
