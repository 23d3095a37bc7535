package connection

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/time/rate"

	"sluice"
)

func eui(n int) string { return fmt.Sprintf("%016X", n) }

// paced lets each session publish at a pace, with a round trip.
func paced(w *world, perSecond float64, trip time.Duration) {
	limits := make(map[*fakeSession]*rate.Limiter)
	w.handle = func(ctx context.Context, s *fakeSession, _ *sluice.Message) error {
		s.w.mu.Lock()
		l, ok := limits[s]
		if !ok {
			l = rate.NewLimiter(rate.Limit(perSecond), 1)
			limits[s] = l
		}
		s.w.mu.Unlock()
		if err := l.Wait(ctx); err != nil {
			return err
		}
		time.Sleep(trip)
		return nil
	}
}

// feed has devices report at a rate each, for a while.
func (b *bench) feed(devices int, perSecond float64, d time.Duration) (sent int) {
	each := time.Duration(float64(time.Second) / perSecond)
	slot := each / time.Duration(devices)
	for end := time.Now().Add(d); time.Now().Before(end); {
		for n := range devices {
			b.journal.add(uplink(fmt.Sprintf("m%d", sent), eui(n)))
			sent++
			time.Sleep(slot)
		}
	}
	synctest.Wait()
	return sent
}

// Fifty devices at 18 a second each fit through ten sessions of 98 a second
// only if no session gets a sixth device for long.
func TestLoadFlowsWithoutBacklog(t *testing.T) {
	for _, trip := range []time.Duration{5 * time.Millisecond, 30 * time.Millisecond} {
		t.Run(trip.String(), func(t *testing.T) {
			run(t, func(t *testing.T, b *bench) {
				b.set(func(w *world) {
					w.size = 10
					// The first session is open alone for a while, so that all
					// devices are at home there.
					w.refuse = func(_ *fakeDialer, lane int) error {
						if lane > 0 && time.Since(w.began) < time.Second {
							return refusal(sluice.ReasonUnreachable)
						}
						return nil
					}
					paced(w, 98, trip)
				})
				b.apply(connection(1, ""))
				// What piled up meanwhile, some 700, flows off at the 80 a
				// second that the pool has to spare.
				b.feed(50, 18, 20*time.Second)
				b.feed(50, 18, 10*time.Second)
				if n := b.journal.pending(); n > 60 {
					t.Errorf("%d messages wait after half a minute", n)
				}
				s, _ := b.Status("8")
				sum := 0
				for _, l := range s.Sessions {
					sum += l.Rate
					if l.Rate > 99 {
						t.Errorf("session %s delivers %d a second", l.ID, l.Rate)
					}
				}
				if sum < 850 {
					t.Errorf("%d delivered in the last second", sum)
				}
			})
		})
	}
}

// Six devices in one session and four in another is what a chance split may
// give, and no session is idle: the sixth has to move.
func TestSixthDeviceMoves(t *testing.T) {
	run(t, func(t *testing.T, b *bench) {
		b.set(func(w *world) { w.size = 2; paced(w, 98, 30*time.Millisecond) })
		b.apply(connection(1, ""))
		ls := b.runners["8"].active.lanes
		ls.mu.Lock()
		for n := range 10 {
			l := ls.open[0]
			if n >= 6 {
				l = ls.open[1]
			}
			ls.homes[eui(n)] = &home{lane: l, load: load{at: time.Now()}}
		}
		ls.mu.Unlock()
		b.feed(10, 18, 20*time.Second)
		if n := b.journal.pending(); n > 12 {
			t.Errorf("%d messages wait", n)
		}
	})
}

func TestDeviceKeepsItsSession(t *testing.T) {
	run(t, func(t *testing.T, b *bench) {
		b.set(func(w *world) { w.size = 4; paced(w, 98, 40*time.Millisecond) })
		b.apply(connection(1, ""))
		const devices = 40
		b.feed(devices, 4, 10*time.Second)
		b.pass(time.Second)
		var homes [devices]int
		for _, s := range b.open() {
			for n := range devices {
				if s.devices[eui(n)] > 0 {
					homes[n]++
				}
			}
		}
		moved := 0
		for _, h := range homes {
			moved += h - 1
		}
		if moved > 0 {
			t.Errorf("%d moves of %d devices under an even load", moved, devices)
		}
	})
}

// Ten sessions full to the limit, with thousands of devices at random.
func TestFullPoolIsUsed(t *testing.T) {
	run(t, func(t *testing.T, b *bench) {
		b.set(func(w *world) { w.size = 10; paced(w, 98, 50*time.Millisecond) })
		b.apply(connection(1, ""))
		chance := rand.New(rand.NewPCG(1, 2))
		for n := range 12_000 {
			b.journal.add(uplink(fmt.Sprintf("m%d", n), eui(chance.IntN(3000))))
		}
		b.pass(10 * time.Second)
		if done := b.journal.count().done; done < 9500 {
			t.Errorf("%d delivered in 10 s, want 97 %% of 9800", done)
		}
		if b.journal.count().most != 10*laneCapacity {
			t.Errorf("%d in flight at most", b.journal.count().most)
		}
		s, _ := b.Status("8")
		for _, l := range s.Sessions {
			if l.InFlight > laneCapacity || l.Rate > 99 {
				t.Errorf("session %+v", l)
			}
		}
	})
}

func TestStuckSessionGetsNoMore(t *testing.T) {
	run(t, func(t *testing.T, b *bench) {
		b.set(func(w *world) {
			w.size = 2
			w.handle = func(_ context.Context, s *fakeSession, _ *sluice.Message) error {
				if s.lane == 0 {
					<-s.done
					return refusal(sluice.ReasonDisconnected)
				}
				return nil
			}
		})
		b.apply(connection(1, ""))
		b.pass(time.Second)
		for n := range 5000 {
			b.journal.add(uplink(fmt.Sprintf("m%d", n), eui(n%200)))
			time.Sleep(time.Millisecond)
		}
		synctest.Wait()
		s, _ := b.Status("8")
		if s.Sessions[0].InFlight > 10 || b.journal.count().done < 4500 {
			t.Errorf("sessions %+v", s.Sessions)
		}
		for _, s := range b.open() {
			s.lose(sluice.ReasonTimeout)
		}
		b.pass(3 * time.Second)
	})
}

// A session takes a hundred messages at once; who comes next waits for a place,
// first come, first served.
func TestCapacityOfASession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ls := newLanes(time.Now)
		ls.add(0, &fakeSession{done: make(chan struct{})})
		p := &patience{ctx: t.Context(), clock: time.Now}
		held := make([]*home, laneCapacity)
		for n := range held {
			held[n], _ = ls.acquire(p, eui(n))
		}
		got := make(chan string)
		for _, name := range []string{"first", "second"} {
			go func() {
				if _, err := ls.acquire(p, name); err != nil {
					t.Error(err)
				}
				got <- name
			}()
			synctest.Wait()
		}
		select {
		case name := <-got:
			t.Errorf("%s got a place that there is not", name)
		default:
		}
		for n, name := range []string{"first", "second"} {
			ls.release(held[n], true)
			if g := <-got; g != name {
				t.Errorf("%s was served, want %s", g, name)
			}
		}
		// One that gives up leaves the queue; one that is let in late holds on.
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := ls.acquire(&patience{ctx: ctx, clock: time.Now}, "third"); err == nil {
			t.Error("there is no place")
		}
		ls.release(held[2], true)
		if _, err := ls.acquire(p, "fourth"); err != nil {
			t.Error(err)
		}
	})
}

// The number of devices that are remembered is bounded, and those that are in
// use are not forgotten.
func TestHomesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ls := newLanes(time.Now)
		w := newWorld(t)
		for n := range 3 {
			ls.add(n, &fakeSession{w: w, done: make(chan struct{})})
		}
		p := &patience{ctx: t.Context(), clock: time.Now}
		send := func(devEUI string) *lane {
			h, err := ls.acquire(p, devEUI)
			if err != nil {
				t.Fatal(err)
			}
			ls.release(h, true)
			return h.lane
		}
		home := send("busy")
		for n := range 10 * homesMax {
			send(eui(n))
			if n%1000 == 0 && send("busy") != home {
				t.Fatal("a device in use has moved")
			}
			if n := len(ls.homes) + len(ls.older); n > 2*homesMax {
				t.Fatalf("%d devices are remembered", n)
			}
		}
		time.Sleep(homesAge)
		send("a")
		time.Sleep(homesAge)
		send("b")
		if n := len(ls.homes) + len(ls.older); n > 2 {
			t.Errorf("%d idle devices are remembered", n)
		}
	})
}

func BenchmarkLanes(b *testing.B) {
	ls := newLanes(time.Now)
	for n := range 10 {
		ls.add(n, &fakeSession{done: make(chan struct{})})
	}
	p := &patience{ctx: b.Context(), clock: time.Now}
	devices := make([]string, 5000)
	for n := range devices {
		devices[n] = eui(n)
	}
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		l, err := ls.acquire(p, devices[n%len(devices)])
		if err != nil {
			b.Fatal(err)
		}
		ls.release(l, true)
		n++
	}
}
