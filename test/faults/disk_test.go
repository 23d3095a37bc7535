//go:build linux

package faults

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"sluice/app/demo"
	"sluice/test/faults/oracle"
)

// smallDisk mounts a disk of its own.
func smallDisk(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Skipf("SKIPPED: no small disk can be mounted (%v): nothing shows what Sluice does on a full one", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	return dir
}

// fill takes all of a disk but so many bytes.
func fill(dir string, leave int64) (remove func() error, err error) {
	name := filepath.Join(dir, "ballast")
	f, err := os.Create(name)
	if err != nil {
		return nil, err
	}
	for range 100 { // others write meanwhile
		var s syscall.Statfs_t
		if err = syscall.Statfs(dir, &s); err != nil {
			break
		}
		if err = syscall.Fallocate(int(f.Fd()), 0, 0, int64(s.Bavail)*int64(s.Bsize)-leave); !errors.Is(err, syscall.ENOSPC) {
			break
		}
	}
	return func() error { return os.Remove(name) }, errors.Join(err, f.Close())
}

// TestDiskFull fills the disk below a Sluice while reports flow: first into
// its reserve, then at one stroke to the last byte. It answers 503, loses
// nothing of what it took, and goes on by itself when there is room again.
func TestDiskFull(t *testing.T) {
	ctx, disk := t.Context(), smallDisk(t, "400m")
	w, err := newWorld(ctx, filepath.Join(disk, "data"), 50, 4)
	if err != nil {
		t.Fatal(err)
	}
	defer w.close()
	flowing, stop := context.WithCancel(ctx)
	defer stop()
	var flow sync.WaitGroup
	flow.Go(func() { w.look(flowing) })
	flow.Go(func() { _ = w.Post(flowing, demo.Load{Rate: 200}) })
	var wrong []string
	for _, leave := range []int64{128 << 20, 0, 4096, 100_000} {
		if err := w.full(ctx, disk, leave); err != nil {
			wrong = append(wrong, err.Error())
			break
		}
	}
	stop()
	flow.Wait()
	if len(wrong) == 0 {
		if err := w.settle(ctx); err != nil {
			wrong = append(wrong, err.Error())
		}
	}
	wrong = append(wrong, w.judge(ctx, oracle.Ending{})...)
	t.Logf("%d accepted, %d refused with 503", w.answered(200), w.answered(503))
	if len(wrong) > 0 {
		w.keep(t, "sluice-faults-disk-full")
		t.Error(strings.Join(wrong, "\n"))
	}
}

// full fills the disk until reports are refused, and makes room again.
func (w *world) full(ctx context.Context, disk string, leave int64) error {
	accepted := w.answered(200)
	if err := until(ctx, "reports to be taken", func() bool { return w.answered(200) > accepted+50 }); err != nil {
		return err
	}
	refused := w.answered(503)
	remove, err := fill(disk, leave)
	if err != nil {
		return err
	}
	refusing := until(ctx, "reports to be refused with 503", func() bool { return w.answered(503) > refused+50 })
	if err := errors.Join(refusing, remove()); err != nil {
		return err
	}
	accepted = w.answered(200)
	return until(ctx, "reports to be taken again", func() bool { return w.answered(200) > accepted+50 })
}
