//go:build !linux

package natsd

// ahead does nothing where we do not know how to ask the system.
func ahead(string) {}
