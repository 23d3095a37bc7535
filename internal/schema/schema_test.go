package schema_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sluice"
	"sluice/internal/schema"
)

const everything = `{
  "$schema": "http://json-schema.org/draft-04/schema#",
  "id": "urn:jsonschema:test",
  "type": "object", "additionalProperties": false, "required": ["region", "pool"],
  "definitions": {"size": {"type": "integer", "minimum": 1, "maximum": 50}},
  "dependencies": {"user": ["password"]},
  "properties": {
    "region": {"type": "string", "minLength": 1, "maxLength": 5},
    "pool": {"$ref": "#/definitions/size", "default": 10},
    "above": {"type": "number", "minimum": 0, "exclusiveMinimum": true},
    "below": {"type": "number", "maximum": 9.5},
    "least": {"type": "number", "minimum": -2},
    "even": {"type": "integer", "multipleOf": 2},
    "mode": {"enum": ["a", 1, null], "default": "a"},
    "user": {"type": ["string", "null"]},
    "password": {"type": "string", "format": "password"},
    "aKey": {"type": "string", "format": "password"},
    "link": {"type": "string", "format": "uri"},
    "headers": {"type": "object", "additionalProperties": {"type": "string"}, "minProperties": 1},
    "list": {"type": "array", "uniqueItems": true, "minItems": 2, "items": {
      "type": "object", "additionalProperties": false, "required": ["type"],
      "properties": {"type": {"enum": ["thing", "key"]}, "deep": {"type": "array", "items": {"type": "boolean"}}}
    }},
    "either": {"oneOf": [
      {"type": "object", "required": ["a", "b", "c"], "properties": {"kind": {"enum": ["x"]}}},
      {"type": "object", "required": ["d"]}
    ]},
    "two": {"oneOf": [{"type": "string"}, {"minLength": 1}]}
  }
}`

func compile(t *testing.T, text string) *schema.Schema {
	t.Helper()
	s, err := schema.Compile(json.RawMessage(text))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestValidate(t *testing.T) {
	s := compile(t, everything)
	for _, c := range []struct {
		name, document string
		want           map[string]string
	}{
		{"valid", `{"region":"eu","pool":50,"list":[{"type":"thing"},{"type":"key"}]}`, nil},
		{"missing", `{}`, map[string]string{"region": "missing property 'region'", "pool": "missing property 'pool'"}},
		{"types", `{"region":5,"pool":1.5,"headers":[],"user":{},"list":"x"}`, map[string]string{
			"region": "must be a string, not a number", "pool": "must be a whole number",
			"headers": "must be an object, not an array", "user": "must be null or a string, not an object",
			"list": "must be an array, not a string", "password": "missing property 'password': it is needed with 'user'",
		}},
		{"unknown", `{"region":"eu","pool":1,"Mode":"a","abvoe":1,"colour":"red"}`, map[string]string{
			"Mode": "unknown property 'Mode'; did you mean 'mode'?", "abvoe": "unknown property 'abvoe'; did you mean 'above'?",
			"colour": "unknown property 'colour'",
		}},
		{"no suggestion of what is there", `{"region":"eu","pool":1,"regoin":"eu"}`, map[string]string{"regoin": "unknown property 'regoin'"}},
		{"numbers", `{"region":"eu","pool":99,"above":0,"below":10,"least":-3,"even":3}`, map[string]string{
			"pool": "must be a number between 1 and 50", "above": "must be a number above 0", "below": "must be a number not above 9.5",
			"least": "must be a number not below -2", "even": "must be a multiple of 2",
		}},
		{"lengths", `{"region":"","pool":1,"headers":{},"list":[{"type":"key"}]}`, map[string]string{
			"region": "must not be empty", "headers": "must have at least one property", "list": "must have at least 2 elements",
		}},
		{"long", `{"region":"europe","pool":1}`, map[string]string{"region": "must have at most 5 characters"}},
		{"enum", `{"region":"eu","pool":1,"mode":"SECRET"}`, map[string]string{"mode": "must be one of a, 1, null"}},
		{"format", `{"region":"eu","pool":1,"link":"::"}`, map[string]string{"link": "is not a valid uri"}},
		{"dependency", `{"region":"eu","pool":1,"user":"u"}`, map[string]string{"password": "missing property 'password': it is needed with 'user'"}},
		{"elements", `{"region":"eu","pool":1,"list":[{"tpye":"key"},{"type":"x","deep":[true,1]}]}`, map[string]string{
			"list[0].tpye": "unknown property 'tpye'; did you mean 'type'?", "list[0].type": "missing property 'type'",
			"list[1].type": "must be one of thing, key", "list[1].deep[1]": "must be true or false, not a number",
		}},
		{"same", `{"region":"eu","pool":1,"list":[{"type":"key"},{"type":"key"}]}`, map[string]string{
			"list": "has the same value twice: elements 0 and 1",
		}},
		{"odd names", `{"region":"eu","pool":1,"headers":{"X.Y":1,"Content Type":2,"0":3}}`, map[string]string{
			`headers["X.Y"]`: "must be a string, not a number", `headers["Content Type"]`: "must be a string, not a number",
			"headers.0": "must be a string, not a number",
		}},
		{"closest alternative", `{"region":"eu","pool":1,"either":{"kind":"y"}}`, map[string]string{"either.d": "missing property 'd'"}},
		{"both alternatives", `{"region":"eu","pool":1,"two":"x"}`, map[string]string{"two": "fits more than one of the allowed forms"}},
		{"not an object", `[]`, map[string]string{"": "must be an object, not an array"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if d := cmp.Diff(c.want, byPath(t, s.Validate([]byte(c.document), ""))); d != "" {
				t.Errorf("(-want +got)\n%s", d)
			}
			for _, p := range s.Validate([]byte(c.document), "configuration") {
				if !strings.HasPrefix(p.Path, "configuration") {
					t.Errorf("path %q", p.Path)
				}
			}
		})
	}
}

func byPath(t *testing.T, problems []sluice.Problem) map[string]string {
	t.Helper()
	if problems == nil {
		return nil
	}
	m := map[string]string{}
	for _, p := range problems {
		if _, twice := m[p.Path]; twice {
			t.Errorf("%s twice", p.Path)
		}
		m[p.Path] = p.Message
	}
	return m
}

func TestProblemsAreSorted(t *testing.T) {
	s := compile(t, everything)
	first := s.Validate([]byte(`{"zz":1,"yy":2,"xx":3,"pool":0,"above":-1}`), "c")
	for range 20 {
		if d := cmp.Diff(first, s.Validate([]byte(`{"zz":1,"yy":2,"xx":3,"pool":0,"above":-1}`), "c")); d != "" {
			t.Fatal(d)
		}
	}
	if len(first) != 6 || first[0].Path != "c.above" || first[5].Path != "c.zz" {
		t.Errorf("got %v", first)
	}
}

func TestSecretsAndDefaults(t *testing.T) {
	s := compile(t, everything)
	if d := cmp.Diff([]string{"aKey", "password"}, s.Secrets()); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(map[string]json.RawMessage{"pool": json.RawMessage(`10`), "mode": json.RawMessage(`"a"`)}, s.Defaults()); d != "" {
		t.Error(d)
	}
	if schema.Secrets(json.RawMessage(`[`)) != nil || schema.Defaults(json.RawMessage(`[`)) != nil {
		t.Error("a schema that cannot be read has none")
	}
}

func TestCompileRefuses(t *testing.T) {
	for _, text := range []string{
		`{`, `{"type": 5}`, `{"properties": {"a": {"pattern": "("}}}`,
		`{"$ref": "http://example.com/schema.json"}`, `{"$ref": "file:///etc/passwd"}`, `{"$ref": "#/definitions/none"}`,
	} {
		if _, err := schema.Compile(json.RawMessage(text)); err == nil {
			t.Errorf("%s compiles", text)
		}
	}
}

func TestParse(t *testing.T) {
	for _, c := range []struct{ name, document, path, message string }{
		{"empty", " \n", "", "is empty: a JSON document is wanted"},
		{"not utf-8", "{\"a\":\"\xff\"}", "", "is not UTF-8 text"},
		{"comma", "{\n \"a\": 1,\n}", "", "is not valid JSON: invalid character '}' looking for beginning of object key string, at line 3, column 1"},
		{"columns are characters", `{"é": x}`, "", "is not valid JSON: invalid character 'x' looking for beginning of value, at line 1, column 7"},
		{"cut", "{\n\"a\":", "", "is not valid JSON: it ends too early, at line 2, column 4"},
		{"trailing", "{}\n {}", "", "has more text after the JSON document, at line 2, column 2"},
		{"twice", `{"a":{"b":1,"b":2}}`, "a.b", "is given twice"},
		{"twice by escape", `{"a":1,"\u0061":2}`, "a", "is given twice"},
		{"deep", strings.Repeat("[", 100) + strings.Repeat("]", 100), "", "is nested deeper than 64 levels"},
		{"very deep", strings.Repeat("[", 20000) + strings.Repeat("]", 20000), "", "is nested deeper than 64 levels"},
		{"huge exponent", `{"a":[1e999999999]}`, "a[0]", "is out of the range of numbers"},
		{"tiny exponent", `{"a":1E-999999999}`, "a", "is out of the range of numbers"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, problems := schema.Parse([]byte(c.document))
			if d := cmp.Diff([]sluice.Problem{{Path: c.path, Message: c.message}}, problems); d != "" {
				t.Errorf("(-want +got)\n%s", d)
			}
		})
	}
}

func TestParseKeepsNumbers(t *testing.T) {
	doc, problems := schema.Parse([]byte(`{"a":1.50,"b":[null,true,"x",123456789012345678901234567890]}`))
	want := map[string]any{"a": json.Number("1.50"), "b": []any{nil, true, "x", json.Number("123456789012345678901234567890")}}
	if d := cmp.Diff(any(want), doc); d != "" || problems != nil {
		t.Error(d, problems)
	}
}

func TestHugeExponentIsNotComputed(t *testing.T) {
	s := compile(t, `{"type":"object","properties":{"a":{"type":"number","minimum":0}}}`)
	if problems := s.Validate([]byte(`{"a":1e999999999}`), ""); len(problems) != 1 {
		t.Errorf("got %v", problems)
	}
}

func TestNearest(t *testing.T) {
	names := []string{"region", "accountPrefix", "privateKey", "poolSize"}
	for given, want := range map[string]string{
		"regoin": "region", "Region": "region", "PRIVATEKEY": "privateKey", "private_key": "privateKey", "accountPrefx": "accountPrefix",
		"colour": "", "x": "", "": "", strings.Repeat("region", 1000): "",
	} {
		if got := schema.Nearest(given, names); got != want {
			t.Errorf("Nearest(%.20q) = %q, want %q", given, got, want)
		}
	}
}

func TestUnder(t *testing.T) {
	for _, c := range [][3]string{{"", "a", "a"}, {"c", "", "c"}, {"c", "a.b", "c.a.b"}, {"c", "[0]", "c[0]"}, {"", "", ""}} {
		if got := schema.Under(c[0], c[1]); got != c[2] {
			t.Errorf("Under(%q, %q) = %q", c[0], c[1], got)
		}
	}
}

// FuzzParse: what is taken is what encoding/json takes, and nothing panics.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{`{"a":1}`, `[1,2,{"b":null}]`, `{"a":1,"a":2}`, `"x`, `{}{}`, `1e5`, "\x00"} {
		f.Add([]byte(seed))
	}
	s, err := schema.Compile(json.RawMessage(everything))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, document []byte) {
		_, problems := schema.Parse(document)
		if len(problems) == 0 && !json.Valid(document) {
			t.Errorf("took %q", document)
		}
		s.Validate(document, "configuration")
	})
}
