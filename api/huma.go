package api

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humachi"

	"sluice"
	"sluice/internal/schema"
)

// huma's own errors (a parameter that does not parse) have a form, a content
// type and a status, 422, of their own. The documented way to change them is a
// package variable, huma.NewError; it would be changed for the whole process,
// so they are changed on their way out instead: by plainContext and plainErrors.

// adapter hands each request to huma as a plainContext.
type adapter struct{ huma.Adapter }

func (a adapter) Handle(op *huma.Operation, handler func(huma.Context)) {
	a.Adapter.Handle(op, func(ctx huma.Context) { handler(plainContext{ctx}) })
}

// plainContext writes huma's errors with our status and content type.
type plainContext struct{ humaContext }

// humaContext is huma.Context under a name that does not hide its method Context.
type humaContext = huma.Context

func (c plainContext) SetStatus(status int) {
	if status == http.StatusUnprocessableEntity {
		status = http.StatusBadRequest
	}
	c.humaContext.SetStatus(status)
}

func (c plainContext) SetHeader(name, value string) {
	if name == "Content-Type" {
		value = "application/json" // whatever huma made of the Accept header
	}
	c.humaContext.SetHeader(name, value)
}

// Unwrap leads humachi.Unwrap to the request.
func (c plainContext) Unwrap() huma.Context { return c.humaContext }

// plainErrors writes errors in our form; it is a huma.Transformer.
func plainErrors(ctx huma.Context, status string, v any) (any, error) {
	switch e := v.(type) {
	case *failure:
		return e.body, nil
	case *huma.ErrorModel:
		at := ctx.URL()
		return parameterError(ctx.Operation(), at.Query(), status, e), nil
	}
	return v, nil
}

// parameterError is huma's error as ours. Only parameters reach huma's
// validation: bodies are read by us.
func parameterError(op *huma.Operation, query url.Values, status string, e *huma.ErrorModel) errorView {
	if !strings.HasPrefix(status, "4") {
		return internal().body
	}
	v := wrongParameters()
	for _, d := range e.Errors {
		name := d.Location[strings.Index(d.Location, ".")+1:]
		v.Fields = append(v.Fields, problemView{Path: name, Message: sentence(parameterSentence(d.Message))})
	}
	v.Fields = append(v.Fields, unknownParameters(op, query)...)
	return v
}

func wrongParameters() errorView {
	return errorView{Code: string(sluice.CodeInvalid), Message: "The parameters of the request are not right."}
}

// parameterSentence is what huma says of a parameter in the words that are used
// of bodies. What it does not know stays as it is.
func parameterSentence(message string) string {
	for theirs, ours := range map[string]string{
		"invalid integer":                   "must be a whole number",
		"invalid boolean":                   "must be true or false",
		"expected number >= ":               "must be a number not below ",
		"expected number <= ":               "must be a number not above ",
		"expected value to be one of ":      "must be one of ",
		"expected string to match pattern ": "must match the pattern ",
	} {
		if rest, ok := strings.CutPrefix(message, theirs); ok {
			return ours + strings.ReplaceAll(rest, `"`, "")
		}
	}
	return message
}

// refuseUnknown refuses a request whose query has parameters that the
// operation does not know. huma could, but would then name these alone, and
// leave the wrong values of the others for the next try.
func refuseUnknown(ctx context.Context) error {
	op, _ := ctx.Value(operationKey{}).(*huma.Operation)
	unknown := unknownParameters(op, requestOf(ctx).URL.Query())
	if len(unknown) == 0 {
		return nil
	}
	f := &failure{status: http.StatusBadRequest, body: wrongParameters()}
	f.body.Fields = unknown
	return f
}

// unknownParameters finds the parameters that an operation does not know.
func unknownParameters(op *huma.Operation, query url.Values) []problemView {
	var known []string
	for _, p := range op.Parameters {
		if p.In == "query" {
			known = append(known, p.Name)
		}
	}
	var unknown []problemView
	for _, name := range sortedKeys(query) {
		if slices.Contains(known, name) {
			continue
		}
		message := fmt.Sprintf("unknown query parameter '%s'", name)
		if near := schema.Nearest(name, known); near != "" {
			message += fmt.Sprintf("; did you mean '%s'?", near)
		}
		unknown = append(unknown, problemView{Path: name, Message: sentence(message)})
	}
	return unknown
}

// requestKey is where the request stands in the context of a handler.
type requestKey struct{}

// writerKey is where the writer of the answer stands in the context of a
// handler that has to change a deadline.
type writerKey struct{}

func writerOf(ctx context.Context) http.ResponseWriter {
	w, _ := ctx.Value(writerKey{}).(http.ResponseWriter)
	return w
}

// operationKey is where the operation stands in the context of a handler.
type operationKey struct{}

// requestOf returns the request that a handler of huma's serves: it needs the
// body as it came, and the path that it came in at.
func requestOf(ctx context.Context) *http.Request {
	r, _ := ctx.Value(requestKey{}).(*http.Request)
	return r
}

// admit asks for the token where the operation wants it, and puts the request
// into the context. It is huma middleware.
func (s *server) admit(ctx huma.Context, next func(huma.Context)) {
	r, w := humachi.Unwrap(ctx)
	if len(ctx.Operation().Security) > 0 && !s.authorized(r) {
		s.refuse(w, r, unauthorized())
		return
	}
	next(huma.WithValue(huma.WithValue(huma.WithValue(ctx, requestKey{}, r), writerKey{}, w), operationKey{}, ctx.Operation()))
}
