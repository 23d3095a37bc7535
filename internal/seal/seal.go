// Package seal encrypts the secrets of configurations for storage, with a key
// that lies in a file of its own.
//
// A sealed value is a version byte, the key's id (8 bytes), a random nonce (12
// bytes) and the AES-256-GCM ciphertext with its tag; the version and the id
// are authenticated with it. The id tells a value that was sealed with another
// key from one that is damaged.
package seal

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"sluice"
)

// KeySize is the size of a key in bytes.
const KeySize = 32

// The parts of a sealed value.
const (
	version    = 1
	idSize     = 8
	headerSize = 1 + idSize
)

// The errors of [Key.Open] and [File.Open].
var (
	// ErrNoKey says that there is no key file.
	ErrNoKey = errors.New("there is no key")
	// ErrOtherKey says that the value was sealed with another key.
	ErrOtherKey = errors.New("sealed with another key")
	// ErrDamaged says that the value is not as it was sealed.
	ErrDamaged = errors.New("the sealed value is damaged")
)

var _ sluice.Sealer = (*Key)(nil)

// Key seals and opens values. It is safe for use by several goroutines.
type Key struct {
	aead    cipher.AEAD
	header  [headerSize]byte
	warning string
}

// New makes a Key of 32 secret bytes.
func New(secret []byte) (*Key, error) {
	if len(secret) != KeySize {
		return nil, fmt.Errorf("a key has %d bytes, not %d", KeySize, len(secret))
	}
	block, err := aes.NewCipher(secret)
	if err != nil {
		return nil, fmt.Errorf("make the cipher: %w", err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, fmt.Errorf("make the cipher: %w", err)
	}
	k := &Key{aead: aead}
	k.header[0] = version
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte("sluice key id"))
	copy(k.header[1:], mac.Sum(nil))
	return k, nil
}

// ID names the key for people: 16 hexadecimal digits that tell nothing of it.
func (k *Key) ID() string { return hex.EncodeToString(k.header[1:]) }

// Seal encrypts a value. Two seals of one value differ.
func (k *Key) Seal(clear []byte) ([]byte, error) {
	sealed := make([]byte, headerSize, headerSize+k.aead.Overhead()+len(clear))
	copy(sealed, k.header[:])
	return k.aead.Seal(sealed, nil, clear, k.header[:]), nil
}

// Open decrypts what Seal has made. Its errors are [ErrOtherKey] and
// [ErrDamaged].
func (k *Key) Open(sealed []byte) ([]byte, error) {
	if len(sealed) < headerSize+k.aead.Overhead() || sealed[0] != version {
		return nil, ErrDamaged
	}
	if !bytes.Equal(sealed[:headerSize], k.header[:]) {
		return nil, ErrOtherKey
	}
	clear, err := k.aead.Open(nil, nil, sealed[headerSize:], k.header[:])
	if err != nil {
		return nil, ErrDamaged
	}
	return clear, nil
}
