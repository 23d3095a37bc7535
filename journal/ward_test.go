package journal

import (
	"encoding/binary"
	"hash/crc32"
	"slices"
	"testing"
	"time"

	"sluice"
)

// A book of version 3 knows of no quarantine.
func TestABookOfBeforeTheQuarantine(t *testing.T) {
	b := []byte{3}
	for _, v := range []uint64{10, 9, 8, 6, 3, 1, 2, 0} { // last, lastSeq, seq, floor, delivered, expired, failed, filtered
		b = binary.AppendUvarint(b, v)
	}
	b = binary.AppendUvarint(b, 4096) // backlog
	b = binary.AppendUvarint(b, 0)    // parked
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli()))
	p := newPlace(Up("1"))
	if err := p.readBook(b); err != nil {
		t.Fatal(err)
	}
	if got, want := p.counters(), (sluice.Counters{Received: 10, Delivered: 3, Expired: 1, Failed: 2, Pending: 4}); got != want || p.backlog != 4096 {
		t.Errorf("%+v", got)
	}
}

func TestTheBookKnowsTheQuarantine(t *testing.T) {
	p := newPlace(Up("1"))
	p.last, p.failed = 9, 6
	p.done.raise(9)
	p.ward.put(lying{number: 3, seq: 4, size: 100})
	p.ward.retried, p.ward.dropped = 5, 7
	p.ward.leave(8)
	q := newPlace(Up("1"))
	if err := q.readBook(p.appendBook(nil)); err != nil {
		t.Fatal(err)
	}
	if _, leaves := q.ward.leaving[8]; !leaves || q.ward.retried != 5 || q.ward.dropped != 7 || q.ward.inTheBook != 1 || q.counters() != p.counters() {
		t.Errorf("%+v", q.ward)
	}
}

func TestRecords(t *testing.T) {
	m := fullMessage()
	m.Number = 12
	now := time.Date(2026, 2, 3, 4, 5, 6, 7, time.UTC)
	whole := encodeRecord(m, &sluice.Failure{Reason: sluice.ReasonTopic, Message: "M", Hint: "H", Status: 144}, now)
	if _, err := decodeRecord(whole); err != nil {
		t.Fatal(err)
	}
	for i := range whole {
		damaged := slices.Clone(whole)
		damaged[i] ^= 1
		if q, err := decodeRecord(damaged); err == nil && q.Message.Number == 12 && i > 0 {
			t.Errorf("byte %d is changed, and nobody sees it: %+v", i, q)
		}
		if _, err := decodeRecord(whole[:i]); err == nil {
			t.Errorf("cut at %d, and nobody sees it", i)
		}
	}
	name, number, ok := splitSubject(recordSubject(Up("8"), 41))
	if name != Up("8") || number != 41 || !ok {
		t.Error(name, number, ok)
	}
	if _, _, ok := splitSubject(quarantinePrefix + "8.x"); ok {
		t.Error("a subject without a number is taken")
	}
}

// The largest entry and the longest sentences make a record that the server
// takes.
func TestTheLargestRecord(t *testing.T) {
	b := open(t, t.TempDir())
	stop := b.read(Up("1"), ReadOptions{Handler: &arrivals{fail: func(*sluice.Message) error {
		long := string(make([]byte, 1<<20))
		return &sluice.Failure{Verdict: sluice.Permanent, Reason: sluice.ReasonTooLarge, Message: long, Hint: long}
	}}})
	m := report("D", 0)
	m.Document = make([]byte, maxEntry-encodedSize(m)+len(m.Document))
	b.appendAll([]*sluice.Message{m})
	b.wants(Up("1"), sluice.Counters{Received: 1, Failed: 1})
	stop()
	b.wantsQuarantined(1)
}
