package schedule_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"sluice/test/faults/schedule"
)

// A schedule that a seed made once is made by it for ever: a seed in a report
// of a failure is worth nothing otherwise.
func TestASeedMakesOneSchedule(t *testing.T) {
	const want = `seed 1: 50 devices, 193 reports/s, 3 sessions, 14 commands/s, 1 poison reports
   1.37 s  registry throttles (4)
   2.18 s  broker restarts, sessions kept, for 1.35 s
   2.29 s  kill -9, for 0.19 s
   3.91 s  links are cut`
	if got := schedule.Make(1).String(); got != want {
		t.Error(cmp.Diff(want, got))
	}
	if schedule.Make(1).String() == schedule.Make(2).String() {
		t.Error("two seeds make the same schedule")
	}
}

// Every kind of fault comes up in the first seeds.
func TestEveryKindComesUp(t *testing.T) {
	kinds := map[schedule.Kind]bool{}
	for seed := range uint64(40) {
		for _, f := range schedule.Make(seed).Faults {
			kinds[f.Kind] = true
			if f.At >= schedule.Length {
				t.Errorf("seed %d: %s", seed, f)
			}
		}
	}
	if len(kinds) != 16 {
		t.Errorf("%d kinds: %v", len(kinds), kinds)
	}
}
