// Package schema validates what users send against a JSON Schema (draft-04,
// as ThingPark writes them) and says everything that is wrong with it at once,
// in sentences for people.
//
// No sentence repeats a value that was sent: it may be a secret in the wrong
// place.
package schema

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"sluice"
)

// Schema is a compiled JSON Schema. It is safe for use by several goroutines.
type Schema struct {
	compiled *jsonschema.Schema
	secrets  []string
	defaults map[string]json.RawMessage
}

// Compile reads a JSON Schema. Where it has no $schema it is read as draft-04.
// References to other documents are refused: nothing is fetched.
func Compile(text json.RawMessage) (*Schema, error) {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("read schema: %w", err)
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft4)
	c.UseLoader(noLoader{})
	const here = "urn:sluice:schema"
	if err := c.AddResource(here, doc); err != nil {
		return nil, fmt.Errorf("add schema: %w", err)
	}
	compiled, err := c.Compile(here)
	if err != nil {
		return nil, fmt.Errorf("compile schema: %w", err)
	}
	return &Schema{compiled: compiled, secrets: Secrets(text), defaults: Defaults(text)}, nil
}

// Validate reads a document strictly (see [Parse]) and returns all that is
// wrong with it; none when it is valid. Paths are relative to the document,
// with prefix before them: with the prefix "configuration", a property's path
// is "configuration.poolSize". They are sorted by path.
func (s *Schema) Validate(document []byte, prefix string) []sluice.Problem {
	doc, problems := Parse(document)
	if len(problems) > 0 {
		return under(prefix, problems)
	}
	return s.ValidateValue(doc, prefix)
}

// ValidateValue is [Schema.Validate] for a document that [Parse] has read.
func (s *Schema) ValidateValue(doc any, prefix string) []sluice.Problem {
	err := s.compiled.Validate(doc)
	if err == nil {
		return nil
	}
	var invalid *jsonschema.ValidationError
	if !errors.As(err, &invalid) {
		return []sluice.Problem{{Path: prefix, Message: "cannot be checked: " + err.Error()}}
	}
	r := reader{schema: s.compiled, doc: doc, prefix: prefix}
	r.read(invalid)
	slices.SortStableFunc(r.problems, byPath)
	return slices.Compact(r.problems)
}

// Secrets returns the names of the secret properties, those with
// "format": "password" at the top level; see [Secrets].
func (s *Schema) Secrets() []string { return slices.Clone(s.secrets) }

// Defaults returns the defaults of the properties at the top level.
func (s *Schema) Defaults() map[string]json.RawMessage { return s.defaults }

// properties is as much of a schema's text as Secrets and Defaults read.
type properties struct {
	Properties map[string]struct {
		Format  string          `json:"format"`
		Default json.RawMessage `json:"default"`
	} `json:"properties"`
}

// Secrets returns the names of the properties at the top level of a schema
// that have "format": "password", sorted. A schema that cannot be read has none.
func Secrets(text json.RawMessage) []string {
	var p properties
	if json.Unmarshal(text, &p) != nil {
		return nil
	}
	var names []string
	for name, property := range p.Properties {
		if property.Format == "password" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// Defaults returns the defaults that a schema declares for its properties at
// the top level, by name.
func Defaults(text json.RawMessage) map[string]json.RawMessage {
	var p properties
	if json.Unmarshal(text, &p) != nil {
		return nil
	}
	defaults := map[string]json.RawMessage{}
	for name, property := range p.Properties {
		if property.Default != nil {
			defaults[name] = property.Default
		}
	}
	return defaults
}

// noLoader keeps the compiler from reading files and URLs.
type noLoader struct{}

func (noLoader) Load(url string) (any, error) {
	return nil, fmt.Errorf("reference to %s: a schema must be complete in itself", url)
}
