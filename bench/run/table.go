package run

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// line is one measurement in a line, with what the table leaves out.
func (s speed) line(name string) string {
	text := fmt.Sprintf("%s: %.0f msg/s (accepted %.0f), %.2f CPU s/100k (load and sink %.2f; at the steady rate %.2f), %s MB, %s / %s ms (answer p99 %s), others took %.0f %% of the machine",
		name, s.perSecond, s.accepted, s.cpu, s.own, s.steadyCPU, megabytes(s.memory), millis(s.p50), millis(s.p99), millis(s.answer99), s.others*100)
	for _, x := range []struct {
		n    int
		what string
	}{
		{s.lag, "behind at the end"},
		{s.refused, "refused"},
		{s.copies, "copies"},
		{s.disordered, "out of order"},
		{s.missing, "MISSING"},
		{s.strangers, "strangers"},
	} {
		if x.n > 0 {
			text += fmt.Sprintf(", %d %s", x.n, x.what)
		}
	}
	return text
}

// String is a loss in a line.
func (l loss) String() string {
	text := fmt.Sprintf("lost %d of %d", l.lost, l.accepted)
	if l.refused > 0 {
		text += fmt.Sprintf(", %d refused", l.refused)
	}
	text += fmt.Sprintf(", %d copies, %d out of order, first arrival after %s", l.copies, l.disordered, l.back.Round(time.Millisecond))
	return text
}

// table prints the table, in Markdown.
func (r *runner) table(rows []*row) {
	r.say("")
	r.say("| system | msg/s | CPU s/100k | peak MB | p50 / p99 ms at %d/s | lost in a %s outage | lost by kill -9 | killed in an outage |",
		r.o.Rate, r.o.outage())
	r.say("|---|---|---|---|---|---|---|---|")
	for _, row := range rows {
		cells := []string{row.system.name, "-", "-", "-", "-", "-", "-", "-"}
		if len(row.speeds) > 0 {
			cells[1] = fmt.Sprintf("%.0f", medianOf(row.speeds, func(s speed) float64 { return s.perSecond }))
			cells[2] = fmt.Sprintf("%.1f", medianOf(row.speeds, func(s speed) float64 { return s.cpu }))
			cells[3] = fmt.Sprintf("%.0f", medianOf(row.speeds, func(s speed) float64 { return float64(s.memory) / 1e6 }))
			if !row.system.source {
				cells[4] = millis(time.Duration(medianOf(row.speeds, func(s speed) float64 { return float64(s.p50) }))) + " / " +
					millis(time.Duration(medianOf(row.speeds, func(s speed) float64 { return float64(s.p99) })))
			}
		}
		for i, f := range faults() {
			if l, ok := row.losses[f.name]; ok {
				cells[5+i] = fmt.Sprintf("%d of %d", l.lost, l.accepted)
			}
		}
		r.say("| %s |", strings.Join(cells, " | "))
	}
}

// ratios prints Sluice against the yardstick: the median over the pairs of the
// ratio in each, and the least and the most.
func (r *runner) ratios(subject, measure []speed) {
	r.say("")
	r.say("Sluice against the yardstick, medians over %d pairs (least to most):", len(subject))
	for _, x := range []struct {
		name, want string
		of         func(speed) float64
	}{
		{"throughput", "at least 0.9", func(s speed) float64 { return s.perSecond }},
		{"CPU a report", "at most 1.4", func(s speed) float64 { return s.cpu }},
		{"CPU a report at the steady rate", "", func(s speed) float64 { return s.steadyCPU }},
		{"p99 at the steady rate", "", func(s speed) float64 { return float64(s.p99) }},
	} {
		var ratios []float64
		for i := range subject {
			if d := x.of(measure[i]); d > 0 {
				ratios = append(ratios, x.of(subject[i])/d)
			}
		}
		if len(ratios) == 0 {
			continue
		}
		text := fmt.Sprintf("  %s: %.2f (%.2f to %.2f)", x.name, median(ratios), slices.Min(ratios), slices.Max(ratios))
		if x.want != "" {
			text += ", wanted " + x.want
		}
		r.say("%s", text)
	}
}

func medianOf(all []speed, of func(speed) float64) float64 {
	values := make([]float64, len(all))
	for i, s := range all {
		values[i] = of(s)
	}
	return median(values)
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	if n%2 == 1 {
		return sorted[n/2]
	}
	return (sorted[n/2-1] + sorted[n/2]) / 2
}

func millis(d time.Duration) string { return fmt.Sprintf("%.2f", d.Seconds()*1000) }

func megabytes(n int) string { return fmt.Sprintf("%.0f", float64(n)/1e6) }
