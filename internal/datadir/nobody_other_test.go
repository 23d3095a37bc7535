//go:build !linux

package datadir

import "testing"

func asNobody(t *testing.T, _ string) {
	t.Helper()
	t.Skip("SKIPPED: modes do not bind root, and this system cannot take another user's place")
}
