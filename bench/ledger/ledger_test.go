package ledger

import (
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestLedger(t *testing.T) {
	l := New(100, 2)
	for i := range uint32(200) {
		l.Accept(100, FirstFCnt+i, time.Millisecond)
	}
	l.Refuse()
	for i := range uint32(198) { // 198 and 199 go missing
		l.Arrive(100, FirstFCnt+i, 2*time.Millisecond)
	}
	l.Arrive(100, FirstFCnt+7, 0) // a copy
	l.Arrive(101, FirstFCnt+2, 0) // of the other device, never answered
	l.Arrive(101, FirstFCnt+1, 0) // late
	l.Arrive(102, FirstFCnt, 0)   // nobody's
	l.Arrive(100, FirstFCnt-1, 0) // nobody's either
	l.Accept(99, FirstFCnt, 0)    // nor this
	want := Totals{Accepted: 200, Refused: 1, Arrived: 200, Copies: 1, Disordered: 1, Strangers: 3}
	if got := l.Totals(); got != want {
		t.Errorf("totals are %+v, want %+v", got, want)
	}
	if got := l.Missing(); got != 2 {
		t.Errorf("%d are missing, want 2", got)
	}
}

func TestHistogram(t *testing.T) {
	var h Histogram
	if got := h.Quantile(0.5); got != 0 {
		t.Errorf("the median of nothing is %v", got)
	}
	for i := 1; i <= 1000; i++ {
		h.Add(time.Duration(i) * time.Millisecond)
	}
	for _, c := range []struct {
		q    float64
		want time.Duration
	}{{0.5, 500 * time.Millisecond}, {0.99, 990 * time.Millisecond}, {1, time.Second}} {
		if got := h.Quantile(c.q); got < c.want || got > c.want*104/100 {
			t.Errorf("quantile %v is %v, want %v to within 4 %%", c.q, got, c.want)
		}
	}
	h.Reset()
	h.Add(-time.Second) // no crash, and the least there is
	if got := h.Quantile(1); got > time.Microsecond {
		t.Errorf("a negative duration counts as %v", got)
	}
}
