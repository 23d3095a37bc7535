package journal

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"sluice"
	"sluice/internal/natsd"
)

// backlogChild names the directory for a child that opens the journal on it,
// appends an entry, and tells how long that took and what memory it has.
const backlogChild = "SLUICE_JOURNAL_TEST_BACKLOG"

// mostMemory is what the whole process may have, in KiB: promise 4.
const mostMemory = 200 << 10

func backlogMain(dir string) error {
	start := time.Now()
	ctx := context.Background()
	server, err := natsd.Start(ctx, natsd.Options{Dir: dir, SyncAlways: true})
	if err != nil {
		return err
	}
	conn, err := server.Connect()
	if err != nil {
		return err
	}
	j, err := Open(ctx, Options{Conn: conn})
	if err != nil {
		return err
	}
	go func() { _ = j.Run(ctx) }()
	if err := j.Append(ctx, report("new", 0)); err != nil {
		return err
	}
	took := time.Since(start)
	var tries atomic.Int64
	go func() {
		_ = j.Read(ctx, Up("1"), ReadOptions{Concurrency: 100, Handler: sluice.HandlerFunc(func(context.Context, *sluice.Message) error {
			tries.Add(1)
			return &sluice.Failure{Verdict: sluice.NotConnected}
		})})
	}()
	for tries.Load() < 1000 { // it has read what it holds, and more if it has no bound
		time.Sleep(time.Millisecond)
	}
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(status)) {
		if strings.HasPrefix(line, "VmHWM") || strings.HasPrefix(line, "VmRSS") {
			fmt.Print(line)
		}
	}
	fmt.Printf("received %d\ntook %s\n", j.Counters(Up("1")).Received, took)
	_ = os.Stdout.Sync()
	return syscall.Kill(os.Getpid(), syscall.SIGKILL)
}

// A backlog does not keep the journal from taking reports after it was killed.
// How long it takes is told, and not judged; its memory is both. With
// SLUICE_SLOW there are a million entries.
func TestABacklogAfterAKill(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("SKIPPED: the child reads its memory from /proc")
	}
	n := 20_000
	if os.Getenv(slowTests) != "" {
		n = 1_000_000
	}
	dir := t.TempDir()
	b := open(t, dir)
	ms := messages(1)
	for i := 0; i < n; i += len(ms) {
		b.appendAll(ms)
	}
	b.crash()
	binary := damageBinary(t)
	for round := range 3 {
		cmd := exec.CommandContext(t.Context(), binary)
		cmd.Env = append(os.Environ(), backlogChild+"="+dir)
		cmd.Stderr = os.Stderr
		out, _ := cmd.Output() // it was killed
		received, most := 0, 0
		for scan := bufio.NewScanner(strings.NewReader(string(out))); scan.Scan(); {
			if text, ok := strings.CutPrefix(scan.Text(), "received "); ok {
				received, _ = strconv.Atoi(text)
			}
			if text, ok := strings.CutPrefix(scan.Text(), "VmHWM:"); ok {
				most, _ = strconv.Atoi(strings.TrimSpace(strings.TrimSuffix(text, "kB")))
			}
		}
		t.Logf("%d entries, start %d: %q", n, round+1, out)
		if received != n+round+1 {
			t.Errorf("%d entries, want %d", received, n+round+1)
		}
		if most == 0 || most > mostMemory {
			t.Errorf("%d KiB of memory, want at most %d", most, mostMemory)
		}
	}
}
