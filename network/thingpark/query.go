package thingpark

import "strings"

// query holds the parameters that ThingPark adds to the address of a report,
// percent-decoded.
type query struct {
	devEUI, fPort, infos, asID, time, token string
	has                                     [6]bool // which are there, in the order of names
}

// parseQuery reads the raw query of a report's address. A form decoder would
// turn the + of a time's offset into a space, as some servers send it as it
// is: here it stays.
//
// The application server's own parameters may stand beside ThingPark's, and
// may be called token in lower case. So a name spelt as documented wins over
// one in another case, and the last one over an earlier one: ThingPark appends
// its own.
func parseQuery(raw string) query {
	var q query
	var exact [6]bool
	for raw != "" {
		var pair string
		pair, raw, _ = strings.Cut(raw, "&")
		name, value, _ := strings.Cut(pair, "=")
		i, isExact := parameter(unescape(name))
		if i < 0 || exact[i] && !isExact {
			continue
		}
		exact[i], q.has[i] = isExact, true
		*q.at(i) = unescape(value)
	}
	return q
}

// at returns where the parameter i is kept.
func (q *query) at(i int) *string {
	return [...]*string{&q.devEUI, &q.fPort, &q.infos, &q.asID, &q.time, &q.token}[i]
}

// parameter finds the place of a parameter, -1 for one that is not ThingPark's.
func parameter(name string) (i int, exact bool) {
	names := [...]string{"LrnDevEui", "LrnFPort", "LrnInfos", "AS_ID", "Time", "Token"}
	for i, n := range names {
		if name == n {
			return i, true
		}
	}
	for i, n := range names {
		if strings.EqualFold(name, n) {
			return i, false
		}
	}
	return -1, false
}

// appendSigned appends what ThingPark signs of the query: the parameters that
// are there, decoded, in its order, without the Token.
// Source: actility/thingpark-integrations, docs and samples; the decoded form
// is the one that reproduces their tokens.
func (q *query) appendSigned(b []byte) []byte {
	names := [...]string{"LrnDevEui=", "LrnFPort=", "LrnInfos=", "AS_ID=", "Time="}
	first := true
	for i, name := range names {
		if !q.has[i] {
			continue
		}
		if !first {
			b = append(b, '&')
		}
		first = false
		b = append(b, name...)
		b = append(b, *q.at(i)...)
	}
	return b
}

// unescape decodes %XX and nothing else; what is no valid escape stays as it is.
func unescape(s string) string {
	if strings.IndexByte(s, '%') < 0 {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			high, ok1 := nibble(s[i+1])
			low, ok2 := nibble(s[i+2])
			if ok1 && ok2 {
				b = append(b, high<<4|low)
				i += 2
				continue
			}
		}
		b = append(b, s[i])
	}
	return string(b)
}

func nibble(c byte) (byte, bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10, true
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}

// appendEscaped encodes a value for a query: all but the unreserved characters of
// RFC 3986.
func appendEscaped(b []byte, s string) []byte {
	const hex = "0123456789ABCDEF"
	for i := range len(s) {
		c := s[i]
		if '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c == '-' || c == '.' || c == '_' || c == '~' {
			b = append(b, c)
		} else {
			b = append(b, '%', hex[c>>4], hex[c&15])
		}
	}
	return b
}
