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
				for p.begin(ctx, nil, nil) {
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
		for p.begin(ctx, nil, nil) {
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
		if !p.begin(t.Context(), nil, nil) {
			t.Fatal("the first has to wait")
		}
		p.end()
		closed := make(chan struct{})
		close(closed)
		if p.begin(t.Context(), closed, nil) || p.begin(t.Context(), nil, closed) {
			t.Error("it went on although the link is lost")
		}
		start := time.Now()
		if !p.begin(t.Context(), nil, nil) || time.Since(start) > time.Second {
			t.Error("what gave up held the turn, or its place")
		}
		p.end()
	})
}

func TestPacerOff(t *testing.T) {
	p := newPacer(-1)
	for range 1000 {
		if !p.begin(t.Context(), nil, nil) {
			t.Fatal("it waits")
		}
		p.end()
	}
}
