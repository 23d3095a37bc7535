// Package run measures Sluice, the yardstick and what else is installed, one
// after the other on one machine, and prints tables. Load and sink run in this
// process, what is measured in a child of its own, so that its processor time
// and memory are its own; the machine is shared, so what counts are the ratios
// of runs next to each other: Sluice and the yardstick are measured in turn,
// and the medians of the pairs' ratios are told.
package run

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"
)

// unpaced is the rate of a session that publishes as fast as it can.
const unpaced = -1

// Run measures what the options say and prints it.
func Run(ctx context.Context, o Options) error {
	if err := o.check(); err != nil {
		return err
	}
	r := &runner{o: &o}
	if err := r.header(); err != nil {
		return err
	}
	switch {
	case len(o.Connections) > 0:
		return r.shares(ctx)
	case o.Paced:
		return r.paced(ctx)
	case o.Isolation:
		return r.isolation(ctx)
	}
	return r.compare(ctx)
}

type runner struct {
	o *Options
}

func (r *runner) say(format string, args ...any) { fmt.Fprintf(r.o.Out, format+"\n", args...) }

// header says what the figures are of.
func (r *runner) header() error {
	sync, err := fsyncTime(r.o.Dir)
	if err != nil {
		return err
	}
	r.say("%s, %d processors, %s/%s; one fsync takes %s here; %d devices, %d connections of the load",
		runtime.Version(), runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, sync.Round(10*time.Microsecond), r.o.Devices, r.o.Concurrency)
	return nil
}

// fsyncTime is the median time of an fsync after a write of one report.
func fsyncTime(dir string) (time.Duration, error) {
	tmp, err := os.MkdirTemp(dir, "sluice-bench-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(tmp)
	f, err := os.Create(filepath.Join(tmp, "fsync"))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	times := make([]time.Duration, 21)
	for i := range times {
		start := time.Now()
		if _, err := f.Write(make([]byte, 1200)); err != nil {
			return 0, err
		}
		if err := f.Sync(); err != nil {
			return 0, err
		}
		times[i] = time.Since(start)
	}
	slices.Sort(times)
	return times[len(times)/2], nil
}

// row is one line of the table.
type row struct {
	system *system
	speeds []speed
	losses map[string]loss
}

// compare measures Sluice and the yardstick in pairs, then the others once.
func (r *runner) compare(ctx context.Context) error {
	subject, measure := &row{system: sluiceSystem(1, unpaced)}, &row{system: yardstick()}
	rows := []*row{subject, measure}
	if r.o.Only != "faults" {
		if err := r.pairs(ctx, subject, measure); err != nil {
			return err
		}
	}
	if r.o.Others {
		rows = append(rows, &row{system: alone()})
		if program := findMosquitto(); program != "" {
			rows = append(rows, &row{system: mosquitto(program)})
		}
		if r.o.Only != "faults" {
			for _, row := range rows[2:] {
				s, err := measureSpeed(ctx, r.o, row.system)
				if err != nil {
					return err
				}
				row.speeds = append(row.speeds, s)
			}
		}
	}
	if r.o.Only != "speed" {
		if err := r.faults(ctx, rows); err != nil {
			return err
		}
	}
	r.table(rows)
	if r.o.Only != "faults" {
		r.ratios(subject.speeds, measure.speeds)
	}
	return nil
}

// disturbed is the part of the machine that, taken by other processes, spoils a
// pair: then processor time is dearer too.
const disturbed = 0.08

// pairs measures the pairs. One that was disturbed is measured again, up to one
// time fewer than there are pairs; what is left of those counts, and is said.
func (r *runner) pairs(ctx context.Context, subject, measure *row) error {
	again := r.o.Pairs - 1
	for pair := 1; pair <= r.o.Pairs; pair++ {
		// A B, B A, A B: neither is always the first.
		order := []*row{subject, measure}
		if pair%2 == 0 {
			order = []*row{measure, subject}
		}
		worst, got := 0.0, map[*row]speed{}
		for _, row := range order {
			s, err := measureSpeed(ctx, r.o, row.system)
			if err != nil {
				return err
			}
			r.say("pair %d: %s", pair, s.line(row.system.name))
			worst, got[row] = max(worst, s.others), s
		}
		if worst > disturbed && !r.o.short {
			if again > 0 {
				again--
				pair--
				r.say("the pair was disturbed by other processes, and is measured again")
				continue
			}
			r.say("the pair was disturbed by other processes, and counts all the same")
		}
		for _, row := range order {
			row.speeds = append(row.speeds, got[row])
		}
	}
	return nil
}

func (r *runner) faults(ctx context.Context, rows []*row) error {
	for _, row := range rows {
		if row.system.source {
			continue
		}
		row.losses = map[string]loss{}
		for _, f := range faults() {
			l, err := measureLoss(ctx, r.o, row.system, f)
			if err != nil {
				return err
			}
			row.losses[f.name] = l
			r.say("%s, %s: %s", row.system.name, f.name, l)
		}
	}
	return nil
}
