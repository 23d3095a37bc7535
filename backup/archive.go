package backup

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"io"
	"time"
)

// Format is the number of the archive's format.
const Format = 1

// The names of what is in an archive.
const (
	headName     = "sluice-backup.json"
	streamFolder = "streams/"
	manifestName = "manifest.json"
	keyName      = "secret.key"
	endName      = "end"
)

const (
	// pieceSize is how many bytes of a stream are an entry of the archive.
	pieceSize = 1 << 20
	// maxText bounds what is read of the other entries.
	maxText = 4 << 20
	// endSize is the size of the end: a header, a checksum, and what tar
	// ends with.
	endSize = 2*block + 2*block
	block   = 512
)

// head is what an archive begins with.
type head struct {
	Format int       `json:"format"`
	Sluice string    `json:"sluice"`
	Time   time.Time `json:"time"`
}

// Manifest says what is in an archive.
type Manifest struct {
	Format   int       `json:"format"`
	Sluice   string    `json:"sluice"`
	Time     time.Time `json:"time"` // when it was begun: what was accepted before is in it
	Instance string    `json:"instance"`
	// KeyID names the key that the secrets are sealed with; "" for none.
	KeyID   string   `json:"keyId,omitempty"`
	Streams []Stream `json:"streams"`
	Summary
}

// Summary is what a reader wants to know of an archive.
type Summary struct {
	Connections []Named `json:"connections"`
	Flows       int     `json:"flows"`
	Networks    int     `json:"networks"`
}

// Named is a connection.
type Named struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

// Stream is the copy of a stream.
type Stream struct {
	Name     string          `json:"name"`
	Config   json.RawMessage `json:"config"`
	State    json.RawMessage `json:"state"` // as JetStream tells it
	Messages uint64          `json:"messages"`
	First    uint64          `json:"firstSequence"`
	Last     uint64          `json:"lastSequence"`
	Size     int64           `json:"size"` // of the copy
	SHA256   string          `json:"sha256"`
}

// writer writes an archive.
type writer struct {
	sum  hash.Hash // of all that was written
	tar  *tar.Writer
	time time.Time
}

func newWriter(w io.Writer, t time.Time) *writer {
	return continued(w, sha256.New(), t)
}

// continued is a writer behind what sum was made of.
func continued(w io.Writer, sum hash.Hash, t time.Time) *writer {
	return &writer{sum: sum, tar: tar.NewWriter(io.MultiWriter(w, sum)), time: t}
}

func (w *writer) entry(name string, content []byte) error {
	err := w.tar.WriteHeader(&tar.Header{
		Name: name, Mode: 0o600, Size: int64(len(content)), ModTime: w.time.Truncate(time.Second), Format: tar.FormatUSTAR,
	})
	if err == nil {
		_, err = w.tar.Write(content)
	}
	if err != nil {
		return fmt.Errorf("backup: write %s: %w", name, err)
	}
	return nil
}

func (w *writer) json(name string, v any) error {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("backup: write %s: %w", name, err)
	}
	return w.entry(name, append(text, '\n'))
}

// end writes the end: endSize bytes, always.
func (w *writer) end() error {
	if err := w.tar.Flush(); err != nil {
		return fmt.Errorf("backup: write %s: %w", endName, err)
	}
	if err := w.entry(endName, endText(w.sum)); err != nil {
		return err
	}
	if err := w.tar.Close(); err != nil {
		return fmt.Errorf("backup: write %s: %w", endName, err)
	}
	return nil
}

func endText(sum hash.Hash) []byte {
	return append([]byte(hex.EncodeToString(sum.Sum(nil))), '\n')
}

// pieces is an io.Writer that makes entries of a stream's copy.
type pieces struct {
	w    *writer
	name string
	n    int
	buf  []byte
}

func (p *pieces) Write(b []byte) (int, error) {
	n := len(b)
	for len(b) > 0 {
		k := min(len(b), pieceSize-len(p.buf))
		p.buf, b = append(p.buf, b[:k]...), b[k:]
		if len(p.buf) == pieceSize {
			if err := p.flush(); err != nil {
				return 0, err
			}
		}
	}
	return n, nil
}

func (p *pieces) flush() error {
	if len(p.buf) == 0 {
		return nil
	}
	p.n++
	err := p.w.entry(fmt.Sprintf("%s%s/%08d", streamFolder, p.name, p.n), p.buf)
	p.buf = p.buf[:0]
	return err
}

// Checker is written an archive and tells whether it has come whole, which it
// can of one that is not kept.
type Checker struct {
	sum  hash.Hash
	tail []byte // not summed: it may be the end
	size int64
}

// NewChecker makes a Checker.
func NewChecker() *Checker { return &Checker{sum: sha256.New()} }

func (c *Checker) Write(b []byte) (int, error) {
	c.size += int64(len(b))
	c.tail = append(c.tail, b...)
	if over := len(c.tail) - endSize; over > 0 {
		_, _ = c.sum.Write(c.tail[:over]) // a hash takes all
		c.tail = c.tail[:copy(c.tail, c.tail[over:])]
	}
	return len(b), nil
}

// Err is nil when what was written is a whole archive.
func (c *Checker) Err() error {
	if !isEnd(c.tail) {
		return errCutOff
	}
	if !bytes.Equal(c.tail[block:block+2*sha256.Size+1], endText(c.sum)) {
		return errDamaged
	}
	// What follows the checksum is not in it.
	var rest [2*block + block - 2*sha256.Size - 1]byte
	if !bytes.Equal(c.tail[block+2*sha256.Size+1:], rest[:]) {
		return errDamaged
	}
	return nil
}

// isEnd reports whether b is the end of an archive.
func isEnd(b []byte) bool {
	if len(b) != endSize {
		return false
	}
	h, err := tar.NewReader(bytes.NewReader(b)).Next()
	return err == nil && h.Name == endName && h.Size == 2*sha256.Size+1
}
