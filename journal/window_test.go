package journal

import (
	"math/rand/v2"
	"testing"
)

func TestWindowAgainstMap(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		w, want := window{}, map[uint64]bool{}
		for range 300 {
			switch n := w.floor + 1 + rnd.Uint64N(400); {
			case rnd.IntN(20) == 0:
				n = w.floor + rnd.Uint64N(100)
				var fresh uint64
				for k := uint64(1); k <= n; k++ {
					if !want[k] {
						fresh++
						want[k] = true
					}
				}
				if got := w.raise(n); got != fresh {
					t.Fatalf("raise(%d) added %d, want %d", n, got, fresh)
				}
			default:
				if rnd.IntN(2) == 0 {
					n = w.floor + 1
				}
				if got := w.add(n); got == want[n] {
					t.Fatalf("add(%d) = %v", n, got)
				}
				want[n] = true
			}
			compareWindow(t, &w, want)
		}
		again := openWindow(w.floor, w.appendBits(nil))
		compareWindow(t, &again, want)
	}
}

func compareWindow(t *testing.T, w *window, want map[uint64]bool) {
	t.Helper()
	floor := uint64(0)
	for want[floor+1] {
		floor++
	}
	if w.floor != floor || w.above != uint64(len(want))-floor {
		t.Fatalf("floor %d above %d, want %d and %d", w.floor, w.above, floor, uint64(len(want))-floor)
	}
	for n := uint64(1); n < floor+600; n++ {
		if w.has(n) != want[n] {
			t.Fatalf("has(%d) = %v", n, w.has(n))
		}
	}
}

func TestWindowHoldsItsWholeWidth(t *testing.T) {
	var w window
	for n := uint64(2); n <= maxWindow; n++ {
		if !w.fits(n) {
			t.Fatalf("%d does not fit", n)
		}
		w.add(n)
	}
	if w.fits(maxWindow + 1) {
		t.Fatal("more fits than the window is wide")
	}
	if size := len(w.appendBits(nil)); size > maxWindow/8+1 {
		t.Fatalf("%d bytes", size)
	}
	w.add(1)
	if w.floor != maxWindow || w.above != 0 {
		t.Fatalf("floor %d, above %d", w.floor, w.above)
	}
}
