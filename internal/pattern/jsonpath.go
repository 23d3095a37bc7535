package pattern

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/theory/jsonpath"
	"github.com/theory/jsonpath/registry"
	"github.com/theory/jsonpath/spec"
)

// jsonPath is a JsonPath expression. ThingPark evaluates it with Jayway's
// library; here it is RFC 9535, which has the same paths and filters, with
// Jayway's regular-expression operator added. Jayway's other own operators
// (in, nin, size, empty, ...) are refused when the pattern is compiled.
type jsonPath struct {
	path   *jsonpath.Path
	inRoot bool // evaluated in the root node, not in the document
	many   bool // may select several members of objects, which have no order
}

func compilePath(text string, inRoot bool) (*jsonPath, error) {
	reg := registry.New()
	translated, err := translateJayway(text, reg)
	if err != nil {
		return nil, err
	}
	p, err := jsonpath.NewParser(jsonpath.WithRegistry(reg)).Parse(translated)
	if err != nil {
		return nil, errors.New(strings.TrimPrefix(err.Error(), jsonpath.ErrPathParse.Error()+": "))
	}
	return &jsonPath{
		path:   p,
		inRoot: inRoot,
		many:   strings.Contains(text, "..") || strings.ContainsAny(text, "*?"),
	}, nil
}

func (p *jsonPath) lookup(d *document) (value string, ok bool) {
	// The library's match() and search() panic where their argument is
	// missing (v0.10.2): such a path does not resolve.
	defer func() {
		if recover() != nil {
			value, ok = "", false
		}
	}()
	input := d.tree()
	if p.inRoot {
		input = d.rootTree()
	}
	nodes := p.path.Select(input)
	if len(nodes) > 1 && p.many {
		// Members of an object come in any order; sorted by their place, the
		// same document always makes the same topic.
		located := p.path.SelectLocated(input)
		located.Sort()
		nodes = nodes[:0]
		for n := range located.Nodes() {
			nodes = append(nodes, n)
		}
	}
	for _, n := range nodes {
		if value, ok := scalarOf(n); ok && value != "" {
			return value, true
		}
	}
	return "", false
}

// translateJayway replaces each `left =~ /regex/flags` by a call of a function
// that it registers. Jayway demands that the regular expression matches the
// whole text, and compares numbers by their text.
// Source: com.jayway.jsonpath, README, "Filter operators", and
// EvaluatorFactory.RegexpEvaluator.
func translateJayway(text string, reg *registry.Registry) (string, error) {
	var out strings.Builder
	operand, written := 0, 0 // where the operand starts that may stand before =~
	s := scanner{text: text}
	for s.pos < len(text) {
		at := s.pos
		c, plain := s.next()
		if !plain {
			continue
		}
		switch c {
		case '?', '(', '!', '&', '|', ',':
			operand = s.pos
		case '=':
			if !strings.HasPrefix(text[at:], "=~") {
				continue
			}
			left := strings.TrimSpace(text[operand:at])
			pattern, end, err := readRegex(text, at+2)
			if err != nil {
				return "", err
			}
			if left == "" {
				return "", errors.New("nothing stands before =~")
			}
			name, err := registerRegex(reg, pattern, out.Len())
			if err != nil {
				return "", err
			}
			out.WriteString(text[written:operand])
			fmt.Fprintf(&out, "%s(%s)", name, left)
			s.pos, s.regex, written, operand = end, false, end, end
		}
	}
	out.WriteString(text[written:])
	return out.String(), nil
}

// readRegex reads /regex/flags from an offset, and returns it in Go's form
// with the offset behind it.
func readRegex(text string, from int) (string, int, error) {
	for from < len(text) && text[from] == ' ' {
		from++
	}
	if from == len(text) || text[from] != '/' {
		return "", 0, errors.New("a regular expression in slashes must follow =~")
	}
	end := from + 1
	for ; end < len(text) && text[end] != '/'; end++ {
		if text[end] == '\\' {
			end++
		}
	}
	if end >= len(text) {
		return "", 0, errors.New("the regular expression is not closed by '/'")
	}
	body := strings.ReplaceAll(text[from+1:end], `\/`, "/")
	end++
	flags := ""
	for ; end < len(text) && text[end] >= 'a' && text[end] <= 'z' || end < len(text) && text[end] == 'U'; end++ {
		switch f := text[end]; f {
		case 'i', 'm', 's':
			flags += string(f)
		case 'u', 'U', 'd': // Unicode case and line ends: Go's way already, or of no matter here
		default:
			return "", 0, fmt.Errorf("the flag %q of a regular expression is not supported", f)
		}
	}
	if flags != "" {
		flags = "(?" + flags + ")"
	}
	return flags + `\A(?:` + body + `)\z`, end, nil
}

func registerRegex(reg *registry.Registry, pattern string, n int) (string, error) {
	re, err := regexp.Compile(pattern)
	if err != nil {
		return "", fmt.Errorf("the regular expression cannot be used: %w", err)
	}
	name := "regex" + strconv.Itoa(n)
	check := func(args []spec.FuncExprArg) error {
		if len(args) != 1 || !args[0].ConvertsTo(spec.FuncValue) {
			return errors.New("=~ needs a single value on its left")
		}
		return nil
	}
	match := func(args []spec.PathValue) spec.PathValue {
		v := spec.ValueFrom(args[0])
		if v == nil {
			return spec.LogicalFalse
		}
		switch v := v.Value().(type) {
		case string:
			return spec.Logical(re.MatchString(v))
		case json.Number:
			return spec.Logical(re.MatchString(v.String()))
		}
		return spec.LogicalFalse
	}
	if err := reg.Register(name, spec.FuncLogical, check, match); err != nil {
		return "", err
	}
	return name, nil
}
