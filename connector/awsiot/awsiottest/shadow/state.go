package shadow

import (
	"encoding/json"
	"maps"
	"time"
)

// object is a JSON object.
type object = map[string]any

// section is desired or reported: values, and for each of them the time at
// which it was last sent, in a tree of the same form. Trees are never changed
// once made, so that documents may share them.
type section struct{ values, times object }

// apply makes the section that a change leads to.
func (s section) apply(c *change, now time.Time) section {
	switch {
	case c == nil:
		return s
	case c.clear:
		return section{}
	}
	values, times := merge(s.values, s.times, c.set, now)
	return section{values: values, times: times}
}

// merge sets each member of set: null removes it, an object is merged into an
// object, all else, arrays too, replaces what was there. Every member that was
// sent gets a new time, even where its value is the old one.
func merge(values, times, set object, now time.Time) (object, object) {
	outValues, outTimes := maps.Clone(values), maps.Clone(times)
	if outValues == nil {
		outValues, outTimes = object{}, object{}
	}
	for name, v := range set {
		switch v := v.(type) {
		case nil:
			delete(outValues, name)
			delete(outTimes, name)
		case map[string]any:
			innerValues, ok := outValues[name].(map[string]any)
			innerTimes, _ := outTimes[name].(map[string]any)
			if !ok {
				innerValues, innerTimes = nil, nil
			}
			outValues[name], outTimes[name] = merge(innerValues, innerTimes, v, now)
		default:
			outValues[name], outTimes[name] = v, stamp(v, now)
		}
	}
	return outValues, outTimes
}

// stamp is the metadata of a value: a time for each leaf, and an element for
// each element of an array.
func stamp(v any, now time.Time) any {
	switch v := v.(type) {
	case map[string]any:
		out := object{}
		for name, inner := range v {
			if inner != nil {
				out[name] = stamp(inner, now)
			}
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, inner := range v {
			out[i] = stamp(inner, now)
		}
		return out
	}
	return object{"timestamp": now.Unix()}
}

// difference is what of desired is missing in reported or differs there,
// objects member by member, arrays whole, with the metadata of desired.
func difference(desired section, reported object) (values, times object) {
	values, times = object{}, object{}
	for name, want := range desired.values {
		got, ok := reported[name]
		wantObject, isObject := want.(map[string]any)
		gotObject, gotIsObject := got.(map[string]any)
		if isObject && gotIsObject {
			innerTimes, _ := desired.times[name].(map[string]any)
			if v, t := difference(section{wantObject, innerTimes}, gotObject); len(v) > 0 {
				values[name], times[name] = v, t
			}
			continue
		}
		if !ok || !equal(want, got) {
			values[name], times[name] = want, desired.times[name]
		}
	}
	return values, times
}

// equal compares values; numbers by what they mean, not how they are written
// (inferred).
func equal(a, b any) bool {
	switch a := a.(type) {
	case json.Number:
		b, ok := b.(json.Number)
		if !ok {
			return false
		}
		x, errX := a.Float64()
		y, errY := b.Float64()
		return a == b || errX == nil && errY == nil && x == y
	case []any:
		b, ok := b.([]any)
		if !ok || len(a) != len(b) {
			return false
		}
		for i := range a {
			if !equal(a[i], b[i]) {
				return false
			}
		}
		return true
	case map[string]any:
		b, ok := b.(map[string]any)
		if !ok || len(a) != len(b) {
			return false
		}
		for name, v := range a {
			if other, ok := b[name]; !ok || !equal(v, other) {
				return false
			}
		}
		return true
	}
	return a == b
}
