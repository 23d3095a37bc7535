package pattern

import (
	"strings"
	"unicode/utf8"
)

// expression is what stands in braces: alternatives in order.
type expression struct {
	alternatives []alternative
}

// alternative is one of literal (of which all others are empty), field, path.
type alternative struct {
	literal string
	field   *field
	path    *jsonPath
}

// parseExpression reads the expression whose '{' stands at start, and returns
// it with the offset behind its '}'.
func parseExpression(text string, start int) (*expression, int, error) {
	bars, end, err := scanExpression(text, start)
	if err != nil {
		return nil, 0, err
	}
	e := &expression{}
	from := start + 1
	for _, to := range append(bars, end) {
		a, err := parseAlternative(text, from, to)
		if err != nil {
			return nil, 0, err
		}
		e.alternatives = append(e.alternatives, a)
		from = to + 1
	}
	return e, end + 1, nil
}

// scanExpression finds the '|' and the '}' at the top level of the expression
// whose '{' stands at start: outside quotes, brackets and regular expressions,
// all of which may hold both.
func scanExpression(text string, start int) (bars []int, end int, err error) {
	s := scanner{text: text, pos: start + 1}
	for s.pos < len(text) {
		at := s.pos
		c, plain := s.next()
		if !plain {
			continue
		}
		switch c {
		case '|':
			if s.depth == 0 {
				bars = append(bars, at)
			}
		case '}':
			if s.depth > 0 {
				return nil, 0, syntaxError(text, at, "a bracket of this expression is not closed")
			}
			return bars, at, nil
		case '{':
			return nil, 0, syntaxError(text, at, "an expression cannot hold another '{'")
		}
		if s.depth < 0 {
			return nil, 0, syntaxError(text, at, "a bracket closes that was never opened")
		}
	}
	switch {
	case s.quote != 0:
		return nil, 0, syntaxError(text, start, "a quote in this expression is not closed")
	case s.regex:
		return nil, 0, syntaxError(text, start, "a regular expression in this expression is not closed")
	}
	return nil, 0, syntaxError(text, start, "the expression that starts here has no '}'")
}

// scanner steps over the characters of an expression and knows which of them
// stand inside quotes, regular expressions and brackets.
type scanner struct {
	text  string
	pos   int
	quote byte // the quote that is open, or 0
	regex bool // inside /.../
	depth int  // brackets open
}

// next steps over one byte; plain is false for bytes of quoted texts and
// regular expressions, their delimiters included.
func (s *scanner) next() (c byte, plain bool) {
	c = s.text[s.pos]
	s.pos++
	if s.quote != 0 || s.regex {
		switch {
		case c == '\\' && s.pos < len(s.text):
			s.pos++
		case s.regex && c == '/':
			s.regex = false
		case s.quote == c:
			s.quote = 0
		}
		return c, false
	}
	switch c {
	case '\'', '"':
		s.quote = c
		return c, false
	case '/':
		if strings.HasSuffix(strings.TrimRight(s.text[:s.pos-1], " "), "=~") {
			s.regex = true
			return c, false
		}
	case '[', '(':
		s.depth++
	case ']', ')':
		s.depth--
	}
	return c, true
}

func parseAlternative(text string, from, to int) (alternative, error) {
	for from < to && text[from] == ' ' {
		from++
	}
	for to > from && text[to-1] == ' ' {
		to--
	}
	expr := text[from:to]
	switch {
	case expr == "":
		return alternative{}, syntaxError(text, from, "an expression is empty: write a field such as {DevEUI}")
	case expr[0] == '\'' || expr[0] == '"':
		return parseLiteral(text, from, expr)
	case expr[0] == '$':
		p, err := compilePath(expr, false)
		if err != nil {
			return alternative{}, syntaxError(text, from, "the JsonPath cannot be read: %v", err)
		}
		return alternative{path: p}, nil
	case strings.Contains(expr, "["):
		p, err := compilePath("$."+expr, true)
		if err != nil {
			return alternative{}, syntaxError(text, from, "the path cannot be read: %v", err)
		}
		return alternative{path: p}, nil
	}
	return parseField(text, from, expr)
}

func parseLiteral(text string, from int, expr string) (alternative, error) {
	quote, inner := expr[0], expr[1:]
	var b strings.Builder
	for i := 0; i < len(inner); i++ {
		switch c := inner[i]; {
		case c == '\\' && i+1 < len(inner):
			i++
			b.WriteByte(inner[i])
		case c == quote && i == len(inner)-1:
			if b.Len() == 0 {
				return alternative{}, syntaxError(text, from, "a literal is empty, but a level of a topic must not be")
			}
			return alternative{literal: b.String()}, nil
		case c == quote:
			return alternative{}, syntaxError(text, from, "something stands behind the literal %s: separate alternatives by '|'", expr[:i+2])
		default:
			b.WriteByte(c)
		}
	}
	return alternative{}, syntaxError(text, from, "the literal is not closed")
}

// parseField reads a dotted path. Characters that other expression languages
// use as operators are refused, so that an expression of JSLT or Jayway that
// is not understood is told, and not looked up as a name.
func parseField(text string, from int, expr string) (alternative, error) {
	if i := strings.IndexAny(expr, "'\"(){}]*<>=!&,;?#+"); i >= 0 {
		return alternative{}, syntaxError(text, from+i,
			"%q is not understood here: write a field (DevEUI), a dotted path (CustomerData.name), JsonPath ($...) or a 'literal'", expr[i:i+1])
	}
	segments := strings.Split(expr, ".")
	for _, s := range segments {
		if strings.TrimSpace(s) == "" {
			return alternative{}, syntaxError(text, from, "the path %q has an empty part", expr)
		}
		if !utf8.ValidString(s) {
			return alternative{}, syntaxError(text, from, "the path is not valid UTF-8")
		}
	}
	return alternative{field: newField(segments)}, nil
}
