package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"

	"sluice"
	"sluice/internal/schema"
)

const (
	maxBody    = 1 << 20  // of a resource
	maxCommand = 16 << 10 // of a downlink
)

// readBody reads the body of a request, up to limit bytes.
func readBody(r *http.Request, limit int64) ([]byte, error) {
	// The writer would only be used to close the connection; the server does
	// that by itself where the rest of the body is long.
	body, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, limit))
	if _, over := errors.AsType[*http.MaxBytesError](err); over {
		return nil, sluice.Errorf(sluice.CodeTooLarge, "The body of the request is over %d KiB.", limit>>10)
	}
	if err != nil {
		return nil, &sluice.Error{Code: codeTimeout, Message: "The body of the request did not arrive.", Err: err}
	}
	return body, nil
}

// readJSON reads the body of a request that is to be JSON. A request that does
// not say what it carries is taken at its word.
func readJSON(r *http.Request) ([]byte, error) {
	if carried := r.Header.Get("Content-Type"); carried != "" {
		mediaType, _, err := mime.ParseMediaType(carried)
		if err != nil || (mediaType != "application/json" && !strings.HasSuffix(mediaType, "+json")) {
			return nil, &sluice.Error{
				Code:    codeMediaType,
				Message: "The body of the request must be JSON.",
				Hint:    "Send the header 'Content-Type: application/json' (curl: -H or --json).",
			}
		}
	}
	return readBody(r, maxBody)
}

// draft is a resource as a user sent it: read strictly, and checked against
// the schema of its kind, so far.
type draft struct {
	fields   map[string]json.RawMessage
	doc      map[string]any
	problems []sluice.Problem
}

// readDraft reads a resource from the body of a request. It fails where the
// body is no JSON; all else that is wrong with it is in draft.problems.
func readDraft(r *http.Request, form *schema.Schema) (*draft, error) {
	body, err := readJSON(r)
	if err != nil {
		return nil, err
	}
	doc, problems := schema.Parse(body)
	if doc == nil && len(problems) > 0 {
		return nil, &sluice.Error{
			Code: sluice.CodeInvalid, Message: "The body of the request " + problems[0].Message + ".",
			Fields: []sluice.Problem{{Path: "body", Message: problems[0].Message}},
		}
	}
	d := &draft{problems: append(problems, form.ValidateValue(doc, "")...)}
	d.doc, _ = doc.(map[string]any)
	if d.doc == nil {
		return nil, &sluice.Error{
			Code: sluice.CodeInvalid, Message: "The body of the request must be a JSON object.",
			Fields: []sluice.Problem{{Path: "body", Message: "must be an object"}},
		}
	}
	if err := json.Unmarshal(body, &d.fields); err != nil {
		return nil, &sluice.Error{Code: sluice.CodeInvalid, Message: "The body of the request cannot be read.", Err: err}
	}
	return d, nil
}

// text returns a property that is to be a string; "" where it is none, which
// the schema has told by then.
func (d *draft) text(name string) string {
	s, _ := d.doc[name].(string)
	return s
}

// problem adds to what is wrong, unless something is said of that place already.
func (d *draft) problem(path, format string, args ...any) {
	d.add([]sluice.Problem{{Path: path, Message: fmt.Sprintf(format, args...)}})
}

// add adds problems at places of which nothing is said yet: a missing property
// is told once, by whoever saw it first.
func (d *draft) add(ps []sluice.Problem) {
	told := map[string]bool{}
	for _, p := range d.problems {
		told[p.Path] = true
	}
	for _, p := range ps {
		if !told[p.Path] {
			d.problems = append(d.problems, p)
		}
	}
}

// err is all that is wrong as one error; nil when nothing is. what names the
// resource: "connection".
func (d *draft) err(what string) error {
	if len(d.problems) == 0 {
		return nil
	}
	what = "The " + what + " is not right: "
	if n := len(d.problems); n > 1 {
		what += fmt.Sprintf("%d problems.", n)
	} else {
		what += d.problems[0].Path + ": " + sentence(d.problems[0].Message)
	}
	return &sluice.Error{
		Code:    sluice.CodeInvalid,
		Message: what,
		Hint:    "Nothing was stored. Correct all that 'fields' names and send it again.",
		Fields:  d.problems,
	}
}
