package journal

import (
	"bufio"
	"context"
	"fmt"
	"math"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sluice"
	"sluice/internal/natsd"
)

// The test binary runs itself as a child that appends to the journal in the
// directory that this variable names, until it is killed.
const childDir = "SLUICE_JOURNAL_TEST_DIR"

// childLines names the variable with the number of lines that the child ends
// after by itself.
const childLines = "SLUICE_JOURNAL_TEST_LINES"

// acked begins the lines in which the child tells the ids that Append returned
// nil for. It writes each with one write(2), after Append has returned.
const acked = "acked "

// booked is the line in which it tells that a first book was written.
const booked = "booked"

func childMain() bool {
	dir := os.Getenv(childDir)
	if dir == "" {
		return false
	}
	if err := child(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	return true
}

// child appends from several goroutines to several places, and reads one of
// them; it ends by itself after a minute.
func child(dir string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	server, err := natsd.Start(ctx, natsd.Options{Dir: dir, SyncAlways: true})
	if err != nil {
		return err
	}
	defer server.Close()
	conn, err := server.Connect()
	if err != nil {
		return err
	}
	j, err := Open(ctx, Options{Conn: conn})
	if err != nil {
		return err
	}
	go func() { _ = j.Run(ctx) }()
	go func() { _ = j.Read(ctx, Up("1"), ReadOptions{Handler: &arrivals{}, Concurrency: 4}) }()
	go func() {
		for j.Stats().Books == 0 && ctx.Err() == nil {
			time.Sleep(time.Millisecond)
		}
		_, _ = os.Stdout.WriteString(booked + "\n")
	}()
	start := time.Now().UnixNano()
	done := make(chan error)
	var lines atomic.Int64 // 0: no limit
	if limit, err := strconv.Atoi(os.Getenv(childLines)); err == nil {
		lines.Store(int64(limit))
	}
	const writers = 30
	for w := range writers {
		go func() {
			for i := 0; ; i++ {
				m := report(fmt.Sprint("D", w), i)
				m.ID, m.Connection = fmt.Sprintf("%d-%d-%d", start, w, i), fmt.Sprint(w%25+1)
				if err := j.Append(ctx, m); err != nil {
					done <- err
					return
				}
				_, _ = os.Stdout.WriteString(acked + m.Connection + " " + m.ID + "\n")
				if lines.Add(-1) == 0 {
					done <- nil
					return
				}
			}
		}()
	}
	return <-done
}

// runChild starts the child on a directory, lets it append until lines were
// acknowledged and a book was written, kills it (or, with 0, waits until it ends), and adds what was
// acknowledged to got.
func runChild(t *testing.T, cmd *exec.Cmd, dir string, lines int, got map[string]string) {
	t.Helper()
	cmd.Env = append(cmd.Environ(), childDir+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	scan := bufio.NewScanner(out)
	for n, books := 0, false; scan.Scan(); {
		books = books || scan.Text() == booked
		connection, id, ok := strings.Cut(strings.TrimPrefix(scan.Text(), acked), " ")
		if !ok {
			continue
		}
		got[id] = connection
		if n++; n >= lines && books && lines > 0 {
			lines = math.MaxInt
			_ = cmd.Process.Kill() // what it still wrote is read, too
		}
	}
	_ = cmd.Wait()
}

func TestKillLosesNothing(t *testing.T) {
	dir, got := t.TempDir(), map[string]string{}
	for round := range 3 {
		runChild(t, exec.Command(os.Args[0]), dir, 400+50*round, got)
	}
	b := open(t, dir)
	arrived := map[string]string{}
	for _, p := range b.j.Places() {
		entries := b.entriesOf(p)
		for i, m := range entries {
			if m.Number != uint64(i+1) {
				t.Fatalf("entry %d of %s has number %d", i+1, p, m.Number)
			}
			arrived[m.ID] = m.Connection
		}
		if c := b.j.Counters(p); !c.Holds() || c.Received != uint64(len(entries)) {
			t.Errorf("%s: %+v with %d entries", p, c, len(entries))
		}
	}
	for id, connection := range got {
		if arrived[id] != connection {
			t.Errorf("%s was acknowledged and is lost", id)
		}
	}
	c := b.j.Counters(Up("1"))
	if c.Delivered == 0 {
		t.Errorf("the position of a place that was read is lost: %+v", c)
	}
	b.read(Up("1"), ReadOptions{Handler: &arrivals{}})
	b.wants(Up("1"), sluice.Counters{Received: c.Received, Delivered: c.Received})
	if n := b.events.count(sluice.EventJournalGap); n != 0 {
		t.Errorf("%d gaps: %+v", n, b.events.list)
	}
}

// An acknowledgement that comes before the data is on the disk is no
// acknowledgement. The child's system calls are recorded, and at each line
// "acked" the id must have been written to a block of the stream through a
// descriptor that was opened with O_SYNC, or synced after the write.
func TestTheAcknowledgementFollowsTheSync(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("SKIPPED: system calls are recorded on Linux only")
	}
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("SKIPPED: strace is not installed; nothing shows that an acknowledgement follows the sync")
	}
	trace := t.TempDir() + "/trace"
	cmd := exec.Command(strace, "-f", "-qq", "-y", "-s", "1000000", "-o", trace,
		"-e", "trace=openat,write,pwrite64,writev,fsync,fdatasync", os.Args[0])
	cmd.Env = append(os.Environ(), childLines+"=200")
	runChild(t, cmd, t.TempDir(), 0, map[string]string{})
	f, err := os.Open(trace)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	checkTrace(t, bufio.NewReaderSize(f, 1<<20))
}
