//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package datadir

import (
	"os"

	"sluice"
)

// acquire refuses: without a lock that ends with its process, two processes
// could write one journal.
func acquire(path string) (*os.File, error) {
	return nil, &sluice.Error{
		Code:    sluice.CodeInternal,
		Message: "the data directory " + path + " cannot be locked: Sluice knows no file lock on this operating system",
		Hint:    "Run Sluice on Linux, macOS or a BSD, or in a container.",
	}
}
