package datadir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"sluice"
)

// Restore makes a data directory of a copy. It makes the directory where it is
// missing; one that is there must be empty, or hold what a Restore that was
// killed has left. fill writes JournalDir, and the key where it has one.
//
// Until all of it is on the disk the directory is marked, and Open refuses it.
// After an error nothing is left of what was made. note is what [Dir.Restored]
// returns until [Dir.ForgetRestored].
func Restore(path, instance string, note []byte, fill func(d *Dir) error) error {
	path, err := filepath.Abs(path)
	if err != nil {
		return failed(path, "be found", err)
	}
	_, err = os.Stat(path)
	made := errors.Is(err, fs.ErrNotExist)
	if err := makeDir(path); err != nil {
		return err
	}
	if err := refuseUsed(path); err != nil {
		return err
	}
	lock, err := acquire(path)
	if err != nil {
		return err
	}
	d := &Dir{path: path, fresh: true, instance: instance, lock: lock}
	err = d.fill(note, fill)
	if err == nil {
		return d.Close()
	}
	cleared := d.clear(made)
	return errors.Join(err, cleared, d.Close())
}

// fill does what needs the lock.
func (d *Dir) fill(note []byte, fill func(d *Dir) error) error {
	if err := refuseUsed(d.path); err != nil { // another Restore may have ended meanwhile
		return err
	}
	write := func(name, text string) error {
		if err := WriteFile(filepath.Join(d.path, name), []byte(text), 0o600); err != nil {
			return failed(d.path, "be written to", err)
		}
		return nil
	}
	_ = os.Chmod(d.path, 0o700) // as in settle
	if err := write(restoringName, ""); err != nil {
		return err
	}
	if err := d.remove(lockName, restoringName); err != nil {
		return failed(d.path, "be cleared", err)
	}
	if err := fill(d); err != nil {
		return err
	}
	for name, text := range map[string]string{
		instanceName: d.instance + "\n", restoredName: string(note), formatName: strconv.Itoa(Format) + "\n",
	} {
		if err := write(name, text); err != nil {
			return err
		}
	}
	if err := syncTree(d.path); err != nil {
		return failed(d.path, "be flushed", err)
	}
	if err := os.Remove(filepath.Join(d.path, restoringName)); err != nil {
		return failed(d.path, "be written to", err)
	}
	return syncDir(d.path)
}

// clear takes away what was made, the mark last.
func (d *Dir) clear(made bool) error {
	// Where the directory holds something that fill has refused, there is no
	// mark, and nothing of ours.
	if _, err := os.Stat(filepath.Join(d.path, restoringName)); err != nil {
		return nil //nolint:nilerr // see above
	}
	if err := d.remove(lockName, restoringName); err != nil {
		return failed(d.path, "be cleared", err)
	}
	if err := d.remove(); err != nil {
		return failed(d.path, "be cleared", err)
	}
	if made {
		_ = os.Remove(d.path) // where it is not empty, somebody else uses it
	}
	return nil
}

// remove removes all that lies in the directory but what is named.
func (d *Dir) remove(keep ...string) error {
	entries, err := os.ReadDir(d.path)
	if err != nil {
		return err
	}
next:
	for _, e := range entries {
		for _, k := range append(keep, "lost+found") {
			if e.Name() == k {
				continue next
			}
		}
		if err := os.RemoveAll(filepath.Join(d.path, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// Restored is what [Restore] was given as note, nil when there is nothing to tell
// any more.
func (d *Dir) Restored() []byte {
	note, err := os.ReadFile(filepath.Join(d.path, restoredName))
	if err != nil {
		return nil
	}
	return note
}

// ForgetRestored says that the restore was told.
func (d *Dir) ForgetRestored() error {
	err := os.Remove(filepath.Join(d.path, restoredName))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return failed(d.path, "be written to", err)
	}
	return nil
}

// refuseUsed refuses to restore into a directory that holds anything but what
// a Restore has left.
func refuseUsed(path string) error {
	entries, err := os.ReadDir(path)
	if err != nil {
		return failed(path, "be read", err)
	}
	other := ""
	for _, e := range entries {
		switch {
		case e.Name() == restoringName:
			return nil
		case e.Name() == lockName, e.Name() == "lost+found", strings.HasPrefix(e.Name(), tempPrefix):
		default:
			other = e.Name()
		}
	}
	if other == "" {
		return nil
	}
	return &sluice.Error{
		Code:    sluice.CodeConflict,
		Message: fmt.Sprintf("the directory %s is not empty: it has %q", path, other),
		Hint:    "Restore into a directory that is empty or does not exist yet. Nothing was changed.",
	}
}

// refuseHalf refuses a directory that a restore has not completed.
func refuseHalf(path string) error {
	if _, err := os.Stat(filepath.Join(path, restoringName)); err != nil {
		return nil //nolint:nilerr // there is none, or Open will tell
	}
	return &sluice.Error{
		Code:    sluice.CodeConflict,
		Message: fmt.Sprintf("the restore into the directory %s was cut short", path),
		Hint:    "Run 'sluice restore' again: it begins anew. Or remove the directory.",
	}
}

// syncTree flushes all files and directories below dir.
func syncTree(dir string) error {
	return filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.IsDir() && !e.Type().IsRegular() {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		return errors.Join(f.Sync(), f.Close())
	})
}
