package policy

import "strings"

// Two runes that no text has stand for the wildcards in a pattern.
const (
	anyText rune = -1 - iota // *
	anyRune                  // ?
)

// pattern is a text with wildcards and variables. The + and # of MQTT are
// plain characters.
type pattern struct {
	parts []part
}

// part is a piece of text, or a variable.
type part struct {
	text     []rune
	variable string
}

type patterns []pattern

// compile reads patterns; without variables ${...} is plain text.
func compile(texts []string, variables bool) patterns {
	var all patterns
	for _, t := range texts {
		all = append(all, newPattern(t, variables))
	}
	return all
}

// Match compares a text with a pattern without variables.
func Match(pattern, text string) bool { return compile([]string{pattern}, false).match(text, nil) }

func newPattern(t string, variables bool) pattern {
	var p pattern
	var piece []rune
	for t != "" {
		if name, rest, ok := variable(t); ok && variables {
			t = rest
			if name == "*" || name == "?" || name == "$" { // the character itself
				piece = append(piece, rune(name[0]))
				continue
			}
			p.parts = append(p.parts, part{text: piece}, part{variable: name})
			piece = nil
			continue
		}
		for _, r := range t[:next(t)] {
			piece = append(piece, wildcard(r))
		}
		t = t[next(t):]
	}
	p.parts = append(p.parts, part{text: piece})
	return p
}

// variable reads ${name} at the beginning of a text.
func variable(t string) (name, rest string, ok bool) {
	t, ok = strings.CutPrefix(t, "${")
	if !ok {
		return "", "", false
	}
	return strings.Cut(t, "}")
}

// next is how much of a text comes before the next "${", at least one byte.
func next(t string) int {
	if i := strings.Index(t[1:], "${"); i >= 0 {
		return i + 1
	}
	return len(t)
}

func wildcard(r rune) rune {
	switch r {
	case '*':
		return anyText
	case '?':
		return anyRune
	}
	return r
}

// expand puts the values in the place of the variables, as plain characters;
// false when one has no value, or several.
func (p pattern) expand(v Values) ([]rune, bool) {
	if len(p.parts) == 1 {
		return p.parts[0].text, true
	}
	var out []rune
	for _, part := range p.parts {
		if part.variable == "" {
			out = append(out, part.text...)
			continue
		}
		values := v.of(part.variable)
		if len(values) != 1 {
			return nil, false
		}
		out = append(out, []rune(values[0])...)
	}
	return out, true
}

func (ps patterns) match(t string, v Values) bool {
	for _, p := range ps {
		if expanded, ok := p.expand(v); ok && glob(expanded, []rune(t)) {
			return true
		}
	}
	return false
}

// glob matches a text in time that is at worst the product of the lengths.
func glob(pattern, t []rune) bool {
	p, i := 0, 0
	star, from := -1, 0
	for i < len(t) {
		switch {
		case p < len(pattern) && pattern[p] == anyText:
			star, from = p, i
			p++
		case p < len(pattern) && (pattern[p] == anyRune || pattern[p] == t[i]):
			p++
			i++
		case star >= 0:
			from++
			p, i = star+1, from
		default:
			return false
		}
	}
	for p < len(pattern) && pattern[p] == anyText {
		p++
	}
	return p == len(pattern)
}
