package natsd

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// A folder is synced until nothing can have changed unseen, and again when
// something has.
func TestNamesAreSyncedWhenTheyChange(t *testing.T) {
	s := start(t, Options{Dir: t.TempDir(), SyncAlways: true})
	stream(t, s)
	n := s.Names("S")
	settle := func() {
		t.Helper()
		for end := time.Now().Add(30 * time.Second); !n.lasting; {
			if err := n.Sync(); err != nil {
				t.Fatal(err)
			}
			if time.Now().After(end) {
				t.Fatal("it never lasts")
			}
		}
	}
	settle()
	if err := os.WriteFile(filepath.Join(n.folder, "2.blk"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := n.Sync(); err != nil || n.lasting {
		t.Errorf("a new name was not seen: %v", err)
	}
	settle()
	if err := s.SyncNames(); err != nil {
		t.Error(err)
	}
	n.folder += "-gone"
	if n.Sync() == nil {
		t.Error("a folder that is not there is no error")
	}
}

func BenchmarkNames(b *testing.B) {
	n := &Names{folder: b.TempDir()}
	for b.Loop() {
		if err := n.Sync(); err != nil {
			b.Fatal(err)
		}
	}
}
