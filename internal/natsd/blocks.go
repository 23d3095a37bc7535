package natsd

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"

	"github.com/minio/highwayhash"
)

// The format of a block file of nats-server, as of version 2.15 (a test
// compares it with what the server writes). Source: nats-server,
// server/filestore.go, writeMsgRecordLocked.
//
//	record = length(4) sequence(8) time(8) subjectLength(2) subject
//	         [headerLength(4) header] body checksum(8)
//
// All numbers are little endian. The top bit of length tells that there is a
// header; the length counts the whole record. The top two bits of sequence
// mark tombstones and erased messages. The checksum is a HighwayHash-64 of
// sequence, time, subject, header and body, so neither the lengths of subject
// and header are in it nor the length of the record.
const (
	recordHead   = 4 + 8 + 8 + 2
	recordSum    = 8
	hasHeaderBit = 1 << 31
	erasedBit    = 1 << 62
	tombstoneBit = 1 << 63
	maxRecord    = 32 << 20
	headerLine   = "NATS/1.0"
	headerEnd    = "\r\n\r\n"
)

// blockHash makes the hash of a stream's block. Source: the same file,
// hashKeyForBlock.
func blockHash(stream string, index uint32) (hash.Hash64, error) {
	key := sha256.Sum256(fmt.Appendf(nil, "%s-%d", stream, index))
	return highwayhash.New64(key[:])
}

// record reads the record that b begins with. ok is false when none does, or
// one that is damaged.
func record(b []byte, sum hash.Hash64) (size int, ok bool) {
	if len(b) < recordHead+recordSum {
		return 0, false
	}
	length := binary.LittleEndian.Uint32(b)
	size = int(length &^ hasHeaderBit)
	subject := int(binary.LittleEndian.Uint16(b[20:]))
	if size > maxRecord || size > len(b) || recordHead+subject+recordSum > size {
		return 0, false
	}
	seq := binary.LittleEndian.Uint64(b[4:])
	rest := b[recordHead : size-recordSum]
	if seq&(tombstoneBit|erasedBit) == 0 && !plausible(rest, subject, length&hasHeaderBit != 0) {
		return 0, false
	}
	sum.Reset()
	_, _ = sum.Write(b[4:20]) // a hash takes all
	if length&hasHeaderBit != 0 {
		if len(rest) < subject+4 {
			return 0, false
		}
		_, _ = sum.Write(rest[:subject])
		_, _ = sum.Write(rest[subject+4:])
	} else {
		_, _ = sum.Write(rest)
	}
	if sum.Sum64() != binary.LittleEndian.Uint64(b[size-recordSum:size]) {
		return 0, false
	}
	return size, true
}

// plausible looks at what the checksum does not: where the subject ends, and
// the header. Without a header a subject that is too short by a flipped bit is
// not seen: what reads such streams must check what it reads.
func plausible(rest []byte, subject int, header bool) bool {
	if subject == 0 {
		return false
	}
	for _, c := range rest[:subject] {
		if c <= ' ' || c == 0x7f {
			return false
		}
	}
	if !header {
		return true
	}
	rest = rest[subject:]
	if len(rest) < 4 {
		return false
	}
	size := uint64(binary.LittleEndian.Uint32(rest))
	rest = rest[4:]
	return size <= uint64(len(rest)) &&
		bytes.HasPrefix(rest[:size], []byte(headerLine)) && bytes.HasSuffix(rest[:size], []byte(headerEnd)) &&
		bytes.Count(rest[:size], []byte(headerEnd)) == 1
}

// mend returns the undamaged records of a block, and what was lost. What it
// returns shares the bytes of b, which it moves.
func mend(b []byte, sum hash.Hash64) (kept []byte, found findings) {
	kept = b[:0]
	for at := 0; at < len(b); {
		size, ok := record(b[at:], sum)
		if ok {
			if len(kept) != at {
				copy(b[len(kept):], b[at:at+size])
			}
			kept = kept[:len(kept)+size]
			at += size
			found.records++
			found.cut = 0
			continue
		}
		if found.cut == 0 {
			found.holes++
			found.torn = torn(b[at:])
		}
		found.cut++
		found.bytes++
		at++
	}
	found.torn = found.torn && found.holes == 1 && found.cut > 0
	return kept, found
}

// findings are what mend found.
type findings struct {
	records int  // that are whole
	holes   int  // runs of bytes that are no record
	bytes   int  // how many bytes they have
	cut     int  // how many of these are the end of the block
	torn    bool // the only hole is a record that was not written to its end
}

// torn reports whether b is the beginning of a record that is longer.
func torn(b []byte) bool {
	return len(b) < recordHead || int(binary.LittleEndian.Uint32(b)&^hasHeaderBit) > len(b)
}
