package shadow

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strconv"
	"unicode/utf8"
)

// clientTokenSize is the most bytes of a client token. Source: "Device Shadow
// error messages".
const clientTokenSize = 64

// update is a request to change a shadow.
type update struct {
	// desired and reported are nil where the request leaves the section
	// alone; see change.
	desired, reported *change
	state             object // as it was sent
	version           *int64
	clientToken       string
}

// change is what a request asks of a section.
type change struct {
	// clear removes the whole section: it was sent as null.
	clear bool
	set   object
}

// decode reads one JSON value, numbers as they are written.
func decode(body []byte) (any, *Error) {
	if !utf8.Valid(body) {
		return nil, newError(415, "Unsupported documented encoding; supported encoding is UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, newError(400, "Invalid JSON")
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, newError(400, "Invalid JSON")
	}
	return v, nil
}

func parseUpdate(body []byte, limits Limits) (update, *Error) {
	if len(body) > limits.DocumentSize {
		return update{}, tooLarge()
	}
	v, bad := decode(body)
	if bad != nil {
		return update{}, bad
	}
	whole, ok := v.(map[string]any)
	if !ok {
		return update{}, newError(400, "Invalid JSON")
	}
	r := update{}
	if r.clientToken, bad = tokenOf(whole); bad != nil {
		return r, bad
	}
	if bad := r.readState(whole, limits); bad != nil {
		return r, bad.with(r.clientToken)
	}
	if bad := r.readVersion(whole); bad != nil {
		return r, bad.with(r.clientToken)
	}
	return r, nil
}

func (r *update) readState(whole map[string]any, limits Limits) *Error {
	state, ok := whole["state"]
	if !ok {
		return newError(400, "Missing required node: state")
	}
	if r.state, ok = state.(map[string]any); !ok {
		return newError(400, "State node must be an object")
	}
	for name := range r.state {
		if name != "desired" && name != "reported" {
			return newError(400, "State contains an invalid node")
		}
	}
	var bad *Error
	if r.desired, bad = readChange(r.state, "desired", "Desired", limits); bad != nil {
		return bad
	}
	r.reported, bad = readChange(r.state, "reported", "Reported", limits)
	return bad
}

func readChange(state object, name, title string, limits Limits) (*change, *Error) {
	v, ok := state[name]
	if !ok {
		return nil, nil
	}
	if v == nil {
		return &change{clear: true}, nil
	}
	set, ok := v.(map[string]any)
	if !ok {
		return nil, newError(400, title+" node must be an object")
	}
	if depth(set) > limits.Depth {
		return nil, newError(400, "JSON contains too many levels of nesting; maximum is "+strconv.Itoa(limits.Depth))
	}
	if hasNull(set, false) {
		return nil, newError(400, "State contains an invalid node")
	}
	return &change{set: set}, nil
}

// hasNull reports whether there is a null in an array, which the guide forbids
// ("Array values in shadow documents"); the sentence of the error is inferred.
func hasNull(v any, inArray bool) bool {
	switch v := v.(type) {
	case nil:
		return inArray
	case map[string]any:
		for _, inner := range v {
			if hasNull(inner, false) {
				return true
			}
		}
	case []any:
		for _, inner := range v {
			if hasNull(inner, true) {
				return true
			}
		}
	}
	return false
}

func (r *update) readVersion(whole map[string]any) *Error {
	v, ok := whole["version"]
	if !ok || v == nil {
		return nil
	}
	number, _ := v.(json.Number)
	n, err := number.Int64()
	if err != nil || n < 0 {
		return newError(400, "Invalid version")
	}
	r.version = &n
	return nil
}

// tokenOf reads the client token of a request; "" where there is none.
func tokenOf(whole map[string]any) (string, *Error) {
	v, ok := whole["clientToken"]
	if !ok || v == nil {
		return "", nil
	}
	token, ok := v.(string)
	if !ok || len(token) > clientTokenSize {
		return "", newError(400, "Invalid clientToken")
	}
	return token, nil
}

// parseToken reads a request that has nothing but a client token, or nothing
// at all.
func parseToken(body []byte) (string, *Error) {
	if len(bytes.TrimSpace(body)) == 0 {
		return "", nil
	}
	v, bad := decode(body)
	if bad != nil {
		return "", bad
	}
	whole, ok := v.(map[string]any)
	if !ok {
		return "", newError(400, "Invalid JSON")
	}
	return tokenOf(whole)
}

// depth is how many levels a value has: {"a":1} has one. That arrays count as
// objects do is inferred.
func depth(v any) int {
	deepest := 0
	switch v := v.(type) {
	case map[string]any:
		for _, inner := range v {
			deepest = max(deepest, depth(inner))
		}
	case []any:
		for _, inner := range v {
			deepest = max(deepest, depth(inner))
		}
	default:
		return 0
	}
	return deepest + 1
}
