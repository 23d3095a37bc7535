// Package report reads ThingPark's documents: what a report is about, copies
// of one report, and the XML form turned into JSON. It decides nothing; the
// rooms that use it do.
//
// A document is a JSON object with one member: its name is the kind, its
// value an object of flat fields with a few nested ones. The fields are those
// of ThingPark X IoT Flow's documentation, "Message". Two JSON forms exist,
// typed and "untyped" (every scalar is a string); both read the same here,
// and a number keeps the text it was written with.
package report

import (
	"bytes"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/tidwall/gjson"

	"sluice"
)

// maxDepth is how deep a document may nest. ThingPark's nest 5 deep; decoded
// payloads a little deeper.
const maxDepth = 64

// Report is the identity of a document. Texts are as written in the document
// ("17" for the number 17), "" where the field is missing, null or empty.
type Report struct {
	Kind sluice.Kind
	// DevEUI is 16 hexadecimal digits in upper case; for a BS_alarm its
	// LrrID in upper case. "" when the document names no device.
	DevEUI string
	// Device is the DevEUI (LrrID) as written, which is what servers sign.
	Device        string
	CustomerID    string
	FPort         string
	FCntUp        string
	FCntDn        string
	Payload       string // payload_hex
	MIC           string // mic_hex
	CorrelationID string
	// Time is the document's Time; zero when it has none that can be read.
	Time     time.Time
	timeText string
	// Name is the device's (base station's) name.
	Name string
	// Tags are CustomerData.tags and the tags of ModelCfg, in this order,
	// each once; nil when the document has no place for all of them.
	Tags []string
}

// Read reads a body in any of ThingPark's forms. The document is the body
// itself, or, for XML, the typed JSON made of it. Errors are of type
// *sluice.Error with code CodeInvalid.
func Read(body []byte) (document []byte, r Report, err error) {
	body = bytes.TrimPrefix(body, []byte("\ufeff"))
	if isXML(body) {
		if body, err = FromXML(body); err != nil {
			return nil, Report{}, err
		}
	}
	r, err = Parse(body)
	return body, r, err
}

// Parse reads a JSON document. It refuses, with a *sluice.Error of code
// CodeInvalid, what two readers could understand differently: JSON that is
// not valid, invalid UTF-8, anything but one root member that is an object, a
// field of the identity that stands there twice or is no scalar, a DevEUI that
// is no EUI-64; and nesting beyond 64. A document without a DevEUI is read.
//
// DevEUI, Name and Tags may be kept; the other texts hold on to a copy of the
// whole document.
func Parse(document []byte) (Report, error) {
	if !utf8.Valid(document) {
		return Report{}, refuse("The document is not valid UTF-8.")
	}
	if tooDeep(document) {
		return Report{}, refuse("The document nests too deep.")
	}
	if !gjson.ValidBytes(document) {
		return Report{}, refuse("The document is not valid JSON.")
	}
	text := string(document)
	kind, fields, err := root(text)
	if err != nil {
		return Report{}, err
	}
	p := parser{r: Report{Kind: kind}}
	end := members(text, fields, p.field)
	if p.err == nil && text[skipSpace(text, end)] != '}' {
		p.err = refuse("The document does not have exactly one root.")
	}
	if p.err == nil {
		p.finish()
	}
	if p.err != nil {
		return Report{}, p.err
	}
	return p.r, nil
}

// refuse makes the error of a document that cannot be read.
func refuse(format string, args ...any) error {
	e := sluice.Errorf(sluice.CodeInvalid, format, args...)
	e.Hint = "Send one ThingPark document, such as {\"DevEUI_uplink\":{...}}, as JSON or XML in UTF-8."
	return e
}

// root finds the kind and where its fields begin. Valid JSON is given.
func root(text string) (kind sluice.Kind, fields int, err error) {
	i := skipSpace(text, 0)
	if text[i] != '{' {
		return "", 0, refuse("The document is not a JSON object.")
	}
	if i = skipSpace(text, i+1); text[i] == '}' {
		return "", 0, refuse("The document does not have exactly one root.")
	}
	end := stringEnd(text, i)
	name := text[i+1 : end-1] // an escape makes it no name
	if !validKind(name) {
		return "", 0, refuse("The name of the document's root is not the name of a report.")
	}
	fields = skipSpace(text, skipSpace(text, end)+1)
	if text[fields] != '{' {
		return "", 0, refuse("The root of the document is not a JSON object.")
	}
	return intern(name), fields, nil
}

// validKind reports whether a root's name can be a kind: it becomes a part of
// texts, labels and patterns.
func validKind(name string) bool {
	if name == "" || len(name) > 64 {
		return false
	}
	for i := range len(name) {
		c := name[i]
		if !isAlphanumeric(c) && c != '_' && c != '-' && c != '.' {
			return false
		}
	}
	return true
}

// intern spares the known kinds an allocation.
func intern(name string) sluice.Kind {
	switch k := sluice.Kind(name); k {
	case sluice.KindUplink:
		return sluice.KindUplink
	case sluice.KindDownlinkSent:
		return sluice.KindDownlinkSent
	default:
		return sluice.Kind(strings.Clone(name))
	}
}

// tooDeep reports whether a document may nest beyond maxDepth, before a
// recursive parser sees it. Counting the brackets first settles nearly every
// document at the speed of memory.
func tooDeep(document []byte) bool {
	if bytes.Count(document, []byte{'{'})+bytes.Count(document, []byte{'['}) <= maxDepth {
		return false
	}
	depth, inString := 0, false
	for i := 0; i < len(document); i++ {
		switch c := document[i]; {
		case inString:
			if c == '\\' {
				i++
			} else if c == '"' {
				inString = false
			}
		case c == '"':
			inString = true
		case c == '{' || c == '[':
			if depth++; depth > maxDepth {
				return true
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return false
}
