package shadow

import (
	"bytes"
	"encoding/json"
	"time"
)

// answer is a document with a client token.
type answer object

func (o answer) token(clientToken string) object {
	if clientToken != "" {
		o["clientToken"] = clientToken
	}
	return object(o)
}

func encode(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(v) // decoded from JSON, so that it can be encoded
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// parts is {"desired": …, "reported": …} of those that are there: an empty
// section is left out. Source: "Empty shadow document properties".
func (d *document) parts(pick func(section) object) object {
	out := object{}
	for name, s := range map[string]section{"desired": d.desired, "reported": d.reported} {
		if len(s.values) > 0 {
			out[name] = pick(s)
		}
	}
	return out
}

func valuesOf(s section) object { return s.values }
func timesOf(s section) object  { return s.times }

func (d *document) size() int { return len(encode(d.parts(valuesOf))) }

// acceptedUpdate answers an update: what was sent, with its times.
func acceptedUpdate(r update, version int64, now time.Time) []byte {
	metadata := object{}
	for name, c := range map[string]*change{"desired": r.desired, "reported": r.reported} {
		if c != nil && !c.clear {
			metadata[name] = stamp(c.set, now)
		}
	}
	return encode(answer{"state": r.state, "metadata": metadata, "version": version, "timestamp": now.Unix()}.token(r.clientToken))
}

// deltaOf is the message about what differs; nil where nothing does. AWS
// publishes it for an update that leaves a difference, whichever section was
// sent (inferred).
func deltaOf(d *document, clientToken string, now time.Time) []byte {
	values, times := difference(d.desired, d.reported.values)
	if len(values) == 0 {
		return nil
	}
	return encode(answer{"state": values, "metadata": times, "version": d.version, "timestamp": now.Unix()}.token(clientToken))
}

// documentsOf is the message with the document before and after. previous is
// left out where there was none (inferred).
func documentsOf(before, after *document, clientToken string, now time.Time) []byte {
	half := func(d *document) object {
		return object{"state": d.parts(valuesOf), "metadata": d.parts(timesOf), "version": d.version}
	}
	out := answer{"current": half(after), "timestamp": now.Unix()}
	if len(before.desired.values)+len(before.reported.values) > 0 {
		out["previous"] = half(before)
	}
	return encode(out.token(clientToken))
}

// documentOf is the whole document, as a get answers it: with the delta.
func documentOf(d *document, clientToken string, now time.Time) []byte {
	state := d.parts(valuesOf)
	if values, _ := difference(d.desired, d.reported.values); len(values) > 0 {
		state["delta"] = values
	}
	return encode(answer{"state": state, "metadata": d.parts(timesOf), "version": d.version, "timestamp": now.Unix()}.token(clientToken))
}
