package natsd

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// A file that is synced may yet be without a name after a loss of power, when
// its folder is not synced too: POSIX promises no more, though the journalling
// file systems do. The server syncs the blocks of a stream and not their
// folder (v2.15, newMsgBlockForWrite), so that this is done here.

// streamsDir is where the server keeps the streams of its one account.
func (s *Server) streamsDir() string { return filepath.Join(s.o.Dir, "jetstream", "$G", "streams") }

// SyncNames makes the names of all files and folders last that exist now: of
// streams that were just made. It takes a sync a folder.
func (s *Server) SyncNames() error {
	err := filepath.WalkDir(s.o.Dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // the server has removed it meanwhile
		}
		if err == nil && d.IsDir() {
			err = syncDir(path)
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
	if err == nil {
		err = syncDir(filepath.Dir(filepath.Clean(s.o.Dir)))
	}
	if err != nil {
		return fmt.Errorf("natsd: sync the folders: %w", err)
	}
	return nil
}

// Names are the names of a stream's blocks.
type Names struct {
	folder string

	mu      sync.Mutex
	changed time.Time // when the folder changed last, by its own account
	seen    time.Time // when that was first seen
	lasting bool      // nothing can have changed unseen since it was synced
}

// Names are those of a stream's blocks. The stream exists.
func (s *Server) Names(stream string) *Names {
	return &Names{folder: filepath.Join(s.streamsDir(), stream, messagesDir)}
}

// File systems tell the time of a change in ticks: a change in the tick of the
// one before is not seen.
const (
	fineTick   = 20 * time.Millisecond
	coarseTick = 2 * time.Second // of those without fractions of a second
)

// Sync makes the names last, where one may have changed since it was last
// called: a look at the folder costs about a microsecond.
func (n *Names) Sync() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	info, err := os.Stat(n.folder)
	if err != nil {
		return fmt.Errorf("natsd: look at the stream's folder: %w", err)
	}
	changed, now := info.ModTime(), time.Now()
	if !changed.Equal(n.changed) {
		n.changed, n.seen, n.lasting = changed, now, false
	}
	if n.lasting {
		return nil
	}
	if err := syncDir(n.folder); err != nil {
		return fmt.Errorf("natsd: sync the stream's folder: %w", err)
	}
	tick := fineTick
	if changed.Nanosecond() == 0 {
		tick = coarseTick
	}
	n.lasting = now.Sub(n.seen) > tick
	return nil
}
