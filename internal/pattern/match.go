package pattern

import "strings"

// level is one level of the topics that a pattern makes: prefix, and where it
// holds expressions, a value between prefix and suffix.
type level struct {
	prefix, suffix string
	value          bool
	devEUI         bool // the value is the DevEUI and nothing else
}

func splitLevels(parts []part) []level {
	levels := []level{{}}
	for _, p := range parts {
		if p.expr != nil {
			l := &levels[len(levels)-1]
			a := p.expr.alternatives
			l.devEUI = !l.value && len(a) == 1 && a[0].field != nil && a[0].field.isDevEUI()
			l.value, l.suffix = true, ""
			continue
		}
		for i, text := range strings.Split(p.text, "/") {
			if i > 0 {
				levels = append(levels, level{})
			}
			l := &levels[len(levels)-1]
			if l.value {
				l.suffix += text
			} else {
				l.prefix += text
			}
		}
	}
	return levels
}

func joinFilter(levels []level) string {
	var b strings.Builder
	for i, l := range levels {
		if i > 0 {
			b.WriteByte('/')
		}
		if l.value {
			b.WriteByte('+')
		} else {
			b.WriteString(l.prefix)
		}
	}
	return b.String()
}

// Match reports whether a topic is one that the pattern can make, and returns
// the DevEUI that the topic holds, in upper case: "" when the pattern has no
// level with {DevEUI} as its only expression.
func (p *Pattern) Match(topic string) (devEUI string, ok bool) {
	for i, l := range p.levels {
		text, rest, more := strings.Cut(topic, "/")
		if more != (i < len(p.levels)-1) {
			return "", false
		}
		topic = rest
		if !l.value {
			if text != l.prefix {
				return "", false
			}
			continue
		}
		if len(text) <= len(l.prefix)+len(l.suffix) || !strings.HasPrefix(text, l.prefix) || !strings.HasSuffix(text, l.suffix) {
			return "", false
		}
		if l.devEUI {
			devEUI = strings.ToUpper(text[len(l.prefix) : len(text)-len(l.suffix)])
		}
	}
	return devEUI, true
}
