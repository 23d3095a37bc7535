package natsd

import (
	"os"

	"golang.org/x/sys/unix"
)

// ahead asks the system to read a file into its cache, and does not wait for
// it. One that cannot be asked is read later, all the same.
func ahead(name string) {
	f, err := os.Open(name)
	if err != nil {
		return
	}
	defer func() { _ = f.Close() }() // was not even read
	_ = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_WILLNEED)
}
