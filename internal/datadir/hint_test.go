package datadir

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"sluice"
)

func TestHint(t *testing.T) {
	const general = "Check that it exists, who owns it and how full the disk is."
	refused := &fs.PathError{Op: "mkdir", Path: "/data", Err: syscall.EACCES}
	for _, test := range []struct {
		err  error
		uid  int
		want string
	}{
		{refused, 1001, "This user (uid 1001) may not write there: chown it, or name another --data."},
		{errors.Join(refused, nil), 0, "This user (uid 0) may not write there: chown it, or name another --data."},
		{refused, -1, general},
		{&fs.PathError{Op: "mkdir", Path: "/data", Err: syscall.EROFS}, 1001, "The file system there is read-only: name another --data."},
		{syscall.ENOSPC, 1001, general},
	} {
		if got := hint(test.err, test.uid); got != test.want {
			t.Errorf("%v, uid %d: %q", test.err, test.uid, got)
		}
	}
}

// TestReadOnlyDirectory tries as a user whom modes bind: where the test is
// run by root, its thread takes another user's place in the file system.
func TestReadOnlyDirectory(t *testing.T) {
	path := t.TempDir()
	if err := os.Chmod(path, 0o555); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		asNobody(t, filepath.Dir(path))
	}
	d, err := Open(path)
	if err == nil {
		_ = d.Close()
		t.Fatal("a directory that cannot be written to was opened")
	}
	e, ok := errors.AsType[*sluice.Error](err)
	if want := hint(fs.ErrPermission, os.Geteuid()); !ok || e.Hint != want {
		t.Errorf("err = %#v, want the hint %q", err, want)
	}
}
