package journal

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluice"
)

// poison is the error of a message that can never be delivered.
func poison(*sluice.Message) error {
	return &sluice.Failure{
		Verdict: sluice.Permanent, Reason: sluice.ReasonTopic, Message: "The topic has 300 bytes.", Hint: "Shorten it.", Status: 144,
	}
}

// only fails messages with some ids.
func only(fail func(*sluice.Message) error, ids ...string) func(*sluice.Message) error {
	return func(m *sluice.Message) error {
		if slices.Contains(ids, m.ID) {
			return fail(m)
		}
		return nil
	}
}

// numbers are those of the quarantine of connection 1, newest first.
func (b *bench) quarantined() (numbers []uint64) {
	b.t.Helper()
	qs, total, err := b.j.Quarantined(context.Background(), Up("1"), 0, 1_000_000)
	if err != nil || total != len(qs) {
		b.t.Fatalf("%d of %d: %v", len(qs), total, err)
	}
	for _, q := range qs {
		numbers = append(numbers, q.Message.Number)
	}
	return numbers
}

func (b *bench) wantsQuarantined(want ...uint64) {
	b.t.Helper()
	if got := b.quarantined(); !slices.Equal(got, want) {
		b.t.Fatalf("in quarantine: %v, want %v", got, want)
	}
}

// sound wants the self-check to find nothing.
func (b *bench) sound() {
	b.t.Helper()
	if err := b.j.Check(context.Background()); err != nil {
		b.t.Fatal(err)
	}
}

func TestWhatCanNeverBeDeliveredIsQuarantined(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 5, time.UTC)
	dir := t.TempDir()
	clock := func(o *Options) { o.Clock = func() time.Time { return now } }
	b := open(t, dir, clock)
	tries := map[string]int{}
	got := &arrivals{fail: func(m *sluice.Message) error {
		tries[m.ID]++
		return only(poison, "D-1", "D-3")(m)
	}}
	var durable []bool
	stop := b.read(Up("1"), ReadOptions{Handler: got, Settled: func(m *sluice.Message, o Outcome, _ error) {
		if o == Failed {
			s, err := b.j.wards.entries.last(context.Background(), recordSubject(Up("1"), m.Number))
			durable = append(durable, err == nil && len(s.data) > 0)
		}
	}})
	for i := range 5 {
		m := report("D", i)
		m.Received, m.Tags = now, []string{"a"}
		b.appendAll([]*sluice.Message{m})
	}
	b.wants(Up("1"), sluice.Counters{Received: 5, Delivered: 3, Failed: 2})
	stop()
	if !slices.Equal(got.order["D"], []string{"D-0", "D-2", "D-4"}) || tries["D-1"] != 1 || tries["D-3"] != 1 {
		t.Errorf("arrived: %v, tries: %v", got.order, tries)
	}
	if !slices.Equal(durable, []bool{true, true}) {
		t.Errorf("counted before it was in quarantine: %v", durable)
	}
	check := func() {
		t.Helper()
		b.wantsQuarantined(4, 2)
		q, err := b.j.QuarantinedMessage(t.Context(), Up("1"), 2)
		if err != nil {
			t.Fatal(err)
		}
		m := report("D", 1)
		m.Received, m.Tags, m.Number = now, []string{"a"}, 2
		want := &sluice.Quarantined{
			Message: m, Reason: sluice.ReasonTopic, Detail: "The topic has 300 bytes.", Hint: "Shorten it.", Status: 144,
			Time: now, Size: len(m.Document),
		}
		if d := cmp.Diff(want, q); d != "" {
			t.Errorf("(-want +got)\n%s", d)
		}
		b.sound()
	}
	check()
	b.close()
	b = open(t, dir, clock)
	check()
	if n := b.events.count(sluice.EventJournalGap); n != 0 {
		t.Errorf("%+v", b.events.list)
	}
	if _, err := b.j.QuarantinedMessage(t.Context(), Up("1"), 1); sluice.CodeOf(err) != sluice.CodeNotFound {
		t.Error(err)
	}
	if qs, total, err := b.j.Quarantined(t.Context(), Up("1"), 1, 1); err != nil || total != 2 || len(qs) != 1 || qs[0].Message.Number != 2 || qs[0].Message.Document != nil || qs[0].Size == 0 {
		t.Errorf("%+v %d %v", qs, total, err)
	}
}

// Commands and devices whose thing is missing are no case for quarantine.
func TestWhatIsNotQuarantined(t *testing.T) {
	b := open(t, t.TempDir())
	missing := func(*sluice.Message) error {
		return &sluice.Failure{Verdict: sluice.Permanent, Reason: sluice.ReasonThingMissing}
	}
	b.read(Up("1"), ReadOptions{Handler: &arrivals{fail: missing}})
	b.read(Down("n"), ReadOptions{Handler: &arrivals{fail: poison}})
	b.append("D", 0, 1)
	command := report("D", 0)
	command.Kind = sluice.KindDownlink
	b.appendAll([]*sluice.Message{command})
	b.wants(Up("1"), sluice.Counters{Received: 1, Failed: 1})
	b.wants(Down("n"), sluice.Counters{Received: 1, Failed: 1})
	if info, err := b.j.wards.stream.Info(t.Context()); err != nil || info.State.Msgs != 0 {
		t.Errorf("%+v %v", info, err)
	}
}

// What cannot be quarantined is tried again, and nothing else waits for it.
func TestWithoutQuarantineAnEntryIsTriedAgain(t *testing.T) {
	b := open(t, t.TempDir())
	b.j.health.low.Store(true)
	got := &arrivals{fail: func(m *sluice.Message) error {
		if m.DevEUI == "bad" {
			return poison(m)
		}
		return nil
	}}
	tried := make(chan int, 100)
	b.read(Up("1"), ReadOptions{Handler: got, Retrying: func(_ *sluice.Message, attempt int, _ error) { tried <- attempt }})
	b.append("bad", 0, 1)
	b.append("good", 0, 3)
	b.wants(Up("1"), sluice.Counters{Received: 4, Delivered: 3, Pending: 1})
	for range 2 {
		<-tried
	}
	b.wantsQuarantined()
	b.j.health.low.Store(false)
	b.wants(Up("1"), sluice.Counters{Received: 4, Delivered: 3, Failed: 1})
	b.wantsQuarantined(1)
}

// A crash between the record and the count: the entry is handed out again,
// lies in quarantine once if it fails again, and not at all if it does not.
func TestACrashBetweenRecordAndCount(t *testing.T) {
	for _, mended := range []bool{false, true} {
		t.Run(fmt.Sprint("mended=", mended), func(t *testing.T) {
			dir := t.TempDir()
			b := open(t, dir)
			b.append("D", 0, 3)
			p := b.j.place(Up("1"))
			for n := range 2 {
				m := report("D", n)
				m.Number = uint64(n + 1)
				if err := b.j.quarantine(t.Context(), p, m, poison(m)); err != nil {
					t.Fatal(err)
				}
			}
			b.crash()
			b = open(t, dir)
			b.wants(Up("1"), sluice.Counters{Received: 3, Pending: 3})
			b.wantsQuarantined() // nothing is failed yet
			if err := b.j.Retry(t.Context(), Up("1"), 1); sluice.CodeOf(err) != sluice.CodeNotFound {
				t.Fatal(err)
			}
			got := &arrivals{}
			if !mended {
				got.fail = only(poison, "D-0", "D-1")
			}
			stop := b.read(Up("1"), ReadOptions{Handler: got})
			if mended {
				b.wants(Up("1"), sluice.Counters{Received: 3, Delivered: 3})
				b.wantsQuarantined()
				until(t, "the records are gone", func() bool {
					info, err := b.j.wards.stream.Info(t.Context())
					return err == nil && info.State.Msgs == 0
				})
			} else {
				b.wants(Up("1"), sluice.Counters{Received: 3, Delivered: 1, Failed: 2})
				b.wantsQuarantined(2, 1)
			}
			b.sound()
			stop()
			b.close()
			b = open(t, dir)
			if mended {
				b.wantsQuarantined()
			} else {
				b.wantsQuarantined(2, 1)
			}
			b.sound()
		})
	}
}

func TestQuarantineIsBounded(t *testing.T) {
	for name, change := range map[string]func(*Options){
		"messages": func(o *Options) { o.Quarantined = 5 },
		"bytes":    func(o *Options) { o.QuarantineBytes = 5 * 160 },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			b := open(t, dir, change)
			stop := b.read(Up("1"), ReadOptions{Handler: &arrivals{fail: poison}})
			b.append("D", 0, 9)
			b.wants(Up("1"), sluice.Counters{Received: 9, Failed: 9})
			got := b.quarantined()
			if len(got) < 3 || len(got) > 5 || got[0] != 9 {
				t.Errorf("%v lie in quarantine", got)
			}
			if n := b.events.count(sluice.EventQuarantineShrunk); n != 1 {
				t.Errorf("%d events", n)
			}
			b.j.tellShrunk(b.j.place(Up("1")), false) // as each minute
			told := b.events.last(sluice.EventQuarantineShrunk)
			if want := fmt.Sprintf(": %d of its oldest", 9-len(got)-1); !strings.Contains(told.Detail, want) || told.Connection != "1" {
				t.Errorf("told: %+v, want %q", told, want)
			}
			if s := b.j.QuarantineStats(Up("1")); int(s.Dropped) != 9-len(got) || int(s.Messages) != len(got) {
				t.Errorf("%+v", s)
			}
			b.sound()
			stop()
			b.close()
			b = open(t, dir, change)
			if again := b.quarantined(); !slices.Equal(again, got) {
				t.Errorf("after reopening %v, before %v", again, got)
			}
		})
	}
}

// All quarantines together are bounded: the largest gives up its oldest.
func TestTheLargestQuarantineGivesWay(t *testing.T) {
	b := open(t, t.TempDir())
	b.j.wards.most = 6
	for _, c := range []string{"1", "2"} {
		b.read(Up(c), ReadOptions{Handler: &arrivals{fail: poison}})
	}
	b.append("D", 0, 5)
	b.wants(Up("1"), sluice.Counters{Received: 5, Failed: 5})
	for i := range 3 {
		m := report("D", i)
		m.Connection = "2"
		b.appendAll([]*sluice.Message{m})
	}
	b.wants(Up("2"), sluice.Counters{Received: 3, Failed: 3})
	one, two := b.j.QuarantineStats(Up("1")), b.j.QuarantineStats(Up("2"))
	if one.Messages != 3 || two.Messages != 3 {
		t.Errorf("%+v %+v", one, two)
	}
	b.sound()
}

// On a disk that stays full quarantine gives up what lets reports be taken
// again, and nothing where it does not.
func TestAFullDiskEmptiesQuarantine(t *testing.T) {
	now := time.Now()
	b := open(t, t.TempDir(), func(o *Options) { o.Clock = func() time.Time { return now } })
	b.read(Up("1"), ReadOptions{Handler: &arrivals{fail: poison}})
	b.append("D", 0, 20)
	b.wants(Up("1"), sluice.Counters{Received: 20, Failed: 20})
	relieve := func() {
		t.Helper()
		if err := b.j.relieve(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	b.j.health.disk.Store(unavailable("full", ""))
	b.j.health.lack.Store(1 << 20)
	relieve()
	now = now.Add(time.Hour)
	relieve()
	if n := len(b.quarantined()); n != 20 {
		t.Fatalf("%d are left, of no use to intake", n)
	}
	b.j.health.lack.Store(1000)
	relieve()
	if n := len(b.quarantined()); n >= 17 || n < 8 {
		t.Fatalf("%d are left", n)
	}
	b.j.health.disk.Store(nil)
	b.sound()
}

func TestDeleteQuarantined(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir)
	stop := b.read(Up("1"), ReadOptions{Handler: &arrivals{fail: poison}})
	b.append("D", 0, 4)
	b.wants(Up("1"), sluice.Counters{Received: 4, Failed: 4})
	if err := b.j.DeleteQuarantined(t.Context(), Up("1"), 2); err != nil {
		t.Fatal(err)
	}
	if err := b.j.DeleteQuarantined(t.Context(), Up("1"), 2); sluice.CodeOf(err) != sluice.CodeNotFound {
		t.Error(err)
	}
	b.wantsQuarantined(4, 3, 1)
	stop()
	b.close()
	b = open(t, dir)
	b.wantsQuarantined(4, 3, 1)
	if n, err := b.j.DeleteAllQuarantined(t.Context(), Up("1")); n != 3 || err != nil {
		t.Error(n, err)
	}
	b.wantsQuarantined()
	b.wants(Up("1"), sluice.Counters{Received: 4, Failed: 4})
	b.sound()
	if n := b.events.count(sluice.EventJournalGap); n != 0 {
		t.Errorf("%+v", b.events.list)
	}
}

func TestDropDeletesTheQuarantine(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir)
	stop := b.read(Up("1"), ReadOptions{Handler: &arrivals{fail: poison}})
	b.append("D", 0, 4)
	b.wants(Up("1"), sluice.Counters{Received: 4, Failed: 4})
	stop()
	if err := b.j.Drop(t.Context(), Up("1")); err != nil {
		t.Fatal(err)
	}
	b.wantsQuarantined()
	b.append("D", 0, 1)
	b.close()
	b = open(t, dir)
	b.wantsQuarantined()
	b.wants(Up("1"), sluice.Counters{Received: 1, Pending: 1})
	b.sound()
}

// Damage to quarantine costs what it hits, is told, and nothing else.
func TestDamageToQuarantine(t *testing.T) {
	for _, damage := range []string{"flip", "truncate", "remove"} {
		for _, orderly := range []bool{true, false} {
			t.Run(fmt.Sprint(damage, " orderly=", orderly), func(t *testing.T) {
				dir := t.TempDir()
				b := open(t, dir)
				stop := b.read(Up("1"), ReadOptions{Handler: &arrivals{fail: poison}})
				b.append("D", 0, 10)
				b.wants(Up("1"), sluice.Counters{Received: 10, Failed: 10})
				if stop(); orderly {
					b.close()
				} else {
					p := b.j.place(Up("1"))
					until(t, "the book is written", func() bool { p.mu.Lock(); defer p.mu.Unlock(); return !p.dirty })
					b.crash()
				}
				found, err := filepath.Glob(filepath.Join(dir, "jetstream/*/streams", streamQuarantine, "msgs/*.blk"))
				if err != nil || len(found) != 1 {
					t.Fatal(found, err)
				}
				data, err := os.ReadFile(found[0])
				if err != nil {
					t.Fatal(err)
				}
				switch damage {
				case "flip":
					data[len(data)/2] ^= 4
				case "truncate":
					data = data[:len(data)/2]
				}
				if err := os.WriteFile(found[0], data, 0o600); err != nil {
					t.Fatal(err)
				}
				if damage == "remove" {
					if err := os.Remove(found[0]); err != nil {
						t.Fatal(err)
					}
				}
				b = open(t, dir)
				left := b.quarantined()
				damages := len(b.server.Damage())
				if told := b.events.count(sluice.EventJournalGap) + damages; len(left) > 9 || told == 0 {
					t.Errorf("%v are left, %d damages, %+v", left, damages, b.events.list)
				}
				if damage == "flip" && len(left) != 9 {
					t.Errorf("a bit has cost %d", 10-len(left))
				}
				c := b.j.Counters(Up("1"))
				if !c.Holds() || c.Received != 10 {
					t.Errorf("%+v", c)
				}
				if n, err := b.j.RetryAll(t.Context(), Up("1")); n != len(left) || err != nil {
					t.Error(n, err)
				}
				b.read(Up("1"), ReadOptions{Handler: &arrivals{}})
				until(t, "all is delivered", func() bool { return b.j.Counters(Up("1")).Delivered == uint64(len(left)) })
				b.wants(Up("1"), sluice.Counters{Received: 10, Delivered: uint64(len(left)), Failed: 10 - uint64(len(left))})
				b.sound()
			})
		}
	}
}

// A record that is whole for the stream and not for us is told and removed.
func TestADamagedRecordIsToldAtOpen(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir)
	stop := b.read(Up("1"), ReadOptions{Handler: &arrivals{fail: poison}})
	b.append("D", 0, 3)
	b.wants(Up("1"), sluice.Counters{Received: 3, Failed: 3})
	stop()
	if _, err := b.j.js.Publish(t.Context(), recordSubject(Up("1"), 2), []byte("nonsense")); err != nil {
		t.Fatal(err)
	}
	b.close()
	b = open(t, dir)
	b.wantsQuarantined(3, 1)
	if d := b.events.last(sluice.EventJournalGap).Detail; !strings.Contains(d, "1 messages in the quarantine") {
		t.Errorf("%+v", b.events.list)
	}
	b.sound()
}

// A flood shares its fsyncs, and loses nothing to a server that is restarted
// under it.
func TestAFloodIntoQuarantine(t *testing.T) {
	b := open(t, t.TempDir())
	const devices, each = 100, 12
	b.appendAll(many(devices, each))
	half := make(chan struct{})
	failed := 0
	b.read(Up("1"), ReadOptions{Handler: &arrivals{fail: poison}, Concurrency: devices, Settled: func(_ *sluice.Message, o Outcome, _ error) {
		b.events.mu.Lock() // one at a time
		defer b.events.mu.Unlock()
		if failed++; failed == devices*each/2 {
			close(half)
		}
	}})
	<-half
	if err := b.server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.wants(Up("1"), sluice.Counters{Received: devices * each, Failed: devices * each})
	if n := len(b.quarantined()); n != devices*each {
		t.Errorf("%d lie in quarantine", n)
	}
	b.sound()
}
