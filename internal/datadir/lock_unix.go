//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package datadir

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"sluice"
)

// acquire takes the lock of the directory. The system gives it back when the
// process ends, however it ends, so that a lock file left behind locks nothing.
func acquire(path string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(path, lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, failed(path, "be locked", err)
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		busy := inUse(path, f)
		_ = f.Close()
		return nil, busy
	}
	if err == nil {
		err = writePID(f)
	}
	if err != nil {
		return nil, failed(path, "be locked", errors.Join(err, f.Close()))
	}
	return f, nil
}

// writePID tells who holds the lock. The file is rewritten in place: a new
// file would be another lock.
func writePID(f *os.File) error {
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err := f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return err
}

// inUse is the error for a directory whose lock another process holds.
func inUse(path string, f *os.File) error {
	who := "pid unknown"
	text := make([]byte, 32)
	n, _ := f.ReadAt(text, 0) // nothing to read only means that the other has just begun
	if pid, err := strconv.Atoi(strings.TrimSpace(string(text[:n]))); err == nil {
		who = fmt.Sprintf("pid %d", pid)
	}
	return &sluice.Error{
		Code:    sluice.CodeConflict,
		Message: fmt.Sprintf("the data directory %s is in use by another Sluice (%s)", path, who),
		Hint:    "Stop that process first, or start this one with another --data directory.",
	}
}
