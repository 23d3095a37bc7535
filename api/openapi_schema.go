package api

import (
	"encoding/json"
	"reflect"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// schemaName names the schema of a type: connectionView is "Connection".
func schemaName(t reflect.Type, hint string) string {
	return strings.TrimSuffix(huma.DefaultSchemaNamer(t, hint), "View")
}

// draft4 is as much of a draft-04 schema as the OpenAPI document shows. What is
// left out (definitions, dependencies) only makes the document more lenient
// than the API.
type draft4 struct {
	Type                 string             `json:"type"`
	Title                string             `json:"title"`
	Description          string             `json:"description"`
	Format               string             `json:"format"`
	Default              any                `json:"default"`
	Enum                 []any              `json:"enum"`
	Minimum              *float64           `json:"minimum"`
	Maximum              *float64           `json:"maximum"`
	MinLength            *int               `json:"minLength"`
	MaxLength            *int               `json:"maxLength"`
	MinItems             *int               `json:"minItems"`
	MaxItems             *int               `json:"maxItems"`
	Pattern              string             `json:"pattern"`
	Items                *draft4            `json:"items"`
	Properties           map[string]*draft4 `json:"properties"`
	Required             []string           `json:"required"`
	AdditionalProperties *bool              `json:"additionalProperties"`
	Ref                  string             `json:"$ref"`
}

// readDraft4 reads a draft-04 schema for the OpenAPI document. One that is
// beyond draft4 is shown as any object.
func readDraft4(text json.RawMessage) *huma.Schema {
	var d draft4
	if json.Unmarshal(text, &d) != nil {
		return &huma.Schema{Type: "object"}
	}
	return d.schema()
}

func (d *draft4) schema() *huma.Schema {
	s := &huma.Schema{
		Type: d.Type, Title: d.Title, Description: d.Description, Format: d.Format, Default: d.Default, Enum: d.Enum,
		Minimum: d.Minimum, Maximum: d.Maximum, MinLength: d.MinLength, MaxLength: d.MaxLength,
		MinItems: d.MinItems, MaxItems: d.MaxItems, Pattern: d.Pattern, Required: d.Required,
		WriteOnly: d.Format == "password",
	}
	if d.AdditionalProperties != nil {
		s.AdditionalProperties = *d.AdditionalProperties
	}
	if d.Items != nil {
		s.Items = d.Items.schema()
	}
	for name, property := range d.Properties {
		if s.Properties == nil {
			s.Properties = map[string]*huma.Schema{}
		}
		s.Properties[name] = property.schema()
	}
	return s
}

// bodyOf describes the body of a request for a resource: the form of its
// outside, with the forms that its configuration may have.
func (s *server) bodyOf(name, outside string, configurations map[string]json.RawMessage, examples map[string]*huma.Example) *huma.RequestBody {
	schemas := s.huma.OpenAPI().Components.Schemas.Map()
	form := readDraft4([]byte(outside))
	if p := form.Properties["configuration"]; p != nil && len(configurations) > 0 {
		for _, id := range sortedKeys(configurations) {
			component := id + "-configuration"
			schemas[component] = readDraft4(configurations[id])
			p.AnyOf = append(p.AnyOf, &huma.Schema{Ref: "#/components/schemas/" + component})
		}
	}
	schemas[name] = form
	return &huma.RequestBody{
		Required: true,
		Content: map[string]*huma.MediaType{"application/json": {
			Schema: &huma.Schema{Ref: "#/components/schemas/" + name}, Examples: examples,
		}},
	}
}
