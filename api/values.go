package api

import (
	"encoding/json"
	"reflect"
	"time"

	"github.com/danielgtaylor/huma/v2"
)

// Time is a time as the API writes it: RFC 3339 with milliseconds, in UTC.
type Time struct{ time.Time }

// At is t as the API writes it.
func At(t time.Time) Time { return Time{t} }

// timeFormat is RFC 3339 with milliseconds.
const timeFormat = "2006-01-02T15:04:05.000Z07:00"

// MarshalJSON writes the time.
func (t Time) MarshalJSON() ([]byte, error) {
	return []byte(`"` + t.UTC().Format(timeFormat) + `"`), nil
}

// Schema describes it in the OpenAPI document.
func (Time) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: "string", Format: "date-time", Examples: []any{"2026-03-01T12:00:00.000Z"}}
}

var (
	_ huma.SchemaProvider = Time{}
	_ json.Marshaler      = Time{}
)

// object is any JSON object, as it stands.
type object []byte

// MarshalJSON writes the object.
func (o object) MarshalJSON() ([]byte, error) {
	if len(o) == 0 {
		return []byte("{}"), nil
	}
	return o, nil
}

// Schema describes it in the OpenAPI document.
func (object) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: "object", AdditionalProperties: true}
}

var (
	_ huma.SchemaProvider = object(nil)
	_ json.Marshaler      = object(nil)
)

// schemaOf is the schema of a type, for what is described by hand.
func schemaOf[T any](r huma.Registry) *huma.Schema {
	return r.Schema(reflect.TypeFor[T](), true, "")
}
