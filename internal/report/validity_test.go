package report_test

import (
	"testing"
	"time"

	"sluice/internal/report"
)

func TestValidUntil(t *testing.T) {
	received := time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC)
	none := time.Time{}
	for text, want := range map[string]time.Time{
		"":                              none,
		"0":                             none,
		"600":                           received.Add(10 * time.Minute),
		" 1 ":                           received.Add(time.Second),
		"4294967295":                    received.Add(4294967295 * time.Second),
		"2018-10-17T16:38:46.882+02:00": time.Date(2018, 10, 17, 14, 38, 46, 882e6, time.UTC),
		"2026-03-01T10:00:05Z":          received.Add(5 * time.Second),
		"2026-03-01T11:00:05+0100":      received.Add(5 * time.Second),
		// Where it is 10:00:05 last.
		"2026-03-01T10:00:05": received.Add(12*time.Hour + 5*time.Second),
		"2026-03-01":          time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC),
	} {
		if got, ok := report.ValidUntil(text, received); !ok || !got.Equal(want) {
			t.Errorf("%q: %v, %v; want %v", text, got, ok, want)
		}
	}
	for _, text := range []string{
		"-1", "1.5", "10m", "soon", "4294967296", "2026-13-01T00:00:00Z", "2026-03-01T25:00:00Z", "0001-01-01T00:00:00Z", "9999-01-01", "true",
	} {
		if got, ok := report.ValidUntil(text, received); ok {
			t.Errorf("%q is %v", text, got)
		}
	}
}
