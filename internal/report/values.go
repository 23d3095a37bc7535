package report

import (
	"strings"
	"time"
)

// DevEUI brings a device's EUI-64 into the one form that Sluice uses: 16
// hexadecimal digits in upper case. Separators between the octets (74-FE-48,
// 74:FE:48), which ThingPark's own pages use, are taken out.
func DevEUI(text string) (string, bool) {
	if len(text) == 23 && (text[2] == '-' || text[2] == ':') {
		text = strings.ReplaceAll(text, text[2:3], "")
	}
	if len(text) != 16 {
		return "", false
	}
	for i := range len(text) {
		if !isHex(text[i]) {
			return "", false
		}
	}
	return strings.Clone(strings.ToUpper(text)), true
}

// lrrID brings a base station's id into upper case. ThingPark's are 8
// hexadecimal digits; other ids that are safe in a topic are taken too.
func lrrID(text string) (string, bool) {
	if len(text) > 64 {
		return "", false
	}
	for i := range len(text) {
		if c := text[i]; !isAlphanumeric(c) && c != '-' && c != '_' {
			return "", false
		}
	}
	return strings.Clone(strings.ToUpper(text)), text != ""
}

// ParseTime reads a time as ThingPark writes it: RFC 3339 with any number of
// decimals. It is lenient: an offset of 4 or 2 digits or none (then UTC) is
// read, a space for the T, and a space for the + that a form decoder spoilt.
// The
// time is in UTC; false when it is no time between the years 1970 and 2261, which is what 64
// bits of nanoseconds hold.
func ParseTime(text string) (time.Time, bool) {
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		t, err = parseOddTime(strings.TrimSpace(text))
	}
	if err != nil || t.Year() < 1970 || t.Year() > 2261 {
		return time.Time{}, false
	}
	return t.UTC(), true
}

func parseOddTime(text string) (time.Time, error) {
	const day = len("2006-01-02")
	if len(text) > day && text[day] == ' ' {
		text = text[:day] + "T" + text[day+1:]
	}
	text = strings.Replace(text, " ", "+", 1)
	var t time.Time
	var err error
	for _, layout := range [...]string{time.RFC3339, "2006-01-02T15:04:05Z0700", "2006-01-02T15:04:05Z07", "2006-01-02T15:04:05"} {
		if t, err = time.Parse(layout, text); err == nil {
			return t, nil
		}
	}
	return t, err
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

func isAlphanumeric(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

func isDigits(text string) bool {
	for i := range len(text) {
		if text[i] < '0' || text[i] > '9' {
			return false
		}
	}
	return text != ""
}
