package schema

import (
	"encoding/json"
	"fmt"
	"math/big"
	"slices"
	"strconv"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"

	"sluice"
)

// reader turns the validator's tree of errors into problems.
type reader struct {
	schema   *jsonschema.Schema
	doc      any
	prefix   string
	problems []sluice.Problem
}

func (r *reader) read(e *jsonschema.ValidationError) {
	switch e.ErrorKind.(type) {
	case *kind.AnyOf, *kind.OneOf:
		r.alternatives(e)
		return
	}
	if len(e.Causes) > 0 {
		for _, cause := range e.Causes {
			r.read(cause)
		}
		return
	}
	r.leaf(e)
}

// alternatives reports the alternative that came closest: the one with the
// fewest problems, for a user hardly wants to read all of them.
func (r *reader) alternatives(e *jsonschema.ValidationError) {
	var best []sluice.Problem
	for _, cause := range e.Causes {
		one := reader{schema: r.schema, doc: r.doc, prefix: r.prefix}
		one.read(cause)
		if best == nil || len(one.problems) < len(best) {
			best = one.problems
		}
	}
	if best == nil {
		r.add(r.path(e.InstanceLocation), "fits more than one of the allowed forms")
		return
	}
	r.problems = append(r.problems, best...)
}

func (r *reader) add(path, format string, args ...any) {
	r.problems = append(r.problems, sluice.Problem{Path: path, Message: fmt.Sprintf(format, args...)})
}

func (r *reader) leaf(e *jsonschema.ValidationError) {
	path := r.path(e.InstanceLocation)
	switch k := e.ErrorKind.(type) {
	case *kind.Required:
		r.missing(path, k.Missing, "")
	case *kind.Dependency:
		r.missing(path, k.Missing, k.Prop)
	case *kind.DependentRequired:
		r.missing(path, k.Missing, k.Prop)
	case *kind.AdditionalProperties:
		r.unknown(path, e.InstanceLocation, k.Properties)
	default:
		r.add(path, "%s", r.sentence(e))
	}
}

func (r *reader) missing(path string, names []string, because string) {
	for _, name := range names {
		if because == "" {
			r.add(join(path, name), "missing property '%s'", name)
			continue
		}
		r.add(join(path, name), "missing property '%s': it is needed with '%s'", name, because)
	}
}

func (r *reader) unknown(path string, location, names []string) {
	var candidates []string
	if s := r.schemaAt(location); s != nil {
		present, _ := r.valueAt(location).(map[string]any)
		for name := range s.Properties {
			if _, there := present[name]; !there {
				candidates = append(candidates, name)
			}
		}
	}
	slices.Sort(candidates)
	for _, name := range names {
		if near := Nearest(name, candidates); near != "" {
			r.add(join(path, name), "unknown property '%s'; did you mean '%s'?", name, near)
			continue
		}
		r.add(join(path, name), "unknown property '%s'", name)
	}
}

// sentence says what is wanted of a value.
func (r *reader) sentence(e *jsonschema.ValidationError) string {
	switch k := e.ErrorKind.(type) {
	case *kind.Type:
		if k.Got == "number" && slices.Equal(k.Want, []string{"integer"}) {
			return "must be a whole number"
		}
		return "must be " + types(k.Want) + ", not " + article(k.Got)
	case *kind.Enum:
		return "must be one of " + values(k.Want)
	case *kind.Const:
		return "must be " + values([]any{k.Want})
	case *kind.Minimum, *kind.Maximum, *kind.ExclusiveMinimum, *kind.ExclusiveMaximum:
		return r.bounds(e)
	case *kind.MultipleOf:
		return "must be a multiple of " + number(k.Want)
	case *kind.MinLength:
		if k.Want == 1 {
			return "must not be empty"
		}
		return fmt.Sprintf("must have at least %d characters", k.Want)
	case *kind.MaxLength:
		return fmt.Sprintf("must have at most %d characters", k.Want)
	case *kind.MinItems:
		return "must have at least " + count(k.Want, "element")
	case *kind.MaxItems:
		return "must have at most " + count(k.Want, "element")
	case *kind.MinProperties:
		return "must have at least " + count(k.Want, "property")
	case *kind.MaxProperties:
		return "must have at most " + count(k.Want, "property")
	case *kind.UniqueItems:
		return fmt.Sprintf("has the same value twice: elements %d and %d", k.Duplicates[0], k.Duplicates[1])
	case *kind.Pattern:
		return "must match the pattern '" + k.Want + "'"
	case *kind.Format:
		return "is not a valid " + k.Want
	case *kind.Not, *kind.FalseSchema, *kind.AdditionalItems:
		return "is not allowed here"
	default:
		return "is not as the schema wants it"
	}
}

// bounds tells the whole range where only one end of it was missed.
func (r *reader) bounds(e *jsonschema.ValidationError) string {
	s := r.schemaAt(e.InstanceLocation)
	if s != nil && s.Minimum != nil && s.Maximum != nil {
		return "must be a number between " + number(s.Minimum) + " and " + number(s.Maximum)
	}
	switch k := e.ErrorKind.(type) {
	case *kind.Minimum:
		return "must be a number not below " + number(k.Want)
	case *kind.Maximum:
		return "must be a number not above " + number(k.Want)
	case *kind.ExclusiveMinimum:
		return "must be a number above " + number(k.Want)
	case *kind.ExclusiveMaximum:
		return "must be a number below " + number(k.Want)
	}
	return "must be a number within its range"
}

// path writes the place of a value as users know it; an array is told from an
// object by looking at the document.
func (r *reader) path(location []string) string {
	path, at := r.prefix, r.doc
	for _, token := range location {
		switch v := at.(type) {
		case []any:
			i, _ := strconv.Atoi(token)
			path = element(path, i)
			if i >= 0 && i < len(v) {
				at = v[i]
			}
		case map[string]any:
			path, at = join(path, token), v[token]
		default:
			path = join(path, token)
		}
	}
	return path
}

func (r *reader) valueAt(location []string) any {
	at := r.doc
	for _, token := range location {
		switch v := at.(type) {
		case []any:
			i, err := strconv.Atoi(token)
			if err != nil || i < 0 || i >= len(v) {
				return nil
			}
			at = v[i]
		case map[string]any:
			at = v[token]
		default:
			return nil
		}
	}
	return at
}

// schemaAt finds the schema of a place by properties, items and references;
// nil where the way is less plain.
func (r *reader) schemaAt(location []string) *jsonschema.Schema {
	s := r.schema
	for _, token := range location {
		s = resolve(s)
		if s == nil {
			return nil
		}
		if items, ok := s.Items.(*jsonschema.Schema); ok {
			if _, err := strconv.Atoi(token); err == nil {
				s = items
				continue
			}
		}
		s = s.Properties[token]
	}
	return resolve(s)
}

func resolve(s *jsonschema.Schema) *jsonschema.Schema {
	for range maxDepth {
		if s == nil || s.Ref == nil {
			return s
		}
		s = s.Ref
	}
	return nil
}

func types(want []string) string {
	named := make([]string, len(want))
	for i, t := range want {
		named[i] = article(t)
	}
	return strings.Join(named, " or ")
}

func article(jsonType string) string {
	switch jsonType {
	case "object", "array", "integer":
		if jsonType == "integer" {
			return "a whole number"
		}
		return "an " + jsonType
	case "boolean":
		return "true or false"
	case "null":
		return "null"
	default:
		return "a " + jsonType
	}
}

func values(all []any) string {
	written := make([]string, len(all))
	for i, v := range all {
		if s, ok := v.(string); ok {
			written[i] = s
			continue
		}
		text, err := json.Marshal(v)
		if err != nil {
			text = []byte("?")
		}
		written[i] = string(text)
	}
	return strings.Join(written, ", ")
}

func number(r *big.Rat) string {
	if r.IsInt() {
		return r.Num().String()
	}
	f, _ := r.Float64()
	return strconv.FormatFloat(f, 'g', -1, 64)
}

func count(n int, noun string) string {
	if n == 1 {
		return "one " + noun
	}
	return fmt.Sprintf("%d %s", n, strings.TrimSuffix(noun, "y")+plural(noun))
}

func plural(noun string) string {
	if strings.HasSuffix(noun, "y") {
		return "ies"
	}
	return "s"
}
