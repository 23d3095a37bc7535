//go:build linux

package journal

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"sluice"
)

// smallDisk mounts a disk of its own.
func smallDisk(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Skipf("SKIPPED: no small disk can be mounted (%v): nothing shows what happens on a full one", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	return dir
}

// fill writes a file that leaves so many bytes of a disk free.
func fill(t *testing.T, dir string, leave int64) (remove func()) {
	t.Helper()
	free, err := diskFree(dir)
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, "ballast")
	if err := os.WriteFile(name, make([]byte, max(free-leave, 0)), 0o600); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
}

// A disk that is full to the last byte, although there is a reserve in real
// life, costs nothing that was acknowledged, and when there is room again the
// journal takes reports without being opened again.
func TestAFullDisk(t *testing.T) {
	dir := smallDisk(t, "48m")
	b := open(t, filepath.Join(dir, "data"), func(o *Options) { o.Dir, o.Reserve = dir, 1 })
	got := &arrivals{}
	b.read(Up("1"), ReadOptions{Handler: got, Concurrency: 4})
	acked := map[string]bool{}
	n := 0
	add := func() error {
		m := report("D", n)
		m.Document = append(m.Document, make([]byte, 2000)...)
		n++
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		err := b.j.Append(ctx, m)
		if err == nil {
			acked[m.ID] = true
		}
		return err
	}
	for round := range 2 {
		remove := fill(t, dir, 300_000)
		for add() == nil {
			if n > 5000*(round+1) {
				t.Fatal("the disk does not become full")
			}
		}
		for range 2 {
			if err := add(); err != nil && sluice.CodeOf(err) != sluice.CodeUnavailable {
				t.Fatal(err)
			}
		}
		remove()
		until(t, "reports are taken again", func() bool { return add() == nil })
	}
	if b.events.count(sluice.EventJournalRestarted) == 0 {
		t.Errorf("the server was not restarted: %+v", b.events.list)
	}
	until(t, "all is done", func() bool { return b.j.Counters(Up("1")).Pending == 0 })
	for id := range acked {
		if got.ids[id] == 0 {
			t.Errorf("%s was acknowledged and is lost", id)
		}
	}
	c := b.j.Counters(Up("1"))
	if !c.Holds() || c.Failed != 0 || c.Received < uint64(len(acked)) {
		t.Errorf("%+v, %d acknowledged", c, len(acked))
	}
	if err := b.j.Err(); err != nil {
		t.Error(err)
	}
}

// With a reserve the store never meets the end of the disk.
func TestTheReserveComesBeforeTheEndOfTheDisk(t *testing.T) {
	dir := smallDisk(t, "48m")
	b := open(t, filepath.Join(dir, "data"), func(o *Options) { o.Dir, o.Reserve = dir, 8<<20 })
	b.append("D", 0, 5)
	remove := fill(t, dir, 7<<20)
	var err error
	until(t, "the journal refuses", func() bool {
		err = b.j.Append(context.Background(), report("D", 5))
		return err != nil
	})
	if sluice.CodeOf(err) != sluice.CodeUnavailable || b.j.Err() == nil {
		t.Errorf("%v", err)
	}
	remove()
	until(t, "reports are taken again", func() bool { return b.j.Append(context.Background(), report("D", 6)) == nil })
	if n := b.events.count(sluice.EventJournalRestarted); n != 0 {
		t.Errorf("restarted %d times", n)
	}
}

// A restart of the server under load loses nothing.
func TestARestartOfTheServerLosesNothing(t *testing.T) {
	b := open(t, t.TempDir())
	got := &arrivals{}
	b.read(Up("1"), ReadOptions{Handler: got, Concurrency: 4})
	acked := map[string]bool{}
	for i := range 300 {
		if i%100 == 50 {
			if err := b.server.Restart(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		m := report(fmt.Sprint("D", i%3), i)
		if b.j.Append(context.Background(), m) == nil {
			acked[m.ID] = true
		}
	}
	until(t, "reports are taken", func() bool { return b.j.Append(context.Background(), report("new", 0)) == nil })
	until(t, "all is done", func() bool { return b.j.Counters(Up("1")).Pending == 0 })
	for id := range acked {
		if got.ids[id] == 0 {
			t.Errorf("%s was acknowledged and is lost", id)
		}
	}
	if len(acked) < 250 || b.events.count(sluice.EventJournalGap) != 0 {
		t.Errorf("%d acknowledged: %+v", len(acked), b.events.list)
	}
}

func TestRunEndsWithItsConnection(t *testing.T) {
	b := open(t, t.TempDir())
	b.crashed = true
	done := make(chan error, 1)
	b.stop()
	b.j.queue.ended = false
	go func() { done <- b.j.Run(context.Background()) }()
	b.append("D", 0, 1)
	b.server.Close()
	if err := <-done; !errors.Is(err, errClosed) {
		t.Errorf("Run: %v", err)
	}
}
