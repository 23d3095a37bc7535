package journal

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math"
	"time"

	"sluice"
)

// A bundle is the body of one message of the stream: the entries of one place
// that were committed together. Publishing costs about the same for one entry
// as for fifty, so a bundle is what makes a commit cheap.
//
//	bundle = version(1) first(uvarint) count(uvarint) entry*
//	entry  = length(uvarint) checksum(4, little endian) body(length)
//	body   = length(uvarint) meta(length) document
//
// The entries are numbered first, first+1, ... The checksum is a CRC-32C over
// the number (8 bytes, little endian) and the body, so that damage to either
// is seen. meta is described at [appendMeta].
const bundleVersion = 1

// errDamaged says that bytes are not what was written.
var errDamaged = errors.New("journal: damaged entry")

// flags of an entry's meta.
const (
	hasReceived = 1 << iota
	hasTime
	hasTags
	hasCredentials
	hasRetry
)

// castagnoli returns the table of CRC-32C, which processors compute by
// themselves. MakeTable returns the same one each time.
func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

func checksum(number uint64, body []byte) uint32 {
	var n [8]byte
	binary.LittleEndian.PutUint64(n[:], number)
	return crc32.Update(crc32.Update(0, castagnoli(), n[:]), castagnoli(), body)
}

// encodedSize is an upper bound of the bytes that m takes in a bundle.
func encodedSize(m *sluice.Message) int {
	// 20 numbers of at most 10 bytes each, a checksum, a flag byte.
	n := 20*binary.MaxVarintLen64 + 5
	n += len(m.ID) + len(m.Kind) + len(m.DevEUI) + len(m.Network) + len(m.Connection) + len(m.Driver)
	n += len(m.Fingerprint) + len(m.Name) + len(m.Credentials) + len(m.Document)
	for _, t := range m.Tags {
		n += len(t) + binary.MaxVarintLen32
	}
	return n
}

func appendBundleHead(b []byte, first uint64, count int) []byte {
	b = append(b, bundleVersion)
	b = binary.AppendUvarint(b, first)
	return binary.AppendUvarint(b, uint64(count))
}

// bundleHeadSize is an upper bound of the size of a bundle's head.
const bundleHeadSize = 1 + 2*binary.MaxVarintLen64

// encoder encodes entries; it keeps a buffer from one to the next.
type encoder struct{ meta []byte }

// appendEntry appends m as entry number to b. It returns b and where in b the
// document starts; the document ends where b ends.
func (e *encoder) appendEntry(b []byte, number uint64, m *sluice.Message) (out []byte, document int) {
	e.meta = appendMeta(e.meta[:0], m)
	var prefix [binary.MaxVarintLen64]byte
	prefixed := binary.PutUvarint(prefix[:], uint64(len(e.meta)))

	b = binary.AppendUvarint(b, uint64(prefixed+len(e.meta)+len(m.Document)))
	sum := len(b)
	b = append(b, 0, 0, 0, 0)
	b = append(b, prefix[:prefixed]...)
	b = append(b, e.meta...)
	document = len(b)
	b = append(b, m.Document...)
	binary.LittleEndian.PutUint32(b[sum:], checksum(number, b[sum+4:]))
	return b, document
}

// appendMeta appends all of m but Document, Payload and Number: a byte of
// flags, strings (length and bytes) and numbers (varint), in a fixed order.
// Times are seconds and nanoseconds, in UTC.
func appendMeta(b []byte, m *sluice.Message) []byte {
	var flags byte
	if !m.Received.IsZero() {
		flags |= hasReceived
	}
	if !m.Time.IsZero() {
		flags |= hasTime
	}
	if m.Tags != nil {
		flags |= hasTags
	}
	if m.Credentials != nil {
		flags |= hasCredentials
	}
	if m.Retries != 0 {
		flags |= hasRetry
	}
	b = append(b, flags)
	b = appendString(b, m.ID)
	b = appendString(b, string(m.Kind))
	b = appendString(b, m.DevEUI)
	b = appendString(b, m.Network)
	b = appendString(b, m.Connection)
	b = appendString(b, m.Driver)
	b = appendString(b, m.Fingerprint)
	b = appendString(b, m.Name)
	b = binary.AppendVarint(b, int64(m.Validity))
	if flags&hasReceived != 0 {
		b = appendTime(b, m.Received)
	}
	if flags&hasTime != 0 {
		b = appendTime(b, m.Time)
	}
	if flags&hasTags != 0 {
		b = binary.AppendUvarint(b, uint64(len(m.Tags)))
		for _, t := range m.Tags {
			b = appendString(b, t)
		}
	}
	if flags&hasCredentials != 0 {
		b = appendString(b, string(m.Credentials))
	}
	if flags&hasRetry != 0 {
		b = binary.AppendUvarint(b, m.Retries)
		b = appendTime(b, m.Retried)
	}
	return b
}

func appendString(b []byte, s string) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

func appendTime(b []byte, t time.Time) []byte {
	b = binary.AppendVarint(b, t.Unix())
	return binary.AppendUvarint(b, uint64(t.Nanosecond()))
}

// bundle reads a bundle's entries one after another.
type bundle struct {
	first uint64
	count uint64
	rest  []byte
	next  uint64 // the number of the entry that rest starts with
}

// openBundle reads the head of a bundle.
func openBundle(b []byte) (bundle, error) {
	if len(b) == 0 || b[0] != bundleVersion {
		return bundle{}, errDamaged
	}
	b = b[1:]
	first, n := binary.Uvarint(b)
	if n <= 0 || first == 0 {
		return bundle{}, errDamaged
	}
	b = b[n:]
	count, n := binary.Uvarint(b)
	if n <= 0 || count == 0 || count > uint64(len(b)) || first > math.MaxUint64-count {
		return bundle{}, errDamaged
	}
	return bundle{first: first, count: count, rest: b[n:], next: first}, nil
}

// last is the number of the last entry.
func (b *bundle) last() uint64 { return b.first + b.count - 1 }

// more reports whether an entry is left.
func (b *bundle) more() bool { return b.next <= b.last() }

// take returns the number and the body of the next entry. errDamaged means
// that this and all that follow in the bundle cannot be read, except where
// number is not 0: then only this one cannot.
func (b *bundle) take() (number uint64, body []byte, err error) {
	sum, body, ok := b.cut()
	if !ok {
		return 0, nil, errDamaged
	}
	number = b.next
	b.next++
	if checksum(number, body) != sum {
		return number, nil, errDamaged
	}
	return number, body, nil
}

// skip steps over the next entry and reports whether it could.
func (b *bundle) skip() bool {
	_, _, ok := b.cut()
	b.next++
	return ok
}

// cut cuts the next entry off.
func (b *bundle) cut() (sum uint32, body []byte, ok bool) {
	size, n := binary.Uvarint(b.rest)
	if n <= 0 || len(b.rest)-n < 4 || size > uint64(len(b.rest)-n-4) {
		return 0, nil, false
	}
	sum = binary.LittleEndian.Uint32(b.rest[n:])
	end := n + 4 + int(size)
	body, b.rest = b.rest[n+4:end:end], b.rest[end:]
	return sum, body, true
}

// decodeEntry reads the body of an entry into m. m.Document shares the bytes
// of body; the rest does not.
func decodeEntry(m *sluice.Message, number uint64, body []byte) error {
	size, n := binary.Uvarint(body)
	if n <= 0 || size > uint64(len(body)-n) {
		return errDamaged
	}
	d := metaDecoder{s: string(body[n : n+int(size)]), ok: true}
	flags := d.byte()
	*m = sluice.Message{
		ID:          d.string(),
		Kind:        sluice.Kind(d.string()),
		DevEUI:      d.string(),
		Network:     d.string(),
		Connection:  d.string(),
		Driver:      d.string(),
		Fingerprint: d.string(),
		Name:        d.string(),
		Validity:    time.Duration(d.varint()),
		Document:    body[n+int(size):],
		Number:      number,
	}
	if flags&hasReceived != 0 {
		m.Received = d.time()
	}
	if flags&hasTime != 0 {
		m.Time = d.time()
	}
	if flags&hasTags != 0 {
		m.Tags = d.strings()
	}
	if flags&hasCredentials != 0 {
		m.Credentials = []byte(d.string())
	}
	if flags&hasRetry != 0 {
		m.Retries, m.Retried = d.uvarint(), d.time()
	}
	if !d.ok || d.s != "" {
		return errDamaged
	}
	return nil
}

// metaDecoder reads an entry's meta from a string, so that all of its strings
// are parts of that one.
type metaDecoder struct {
	s  string
	ok bool
}

func (d *metaDecoder) fail() {
	d.s, d.ok = "", false
}

func (d *metaDecoder) byte() byte {
	if d.s == "" {
		d.fail()
		return 0
	}
	b := d.s[0]
	d.s = d.s[1:]
	return b
}

func (d *metaDecoder) uvarint() uint64 {
	var v uint64
	for i := 0; i < len(d.s) && i < binary.MaxVarintLen64; i++ {
		c := d.s[i]
		if c < 0x80 {
			if i == binary.MaxVarintLen64-1 && c > 1 {
				break // more than 64 bits
			}
			d.s = d.s[i+1:]
			return v | uint64(c)<<(7*i)
		}
		v |= uint64(c&0x7f) << (7 * i)
	}
	d.fail()
	return 0
}

func (d *metaDecoder) varint() int64 {
	u := d.uvarint()
	v := int64(u >> 1)
	if u&1 != 0 {
		v = ^v
	}
	return v
}

func (d *metaDecoder) string() string {
	n := d.uvarint()
	if n > uint64(len(d.s)) {
		d.fail()
		return ""
	}
	s := d.s[:n]
	d.s = d.s[n:]
	return s
}

func (d *metaDecoder) strings() []string {
	n := d.uvarint()
	if n > uint64(len(d.s)) { // each takes a byte at least
		d.fail()
		return nil
	}
	ss := make([]string, n)
	for i := range ss {
		ss[i] = d.string()
	}
	return ss
}

func (d *metaDecoder) time() time.Time {
	sec, nsec := d.varint(), d.uvarint()
	if nsec >= uint64(time.Second) {
		d.fail()
		return time.Time{}
	}
	return time.Unix(sec, int64(nsec)).UTC()
}
