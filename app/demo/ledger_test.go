package demo

import (
	"testing"
	"time"
)

func TestLedger(t *testing.T) {
	l := newLedger()
	now := time.Unix(1000, 0)
	post := func(f uint32, ok bool) { l.answer("A", f, now, ok) }
	post(1, true)
	post(2, true)
	post(3, false)
	post(4, true)
	l.arrive("B", 1, now.Add(time.Millisecond)) // before its answer
	l.answer("B", 1, now, true)
	l.arrive("A", 2, now.Add(2*time.Millisecond))
	l.arrive("A", 2, now.Add(3*time.Millisecond))
	l.arrive("A", 1, now.Add(4*time.Millisecond))
	got := l.totals()
	want := totals{accepted: 4, refused: 1, arrived: 3, missing: 1, twice: 1, disordered: 1}
	if got != want {
		t.Errorf("totals = %+v\nwant   %+v", got, want)
	}
	if p50, p99 := l.recent(); p50 != 2*time.Millisecond || p99 != 4*time.Millisecond {
		t.Errorf("recent = %s, %s", p50, p99)
	}
	if p := l.percentile(0.99); p < 4*time.Millisecond || p > 4300*time.Microsecond {
		t.Errorf("p99 = %s, want about 4 ms", p)
	}
	if p, _ := l.recent(); p != 0 {
		t.Errorf("p50 of nothing = %s", p)
	}
}
