package faults

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sluice/app/demo"
	"sluice/test/faults/oracle"
)

// damage is what is done to one file of a stream.
type damage struct {
	pattern string // of the file, below the streams
	cut     bool   // cut it short; else flip a bit
	mayLose int    // how many reports it may cost at most
	copies  bool   // whether all may arrive again
}

// TestDamagedFiles kills a Sluice with a backlog, flips a bit of a file of its
// streams or cuts it short, and starts it again: it starts, what is lost is no
// more than was hit, counted, and told in an event.
func TestDamagedFiles(t *testing.T) {
	const all = 1 << 20
	for i, d := range []damage{
		{"SLUICE/msgs/*.blk", false, 64, false}, // a message of the stream has up to 64 KiB of reports
		{"SLUICE/msgs/*.blk", false, 64, false},
		{"SLUICE/msgs/*.blk", true, all, false},
		{"SLUICE/meta.inf", false, 0, false},
		{"SLUICE/meta.sum", true, 0, false},
		{"BOOKS/msgs/*.blk", false, 0, true},
		{"BOOKS/msgs/*.blk", true, 0, true},
		{"BOOKS/meta.inf", true, 0, true},
	} {
		t.Run(fmt.Sprintf("%d", i), func(t *testing.T) {
			t.Parallel()
			runDamage(t, d)
		})
	}
}

func runDamage(t *testing.T, d damage) {
	ctx, seed := t.Context(), number("SLUICE_SEED", rand.Uint64())
	w, err := newWorld(ctx, t.TempDir(), 20, 2)
	if err != nil {
		t.Fatal(err)
	}
	defer w.close()
	told, wrong := oracle.Fault{Name: "damage to " + d.pattern, From: time.Now(), Sessions: 2, Links: 2, Crash: true}, []string{}
	hit, err := w.damaged(ctx, d, rand.New(rand.NewPCG(seed, 2)))
	if err == nil {
		err = w.recovered(ctx)
	}
	if err != nil {
		wrong = append(wrong, err.Error())
	}
	told.To = time.Now()
	if d.copies {
		told.Pubacks = w.oracle.Accepted()
	}
	w.oracle.Fault(told)
	c, err := w.api().Counters(ctx, w.ConnectionID)
	if err != nil {
		t.Fatal(err)
	}
	if c.Failed > 0 && !w.tells(t, "journal.gap") {
		wrong = append(wrong, "no event tells of a gap")
	}
	wrong = append(wrong, w.judge(ctx, oracle.Ending{Lost: int(c.Failed), MayLose: d.mayLose})...)
	t.Logf("%s: %d of %d lost", hit, c.Failed, c.Received)
	if len(wrong) > 0 {
		w.keep(t, "sluice-faults-damage")
		t.Errorf("%s, SLUICE_SEED=%d\n%s", hit, seed, strings.Join(wrong, "\n"))
	}
}

// damaged delivers some reports, lets others wait, and damages a file of the
// killed Sluice.
func (w *world) damaged(ctx context.Context, d damage, random *rand.Rand) (hit string, err error) {
	if err := w.Post(ctx, demo.Load{Rate: 400, Count: 200}); err != nil {
		return "", err
	}
	if err := w.drained(ctx); err != nil {
		return "", err
	}
	w.wire.Refuse(true)
	if err := w.Post(ctx, demo.Load{Rate: 400, Count: 300}); err != nil {
		return "", err
	}
	// What the position on the disk does not know yet, nobody can miss.
	sleep(ctx, oracle.BookLag)
	err = w.kill(func() error {
		files, err := filepath.Glob(filepath.Join(w.data, "journal", "jetstream", "*", "streams", d.pattern))
		if err != nil || len(files) == 0 {
			return fmt.Errorf("no file %s: %w", d.pattern, err)
		}
		file := files[random.IntN(len(files))]
		content, err := os.ReadFile(file)
		if err != nil || len(content) == 0 {
			return fmt.Errorf("%s is empty: %w", file, err)
		}
		at := random.IntN(len(content))
		hit = fmt.Sprintf("%s of %d bytes, cut=%v at %d", filepath.Base(file), len(content), d.cut, at)
		if d.cut {
			return os.Truncate(file, int64(at))
		}
		content[at] ^= 1 << random.IntN(8)
		return os.WriteFile(file, content, 0o600)
	})
	return hit, err
}

// recovered waits until Sluice has dealt with all that is left.
func (w *world) recovered(ctx context.Context) error {
	if err := w.ready(ctx); err != nil {
		return err
	}
	w.wire.Refuse(false)
	if err := w.opened(ctx); err != nil {
		return err
	}
	if err := w.nothingPending(ctx); err != nil {
		return err
	}
	before := w.oracle.Accepted()
	if err := w.Post(ctx, demo.Load{Rate: 400, Count: 20}); err != nil {
		return err
	}
	if got := w.oracle.Accepted() - before; got != 20 {
		return fmt.Errorf("%d of 20 fresh reports were accepted", got)
	}
	return w.nothingPending(ctx)
}

func (w *world) nothingPending(ctx context.Context) error {
	return until(ctx, "what is left to be delivered", func() bool {
		c, err := w.api().Counters(ctx, w.ConnectionID)
		return err == nil && c.Pending == 0 && w.oracle.Missing() <= int(c.Failed)
	})
}

func (w *world) tells(t *testing.T, event string) bool {
	t.Helper()
	return until(t.Context(), "an event "+event, func() bool {
		status, body, err := w.api().API.Raw(t.Context(), "GET", "/events?type="+event, nil)
		return err == nil && status == 200 && strings.Contains(string(body), event)
	}) == nil
}
