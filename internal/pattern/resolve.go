package pattern

import (
	"encoding/json"
	"strings"

	"github.com/tidwall/gjson"
)

// document is a document that is being read.
type document struct {
	text   string
	root   string
	devEUI string // stands in for the field DevEUI
	parsed any    // for JsonPath, once it is needed
	ready  bool
}

// tree is the document as maps and slices, numbers as their literals; nil if
// it is no JSON.
func (d *document) tree() any {
	if !d.ready {
		d.ready = true
		dec := json.NewDecoder(strings.NewReader(d.text))
		dec.UseNumber()
		if dec.Decode(&d.parsed) != nil {
			d.parsed = nil
		}
	}
	return d.parsed
}

// rootTree is the root node of tree.
func (d *document) rootTree() any {
	if d.root == "" {
		return d.tree()
	}
	m, ok := d.tree().(map[string]any)
	if !ok {
		return nil
	}
	return m[d.root]
}

// resolve returns the value of the first alternative that has one.
func (e *expression) resolve(d *document) (string, bool) {
	for i := range e.alternatives {
		a := &e.alternatives[i]
		var value string
		var ok bool
		switch {
		case a.field != nil && d.devEUI != "" && a.field.isDevEUI():
			value, ok = d.devEUI, true
		case a.field != nil:
			value, ok = a.field.lookup(d)
		case a.path != nil:
			value, ok = a.path.lookup(d)
		default:
			value, ok = a.literal, true
		}
		if ok && value != "" {
			return value, true
		}
	}
	return "", false
}

// roots are the root nodes whose paths are made ready at compile time.
// Source: ThingPark X IoT Flow documentation, "Message".
const roots = "DevEUI_uplink DevEUI_downlink_Sent DevEUI_downlink_Queued DevEUI_downlink_Rejected DevEUI_location " +
	"DevEUI_notification DevEUI_multicast_summary DevEUI_alarm BS_alarm DevEUI_downlink"

// field is a dotted path inside the root node.
type field struct {
	segments []string
	path     string            // of gjson, without a root
	rooted   map[string]string // with each of roots
}

func newField(segments []string) *field {
	escaped := make([]string, len(segments))
	for i, s := range segments {
		escaped[i] = gjson.Escape(s)
	}
	f := &field{segments: segments, path: strings.Join(escaped, "."), rooted: map[string]string{}}
	for root := range strings.FieldsSeq(roots) {
		f.rooted[root] = gjson.Escape(root) + "." + f.path
	}
	return f
}

// isDevEUI reports whether the field is the device's own.
func (f *field) isDevEUI() bool { return len(f.segments) == 1 && f.segments[0] == "DevEUI" }

func (f *field) lookup(d *document) (string, bool) {
	path, ok := f.rooted[d.root]
	switch {
	case ok:
	case d.root == "":
		path = f.path
	default:
		path = gjson.Escape(d.root) + "." + f.path
	}
	r := gjson.Get(d.text, path)
	if r.Exists() || len(f.segments) == 1 {
		return scalar(r)
	}
	return f.lookupInText(d)
}

// lookupInText is lookup for documents whose objects may be texts: untyped
// reports carry CustomerData as JSON in a string.
func (f *field) lookupInText(d *document) (string, bool) {
	r := gjson.Parse(d.text)
	if d.root != "" {
		r = r.Get(gjson.Escape(d.root))
	}
	for _, s := range f.segments {
		if r.Type == gjson.String && gjson.Valid(r.Str) {
			r = gjson.Parse(r.Str)
		}
		if !r.IsObject() && !r.IsArray() {
			return "", false
		}
		r = r.Get(gjson.Escape(s))
	}
	return scalar(r)
}

// scalar is the text of a value: its literal for a number, the first element
// of an array.
func scalar(r gjson.Result) (string, bool) {
	for r.IsArray() {
		r = r.Get("0")
	}
	switch r.Type {
	case gjson.String:
		return r.Str, true
	case gjson.Number, gjson.True, gjson.False:
		return r.Raw, true
	default:
		return "", false
	}
}

// scalarOf is scalar for a value of document.tree.
func scalarOf(v any) (string, bool) {
	switch v := v.(type) {
	case string:
		return v, true
	case json.Number:
		return v.String(), true
	case bool:
		if v {
			return "true", true
		}
		return "false", true
	case []any:
		if len(v) > 0 {
			return scalarOf(v[0])
		}
	}
	return "", false
}
