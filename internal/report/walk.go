package report

import (
	"strings"

	"github.com/tidwall/gjson"
)

// members calls each for every member of the object that begins at s[i], until
// it returns false, and returns the index behind the object. s must be valid
// JSON. One pass over the bytes: gjson's ForEach would take three for a report
// inside its document, and parse every number.
func members(s string, i int, each func(key, value string) bool) int {
	for i = skipSpace(s, i+1); s[i] != '}'; i = skipSpace(s, i) {
		if s[i] == ',' {
			i = skipSpace(s, i+1)
		}
		end := stringEnd(s, i)
		key := unquote(s[i:end])
		i = skipSpace(s, skipSpace(s, end)+1) // the colon is between
		end = valueEnd(s, i)
		if !each(key, s[i:end]) {
			return len(s)
		}
		i = end
	}
	return i + 1
}

// unquote is the text of a JSON string.
func unquote(raw string) string {
	if strings.IndexByte(raw, '\\') < 0 {
		return raw[1 : len(raw)-1]
	}
	return gjson.Parse(raw).Str
}

func skipSpace(s string, i int) int {
	for i < len(s) && s[i] <= ' ' {
		i++
	}
	return i
}

// stringEnd is the index behind the string that begins at s[i].
func stringEnd(s string, i int) int {
	for i++; s[i] != '"'; i++ {
		if s[i] == '\\' {
			i++
		}
	}
	return i + 1
}

// valueEnd is the index behind the value that begins at s[i].
func valueEnd(s string, i int) int {
	switch s[i] {
	case '"':
		return stringEnd(s, i)
	case '{', '[':
		for depth := 0; ; i++ {
			switch s[i] {
			case '"':
				i = stringEnd(s, i) - 1
			case '{', '[':
				depth++
			case '}', ']':
				if depth--; depth == 0 {
					return i + 1
				}
			}
		}
	}
	for i < len(s) && s[i] > ' ' && s[i] != ',' && s[i] != '}' && s[i] != ']' {
		i++
	}
	return i
}
