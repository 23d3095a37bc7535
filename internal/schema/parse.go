package schema

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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
// empty path and tells line and column.
func Parse(document []byte) (any, []sluice.Problem) {
	switch {
	case len(bytes.TrimSpace(document)) == 0:
		return nil, []sluice.Problem{{Message: "is empty: a JSON document is wanted"}}
	case !utf8.Valid(document):
		return nil, []sluice.Problem{{Message: "is not UTF-8 text"}}
	}
	p := parser{text: document, dec: json.NewDecoder(bytes.NewReader(document))}
	p.dec.UseNumber()
	doc, err := p.value("", 0)
	if err == nil {
		err = p.end()
	}
	if err != nil {
		return nil, append(p.problems, p.explain(err))
	}
	return doc, p.problems
}

type parser struct {
	text     []byte
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

// end looks for what stands after the value.
func (p *parser) end() error {
	rest := p.text[p.dec.InputOffset():]
	after := bytes.TrimLeft(rest, " \t\r\n")
	if len(after) == 0 {
		return nil
	}
	return trailingError(len(p.text) - len(after))
}

var errDepth = errors.New("nested too deep")

// trailingError is the place of what follows the value.
type trailingError int

func (e trailingError) Error() string { return "data after the value" }

func (p *parser) explain(err error) sluice.Problem {
	var (
		syntax   *json.SyntaxError
		trailing trailingError
	)
	switch {
	case errors.As(err, &trailing):
		return sluice.Problem{Message: "has more text after the JSON document, " + p.position(int64(trailing)+1)}
	case errors.Is(err, errDepth):
		return sluice.Problem{Message: fmt.Sprintf("is nested deeper than %d levels", maxDepth)}
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return sluice.Problem{Message: "is not valid JSON: it ends too early, " + p.position(int64(len(p.text)))}
	case errors.As(err, &syntax):
		return sluice.Problem{Message: "is not valid JSON: " + syntax.Error() + ", " + p.position(syntax.Offset)}
	default:
		return sluice.Problem{Message: "is not valid JSON, " + p.position(p.dec.InputOffset())}
	}
}

// position says where the byte before offset stands, in lines and columns
// (characters) from 1.
func (p *parser) position(offset int64) string {
	before := p.text[:min(max(offset-1, 0), int64(len(p.text)))]
	line := 1 + bytes.Count(before, []byte("\n"))
	column := 1 + utf8.RuneCount(before[bytes.LastIndexByte(before, '\n')+1:])
	return fmt.Sprintf("at line %d, column %d", line, column)
}
