package schema

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"sluice"
)

const (
	// maxDepth is how deep a document may be nested: far more than any
	// configuration is, and few enough for recursion.
	maxDepth = 64
	// maxExponent bounds the exponent of a number, which the validator
	// computes with exactly: 1e999999999 would take all memory.
	maxExponent = 400
)

// Parse reads a JSON document strictly: it must be UTF-8, one value and nothing
// after it, and no object may have a property twice, which encoding/json takes
// in silence. Numbers are kept as json.Number. A problem with the syntax has an
// empty path, tells line and column, and leaves no document.
func Parse(document []byte) (any, []sluice.Problem) {
	switch {
	case len(bytes.TrimSpace(document)) == 0:
		return nil, []sluice.Problem{{Message: "is empty: a JSON document is wanted"}}
	case !utf8.Valid(document):
		return nil, []sluice.Problem{{Message: "is not UTF-8 text"}}
	}
	// The syntax first: the decoder, which alone shows a property that is given
	// twice, is less exact about where an error stands.
	var whole json.RawMessage
	if err := json.Unmarshal(document, &whole); err != nil {
		return nil, []sluice.Problem{{Message: explain(document, err)}}
	}
	p := parser{dec: json.NewDecoder(bytes.NewReader(document))}
	p.dec.UseNumber()
	doc, err := p.value("", 0)
	if err != nil {
		return nil, []sluice.Problem{{Message: explain(document, err)}}
	}
	return doc, p.problems
}

type parser struct {
	dec      *json.Decoder
	problems []sluice.Problem
}

func (p *parser) value(path string, depth int) (any, error) {
	t, err := p.dec.Token()
	if err != nil {
		return nil, err
	}
	if depth > maxDepth {
		return nil, errDepth
	}
	switch t {
	case json.Delim('{'):
		return p.object(path, depth)
	case json.Delim('['):
		return p.array(path, depth)
	}
	if n, ok := t.(json.Number); ok {
		p.number(path, n)
	}
	return t, nil
}

func (p *parser) object(path string, depth int) (any, error) {
	object := map[string]any{}
	for p.dec.More() {
		t, err := p.dec.Token()
		if err != nil {
			return nil, err
		}
		name, ok := t.(string)
		if !ok {
			return nil, fmt.Errorf("property name wanted, got %v", t)
		}
		below := join(path, name)
		if _, twice := object[name]; twice {
			p.problems = append(p.problems, sluice.Problem{Path: below, Message: "is given twice"})
		}
		if object[name], err = p.value(below, depth+1); err != nil {
			return nil, err
		}
	}
	_, err := p.dec.Token()
	return object, err
}

func (p *parser) array(path string, depth int) (any, error) {
	array := []any{}
	for p.dec.More() {
		v, err := p.value(element(path, len(array)), depth+1)
		if err != nil {
			return nil, err
		}
		array = append(array, v)
	}
	_, err := p.dec.Token()
	return array, err
}

func (p *parser) number(path string, n json.Number) {
	_, exponent, _ := strings.Cut(strings.ToLower(n.String()), "e")
	if exponent == "" {
		return
	}
	if e, err := strconv.Atoi(exponent); err != nil || e > maxExponent || e < -maxExponent {
		p.problems = append(p.problems, sluice.Problem{Path: path, Message: "is out of the range of numbers"})
	}
}

var errDepth = errors.New("nested too deep")

// explain says what is wrong with the syntax of a document, and where.
func explain(document []byte, err error) string {
	if errors.Is(err, errDepth) {
		return fmt.Sprintf("is nested deeper than %d levels", maxDepth)
	}
	syntax, ok := errors.AsType[*json.SyntaxError](err)
	if !ok {
		return "is not valid JSON"
	}
	where := position(document, syntax.Offset)
	switch text := syntax.Error(); {
	case strings.HasSuffix(text, "after top-level value"):
		return "has more text after the JSON document, " + where
	case strings.HasPrefix(text, "unexpected end"):
		return "is not valid JSON: it ends too early, " + where
	case strings.Contains(text, "exceeded max depth"):
		return explain(document, errDepth)
	default:
		return "is not valid JSON: " + text + ", " + where
	}
}

// position says where the byte before offset stands, in lines and columns
// (characters) from 1.
func position(document []byte, offset int64) string {
	before := document[:min(max(offset-1, 0), int64(len(document)))]
	line := 1 + bytes.Count(before, []byte("\n"))
	column := 1 + utf8.RuneCount(before[bytes.LastIndexByte(before, '\n')+1:])
	return fmt.Sprintf("at line %d, column %d", line, column)
}
