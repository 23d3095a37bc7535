package seal

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"

	"sluice"
	"sluice/internal/datadir"
)

// Load reads a key file: 32 bytes as hexadecimal or base64 text. The error is
// a [*sluice.Error]; where the file is missing it wraps [fs.ErrNotExist].
func Load(path string) (*Key, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fileError(path, "does not exist", "Put the key file back where it was, or name it with --key-file.", err)
	}
	if err != nil {
		return nil, fileError(path, "cannot be read", "Check who owns it and its mode.", err)
	}
	secret, err := decode(strings.TrimSpace(string(text)))
	if err != nil {
		return nil, fileError(path, err.Error(), "Put the right key file back: a key cannot be repaired.", nil)
	}
	k, err := New(secret)
	if err != nil {
		return nil, fileError(path, "cannot be used", "", err)
	}
	if info, err := os.Stat(path); err == nil && info.Mode().Perm()&0o077 != 0 {
		k.warning = fmt.Sprintf("the key file %s can be read by other users (mode %04o): set its mode to 0600", path, info.Mode().Perm())
	}
	return k, nil
}

// Create makes a key file with a new random key, mode 0600. It does not touch
// a file that is there.
func Create(path string) (*Key, error) {
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return nil, fileError(path, "exists already", "Remove it first if its key is really not needed any more.", err)
	}
	secret := make([]byte, KeySize)
	_, _ = rand.Read(secret) // never fails, by its documentation
	text := base64.StdEncoding.EncodeToString(secret) + "\n"
	if err := datadir.WriteFile(path, []byte(text), 0o600); err != nil {
		return nil, fileError(path, "cannot be written", "Check that its directory exists and can be written to.", err)
	}
	return New(secret)
}

// Warning is a sentence for the operator about the key's file, "" when all is
// well. A file that others can read is used all the same: its mode may be out
// of our hands, as that of a mounted secret is.
func (k *Key) Warning() string { return k.warning }

// decode reads the text of a key. No part of it may stand in the error.
func decode(text string) ([]byte, error) {
	if len(text) == hex.EncodedLen(KeySize) {
		if secret, err := hex.DecodeString(text); err == nil {
			return secret, nil
		}
	}
	for _, e := range []*base64.Encoding{base64.StdEncoding, base64.RawStdEncoding, base64.URLEncoding, base64.RawURLEncoding} {
		secret, err := e.DecodeString(text)
		if err != nil {
			continue
		}
		if len(secret) != KeySize {
			return nil, fmt.Errorf("has a key of %d bytes, not of %d", len(secret), KeySize)
		}
		return secret, nil
	}
	return nil, fmt.Errorf("does not hold a key: %d bytes as hexadecimal or base64 text", KeySize)
}

func fileError(path, what, hint string, err error) error {
	return &sluice.Error{
		Code:    sluice.CodeInternal,
		Message: fmt.Sprintf("the key file %s %s", path, what),
		Hint:    hint,
		Err:     err,
	}
}

var _ sluice.Sealer = (*File)(nil)

// File is a Sealer on a key file that may not exist yet. At the first start
// there is no key and nothing to open; when a key was lost there is no key
// and much to open. Only the store, which holds what is sealed, can tell the
// two apart, so it is opened with a File, and [File.Ensure] makes the key
// after that.
type File struct {
	path string

	mu  sync.RWMutex
	key *Key // nil: there is none
}

// OpenFile loads the key file where there is one. Errors are those of [Load],
// but for the missing file.
func OpenFile(path string) (*File, error) {
	k, err := Load(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return &File{path: path, key: k}, nil
}

// Ensure makes the key file where it is missing and reports whether it did.
func (f *File) Ensure() (created bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.key != nil {
		return false, nil
	}
	k, err := Create(f.path)
	if err != nil {
		return false, err
	}
	f.key = k
	return true, nil
}

// ID names the key for people, as [Key.ID] does; "" while there is none.
func (f *File) ID() string {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if f.key == nil {
		return ""
	}
	return f.key.ID()
}

// Path is where the key file is, or is to be.
func (f *File) Path() string { return f.path }

// Warning is a sentence for the operator about the file, "" when all is well.
func (f *File) Warning() string {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if f.key == nil {
		return ""
	}
	return f.key.Warning()
}

// Seal encrypts a value; without a key the error wraps [ErrNoKey].
func (f *File) Seal(clear []byte) ([]byte, error) {
	k, err := f.loaded()
	if err != nil {
		return nil, err
	}
	return k.Seal(clear)
}

// Open decrypts what Seal has made; without a key the error wraps [ErrNoKey].
func (f *File) Open(sealed []byte) ([]byte, error) {
	k, err := f.loaded()
	if err != nil {
		return nil, err
	}
	return k.Open(sealed)
}

func (f *File) loaded() (*Key, error) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if f.key == nil {
		return nil, fmt.Errorf("the key file %s is missing: %w", f.path, ErrNoKey)
	}
	return f.key, nil
}
