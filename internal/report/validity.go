package report

import (
	"strconv"
	"strings"
	"time"
)

// latestZone is behind all others: when a time without an offset has passed
// there, it has passed everywhere.
const latestZone = 12 * time.Hour

// ValidUntil reads the ValidityTime of a command that was received at a time:
// seconds from then, or a date. The zero time means no limit: there is none
// ("", or 0 seconds). It is false for what is neither.
//
// A date without an offset, whose zone the network server knows and Sluice does
// not, counts as passed when it has passed in every zone.
// Source: ThingPark X IoT Flow documentation, "Downlink message": an ISO date
// or seconds.
func ValidUntil(text string, received time.Time) (until time.Time, ok bool) {
	text = strings.TrimSpace(text)
	if text == "" {
		return time.Time{}, true
	}
	if seconds, err := strconv.ParseUint(text, 10, 32); err == nil {
		if seconds == 0 {
			return time.Time{}, true
		}
		return received.Add(time.Duration(seconds) * time.Second), true
	}
	for _, layout := range [...]string{time.RFC3339, "2006-01-02T15:04:05Z0700", "2006-01-02T15:04:05Z07", "2006-01-02T15:04Z07:00"} {
		if t, err := time.Parse(layout, text); err == nil {
			return t.UTC(), sane(t)
		}
	}
	for _, layout := range [...]string{"2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02 15:04:05", time.DateOnly} {
		if t, err := time.Parse(layout, text); err == nil {
			return t.Add(latestZone).UTC(), sane(t)
		}
	}
	return time.Time{}, false
}

// sane reports whether a year is one that durations can be counted to.
func sane(t time.Time) bool { return t.Year() >= 1970 && t.Year() <= 2261 }
