package connection

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sluice"
)

// What the cloud did not see acknowledged comes again after a reconnect, before
// all else; what equals it later is meant.
func TestRedeliveryComesFirst(t *testing.T) {
	for name, c := range map[string]struct {
		wait time.Duration // from the grant on
		sent []string
		want []bool // taken
	}{
		"all come again, then new ones": {0, []string{"a", "b", "b", "c", "c"}, []bool{false, false, false, false, true}},
		"some come again":               {0, []string{"c", "c"}, []bool{false, true}},
		"none comes again":              {0, []string{"x", "a", "b", "c"}, []bool{true, true, true, true}},
		"too old for one":               {0, []string{"old"}, []bool{true}},
		"too late for one":              {31 * time.Second, []string{"a", "b"}, []bool{true, true}},
		"correlated, late":              {3 * time.Hour, []string{"#1"}, []bool{false}},
		"correlated, among others":      {0, []string{"x", "#1", "#1"}, []bool{true, false, false}},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, func(t *testing.T, b *bench) {
				h := newHandover(time.Now, 30*time.Second)
				one, two := &fakeSession{w: b.world}, &fakeSession{w: b.world}
				take := func(s sluice.Session, document string) bool {
					t.Helper()
					taken := false
					err := h.once(t.Context(), s, sluice.Command{Document: []byte(document)}, document[0] == '#', func() error {
						taken = true
						return nil
					})
					if err != nil {
						t.Error(err)
					}
					return taken
				}
				h.begin()
				h.granted(true)
				for _, d := range []string{"old", "#1"} {
					take(one, d)
				}
				b.pass(31 * time.Second)
				for _, d := range []string{"a", "b", "b", "c"} {
					if !take(one, d) {
						t.Errorf("%s is not taken", d)
					}
				}
				h.lost(one)
				b.pass(20 * time.Minute)
				h.begin()
				b.pass(25 * time.Second) // a slow opening
				h.granted(true)
				b.pass(c.wait)
				for i, d := range c.sent {
					if got := take(two, d); got != c.want[i] {
						t.Errorf("%d, %s: taken %v", i, d, got)
					}
				}
			})
		})
	}
}

// The same session tells a command again: an application means that.
func TestSameSessionRepeatsOnPurpose(t *testing.T) {
	run(t, func(t *testing.T, b *bench) {
		b.apply(connection(1, ""))
		b.pass(time.Minute)
		correlated := strings.Replace(command, `"FPort"`, `"CorrelationID":"1","FPort"`, 1)
		for range 2 {
			if err := b.subscriber().take(t.Context(), fromTopic(correlated)); err != nil {
				t.Error(err)
			}
		}
		if n := len(b.taken()); n != 2 {
			t.Errorf("%d commands", n)
		}
		// After a reconnect it is a redelivery.
		b.open()[0].lose(sluice.ReasonDisconnected)
		b.pass(time.Minute)
		if err := b.subscriber().take(t.Context(), fromTopic(correlated)); err != nil {
			t.Error(err)
		}
		if n := len(b.taken()); n != 2 {
			t.Errorf("%d commands after a reconnect", n)
		}
	})
}

// A command that was taken before a start, and comes again after it, is known
// from the journal: by its id at any time, by its content where the end was not
// orderly and it comes at once.
func TestRedeliveryAcrossARestart(t *testing.T) {
	now := time.Now()
	for name, c := range map[string]struct {
		hasID   bool
		crashed bool
		age     time.Duration // at the end
		down    time.Duration
		first   string // what comes before
		taken   bool
	}{
		"id, orderly":            {true, false, time.Hour, time.Hour, "x", false},
		"id, crashed":            {true, true, time.Hour, time.Hour, "x", false},
		"id, very old":           {true, true, 25 * time.Hour, 0, "", true},
		"alike, crashed":         {false, true, 20 * time.Second, time.Hour, "", false},
		"alike, not the first":   {false, true, 20 * time.Second, time.Hour, "x", true},
		"alike, old at the end":  {false, true, 40 * time.Second, 0, "", true},
		"alike, an orderly end":  {false, false, time.Second, time.Second, "", true},
		"id, of another one":     {true, true, 0, 0, "other", true},
		"alike, of another one ": {false, true, 0, 0, "other", true},
	} {
		t.Run(name, func(t *testing.T) {
			command := sluice.Command{Source: "topic", Document: []byte("a")}
			e := Earlier{Taken: []Taken{{Connection: "8", Fingerprint: fingerprint(command, c.hasID), Received: now.Add(-c.down - c.age)}}}
			if c.first == "other" {
				e.Taken[0].Connection = "9"
			}
			if c.crashed {
				e.Crashed = now.Add(-c.down)
			}
			h := newHandover(time.Now, 30*time.Second)
			h.recall(e, "8", now)
			taken := false
			take := func(c sluice.Command, hasID bool) {
				taken = false
				if err := h.once(t.Context(), &fakeSession{}, c, hasID, func() error { taken = true; return nil }); err != nil {
					t.Fatal(err)
				}
			}
			if c.first == "x" {
				take(sluice.Command{Source: "topic", Document: []byte("x")}, false)
			}
			take(command, c.hasID)
			if taken != c.taken {
				t.Errorf("taken %v", taken)
			}
		})
	}
}

// Without a window, what is equal is meant, also before the subscription is
// granted: a persistent session sends then already.
func TestNoWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // the clock stands still
		h := newHandover(time.Now, 0)
		taken := 0
		for _, s := range []*fakeSession{{}, {}} {
			if err := h.once(t.Context(), s, fromTopic(command), false, func() error { taken++; return nil }); err != nil {
				t.Error(err)
			}
			h.lost(s)
		}
		if taken != 2 {
			t.Errorf("%d taken", taken)
		}
	})
}

func TestRedeliveryIsBounded(t *testing.T) {
	h := newHandover(time.Now, 30*time.Second)
	s := &fakeSession{}
	for n := range 3 * handoverMax {
		c := sluice.Command{Source: eui(n)}
		if err := h.once(t.Context(), s, c, true, func() error { return nil }); err != nil {
			t.Fatal(err)
		}
	}
	h.lost(s)
	if len(h.named) > handoverMax || len(h.naming) > handoverMax || len(h.again) > unackedMax {
		t.Errorf("%d and %d are remembered", len(h.named), len(h.again))
	}
}

// Sessions end for good when nobody comes back to them, and only then.
func TestSessionsEndForGood(t *testing.T) {
	for name, c := range map[string]struct {
		do   func(b *bench)
		want []string
	}{
		"stop":   {func(b *bench) { b.stop() }, nil},
		"lost":   {func(b *bench) { b.open()[0].lose(sluice.ReasonDisconnected); b.pass(time.Minute) }, nil},
		"delete": {func(b *bench) { b.Apply(nil); b.pass(time.Minute) }, []string{"8-0-0"}},
		"swap":   {func(b *bench) { b.apply(connection(2, `"uplinkTopicPattern":"x"`)); b.pass(time.Minute) }, []string{"8-0-0"}},
		"deactivate": {func(b *bench) {
			c := connection(2, "")
			c.Active = false
			b.apply(c)
		}, []string{"8-0-0"}},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, func(t *testing.T, b *bench) {
				b.apply(connection(1, ""))
				c.do(b)
				b.set(func(w *world) {
					if !slices.Equal(w.ended, c.want) {
						t.Errorf("ended %v, want %v", w.ended, c.want)
					}
				})
			})
		})
	}
}

// A fleet of new devices whose things nobody makes leaves the workers to a
// device that is known.
func TestNewDevicesLeaveRoom(t *testing.T) {
	run(t, func(t *testing.T, b *bench) {
		const known = "00000000000FFFFF"
		b.set(func(w *world) {
			w.prepares = true
			w.await = func(ctx context.Context, m *sluice.Message) error {
				if m.DevEUI == known {
					return nil
				}
				select {
				case <-time.After(30 * time.Second):
					return nil
				case <-ctx.Done():
					return ctx.Err()
				}
			}
		})
		b.apply(connection(1, ""))
		for n := range 500 {
			b.journal.add(uplink(fmt.Sprint("new", n), eui(n)))
		}
		b.pass(2 * time.Second)
		for n := range 20 {
			id := fmt.Sprint("known", n)
			b.journal.add(uplink(id, known))
			b.pass(time.Second)
			if _, ok := b.journal.outcome(id); !ok {
				t.Fatalf("report %d of the known device waits for the new ones", n)
			}
		}
		if n := b.serving().room.in.Load(); n != laneCapacity/4 {
			t.Errorf("%d wait", n)
		}
	})
}

// serving is the pool that delivers.
func (b *bench) serving() *pool {
	r, _ := b.runner("8")
	return r.serving.Load()
}
