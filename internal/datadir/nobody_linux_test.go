package datadir

import (
	"os"
	"runtime"
	"syscall"
	"testing"
)

// nobody is a user who owns nothing.
const nobody = 65534

// asNobody makes this goroutine's thread use the file system as nobody, who
// may pass through the directories from parent upwards that the test made.
func asNobody(t *testing.T, parent string) {
	t.Helper()
	if err := os.Chmod(parent, 0o755); err != nil {
		t.Fatal(err)
	}
	runtime.LockOSThread()
	if err := syscall.Setfsuid(nobody); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Setfsuid(0); err != nil {
			t.Error(err)
		}
		runtime.UnlockOSThread()
	})
}
