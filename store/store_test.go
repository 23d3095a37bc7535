package store_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/goleak"

	"sluice"
	"sluice/internal/natsd"
	"sluice/internal/seal"
	"sluice/store"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// start is the time of the tests' clocks.
var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// house is a server with JetStream on a directory, and a key.
type house struct {
	t      testing.TB
	dir    string
	key    *seal.Key
	server *natsd.Server
	conn   *nats.Conn
	log    *slog.Logger
}

func newHouse(t testing.TB) *house {
	t.Helper()
	key, err := seal.Create(filepath.Join(t.TempDir(), "secret.key"))
	if err != nil {
		t.Fatal(err)
	}
	h := &house{t: t, dir: t.TempDir(), key: key, log: slog.New(slog.DiscardHandler)}
	h.open()
	t.Cleanup(h.close)
	return h
}

func (h *house) open() { h.server, h.conn = serve(h.t, h.dir) }

func (h *house) close() { h.server.Close() }

// restart stops the server and starts it again.
func (h *house) restart() {
	h.close()
	h.open()
}

// serve starts a server on a directory.
func serve(t testing.TB, dir string) (*natsd.Server, *nats.Conn) {
	t.Helper()
	server := must[*natsd.Server](t)(natsd.Start(ctx(), natsd.Options{Dir: dir, SyncAlways: true}))
	return server, must[*nats.Conn](t)(server.Connect())
}

// store opens a store that nobody runs.
func (h *house) store(changes ...func(*store.Options)) *store.Store {
	h.t.Helper()
	s, err := h.tryStore(changes...)
	if err != nil {
		h.t.Fatal(err)
	}
	return s
}

func (h *house) tryStore(changes ...func(*store.Options)) (*store.Store, error) {
	o := store.Options{Conn: h.conn, Sealer: h.key, Log: h.log, Clock: func() time.Time { return start }}
	for _, change := range changes {
		change(&o)
	}
	return store.Open(context.Background(), o)
}

// run runs a store; stop ends it and waits.
func run(t testing.TB, s *store.Store) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() {
		if err := s.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	stop = sync.OnceFunc(func() {
		cancel()
		done.Wait()
	})
	t.Cleanup(stop)
	return stop
}

// waitFor waits until a condition holds.
func waitFor(t testing.TB, what string, holds func() bool) {
	t.Helper()
	deadline := time.NewTimer(20 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-deadline.C:
			t.Fatalf("timed out waiting: %s", what)
		case <-tick.C:
		}
	}
}

func ctx() context.Context { return context.Background() }

// must returns a value or ends the test.
func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func awsConnection(name string) sluice.Connection {
	return sluice.Connection{
		ConnectorID: "actility-aws-iot",
		Name:        name,
		Active:      true,
		Alarms:      json.RawMessage(`[{"message":"low"}]`),
		Configuration: json.RawMessage(fmt.Sprintf(
			`{"region":"eu-west-1","privateKey":%q,"secretAccessKey":%q,"poolSize":10.0,"big":12345678901234567890,"html":"<a&b>"}`,
			pemSecret, awsSecret)),
	}
}

const (
	pemSecret = "-----BEGIN PRIVATE KEY-----\nVERYSECRETPEM0123456789\n-----END PRIVATE KEY-----"
	awsSecret = "AKVERYSECRETACCESSKEY0123456789"
	asSecret  = "00112233445566778899AABBCCDDEEFF"
)

var awsSecrets = []string{"privateKey", "secretAccessKey", "sessionToken"}

// copyTree copies a directory as it is at this moment, as a crash leaves it.
func copyTree(t testing.TB, from, to string) {
	t.Helper()
	err := filepath.WalkDir(from, func(path string, e os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		target := filepath.Join(to, path[len(from):])
		if e.IsDir() {
			return os.MkdirAll(target, 0o700)
		}
		return copyFile(path, target)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		return err
	}
	return out.Close()
}

func canceled() (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx, cancel
}
