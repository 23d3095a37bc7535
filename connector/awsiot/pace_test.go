package awsiot

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// In no second, wherever it starts, are there more than 100 publishes, however
// late the timers and slow the writes; and the pace is kept nevertheless.
func TestPacerNeverExceedsTheQuota(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const seconds = 120
		ctx, cancel := context.WithTimeout(t.Context(), seconds*time.Second)
		defer cancel()
		random := rand.New(rand.NewPCG(1, 2))
		p := newPacer(publishRate)
		var mu sync.Mutex
		var written []time.Time
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				for p.begin(ctx, 100, nil, nil) {
					mu.Lock()
					late := time.Duration(random.ExpFloat64() * float64(3*time.Millisecond))
					if random.IntN(500) == 0 {
						late = 300 * time.Millisecond // a stall
					}
					mu.Unlock()
					time.Sleep(late)
					mu.Lock()
					written = append(written, time.Now())
					mu.Unlock()
					p.end()
				}
			})
		}
		wg.Wait()
		for i := range written {
			n := 0
			for _, w := range written[i:] {
				if w.Sub(written[i]) >= time.Second {
					break
				}
				n++
			}
			if n > 100 {
				t.Fatalf("%d publishes in the second after %v", n, written[i])
			}
		}
		if rate := float64(len(written)) / seconds; rate < 85 {
			t.Errorf("only %.1f a second", rate)
		}
	})
}

func TestPacerKeepsThePace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		p, n := newPacer(publishRate), 0
		for p.begin(ctx, 100, nil, nil) {
			p.end()
			n++
		}
		if n < 60*publishRate-1 || n > 60*publishRate+1 {
			t.Errorf("%d publishes in a minute", n)
		}
	})
}

func TestPacerGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPacer(1)
		if !p.begin(t.Context(), 100, nil, nil) {
			t.Fatal("the first has to wait")
		}
		p.end()
		closed := make(chan struct{})
		close(closed)
		if p.begin(t.Context(), 100, closed, nil) || p.begin(t.Context(), 100, nil, closed) {
			t.Error("it went on although the link is lost")
		}
		start := time.Now()
		if !p.begin(t.Context(), 100, nil, nil) || time.Since(start) > time.Second {
			t.Error("what gave up held the turn, or its place")
		}
		p.end()
	})
}

func TestPacerOff(t *testing.T) {
	p := newPacer(-1)
	for range 1000 {
		if !p.begin(t.Context(), 100, nil, nil) {
			t.Fatal("it waits")
		}
		p.end()
	}
}

// A hundred sessions make 9,800 publishes a second, none more than its quota.
func TestHundredSessionsKeepThePace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const sessions, seconds = 100, 20
		ctx, cancel := context.WithTimeout(t.Context(), seconds*time.Second)
		defer cancel()
		var wg sync.WaitGroup
		var counts [sessions][]time.Time
		for n := range sessions {
			p := newPacer(publishRate)
			for range 4 { // messages side by side
				wg.Go(func() {
					for p.begin(ctx, 1200, nil, nil) {
						counts[n] = append(counts[n], time.Now())
						p.end()
					}
				})
			}
		}
		wg.Wait()
		total := 0
		for _, written := range counts {
			total += len(written)
			for i := 100; i < len(written); i++ {
				if d := written[i].Sub(written[i-100]); d < time.Second {
					t.Fatalf("101 publishes within %v", d)
				}
			}
		}
		if rate := total / seconds; rate < 9700 {
			t.Errorf("%d publishes a second of %d sessions", rate, sessions)
		}
	})
}

// Sizes at random, up to AWS's largest: in no second, wherever it starts, are
// there more than 512 KiB, and the pace in bytes is kept nevertheless.
func TestPacerKeepsTheQuotaOfBytes(t *testing.T) {
	for name, size := range map[string]func(r *rand.Rand) int{
		"random":  func(r *rand.Rand) int { return 1000 + r.IntN(maxPayload) },
		"largest": func(*rand.Rand) int { return maxPayload + 500 },
		"medium":  func(*rand.Rand) int { return 20_000 },
		"mixed": func(r *rand.Rand) int {
			if r.IntN(10) == 0 {
				return maxPayload
			}
			return 300
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const seconds = 60
				ctx, cancel := context.WithTimeout(t.Context(), seconds*time.Second)
				defer cancel()
				p, r := newPacer(publishRate), rand.New(rand.NewPCG(3, 4))
				var all []written
				sum := 0
				for n := size(r); p.begin(ctx, n, nil, nil); n = size(r) {
					if r.IntN(20) == 0 {
						time.Sleep(100 * time.Millisecond) // a stall
					}
					all = append(all, written{time.Now(), n})
					sum += n
					p.end()
				}
				for i := range all {
					in := 0
					for _, w := range all[i:] {
						if w.at.Sub(all[i].at) >= time.Second {
							break
						}
						in += w.size
					}
					if in > 512<<10 {
						t.Fatalf("%d bytes in a second", in)
					}
				}
				if got := sum / seconds; got < 300<<10 {
					t.Errorf("only %d KiB a second", got>>10)
				}
			})
		})
	}
}
