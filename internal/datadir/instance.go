package datadir

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"sluice"
)

// instanceSize is the length of an instance's name: short enough to stand in
// an MQTT client id, and 41 bits, enough to tell installations apart.
const instanceSize = 8

// instanceLetters are what an instance's name is made of.
const instanceLetters = "abcdefghijklmnopqrstuvwxyz0123456789"

// readInstance reads the instance's name, or makes one.
func (d *Dir) readInstance() (string, error) {
	path := filepath.Join(d.path, instanceName)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		name := newInstance()
		if err := WriteFile(path, []byte(name+"\n"), 0o600); err != nil {
			return "", failed(d.path, "be written to", err)
		}
		return name, nil
	}
	if err != nil {
		return "", failed(d.path, "be read", err)
	}
	name := strings.TrimSpace(string(text))
	if len(name) != instanceSize || strings.Trim(name, instanceLetters) != "" {
		return "", &sluice.Error{
			Code:    sluice.CodeInvalid,
			Message: fmt.Sprintf("the data directory %s has a file %q that is not %d lower-case letters and digits", d.path, instanceName, instanceSize),
			Hint:    "Restore the file from a copy. Without it, remove it: a new name is made, and the cloud sees other client ids.",
		}
	}
	return name, nil
}

// newInstance makes a name. Bytes above the last whole multiple of the number
// of letters are thrown away, so that all letters are equally likely.
func newInstance() string {
	const fair = 256 - 256%len(instanceLetters)
	name := make([]byte, 0, instanceSize)
	random := make([]byte, 1)
	for len(name) < instanceSize {
		_, _ = rand.Read(random) // never fails, by its documentation
		if int(random[0]) < fair {
			name = append(name, instanceLetters[int(random[0])%len(instanceLetters)])
		}
	}
	return string(name)
}
