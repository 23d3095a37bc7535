package journal

import (
	"encoding/binary"
	"hash/crc32"
	"strings"
	"sync"

	"sluice"
)

// Place names where entries lie: a subject of the stream.
type Place string

const (
	upPrefix   = "up."
	downPrefix = "down."
)

// unrouted is the place of reports that no flow wanted. Nobody reads it: its
// entries are done once they are in, and kept as history.
const unrouted = Place(upPrefix + "none")

// Up is the place of the reports for a connection; "" is that of the reports
// that no flow wanted.
func Up(connection string) Place {
	if connection == "" {
		return unrouted
	}
	return Place(upPrefix + connection)
}

// Down is the place of the commands for a network.
func Down(network string) Place { return Place(downPrefix + network) }

// label is the place in logs, events and errors: without the id of a network,
// which is the secret part of the address that its reports are posted to.
func (p Place) label() string {
	if strings.HasPrefix(string(p), downPrefix) {
		return strings.TrimSuffix(downPrefix, ".")
	}
	return string(p)
}

// placeOf returns the place of a message.
func placeOf(m *sluice.Message) (Place, error) {
	name, p := m.Connection, Up(m.Connection)
	if m.IsCommand() {
		name, p = m.Network, Down(m.Network)
		if name == "" {
			return "", sluice.Errorf(sluice.CodeInvalid, "The command names no network.")
		}
	}
	for i := range len(name) {
		switch c := name[i]; {
		case c <= ' ', c == '.', c == '*', c == '>', c >= 0x7f:
			return "", sluice.Errorf(sluice.CodeInvalid, "%q cannot name a place in the journal.", name)
		}
	}
	return p, nil
}

// place is what is known of a place. Its lock is held for short: never while
// something is read or written, nor while a handler runs.
type place struct {
	name Place
	sink bool // see unrouted

	mu      sync.Mutex
	last    uint64 // the last number that is in the stream
	lastSeq uint64 // the sequence of the message that it is in
	seq     uint64 // the entries above the floor that are not done lie in this message and later ones
	done    window
	// How many of those that are done ended how.
	delivered, expired, failed, filtered uint64

	// backlog is how many bytes the entries that are not done take, about: an
	// entry that is over counts for as much as the mean of those that were not.
	backlog uint64

	reader *reader // nil: nobody reads
	dirty  bool    // the book has changed since it was written
	gone   bool    // dropped: nothing is to be written any more

	written   uint64 // the seq of the book that was written last
	trimmable uint64 // the same, as it was when the place was trimmed last
	cut       uint64 // how many of the last entries were not in the stream at Open
	trimmed   uint64 // the stream has nothing of the place up to this sequence

	ward ward // what lies in quarantine
}

// pending is how many entries are not done. The lock is held.
func (p *place) pending() uint64 {
	return p.last - p.done.floor - p.done.above + uint64(len(p.done.parked))
}

// oldest is the sequence from which on the stream is needed: nothing that is
// not done lies before it. The lock is held.
func (p *place) oldest() uint64 {
	if len(p.done.parked) > 0 {
		return min(p.seq, p.done.parked[0].seq)
	}
	return p.seq
}

// shrink takes n entries that were just done off the backlog. The lock is
// held.
func (p *place) shrink(n uint64) {
	left := p.pending()
	if left == 0 {
		p.backlog = 0
		return
	}
	p.backlog -= uint64(float64(p.backlog) * (float64(n) / float64(n+left)))
}

func (p *place) counters() sluice.Counters {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sums()
}

// sums is counters with the lock held.
func (p *place) sums() sluice.Counters {
	return sluice.Counters{
		Received:  p.last - p.ward.retried,
		Delivered: p.delivered,
		Pending:   p.pending(),
		Expired:   p.expired,
		Failed:    p.failed - p.ward.retried,
		Filtered:  p.filtered,
	}
}

// touch marks the book as changed and reports whether that is new. The lock is
// held.
func (p *place) touch() bool {
	fresh := !p.dirty && !p.gone
	p.dirty = true
	return fresh
}

// dropping reports whether the place is being dropped.
func (p *place) dropping() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.gone
}

// count adds n to the counter of an outcome. The lock is held.
func (p *place) count(o Outcome, n uint64) {
	switch o {
	case Delivered:
		p.delivered += n
	case Expired:
		p.expired += n
	case Filtered:
		p.filtered += n
	default:
		p.failed += n
	}
}

// settle says that entry number is over, and reports whether it was not
// already. The lock is held.
func (p *place) settle(number uint64, o Outcome) bool {
	if !p.done.add(number) {
		return false
	}
	p.shrink(1)
	p.count(o, 1)
	p.ward.decide(number, o)
	p.rewind()
	return true
}

// rewind moves seq after the floor was raised. The lock is held.
func (p *place) rewind() {
	if p.reader != nil {
		p.seq = p.reader.startOf(p.done.floor+1, p.seq)
	}
	if p.done.floor == p.last {
		p.seq = p.lastSeq + 1
	}
}

// giveUp says that all entries up to number are over; those that were not
// done end with o. seq is the message that number+1 lies in. It returns how
// many they were. The lock is held.
func (p *place) giveUp(number, seq uint64, o Outcome) uint64 {
	parked := p.done.unpark(number)
	p.shrink(parked)
	p.count(o, parked)
	return parked + p.skip(number, seq, o)
}

// skip is giveUp without those that are parked. The lock is held.
func (p *place) skip(number, seq uint64, o Outcome) uint64 {
	n := p.done.raise(number)
	p.shrink(n)
	p.count(o, n)
	p.seq = max(p.seq, seq)
	if r := p.reader; r != nil && r.next <= number {
		r.next, r.nextSeq = number+1, max(r.nextSeq, seq)
	}
	for number := range p.ward.doubts {
		if p.done.has(number) {
			p.ward.decide(number, o)
		}
	}
	p.rewind()
	return n
}

// bookVersion is 4. A book of version 1 has no entries that are parked, one of
// version 2 no backlog, one of version 3 nothing of a quarantine.
const bookVersion = 4

// unknownEntry is how many bytes an entry counts for of which it is not known.
const unknownEntry = 1 << 10

// appendBook appends the book of p. The lock is held.
func (p *place) appendBook(b []byte) []byte {
	start := len(b)
	b = append(b, bookVersion)
	for _, v := range [...]uint64{
		p.last, p.lastSeq, p.seq, p.done.floor, p.delivered, p.expired, p.failed, p.filtered,
	} {
		b = binary.AppendUvarint(b, v)
	}
	b = binary.AppendUvarint(b, p.backlog)
	b = p.ward.appendTo(b)
	b = p.done.appendParked(b)
	b = p.done.appendBits(b)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b[start:], castagnoli()))
}

// readBook sets p to what a book says.
func (p *place) readBook(b []byte) error {
	if len(b) < 5 || b[0] == 0 || b[0] > bookVersion {
		return errDamaged
	}
	body := b[:len(b)-4]
	if crc32.Checksum(body, castagnoli()) != binary.LittleEndian.Uint32(b[len(b)-4:]) {
		return errDamaged
	}
	version, body := body[0], body[1:]
	var floor uint64
	for _, v := range [...]*uint64{
		&p.last, &p.lastSeq, &p.seq, &floor, &p.delivered, &p.expired, &p.failed, &p.filtered,
	} {
		u, n := binary.Uvarint(body)
		if n <= 0 {
			return errDamaged
		}
		*v, body = u, body[n:]
	}
	if version > 2 {
		var n int
		if p.backlog, n = binary.Uvarint(body); n <= 0 {
			return errDamaged
		}
		body = body[n:]
	}
	if version > 3 {
		var err error
		if body, err = p.ward.read(body); err != nil {
			return err
		}
	}
	var parked window
	if version > 1 {
		var err error
		if body, err = parked.readParked(body); err != nil {
			return err
		}
	}
	p.done = openWindow(floor, body)
	p.done.parked = parked.parked
	if version <= 2 {
		p.backlog = p.pending() * unknownEntry
	}
	return nil
}
