package datadir

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"sluice"
)

// tokenBytes is how much randomness is in an administrator token: 256 bits.
const tokenBytes = 32

// minToken is the shortest token that is taken from a file: an operator may
// put one of his own there, but not one that can be guessed.
const minToken = 16

// TokenFile is where the administrator token lies.
func (d *Dir) TokenFile() string { return filepath.Join(d.path, tokenName) }

// AdminToken returns the administrator's bearer token and whether it was made
// by this call. The file's mode is kept at 0600: one that others can read is
// closed to them.
func (d *Dir) AdminToken() (token string, created bool, err error) {
	path := d.TokenFile()
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		token, err = d.makeToken()
		return token, err == nil, err
	}
	if err != nil {
		return "", false, tokenError("cannot be read", err)
	}
	info, err := os.Stat(path)
	if err == nil && info.Mode().Perm()&0o077 != 0 {
		err = os.Chmod(path, 0o600)
	}
	if err != nil {
		return "", false, tokenError("cannot be closed to other users", err)
	}
	token = strings.TrimSpace(string(text))
	if len(token) < minToken || strings.ContainsAny(token, " \t\r\n") {
		return "", false, tokenError(fmt.Sprintf("does not hold a token: one word of at least %d characters", minToken), nil)
	}
	return token, false, nil
}

// makeToken writes a new token.
func (d *Dir) makeToken() (string, error) {
	random := make([]byte, tokenBytes)
	_, _ = rand.Read(random) // never fails, by its documentation
	token := base64.RawURLEncoding.EncodeToString(random)
	if err := WriteFile(d.TokenFile(), []byte(token+"\n"), 0o600); err != nil {
		return "", tokenError("cannot be written", err)
	}
	return token, nil
}

func tokenError(what string, err error) error {
	return &sluice.Error{
		Code:    sluice.CodeInternal,
		Message: fmt.Sprintf("the file %q in the data directory %s", tokenName, what),
		Hint:    "Remove the file: a new token is made at the next start.",
		Err:     err,
	}
}
