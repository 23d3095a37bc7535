//go:build linux

package faults

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"sluice/app/demo"
	"sluice/internal/natsd"
	"sluice/test/child"
	"sluice/test/faults/oracle"
	"sluice/test/faults/power"
)

// TestPowerLoss records every write and sync of a Sluice from its first start
// on, cuts the power at boundaries of syncs, and looks at what is left: all
// that was accepted before is in the journal, and Sluice starts on it.
// SLUICE_CUTS says at how many boundaries; 0 is all of them.
func TestPowerLoss(t *testing.T) {
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("SKIPPED: strace is not installed; nothing shows what a loss of power costs")
	}
	ctx, dir := t.Context(), t.TempDir()
	data, trace := filepath.Join(dir, "data"), filepath.Join(dir, "trace")
	if err := os.Mkdir(data, 0o700); err != nil {
		t.Fatal(err)
	}
	w, err := newWorld(ctx, data, 50, 4, power.Command(strace, trace)...)
	if err != nil {
		t.Fatal(err)
	}
	defer w.close()
	configured := time.Now()
	if err := w.Post(ctx, demo.Load{Rate: 200, Count: 300}); err != nil {
		t.Fatal(err)
	}
	// Large reports fill one block of the stream after another.
	for i := range 250 {
		w.PostChanged(ctx, i%50, func(document []byte) []byte {
			const head = `{"DevEUI_uplink":{`
			return []byte(head + `"Pad":"` + strings.Repeat("x", 100_000) + `",` + strings.TrimPrefix(string(document), head))
		})
	}
	if err := w.drained(ctx); err != nil {
		t.Fatal(err)
	}
	pid := w.api().PID()
	if err := w.api().Kill(); err != nil {
		t.Fatal(err)
	}
	if err := until(ctx, "the trace to be written", func() bool { return power.Complete(trace, pid) }); err != nil {
		t.Fatal(err)
	}
	blackout := blackout{t: t, w: w, dir: dir, trace: trace, configured: configured}
	blackout.run(int(number("SLUICE_CUTS", 30)))
}

// blackout looks at what losses of power leave.
type blackout struct {
	t          *testing.T
	w          *world
	dir, trace string
	configured time.Time
	cuts       int
}

func (b *blackout) follow(each func(n int, d *power.Disk, at time.Time) error) (n int) {
	b.t.Helper()
	f, err := os.Open(b.trace)
	if err != nil {
		b.t.Fatal(err)
	}
	defer f.Close()
	if err := power.Follow(f, b.w.data, func(d *power.Disk, at time.Time) error {
		n++
		return each(n, d, at)
	}); err != nil {
		b.t.Fatal(err)
	}
	return n
}

// run cuts at some boundaries, or all of them.
func (b *blackout) run(some int) {
	var rolls []int // boundaries right after a new block was begun
	blocks := 0
	all := b.follow(func(n int, d *power.Disk, _ time.Time) error {
		if k := d.Count(".blk"); k > blocks {
			blocks = k
			rolls = append(rolls, n, n+1)
		}
		return nil
	})
	chosen := map[int]bool{all: true}
	for _, n := range rolls {
		chosen[n] = true
	}
	seed := number("SLUICE_SEED", rand.Uint64())
	random := rand.New(rand.NewPCG(seed, 1))
	for len(chosen) < min(some, all) || some == 0 && len(chosen) < all {
		chosen[1+random.IntN(all)] = true
	}
	b.t.Logf("%d boundaries, %d blocks, %d cuts, seed %d", all, blocks, len(chosen), seed)
	b.follow(func(n int, d *power.Disk, at time.Time) error {
		if !chosen[n] {
			return nil
		}
		for _, names := range []power.Names{power.NamesKept, power.NamesLost} {
			if err := b.cut(d, names, at); err != nil {
				b.t.Errorf("power lost after sync %d of %d, at %s, %s: %v", n, all, at.Format("15:04:05.000000"), names, err)
			}
		}
		return nil
	})
}

// startEach is after how many cuts the whole Sluice is started.
const startEach = 5

// cut looks at what is left when the power goes now.
func (b *blackout) cut(d *power.Disk, names power.Names, at time.Time) error {
	data, err := os.MkdirTemp(b.dir, "cut")
	if err != nil {
		return err
	}
	defer os.RemoveAll(data)
	if err := d.Write(data, names); err != nil {
		return err
	}
	found, err := journalled(b.t.Context(), filepath.Join(data, "journal"))
	if err != nil {
		return err
	}
	var lost []oracle.Report
	for _, r := range b.w.oracle.AcceptedBefore(at) {
		if !found[r] {
			lost = append(lost, r)
		}
	}
	if len(lost) > 0 {
		return fmt.Errorf("LOST: %d reports that were accepted before, such as %s; %d are there", len(lost), lost[0], len(found))
	}
	if b.cuts++; b.cuts%startEach != 0 {
		return nil
	}
	return b.start(data, at)
}

// start starts Sluice on what is left: it must take up its work.
func (b *blackout) start(data string, at time.Time) error {
	ctx, cancel := context.WithTimeout(b.t.Context(), patience)
	defer cancel()
	listen, err := child.FreePort()
	if err != nil {
		return err
	}
	p, err := child.Start(binary, data, listen, nil)
	if err != nil {
		return err
	}
	defer func() { _ = p.Kill() }()
	if err := p.Ready(ctx); err != nil {
		return err
	}
	if at.Before(b.configured) {
		return nil
	}
	return until(ctx, "what is left to be delivered", func() bool {
		c, err := p.Counters(ctx, b.w.ConnectionID)
		return err == nil && c.Holds() && c.Pending == 0 && c.Failed == 0 && c.Delivered > 0
	})
}

var reportForm = regexp.MustCompile(`"DevEUI":"([0-9A-F]{16})".{0,100}?"FCntUp":(\d+)`)

// journalled reads what a journal holds, past Sluice: the documents as they
// lie in the stream.
func journalled(ctx context.Context, dir string) (map[oracle.Report]bool, error) {
	found := map[oracle.Report]bool{}
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return found, nil
	}
	copied := dir + ".read" // the server changes what it opens
	if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
		return nil, err
	}
	server, err := natsd.Start(ctx, natsd.Options{Dir: copied})
	if err != nil {
		return nil, err
	}
	defer server.Close()
	conn, err := server.Connect()
	if err != nil {
		return nil, err
	}
	js, err := jetstream.New(conn)
	if err != nil {
		return nil, err
	}
	stream, err := js.Stream(ctx, "SLUICE")
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return found, nil
	}
	if err != nil {
		return nil, err
	}
	state := stream.CachedInfo().State
	for seq := max(1, state.FirstSeq); seq <= state.LastSeq; seq++ {
		m, err := stream.GetMsg(ctx, seq)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, f := range reportForm.FindAllSubmatch(m.Data, -1) {
			n, err := strconv.ParseUint(string(f[2]), 10, 32)
			if err != nil {
				return nil, err
			}
			found[oracle.Report{DevEUI: string(bytes.ToUpper(f[1])), FCntUp: uint32(n)}] = true
		}
	}
	return found, nil
}
