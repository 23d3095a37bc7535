//go:build linux || darwin || freebsd

package journal

import (
	"fmt"
	"syscall"
)

// diskFree returns how many bytes may still be written to the disk that dir
// lies on.
func diskFree(dir string) (int64, error) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		return 0, fmt.Errorf("statfs %s: %w", dir, err)
	}
	return int64(s.Bavail) * int64(s.Bsize), nil //nolint:unconvert // the types differ between systems
}
