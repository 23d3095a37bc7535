package datadir_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"sluice"
	"sluice/internal/datadir"
)

func names(t *testing.T, path string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// fill writes a file into the journal.
func fill(d *datadir.Dir) error {
	if err := os.Mkdir(d.JournalDir(), 0o700); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(d.JournalDir(), "entries"), nil, 0o600)
}

func TestRestore(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a", "b")
	if err := datadir.Restore(path, "abcd1234", []byte("note"), fill); err != nil {
		t.Fatal(err)
	}
	d := open(t, path)
	if d.Instance() != "abcd1234" || d.Fresh() || string(d.Restored()) != "note" {
		t.Errorf("instance %q, fresh %v, note %q", d.Instance(), d.Fresh(), d.Restored())
	}
	for range 2 {
		if err := d.ForgetRestored(); err != nil || d.Restored() != nil {
			t.Errorf("%v, the note is %q", err, d.Restored())
		}
	}
}

// TestRestoreThatFails leaves nothing, and touches nothing that is not its own.
func TestRestoreThatFails(t *testing.T) {
	broken := errors.New("broken")
	fail := func(d *datadir.Dir) error { return errors.Join(fill(d), broken) }
	path := filepath.Join(t.TempDir(), "new")
	if err := datadir.Restore(path, "abcd1234", nil, fail); !errors.Is(err, broken) {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Error("the directory was left")
	}
	path = t.TempDir() // one that was there
	if err := datadir.Restore(path, "abcd1234", nil, fail); !errors.Is(err, broken) {
		t.Fatal(err)
	}
	if left := names(t, path); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	for _, name := range []string{"format", "thesis.txt", "secret.key"} {
		path := t.TempDir()
		write(t, filepath.Join(path, name), "1", 0o600)
		err := datadir.Restore(path, "abcd1234", nil, fill)
		if e, ok := errors.AsType[*sluice.Error](err); !ok || e.Code != sluice.CodeConflict {
			t.Errorf("over %s: %v", name, err)
		}
		if left := names(t, path); len(left) != 1 {
			t.Errorf("left: %v", left)
		}
	}
}

// TestRestoreThatWasKilled is no data directory, and can be restored into.
func TestRestoreThatWasKilled(t *testing.T) {
	path := t.TempDir()
	killed := func(d *datadir.Dir) error {
		if err := fill(d); err != nil {
			return err
		}
		// What a process that was killed now has left.
		return os.CopyFS(filepath.Join(path, "..", "left"), os.DirFS(path))
	}
	if err := datadir.Restore(path, "abcd1234", nil, killed); err != nil {
		t.Fatal(err)
	}
	left := filepath.Join(path, "..", "left")
	refused(t, left, sluice.CodeConflict)
	write(t, filepath.Join(left, "format"), "1\n", 0o600) // one file before the end
	refused(t, left, sluice.CodeConflict)
	if err := datadir.Restore(left, "wxyz5678", nil, fill); err != nil {
		t.Fatal(err)
	}
	if d := open(t, left); d.Instance() != "wxyz5678" {
		t.Errorf("instance %q", d.Instance())
	}
	if err := datadir.Restore(left, "abcd1234", nil, fill); err == nil {
		t.Error("restored over a data directory")
	}
}

func TestRestoreIntoADirectoryInUse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new")
	err := datadir.Restore(path, "abcd1234", nil, func(d *datadir.Dir) error {
		refused(t, path, sluice.CodeConflict)
		if err := datadir.Restore(path, "wxyz5678", nil, fill); sluice.CodeOf(err) != sluice.CodeConflict {
			t.Errorf("restored twice at once: %v", err)
		}
		return fill(d)
	})
	if err != nil {
		t.Fatal(err)
	}
}
