package app

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"sluice"
	"sluice/backup"
	"sluice/internal/natsd"
	"sluice/journal"
)

// recorded are the events that a journal tells.
type recorded struct {
	mu  sync.Mutex
	all []sluice.Event
}

func (r *recorded) Record(e sluice.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, e)
}

// busy is the writer of a backup. Before each stream that is written it has
// reports accepted and delivered, and their position written.
type busy struct {
	bytes.Buffer
	streams int
	work    func()
}

func (b *busy) Write(p []byte) (int, error) {
	if bytes.HasPrefix(p, []byte("streams/")) && bytes.Contains(p[:100], []byte("/00000001\x00")) {
		b.streams++
		b.work()
	}
	return b.Buffer.Write(p)
}

// openJournal opens a journal on a directory, and runs it.
func openJournal(t *testing.T, dir string, restored string, events *recorded, fill func(*natsd.Server)) (*journal.Journal, *natsd.Server) {
	t.Helper()
	server, err := natsd.Start(t.Context(), natsd.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	if fill != nil {
		fill(server)
	}
	conn, err := server.Connect()
	if err != nil {
		t.Fatal(err)
	}
	j, err := journal.Open(t.Context(), journal.Options{Conn: conn, Restored: restored, Events: events})
	if err != nil {
		t.Fatal(err)
	}
	running(t, j.Run)
	return j, server
}

// running runs f until the end of the test.
func running(t *testing.T, f func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// TestBackupOfABusyJournal accepts, delivers and writes positions between all
// streams that are copied: positions are never newer than the entries.
func TestBackupOfABusyJournal(t *testing.T) {
	j, server := openJournal(t, t.TempDir(), "", &recorded{}, nil)
	running(t, func(ctx context.Context) error {
		return j.Read(ctx, journal.Up("1"), journal.ReadOptions{Handler: sluice.HandlerFunc(func(context.Context, *sluice.Message) error { return nil })})
	})
	n := 0
	work := func() {
		for range 20 {
			for _, connection := range []string{"1", "2"} { // nobody reads the second
				if err := j.Append(t.Context(), &sluice.Message{
					ID: fmt.Sprint(connection, n), Kind: "DevEUI_uplink", DevEUI: "D", Connection: connection, Received: time.Now(), Document: []byte("{}"),
				}); err != nil {
					t.Fatal(err)
				}
			}
			n++
		}
		books := j.Stats().Books
		deadline := time.Now().Add(time.Minute)
		for j.Counters(journal.Up("1")).Pending > 0 || j.Stats().Books == books {
			if time.Now().After(deadline) {
				t.Fatal("waited in vain for a position to be written")
			}
			time.Sleep(time.Millisecond)
		}
	}
	work()
	before := j.Counters(journal.Up("1")).Received

	conn, err := server.Connect()
	if err != nil {
		t.Fatal(err)
	}
	out := &busy{work: work}
	if err := backup.Write(t.Context(), out, backup.Source{
		Conn: conn, Journal: j, Dir: t.TempDir(), Summary: func() backup.Summary { return backup.Summary{} }, Clock: time.Now,
	}); err != nil {
		t.Fatal(err)
	}
	if out.streams < 2 {
		t.Fatalf("nothing was done in between: %d streams", out.streams)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, out.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	a, err := backup.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	events := &recorded{}
	restored, _ := openJournal(t, t.TempDir(), "a backup", events, func(s *natsd.Server) {
		conn, err := s.Connect()
		if err != nil {
			t.Fatal(err)
		}
		if err := a.Restore(t.Context(), conn); err != nil {
			t.Fatal(err)
		}
	})
	one, two := restored.Counters(journal.Up("1")), restored.Counters(journal.Up("2"))
	if !one.Holds() || one.Received < before || one.Delivered < before || one.Failed > 0 {
		t.Errorf("%d were accepted and delivered before the backup; restored: %+v", before, one)
	}
	if !two.Holds() || two.Received < before || two.Pending != two.Received {
		t.Errorf("%d were accepted and waited before the backup; restored: %+v", before, two)
	}
	if err := restored.Check(t.Context()); err != nil {
		t.Error(err)
	}
	if len(events.all) != 1 || events.all[0].Type != sluice.EventSystemRestored || events.all[0].Level != sluice.LevelWarning {
		t.Errorf("told: %+v", events.all)
	}
}
