// Package datadir keeps the directory that an installation of Sluice lives in:
// it makes it, locks it against a second process, tells its format, and holds
// the few small files that are not in the store.
//
//	lock         held while a process uses the directory; its pid
//	format       the number of the layout, "1"
//	instance     8 lower-case letters and digits that tell installations apart
//	admin.token  the administrator's bearer token
//	secret.key   the key that secrets are sealed with (package seal)
//	journal/     the embedded server's files: messages and configuration
//	restoring    there while a backup is being restored into the directory
//	restored     the backup that it was restored from, until the first start
package datadir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"sluice"
)

// Format is the number of the layout that this package writes. A directory
// with a higher one is refused.
const Format = 1

// The names of what lies in the directory.
const (
	lockName     = "lock"
	formatName   = "format"
	instanceName = "instance"
	tokenName    = "admin.token"
	keyName      = "secret.key"
	journalName  = "journal"

	restoringName = "restoring"
	restoredName  = "restored"
)

// Dir is a data directory that this process holds the lock of.
type Dir struct {
	path     string
	fresh    bool
	instance string
	lock     *os.File
}

// Open makes the directory where it is missing (mode 0700), locks it, checks
// its format and reads or makes the instance's name. Errors are
// [*sluice.Error]: CodeConflict when another process holds the lock or the
// directory holds something else than Sluice's data, CodeInvalid for a format
// that cannot be read, CodeInternal for what the file system refuses.
func Open(path string) (*Dir, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, failed(path, "be found", err)
	}
	if err := makeDir(path); err != nil {
		return nil, err
	}
	if err := refuseHalf(path); err != nil {
		return nil, err
	}
	// Asked before the lock file is made, so that nothing is written into a
	// directory that belongs to somebody else.
	if _, err := readFormat(path); err != nil {
		return nil, err
	}
	lock, err := acquire(path)
	if err != nil {
		return nil, err
	}
	d := &Dir{path: path, lock: lock}
	if err := d.settle(); err != nil {
		_ = lock.Close() // the first error tells more
		return nil, err
	}
	return d, nil
}

// settle does what needs the lock: the format, the mode and the instance.
func (d *Dir) settle() error {
	format, err := readFormat(d.path)
	if err != nil {
		return err
	}
	if format == 0 {
		d.fresh = true
		// A directory that was there, empty, may be open to others. A mounted
		// volume that belongs to root cannot be closed, and need not be: the
		// files in it are.
		_ = os.Chmod(d.path, 0o700)
		text := []byte(strconv.Itoa(Format) + "\n")
		if err := WriteFile(filepath.Join(d.path, formatName), text, 0o600); err != nil {
			return failed(d.path, "be written to", err)
		}
	}
	d.instance, err = d.readInstance()
	return err
}

// Path is the directory's absolute path.
func (d *Dir) Path() string { return d.path }

// Fresh reports whether Open has found the directory without data.
func (d *Dir) Fresh() bool { return d.fresh }

// Instance tells this installation from any other: 8 lower-case letters and
// digits, the same as long as the directory lives.
func (d *Dir) Instance() string { return d.instance }

// JournalDir is the directory of the embedded server's files. It may not exist yet.
func (d *Dir) JournalDir() string { return filepath.Join(d.path, journalName) }

// KeyFile is where the key of the secrets lies unless a flag says otherwise.
func (d *Dir) KeyFile() string { return filepath.Join(d.path, keyName) }

// Close gives the directory up, so that another process may open it. Closing
// twice does nothing.
func (d *Dir) Close() error {
	if d.lock == nil {
		return nil
	}
	// The pid is wiped before the lock goes: nobody is to be named who is gone.
	err := errors.Join(d.lock.Truncate(0), d.lock.Close())
	d.lock = nil
	return err
}

// makeDir makes the directory, with its parents.
func makeDir(path string) error {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return failed(path, "be made", err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return failed(path, "be read", err)
	}
	if !info.IsDir() {
		return sluice.Errorf(sluice.CodeConflict, "%s is not a directory", path)
	}
	return nil
}

// readFormat returns the format of the directory's data, 0 for a directory
// that has none yet.
func readFormat(path string) (int, error) {
	text, err := os.ReadFile(filepath.Join(path, formatName))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, refuseForeign(path)
	}
	if err != nil {
		return 0, failed(path, "be read", err)
	}
	format, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || format < 1 {
		return 0, &sluice.Error{
			Code:    sluice.CodeInvalid,
			Message: fmt.Sprintf("the data directory %s has a file %q that is not a number", path, formatName),
			Hint:    "Restore the directory from a copy, or start with another one.",
		}
	}
	if format > Format {
		return 0, &sluice.Error{
			Code:    sluice.CodeConflict,
			Message: fmt.Sprintf("the data directory %s has format %d, and this Sluice knows formats up to %d", path, format, Format),
			Hint:    "A newer Sluice has written it: start that one, or use another directory.",
		}
	}
	return format, nil
}

// refuseForeign refuses a directory without a format that holds something
// that is not ours. What Open leaves behind when it is cut short, and a key
// that was put there beforehand, are ours.
func refuseForeign(path string) error {
	entries, err := os.ReadDir(path)
	if err != nil {
		return failed(path, "be read", err)
	}
	for _, e := range entries {
		switch e.Name() {
		case lockName, instanceName, tokenName, keyName, "lost+found":
			continue
		}
		if strings.HasPrefix(e.Name(), tempPrefix) {
			continue
		}
		return &sluice.Error{
			Code:    sluice.CodeConflict,
			Message: fmt.Sprintf("the directory %s is not empty and is no data directory of Sluice: it has %q and no file %q", path, e.Name(), formatName),
			Hint:    "Name an empty directory, or one that does not exist yet.",
		}
	}
	return nil
}

// failed is the error of a directory that the file system does not let us use.
func failed(path, what string, err error) error {
	return &sluice.Error{
		Code:    sluice.CodeInternal,
		Message: fmt.Sprintf("the data directory %s cannot %s", path, what),
		Hint:    hint(err, os.Geteuid()),
		Err:     err,
	}
}

// hint is what to do about an error of the file system. Whom it refuses is
// told: services and containers often run as another user than one thinks.
func hint(err error, uid int) string {
	switch {
	case errors.Is(err, syscall.EROFS):
		return "The file system there is read-only: name another --data."
	case errors.Is(err, fs.ErrPermission) && uid >= 0: // Windows has no uid
		return fmt.Sprintf("This user (uid %d) may not write there: chown it, or name another --data.", uid)
	default:
		return "Check that it exists, who owns it and how full the disk is."
	}
}
