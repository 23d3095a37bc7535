package connection

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"sluice"
)

// unreachable lets no session open.
func unreachable(w *world) {
	w.refuse = func(*fakeDialer, int) error { return refusal(sluice.ReasonUnreachable) }
}

// tried are the times of the tries after the first, counted from it.
func (w *world) tried() []time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []time.Duration
	for _, at := range w.attempts[1:] {
		out = append(out, at.Sub(w.attempts[0]))
	}
	return out
}

// The documented strategies, try by try. Reports come all the time, fail,
// expire, and move no try.
func TestDocumentedStrategies(t *testing.T) {
	const day = 24 * time.Hour
	for name, phases := range map[string][]struct {
		every time.Duration
		until time.Duration
	}{
		"CALM":       {{10 * time.Minute, 12 * time.Hour}, {time.Hour, 36 * time.Hour}},
		"NORMAL":     {{5 * time.Minute, time.Hour}, {time.Hour, 25 * time.Hour}, {day, 9*day + time.Hour}},
		"AGGRESSIVE": {{3 * time.Minute, 3 * time.Hour}, {30 * time.Minute, 171 * time.Hour}, {time.Hour, 9*day + 3*time.Hour}},
	} {
		t.Run(name, func(t *testing.T) {
			var want []time.Duration
			var at time.Duration
			for _, ph := range phases {
				for at+ph.every <= ph.until {
					at += ph.every
					want = append(want, at)
				}
			}
			run(t, func(t *testing.T, b *bench) {
				random := rand.New(rand.NewPCG(1, 2))
				b.o.Rand = random.Float64 // of one connection: one goroutine at a time
				b.set(unreachable)
				b.apply(connection(1, `"uplinkTimeValidity":"20m","reconnectStrategy":"`+name+`"`))
				for n := range 10 * 24 * 3 {
					b.journal.add(uplink(fmt.Sprintf("m%d", n), eui(n%7)))
					b.pass(20 * time.Minute)
				}
				got := b.tried()
				early, late := 0, 0
				for i, w := range want {
					if i >= len(got) {
						t.Fatalf("%d tries, want %d", len(got), len(want))
					}
					d := got[i] - w
					if d < -jitter || d > jitter+time.Second {
						t.Fatalf("try %d after %v, want %v", i, got[i], w)
					}
					if d < -jitter/4 {
						early++
					}
					if d > jitter/4 {
						late++
					}
				}
				if early == 0 || late == 0 {
					t.Errorf("no jitter: %d early, %d late", early, late)
				}
				if name == "CALM" && len(got) != len(want) {
					t.Errorf("%d tries, want %d and then none", len(got), len(want))
				}
				if b.journal.count().done == 0 {
					t.Error("no report expired meanwhile")
				}
			})
		})
	}
}

// CALM ends, says so, and begins again when the connection is saved.
func TestCalmGivesUp(t *testing.T) {
	run(t, func(t *testing.T, b *bench) {
		b.set(unreachable)
		b.apply(connection(1, `"reconnectStrategy":"CALM"`))
		b.pass(40 * time.Hour)
		b.wantState(sluice.StateClosed)
		s, _ := b.Status("8")
		if !strings.Contains(s.Reason, "CALM has given up") {
			t.Errorf("reason %q", s.Reason)
		}
		b.set(func(w *world) { w.refuse = nil })
		before := b.tries()
		b.pass(30 * 24 * time.Hour)
		if b.tries() != before {
			t.Error("it was tried all the same")
		}
		b.apply(connection(2, `"reconnectStrategy":"CALM"`))
		b.wantState(sluice.StateOpened)
	})
}

// A change of the strategy counts from there on.
func TestChangedStrategyTriesAtOnce(t *testing.T) {
	run(t, func(t *testing.T, b *bench) {
		b.set(unreachable)
		b.apply(connection(1, `"reconnectStrategy":"NORMAL"`))
		b.pass(3 * time.Hour)
		b.set(func(w *world) { w.refuse = nil })
		b.apply(connection(2, `"reconnectStrategy":"AGGRESSIVE"`))
		b.wantState(sluice.StateOpened)
		if len(b.dialers) != 1 {
			t.Error("it needed other sessions")
		}
	})
}

// A connection that was open for a while has a new row of tries; a session
// beside open ones does not wait for the strategy.
func TestNewRowAfterALoss(t *testing.T) {
	run(t, func(t *testing.T, b *bench) {
		b.set(func(w *world) { unreachable(w); w.size = 2 })
		b.apply(connection(1, `"reconnectStrategy":"NORMAL"`))
		b.pass(10 * time.Hour)
		b.set(func(w *world) { w.refuse = nil })
		b.pass(time.Hour + 2*jitter)
		b.wantState(sluice.StateOpened)
		b.open()[1].lose(sluice.ReasonDisconnected)
		b.pass(time.Second)
		if n := len(b.open()); n != 2 {
			t.Errorf("%d sessions are open", n)
		}
		b.pass(time.Minute)
		for _, s := range b.open() {
			s.lose(sluice.ReasonDisconnected)
		}
		b.pass(5*time.Minute - jitter - time.Second)
		b.wantState(sluice.StateClosed)
		b.pass(2*jitter + 2*time.Second)
		b.wantState(sluice.StateOpened)
	})
}

// AGGRESSIVE opens anew when there was no uplink for more than an hour, and
// only then. The other strategies never do.
func TestRestartWithoutUplinks(t *testing.T) {
	for _, name := range []string{"AGGRESSIVE", "FAST", "NORMAL"} {
		t.Run(name, func(t *testing.T) {
			run(t, func(t *testing.T, b *bench) {
				b.set(func(w *world) { w.size = 2 })
				b.apply(connection(1, `"reconnectStrategy":"`+name+`"`))
				for n := range 5 { // an uplink each 50 minutes: no restart
					b.journal.add(uplink(fmt.Sprintf("m%d", n), eui(1)))
					b.pass(50 * time.Minute)
				}
				if b.tries() != 2 {
					t.Fatalf("%d tries with uplinks", b.tries())
				}
				sent := uplink("sent", eui(1)) // a report, but no uplink
				sent.Kind, sent.Document = sluice.KindDownlinkSent, []byte(`{"DevEUI_downlink_Sent":{}}`)
				b.journal.add(sent)
				b.pass(11 * time.Minute)
				want := 2
				if name == "AGGRESSIVE" {
					want = 4
				}
				if b.tries() != want || len(b.open()) != 2 {
					t.Errorf("%d tries, want %d; %d open", b.tries(), want, len(b.open()))
				}
				b.wantState(sluice.StateOpened)
				b.pass(10*time.Hour + 10*time.Minute)
				if name == "AGGRESSIVE" {
					want += 20
				}
				if b.tries() != want {
					t.Errorf("%d tries after ten more hours, want %d", b.tries(), want)
				}
			})
		})
	}
}

// cloudAt is a cloud that is away until it is told otherwise: links end in a
// black hole, for Open and Probe alike, or are refused at once.
type cloudAt struct {
	back func() bool
	hole bool
}

func (c cloudAt) wire(ctx context.Context) error {
	if c.back() {
		return nil
	}
	if c.hole {
		<-ctx.Done()
	}
	return refusal(sluice.ReasonUnreachable)
}

// Under FAST the first delivery follows within five seconds of the cloud's
// return, whatever the length of the outage and however the cloud was away.
func TestDeliversSoonAfterTheReturn(t *testing.T) {
	for _, hole := range []bool{false, true} {
		for n, outage := range []time.Duration{
			700 * time.Millisecond, 9 * time.Second, 61 * time.Second, 17*time.Minute + 300*time.Millisecond,
			3*time.Hour + 1700*time.Millisecond, 20 * time.Hour,
		} {
			for _, fresh := range []bool{false, true} { // never open before
				t.Run(fmt.Sprint(hole, " ", outage, " ", fresh), func(t *testing.T) {
					run(t, func(t *testing.T, b *bench) {
						random := rand.New(rand.NewPCG(uint64(n), 2))
						b.o.Rand = random.Float64
						back := time.Now()
						if fresh {
							back = back.Add(outage)
						}
						c := cloudAt{back: func() bool { return !time.Now().Before(back) }, hole: hole}
						b.set(func(w *world) {
							w.size = 3
							w.probe = func(ctx context.Context, _ *fakeDialer) error { return c.wire(ctx) }
							w.dial = func(ctx context.Context) error { return c.wire(ctx) }
						})
						b.apply(connection(1, ""))
						if !fresh {
							b.pass(time.Minute)
							b.set(func(*world) { back = time.Now().Add(outage) })
							for _, s := range b.open() {
								s.lose(sluice.ReasonDisconnected)
							}
						}
						b.journal.add(uplink("m1", eui(1)))
						b.pass(time.Until(back) + 5*time.Second)
						if _, ok := b.journal.outcome("m1"); !ok {
							t.Errorf("nothing delivered 5 s after the return")
						}
						b.pass(time.Second)
						if len(b.open()) != 3 {
							t.Errorf("%d sessions are open", len(b.open()))
						}
						if n, most := len(b.probes), int(outage/lookEvery)+3; n > most {
							t.Errorf("%d probes, want at most %d", n, most)
						}
					})
				})
			}
		}
	}
}

// A cloud that takes links but refuses sessions, or throws them out at once,
// is asked under the backoff, and not probed.
func TestRefusedConnectIsNotHammered(t *testing.T) {
	for name, reason := range map[string]sluice.Reason{
		"server unavailable": sluice.ReasonUnreachable, "throttled": sluice.ReasonThrottled, "kicked": "",
		"not authorized": sluice.ReasonNotAuthorized,
	} {
		t.Run(name, func(t *testing.T) {
			run(t, func(t *testing.T, b *bench) {
				b.set(func(w *world) {
					w.probe = func(context.Context, *fakeDialer) error { return nil }
					if reason != "" {
						w.refuseWired = func() error { return refusal(reason) }
					}
				})
				b.Apply([]sluice.Connection{connection(1, "")})
				for range 2 * 60 * 60 {
					b.pass(500 * time.Millisecond)
					for _, s := range b.open() {
						s.lose(sluice.ReasonDisconnected)
					}
				}
				if n := b.tries(); n < 10 || n > 95 {
					t.Errorf("%d CONNECTs in an hour", n)
				}
				if len(b.probes) != 0 {
					t.Errorf("%d probes", len(b.probes))
				}
			})
		})
	}
}

// An open connection and one with another strategy are not probed.
func TestProbesOnlyWhereTheyHelp(t *testing.T) {
	run(t, func(t *testing.T, b *bench) {
		b.set(func(w *world) { w.probe = func(context.Context, *fakeDialer) error { return errBoom } })
		b.apply(connection(1, ""))
		b.pass(time.Hour)
		if len(b.probes) != 0 {
			t.Errorf("%d probes while open", len(b.probes))
		}
		b.apply(connection(2, `"reconnectStrategy":"CALM"`))
		b.set(unreachable)
		b.open()[0].lose(sluice.ReasonDisconnected)
		b.pass(time.Hour)
		if len(b.probes) != 0 {
			t.Errorf("%d probes under CALM", len(b.probes))
		}
	})
}
