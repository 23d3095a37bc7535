package store

import (
	"encoding/binary"
	"errors"
	"math"
)

// What is written behind lies in chunks: one message of many records, so that
// a hundred thousand of them load in a moment and one flush costs one write.
// A chunk begins with chunkVersion. Words that repeat (a network's id, a tag)
// are written once a chunk: 0 and the text at the first time, their number,
// counted from 1, after that.
const (
	chunkVersion = 1
	// chunkSize is how large a chunk grows before the next is begun.
	chunkSize = 128 << 10
)

var errChunk = errors.New("a chunk cannot be read")

// chunkWriter writes a chunk.
type chunkWriter struct {
	buf   []byte
	words map[string]uint64
}

// reset begins a new chunk, in the memory of the last one.
func (w *chunkWriter) reset() {
	w.buf = append(w.buf[:0], chunkVersion)
	if w.words == nil {
		w.words = make(map[string]uint64)
	}
	clear(w.words)
}

// empty reports whether nothing was written since reset.
func (w *chunkWriter) empty() bool { return len(w.buf) <= 1 }

func (w *chunkWriter) full() bool { return len(w.buf) >= chunkSize }

func (w *chunkWriter) byte(b byte) { w.buf = append(w.buf, b) }

func (w *chunkWriter) eui(e uint64) { w.buf = binary.BigEndian.AppendUint64(w.buf, e) }

func (w *chunkWriter) number(n uint64) { w.buf = binary.AppendUvarint(w.buf, n) }

func (w *chunkWriter) text(s string) {
	w.number(uint64(len(s)))
	w.buf = append(w.buf, s...)
}

func (w *chunkWriter) word(s string) {
	if n, ok := w.words[s]; ok {
		w.number(n)
		return
	}
	w.words[s] = uint64(len(w.words) + 1)
	w.number(0)
	w.text(s)
}

// chunkReader reads a chunk. After the first error all reads return zero.
type chunkReader struct {
	buf   []byte
	words []string
	err   error
}

func newChunkReader(chunk []byte) *chunkReader {
	r := &chunkReader{buf: chunk}
	if r.byte() != chunkVersion {
		r.fail()
	}
	return r
}

// more reports whether there is another record.
func (r *chunkReader) more() bool { return r.err == nil && len(r.buf) > 0 }

func (r *chunkReader) fail() { r.err, r.buf = errChunk, nil }

func (r *chunkReader) byte() byte {
	if len(r.buf) < 1 {
		r.fail()
		return 0
	}
	b := r.buf[0]
	r.buf = r.buf[1:]
	return b
}

func (r *chunkReader) eui() uint64 {
	if len(r.buf) < 8 {
		r.fail()
		return 0
	}
	e := binary.BigEndian.Uint64(r.buf)
	r.buf = r.buf[8:]
	return e
}

func (r *chunkReader) number() uint64 {
	n, size := binary.Uvarint(r.buf)
	if size <= 0 {
		r.fail()
		return 0
	}
	r.buf = r.buf[size:]
	return n
}

// time reads a number that is a count of milliseconds.
func (r *chunkReader) time() int64 {
	n := r.number()
	if n > math.MaxInt64 {
		r.fail()
		return 0
	}
	return int64(n)
}

func (r *chunkReader) text() string {
	n := r.number()
	if n > uint64(len(r.buf)) {
		r.fail()
		return ""
	}
	s := string(r.buf[:n])
	r.buf = r.buf[n:]
	return s
}

func (r *chunkReader) word() string {
	n := r.number()
	if n == 0 {
		s := r.text()
		r.words = append(r.words, s)
		return s
	}
	if n > uint64(len(r.words)) {
		r.fail()
		return ""
	}
	return r.words[n-1]
}
