package awsiot

import (
	"testing"
	"time"
)

// commandsFor has so many commands a second come to a lane, evenly, for some
// whole seconds, and returns the rates that were told.
func commandsFor(f *inflow, lane int, now *time.Time, perSecond int, d time.Duration) (told []float64) {
	for end := now.Add(d); now.Before(end); *now = now.Add(time.Second) {
		for n := range perSecond {
			if rate, tell := f.count(lane, now.Add(time.Duration(n)*time.Second/time.Duration(perSecond))); tell {
				told = append(told, rate)
			}
		}
	}
	return told
}

// It is told once, after some seconds; again only when it was over and an hour
// has passed.
func TestInflowIsToldOnce(t *testing.T) {
	f := newInflow()
	now := time.Unix(1_000_000, 0)
	step := func(what string, perSecond int, d time.Duration, want ...float64) {
		t.Helper()
		got := commandsFor(f, 0, &now, perSecond, d)
		if len(got) != len(want) {
			t.Fatalf("%s: told %v, want %v", what, got, want)
		}
		for i := range want {
			if got[i] != want[i] {
				t.Errorf("%s: told %v, want %v", what, got, want)
			}
		}
	}
	step("below", 79, time.Minute)
	step("far below", 40, time.Minute)
	step("a burst that does not last", 100, 3*time.Second)
	step("below", 10, time.Minute)
	step("near", 80, 5*time.Second)
	step("near, for the second that shows it", 80, time.Second, 80)
	step("still near", 100, 2*time.Hour)
	step("a little less", 60, time.Minute)
	step("no news", 100, time.Minute)
	step("over", 40, time.Minute)
	step("back, after more than an hour", 100, 10*time.Second, 88)
	now = now.Add(30 * time.Minute)
	step("back too soon", 90, 20*time.Minute)
	step("still there when the hour is over", 90, 15*time.Minute, 90)
	step("over", 1, time.Minute)
	now = now.Add(24 * time.Hour)
	step("days later", 90, 10*time.Second, 90)
}

// The busiest lane counts, and each for itself: what they get together is
// nothing that AWS limits.
func TestInflowIsThatOfALane(t *testing.T) {
	f := newInflow()
	now := time.Unix(1_000_000, 0)
	for range 60 * 50 {
		for lane := range 10 {
			if rate, tell := f.count(lane, now); tell {
				t.Fatalf("told %v", rate)
			}
		}
		now = now.Add(time.Second / 50)
	}
	if got := f.rate(now); got != 50 {
		t.Errorf("rate %v", got)
	}
	if got := commandsFor(f, 3, &now, 90, 10*time.Second); len(got) != 1 {
		t.Errorf("told %v", got)
	}
	if got := f.rate(now); got != 90 {
		t.Errorf("rate %v", got)
	}
	if got := f.rate(now.Add(time.Minute)); got != 0 {
		t.Errorf("rate %v a minute later", got)
	}
	now = now.Add(-time.Hour) // the clock is set back
	if got := commandsFor(f, 3, &now, 10, 10*time.Second); len(got) != 0 || f.rate(now) != 10 {
		t.Errorf("told %v, rate %v", got, f.rate(now))
	}
}

func BenchmarkCountCommand(b *testing.B) {
	f := newInflow()
	for b.Loop() {
		f.count(0, time.Now())
	}
}
