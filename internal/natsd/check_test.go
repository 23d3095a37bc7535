package natsd

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
)

// stored starts a server, stores messages of many sizes with and without a
// header, deletes some, and closes it. It returns the block's file.
func stored(t *testing.T, dir string, n int) (block string) {
	t.Helper()
	s := start(t, Options{Dir: dir, SyncAlways: true})
	js, _ := stream(t, s)
	for i := range n {
		m := &nats.Msg{Subject: "s", Data: bytes.Repeat([]byte{byte(i)}, i*i)}
		if i%2 == 0 {
			m.Header = nats.Header{"A": {"b"}}
		}
		if _, err := js.PublishMsg(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	st, err := js.Stream(t.Context(), "S")
	if err != nil {
		t.Fatal(err)
	}
	for _, seq := range []uint64{2, 5, 7} {
		if err := st.DeleteMsg(t.Context(), seq); err != nil {
			t.Fatal(err)
		}
	}
	s.Close()
	return filepath.Join(dir, "jetstream", "$G", "streams", "S", "msgs", "1.blk")
}

// messages starts a server and returns the sequences of what is stored.
func messages(t *testing.T, dir string) (seqs []uint64, damage []Damage) {
	t.Helper()
	s := start(t, Options{Dir: dir})
	defer s.Close()
	js, _ := stream(t, s)
	st, err := js.Stream(t.Context(), "S")
	if err != nil {
		t.Fatal(err)
	}
	for seq := uint64(1); seq <= st.CachedInfo().State.LastSeq; seq++ {
		if _, err := st.GetMsg(t.Context(), seq); err == nil {
			seqs = append(seqs, seq)
		}
	}
	return seqs, s.Damage()
}

// This fails when another version of the server writes another format.
func TestTheFormatIsThatOfTheServer(t *testing.T) {
	dir := t.TempDir()
	block := stored(t, dir, 20)
	data, err := os.ReadFile(block)
	if err != nil {
		t.Fatal(err)
	}
	sum, err := blockHash("S", 1)
	if err != nil {
		t.Fatal(err)
	}
	if _, found := mend(data, sum); found.holes != 0 || found.records < 20 {
		t.Fatalf("%+v", found)
	}
	if found, err := check(dir); err != nil || len(found) != 0 {
		t.Fatalf("%v, %v: the check finds damage where there is none", found, err)
	}
}

// Whatever bit is flipped is seen, and costs the record that it lies in.
func TestEachFlippedBitIsSeen(t *testing.T) {
	block := stored(t, t.TempDir(), 12)
	data, err := os.ReadFile(block)
	if err != nil {
		t.Fatal(err)
	}
	sum, err := blockHash("S", 1)
	if err != nil {
		t.Fatal(err)
	}
	_, whole := mend(bytes.Clone(data), sum)
	for at := range data {
		for bit := range 8 {
			flipped := bytes.Clone(data)
			flipped[at] ^= 1 << bit
			kept, found := mend(flipped, sum)
			if found.holes != 1 || found.records != whole.records-1 || len(kept)+found.bytes != len(data) {
				t.Fatalf("bit %d of byte %d: %+v of %d records", bit, at, found, whole.records)
			}
		}
	}
	for size := range data {
		kept, found := mend(bytes.Clone(data[:size]), sum)
		if !bytes.HasPrefix(data, kept) || found.holes > 1 || found.holes == 1 && !found.torn {
			t.Fatalf("cut at %d: %+v", size, found)
		}
	}
}

func TestDamageIsMended(t *testing.T) {
	for name, test := range map[string]struct {
		hurt func(data []byte) []byte
		lost int
		want string
	}{
		"flipped":     {func(b []byte) []byte { b[len(b)/2] ^= 1; return b }, 1, "was damaged"},
		"sequence":    {func(b []byte) []byte { b[8] ^= 1; return b }, 1, "was damaged"},
		"cut":         {func(b []byte) []byte { return b[:len(b)-len(b)/20] }, 20, "was cut off"},
		"overwritten": {func(b []byte) []byte { clear(b[len(b)/2:][:64]); return b }, 2, "was damaged"},
		"all of it":   {func(b []byte) []byte { clear(b); return b }, 20, "0 records are kept"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			block := stored(t, dir, 20)
			before, damage := messages(t, dir)
			if len(damage) != 0 || len(before) != 17 {
				t.Fatalf("%v, %v", before, damage)
			}
			data, err := os.ReadFile(block)
			if err != nil {
				t.Fatal(err)
			}
			data = test.hurt(data)
			if err := os.WriteFile(block, data, 0o600); err != nil {
				t.Fatal(err)
			}
			after, damage := messages(t, dir)
			if len(damage) != 1 || !strings.Contains(damage[0].String(), test.want) {
				t.Fatalf("%v", damage)
			}
			if lost := len(before) - len(after); lost > test.lost || lost == 0 {
				t.Errorf("%d messages are lost", lost)
			}
			if kept, err := os.ReadFile(damage[0].Kept); err != nil || !bytes.Equal(kept, data) {
				t.Errorf("no copy of the damaged file: %v", err)
			}
			if again, damage := messages(t, dir); len(damage) != 0 || len(again) != len(after) {
				t.Errorf("the second time: %v, %v", again, damage)
			}
		})
	}
}

func TestADamagedDescriptionLosesNothing(t *testing.T) {
	for _, name := range []string{metaFile, metaSumFile} {
		for _, hurt := range []func(string) error{
			os.Remove,
			func(name string) error { return os.Truncate(name, 9) },
			func(name string) error { return os.WriteFile(name, nil, 0o600) },
		} {
			dir := t.TempDir()
			block := stored(t, dir, 20)
			if err := hurt(filepath.Join(filepath.Dir(filepath.Dir(block)), name)); err != nil {
				t.Fatal(err)
			}
			seqs, damage := messages(t, dir)
			if len(seqs) != 17 || len(damage) != 1 || !strings.Contains(damage[0].String(), "description") {
				t.Errorf("%s: %v, %v", name, seqs, damage)
			}
		}
	}
}

func TestFewCopiesAreKept(t *testing.T) {
	dir := t.TempDir()
	block := stored(t, dir, 8)
	data, err := os.ReadFile(block)
	if err != nil {
		t.Fatal(err)
	}
	for i := range maxDamaged + 5 {
		data[10] ^= 1 << (i % 8)
		if err := os.WriteFile(block, append(data, byte(i)), 0o600); err != nil {
			t.Fatal(err)
		}
		if found, err := check(dir); err != nil || len(found) != 1 {
			t.Fatal(found, err)
		}
	}
	all, err := os.ReadDir(filepath.Join(dir, damagedDir))
	if err != nil || len(all) != maxDamaged {
		t.Errorf("%d copies: %v", len(all), err)
	}
}

// BenchmarkCheck is the time that the check adds to a start, in bytes a second.
func BenchmarkCheck(b *testing.B) {
	dir := b.TempDir()
	msgs := filepath.Join(dir, "jetstream", "$G", "streams", "S", "msgs")
	if err := os.MkdirAll(msgs, 0o700); err != nil {
		b.Fatal(err)
	}
	const blocks, size = 16, 8 << 20
	for i := uint32(1); i <= blocks; i++ {
		sum, err := blockHash("S", i)
		if err != nil {
			b.Fatal(err)
		}
		var data []byte
		for seq := uint64(1); len(data) < size; seq++ {
			data = appendRecord(data, seq, "up.1", bytes.Repeat([]byte("a"), 1300), sum)
		}
		if err := os.WriteFile(filepath.Join(msgs, fmt.Sprintf("%d.blk", i)), data, 0o600); err != nil {
			b.Fatal(err)
		}
	}
	b.SetBytes(blocks * size)
	for b.Loop() {
		if found, err := check(dir); err != nil || len(found) > 0 {
			b.Fatal(found, err)
		}
	}
}

func appendRecord(b []byte, seq uint64, subject string, body []byte, sum hash.Hash64) []byte {
	at, size := len(b), recordHead+len(subject)+len(body)+recordSum
	b = binary.LittleEndian.AppendUint32(b, uint32(size))
	b = binary.LittleEndian.AppendUint64(b, seq)
	b = binary.LittleEndian.AppendUint64(b, 0)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(subject)))
	b = append(append(b, subject...), body...)
	sum.Reset()
	_, _ = sum.Write(b[at+4 : at+20])
	_, _ = sum.Write(b[at+recordHead:])
	return binary.LittleEndian.AppendUint64(b, sum.Sum64())
}
