package store_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluice"
	"sluice/store"
)

func uplink(n int, at time.Time) *sluice.Message {
	return &sluice.Message{
		Kind:     sluice.KindUplink,
		DevEUI:   fmt.Sprintf("20635F%010X", n),
		Network:  "net",
		Received: at,
		Name:     fmt.Sprintf("Sensor %d", n),
		Tags:     []string{"city", fmt.Sprintf("zone%d", n%10)},
	}
}

func TestDeviceIsSeen(t *testing.T) {
	h := newHouse(t)
	s := h.store()
	stop := run(t, s)
	m := uplink(1, start)
	s.Seen(m)
	want := sluice.Device{DevEUI: "20635F0000000001", Name: "Sensor 1", Tags: []string{"city", "zone1"}, Network: "net", LastSeen: start}
	check := func(when string) {
		t.Helper()
		got, ok := s.Device("20635f0000000001")
		if diff := cmp.Diff(want, got); !ok || diff != "" {
			t.Errorf("%s: %v (-want +got):\n%s", when, ok, diff)
		}
	}
	check("first")

	// What the document does not say stays; what it says counts.
	m2 := *m
	m2.Tags, m2.Name, m2.Network, m2.Received = nil, "", "other", start.Add(time.Minute)
	s.Seen(&m2)
	want.Network, want.LastSeen = "other", start.Add(time.Minute)
	check("on another network")

	s.Seen(m) // overtaken
	check("overtaken")

	m3 := m2
	m3.Tags, m3.Received = []string{}, start.Add(2*time.Minute)
	s.Seen(&m3)
	want.Tags, want.LastSeen = nil, m3.Received
	check("without tags")

	stop()
	h.restart()
	s = h.store()
	check("after a restart")
}

func TestWhatIsNoDevice(t *testing.T) {
	s := newHouse(t).store()
	alarm, command, odd := uplink(1, start), uplink(2, start), uplink(3, start)
	alarm.Kind = sluice.KindBSAlarm
	command.Kind = sluice.KindDownlink
	odd.DevEUI = "100000A1"
	for _, m := range []*sluice.Message{alarm, command, odd} {
		s.Seen(m)
	}
	if _, total := s.Devices(0, 10); total != 0 {
		t.Errorf("%d devices", total)
	}
}

func TestDevicesAreSorted(t *testing.T) {
	h := newHouse(t)
	s := h.store()
	stop := run(t, s)
	const n = 10_000
	see := func(from, to int) {
		for i := from; i < to; i++ {
			s.Seen(uplink(i*7919%n, start))
		}
	}
	check := func(s *store.Store, offset, limit, wantLen, wantTotal int) {
		t.Helper()
		page, total := s.Devices(offset, limit)
		if len(page) != wantLen || total != wantTotal {
			t.Fatalf("%d of %d devices, want %d of %d", len(page), total, wantLen, wantTotal)
		}
		for i := 1; i < len(page); i++ {
			if page[i-1].DevEUI >= page[i].DevEUI {
				t.Fatalf("%s before %s", page[i-1].DevEUI, page[i].DevEUI)
			}
		}
	}
	see(0, n/2)
	check(s, 0, n, n/2, n/2)
	see(n/2, n)
	check(s, 0, n, n, n)
	check(s, n-5, 100, 5, n)
	check(s, n+5, 100, 0, n)
	check(s, -1, -1, 0, n)
	page, _ := s.Devices(4711, 1)
	if page[0].DevEUI != uplink(4711, start).DevEUI {
		t.Errorf("device 4711 is %s", page[0].DevEUI)
	}
	stop()
	h.restart()
	check(h.store(), 0, n, n, n)
}

// TestLogsAreShortened writes the same again and again, and changes some of
// it between the writing anew and the next.
func TestLogsAreShortened(t *testing.T) {
	h := newHouse(t)
	s := h.store()
	connections(t, s, 1)
	s.SetSlack("1", 100<<10)
	const n, rounds = 5000, 12
	at := start
	for round := range rounds {
		at = at.Add(time.Second)
		for i := range n {
			s.Seen(uplink(i, at))
			s.Things("1").Put(eui(i), sluice.Thing{State: sluice.ThingRegistered, Tag: fmt.Sprint(round)})
		}
		if err := s.Flush(ctx()); err != nil {
			t.Fatal(err)
		}
	}
	js := jetStream(t, h.conn)
	for stream, limit := range map[string]uint64{"DEVICES": 1200 << 10, "THINGS": 400 << 10} {
		state := streamState(t, js, stream)
		if state.Bytes > limit || state.FirstSeq == 1 {
			t.Errorf("%s has %d bytes from %d on: it was not shortened", stream, state.Bytes, state.FirstSeq)
		}
	}
	h.restart()
	s = h.store()
	page, total := s.Devices(0, n)
	if total != n {
		t.Fatalf("%d devices", total)
	}
	for i, d := range page {
		want := sluice.Device{
			DevEUI: eui(i), Name: fmt.Sprintf("Sensor %d", i), Tags: uplink(i, at).Tags, Network: "net", LastSeen: at,
		}
		if diff := cmp.Diff(want, d); diff != "" {
			t.Fatal(diff)
		}
		if got, ok := s.Things("1").Get(eui(i)); !ok || got.Tag != fmt.Sprint(rounds-1) {
			t.Fatalf("%s: %+v, %v", eui(i), got, ok)
		}
	}
}

func TestDevicesConcurrently(t *testing.T) {
	s := newHouse(t).store()
	run(t, s)
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 5000 {
				s.Seen(uplink(i, start.Add(time.Duration(w)*time.Second)))
				if i%500 == 0 {
					s.Devices(i, 10)
					s.Device(uplink(i, start).DevEUI)
				}
			}
		})
	}
	wg.Wait()
	if _, total := s.Devices(0, 0); total != 5000 {
		t.Errorf("%d devices", total)
	}
}

func BenchmarkSeen(b *testing.B) {
	h := newHouse(b)
	s := h.store()
	messages := make([]*sluice.Message, 10_000)
	for i := range messages {
		messages[i] = uplink(i, start)
		s.Seen(messages[i])
	}
	run(b, s)
	at := start
	i := 0
	b.ReportAllocs()
	for b.Loop() {
		if i%len(messages) == 0 {
			at = at.Add(time.Second)
		}
		m := messages[i%len(messages)]
		m.Received = at
		s.Seen(m)
		i++
	}
}

func BenchmarkMillionDevices(b *testing.B) {
	h := newHouse(b)
	s := h.store()
	figures := map[string]float64{}
	before := heap()
	timed := func(name string, f func()) {
		began := time.Now()
		f()
		figures[name] = float64(time.Since(began).Microseconds()) / 1e3
	}
	const n = 1_000_000
	timed("ms-see", func() {
		for i := range n {
			s.Seen(uplink(i, start))
		}
	})
	figures["MB"] = float64(heap()-before) / 1e6
	timed("ms-write", func() {
		if err := s.Flush(ctx()); err != nil {
			b.Fatal(err)
		}
	})
	timed("ms-list", func() { s.Devices(0, 100) })
	s.Seen(uplink(n, start))
	timed("ms-list-again", func() { s.Devices(n/2, 100) })
	if err := s.Flush(ctx()); err != nil {
		b.Fatal(err)
	}
	h.restart()
	for b.Loop() {
		timed("ms-open", func() { s = h.store() })
	}
	for name, figure := range figures {
		b.ReportMetric(figure, name)
	}
	if _, total := s.Devices(0, 0); total != n+1 {
		b.Errorf("%d devices", total)
	}
}
