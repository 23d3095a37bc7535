package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"sluice"
)

// Codes that only HTTP needs; the others are in package sluice.
const (
	codeMethod    sluice.Code = "com-4005"
	codeTimeout   sluice.Code = "com-4008"
	codeMediaType sluice.Code = "com-4015"
)

// errorView is the body of every error.
type errorView struct {
	Code    string        `json:"code" doc:"For programs: com-4 and the last three digits of the HTTP status, as ThingPark writes it." example:"com-4000"`
	Message string        `json:"message" doc:"What is wrong, in a sentence." example:"The connection is not right: 2 problems."`
	Hint    string        `json:"hint,omitempty" doc:"What to do next."`
	Fields  []problemView `json:"fields,omitempty" nullable:"false" doc:"All problems of what was sent, at once."`
}

// problemView is one thing wrong with what was sent.
type problemView struct {
	Path    string `json:"path" doc:"Leads to the value." example:"configuration.privateKey"`
	Message string `json:"message" doc:"What is wrong and what is wanted." example:"Missing property 'privateKey'."`
}

// failure is an error with all that its answer has. It is a huma.StatusError
// and a huma.HeadersError.
type failure struct {
	status int
	header http.Header
	body   errorView
}

func (f *failure) Error() string           { return f.body.Message }
func (f *failure) GetStatus() int          { return f.status }
func (f *failure) GetHeaders() http.Header { return f.header }

// statusOf reads the HTTP status from a code: "com-4004" is 404, "com-4015" 415.
func statusOf(code sluice.Code) int {
	const form = "com-4004"
	if len(code) != len(form) {
		return http.StatusInternalServerError
	}
	class, err1 := strconv.Atoi(string(code[4:5]))
	rest, err2 := strconv.Atoi(string(code[5:]))
	if err1 != nil || err2 != nil || class < 4 || class > 5 || rest > 99 {
		return http.StatusInternalServerError
	}
	return class*100 + rest
}

// failureOf gives any error the form of an answer. What is our own fault is
// logged here, for the answer does not tell it.
func (s *server) failureOf(ctx context.Context, err error) *failure {
	if f, ok := errors.AsType[*failure](err); ok {
		return f
	}
	if e, ok := errors.AsType[*sluice.Error](err); ok {
		f := &failure{status: statusOf(e.Code), body: errorView{
			Code: string(e.Code), Message: sentence(e.Message), Hint: e.Hint, Fields: problems(e.Fields),
		}}
		if f.status >= http.StatusInternalServerError {
			s.Log.ErrorContext(ctx, "request failed", "code", f.body.Code, "error", err)
		}
		if f.status == http.StatusServiceUnavailable {
			f.header = http.Header{"Retry-After": {"5"}}
		}
		return f
	}
	if d, ok := errors.AsType[*sluice.Failure](err); ok {
		return s.failureOf(ctx, deliveryError(d))
	}
	if ctx.Err() != nil {
		// Nobody reads the answer any more.
		return &failure{status: http.StatusServiceUnavailable, body: errorView{
			Code: string(sluice.CodeUnavailable), Message: "The request was given up.",
		}}
	}
	s.Log.ErrorContext(ctx, "request failed", "error", err)
	return internal()
}

// deliveryError is a failed delivery as the answer to a request.
func deliveryError(d *sluice.Failure) *sluice.Error {
	code := sluice.CodeUnavailable
	if verdict, _ := sluice.VerdictOf(d); verdict == sluice.Permanent {
		code = sluice.CodeInvalid
	}
	return &sluice.Error{Code: code, Message: d.Message, Hint: d.Hint, Err: d}
}

func internal() *failure {
	return &failure{status: http.StatusInternalServerError, body: errorView{
		Code:    string(sluice.CodeInternal),
		Message: "Something went wrong inside Sluice.",
		Hint:    "The log of Sluice says more.",
	}}
}

// hintAt adds to an error that something is not there where to look for what
// is: path is that of the operation.
func (f *failure) hintAt(path string) *failure {
	if f.status != http.StatusNotFound || f.body.Hint != "" {
		return f
	}
	collection, _, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	switch collection {
	case "connections", "flows", "networks", "devices", "connectors":
		hinted := *f
		hinted.body.Hint = "GET /" + collection + " lists them."
		return &hinted
	}
	return f
}

func problems(ps []sluice.Problem) []problemView {
	var views []problemView
	for _, p := range ps {
		views = append(views, problemView{Path: p.Path, Message: sentence(p.Message)})
	}
	return views
}

// sentence writes what is wrong with a value as a sentence, whoever said it.
func sentence(text string) string {
	first, size := utf8.DecodeRuneInString(text)
	if size == 0 {
		return text
	}
	text = string(unicode.ToUpper(first)) + text[size:]
	if strings.ContainsAny(text[len(text)-1:], ".!?") {
		return text
	}
	return text + "."
}

// refuse answers a request with an error, outside of huma.
func (s *server) refuse(w http.ResponseWriter, r *http.Request, err error) {
	f := s.failureOf(r.Context(), err)
	for name, values := range f.header {
		w.Header()[name] = values
	}
	s.answer(w, f.status, f.body)
}

// answer writes a JSON answer, outside of huma.
func (s *server) answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false) // as huma writes
	if err := enc.Encode(body); err != nil {
		s.Log.Debug("answer not written", "error", err)
	}
}
