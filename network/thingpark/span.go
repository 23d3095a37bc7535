package thingpark

import (
	"fmt"
	"strconv"
	"time"
)

// deviation says how far the Time of a report lies from our clock.
func deviation(t, now time.Time, limit time.Duration) string {
	d, where := now.Sub(t), "behind"
	if d < 0 {
		d, where = -d, "ahead of"
	}
	far := span(d)
	if far == span(limit) {
		far = d.String() // else it would read as if it were allowed
	}
	return fmt.Sprintf("The report's Time (%s) is %s %s our clock; %s is allowed.",
		t.UTC().Format(time.RFC3339), far, where, span(limit))
}

// span writes a duration, with one decimal, in the largest unit of which it
// has two.
func span(d time.Duration) string {
	const (
		day  = 24 * time.Hour
		year = 365*day + day/4
	)
	for _, unit := range []struct {
		size time.Duration
		name string
	}{{year, " years"}, {day, " days"}, {time.Hour, " h"}, {time.Minute, " min"}} {
		if d >= 2*unit.size {
			return decimal(d, unit.size) + unit.name
		}
	}
	return decimal(d, time.Second) + "s"
}

// decimal is d in units of size, rounded to one decimal where it needs one.
func decimal(d, size time.Duration) string {
	tenths := (10*d.Seconds() + size.Seconds()/2) / size.Seconds()
	return strconv.FormatFloat(float64(int64(tenths))/10, 'f', -1, 64)
}
