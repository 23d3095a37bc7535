package journal

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"sluice"
)

// A record is the body of a message of the stream QUARANTINE: why an entry
// can never be delivered, and the entry, as a bundle of one.
//
//	record = version(1) length(uvarint) checksum(4, little endian) cause(length) bundle
//	cause  = reason(string) detail(string) hint(string) status(varint) time
const recordVersion = 1

// maxSentence bounds a sentence in a record, so that it stays under the 1 MiB
// that the server takes.
const maxSentence = 1 << 10

const quarantinePrefix = "quarantine."

// wardSubject is the subject of all records of a place.
func wardSubject(name Place) string { return quarantinePrefix + string(name[len(upPrefix):]) + ".*" }

// recordSubject is the subject of one record: an entry has one place in the
// stream, however often it is written.
func recordSubject(name Place, number uint64) string {
	return strings.TrimSuffix(wardSubject(name), "*") + strconv.FormatUint(number, 10)
}

// splitSubject returns the place and the number of a record.
func splitSubject(subject string) (Place, uint64, bool) {
	connection, text, ok := strings.Cut(strings.TrimPrefix(subject, quarantinePrefix), ".")
	number, err := strconv.ParseUint(text, 10, 64)
	return Up(connection), number, ok && err == nil && number > 0
}

// encodeRecord makes the record of an entry that failed with err.
func encodeRecord(m *sluice.Message, err error, now time.Time) []byte {
	var detail, hint string
	var status int
	if f, ok := errors.AsType[*sluice.Failure](err); ok {
		detail, hint, status = f.Message, f.Hint, f.Status
	}
	cause := appendString(nil, shorten(string(sluice.ReasonOf(err))))
	cause = appendString(cause, shorten(detail))
	cause = appendString(cause, shorten(hint))
	cause = binary.AppendVarint(cause, int64(status))
	cause = appendTime(cause, now)

	b := make([]byte, 0, 1+binary.MaxVarintLen64+4+len(cause)+bundleHeadSize+encodedSize(m))
	b = append(b, recordVersion)
	b = binary.AppendUvarint(b, uint64(len(cause)))
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(cause, castagnoli()))
	b = append(b, cause...)
	b = appendBundleHead(b, m.Number, 1)
	b, _ = new(encoder).appendEntry(b, m.Number, m)
	return b
}

func shorten(s string) string {
	if len(s) <= maxSentence {
		return s
	}
	s = s[:maxSentence]
	for len(s) > 0 && !utf8.ValidString(s) {
		s = s[:len(s)-1]
	}
	return s
}

// decodeRecord reads a record; the document shares its bytes.
func decodeRecord(b []byte) (*sluice.Quarantined, error) {
	if len(b) == 0 || b[0] != recordVersion {
		return nil, errDamaged
	}
	size, n := binary.Uvarint(b[1:])
	if n <= 0 || uint64(len(b)) < uint64(1+n+4) || size > uint64(len(b)-1-n-4) {
		return nil, errDamaged
	}
	sum := binary.LittleEndian.Uint32(b[1+n:])
	cause, rest := b[1+n+4:1+n+4+int(size)], b[1+n+4+int(size):]
	if crc32.Checksum(cause, castagnoli()) != sum {
		return nil, errDamaged
	}
	d := metaDecoder{s: string(cause), ok: true}
	q := &sluice.Quarantined{Message: new(sluice.Message)}
	q.Reason, q.Detail, q.Hint = sluice.Reason(d.string()), d.string(), d.string()
	q.Status, q.Time = int(d.varint()), d.time()
	if !d.ok {
		return nil, errDamaged
	}
	bundled, err := openBundle(rest)
	if err != nil {
		return nil, err
	}
	number, body, err := bundled.take()
	if err != nil {
		return nil, err
	}
	if err := decodeEntry(q.Message, number, body); err != nil {
		return nil, err
	}
	q.Size = len(q.Message.Document)
	return q, nil
}
