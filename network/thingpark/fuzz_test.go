package thingpark

import (
	"net/url"
	"strings"
	"testing"
)

func FuzzQuery(f *testing.F) {
	f.Add("LrnDevEui=0251C0DE00000001&LrnFPort=7&LrnInfos=a-1&AS_ID=x&Time=2026-03-01T10%3A00%3A00.000%2B01%3A00&Token=00")
	f.Add("token=a&&=&Time=2026-03-01T10:00:00+01:00&%54oken=b&Token=%zz%")
	f.Fuzz(func(t *testing.T, raw string) {
		q := parseQuery(raw)
		signed := string(q.appendSigned(nil))
		if strings.Count(signed, "LrnDevEui=") == 0 && q.has[0] || !q.has[4] && q.time != "" {
			t.Fatalf("%q: %+v", signed, q)
		}
		// What is sent encoded is read as it was.
		var b []byte
		for i, name := range []string{"LrnDevEui", "LrnFPort", "LrnInfos", "AS_ID", "Time", "Token"} {
			if i > 0 {
				b = append(b, '&')
			}
			b = append(append(b, name...), '=')
			b = appendEscaped(b, *q.at(i))
		}
		again := parseQuery(string(b))
		again.has = q.has
		if again != q {
			t.Fatalf("%+v became %+v", q, again)
		}
		if text, err := url.PathUnescape(raw); err == nil && unescape(raw) != text {
			t.Fatalf("%q: decoded to %q, want %q", raw, unescape(raw), text)
		}
	})
}

func FuzzAnswer(f *testing.F) {
	f.Add("<html><body>Request queued by LRC</body></html>")
	f.Add("<!DOCTYPE html><p>a < b &amp; c</p")
	f.Fuzz(func(t *testing.T, body string) {
		text := plainText(body)
		if len(text) > maxText+len("…") || strings.ContainsAny(text, "\r\n\x00") {
			t.Fatalf("%q", text)
		}
		_ = isPage(body)
	})
}
