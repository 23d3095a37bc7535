package app

import (
	"testing"
	"time"

	"sluice"
)

func TestWindows(t *testing.T) {
	start := time.Date(2026, 3, 1, 10, 0, 30, 0, time.UTC)
	r := &record{active: map[uint64]int64{}}
	r.Hour.Step, r.Hour.Limit = minuteStep, minutePoints
	at := func(minute int) snapshot {
		n := uint64(minute)
		return snapshot{
			Time:        start.Add(time.Duration(minute) * time.Minute),
			Counters:    sluice.Counters{Received: 100 * n, Delivered: 90 * n, Failed: n, Expired: 2 * n, Filtered: 3 * n, Pending: 4 * n},
			DownlinksOK: n,
		}
	}
	for minute := range 200 {
		r.Hour.add(at(minute))
		r.Hour.add(at(minute)) // the same minute again adds nothing
		now := at(minute)
		now.Time = now.Time.Add(20 * time.Second)
		w := r.view(&r.Hour, now)
		want := uint64(min(minute, minutePoints))
		if w.Counters.Received != 100*want || w.Downlinks.OK != want {
			t.Fatalf("minute %d: received %d, downlinks %d in the last hour, want %d and %d", minute, w.Counters.Received, w.Downlinks.OK, 100*want, want)
		}
		c := w.Counters
		if w.PendingBefore+c.Received != c.Delivered+c.Expired+c.Failed+c.Filtered+c.Pending {
			t.Fatalf("minute %d: the window's law does not hold: before %d, %+v", minute, w.PendingBefore, c)
		}
		var sum uint64
		for _, p := range w.Points {
			sum += p.Received
		}
		if sum != c.Received {
			t.Fatalf("minute %d: the points add up to %d, want %d", minute, sum, c.Received)
		}
	}
	if n := len(r.Hour.Snaps); n != minutePoints+1 {
		t.Errorf("%d snapshots kept, want %d", n, minutePoints+1)
	}
}

func TestCounterThatWentBack(t *testing.T) {
	before := snapshot{Counters: sluice.Counters{Received: 10, Delivered: 10}}
	after := snapshot{Counters: sluice.Counters{Received: 10, Delivered: 8, Pending: 2}}
	if got := since(before, after); got.Delivered != 0 {
		t.Errorf("delivered since = %d, want 0", got.Delivered)
	}
}

// What is sent again out of quarantine had failed all the same: the window's
// law holds, and nothing in it goes back.
func TestRetriedInAWindow(t *testing.T) {
	base := snapshot{Counters: sluice.Counters{Received: 10, Delivered: 6, Failed: 3, Pending: 1}}
	now := snapshot{Counters: sluice.Counters{Received: 11, Delivered: 8, Failed: 2, Pending: 1}, Retried: 2}
	got := since(base, now)
	if want := (sluice.Counters{Received: 1, Delivered: 2, Failed: 1, Pending: 1}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if base.Pending+got.Received+now.Retried != got.Delivered+got.Expired+got.Failed+got.Filtered+got.Pending {
		t.Errorf("the window's law does not hold: %+v", got)
	}
}
