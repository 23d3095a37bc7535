package ledger

import (
	"math"
	"math/bits"
	"sync/atomic"
	"time"
)

// Histogram counts durations in classes about 3 % wide. Its zero value is
// empty; it may be used by several goroutines.
type Histogram struct {
	classes [64 << subBits]atomic.Int64
}

// subBits is how many classes a doubling has, as a power of two.
const subBits = 5

// class is the class of a duration: the place of its highest bit, and the
// subBits that follow.
func class(d time.Duration) int {
	n := uint64(max(d, 1<<subBits))
	high := bits.Len64(n) - 1
	return high<<subBits | int(n>>(high-subBits))&(1<<subBits-1)
}

// edge is the upper edge of a class.
func edge(class int) time.Duration {
	high, low := class>>subBits, class&(1<<subBits-1)
	f := math.Ldexp(1+float64(low+1)/(1<<subBits), high)
	return time.Duration(min(f, math.MaxInt64/2))
}

// Add counts a duration.
func (h *Histogram) Add(d time.Duration) { h.classes[class(d)].Add(1) }

// Reset empties the histogram.
func (h *Histogram) Reset() {
	for i := range h.classes {
		h.classes[i].Store(0)
	}
}

// Quantile returns the duration that the part q (0 to 1) of all stays under;
// 0 when there is none.
func (h *Histogram) Quantile(q float64) time.Duration {
	total := int64(0)
	for i := range h.classes {
		total += h.classes[i].Load()
	}
	if total == 0 {
		return 0
	}
	rest := int64(math.Ceil(q * float64(total)))
	for i := range h.classes {
		if rest -= h.classes[i].Load(); rest <= 0 {
			return edge(i)
		}
	}
	return edge(len(h.classes) - 1)
}
