package api

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"sluice"
)

type healthOutput struct {
	Body healthView
}

type healthView struct {
	Status string `json:"status" enum:"ok,ready"`
}

// getHealth says that the process serves requests, and no more.
func (s *server) getHealth(context.Context, *struct{}) (*healthOutput, error) {
	return &healthOutput{Body: healthView{Status: "ok"}}, nil
}

// getReady says whether reports can be taken.
func (s *server) getReady(context.Context, *struct{}) (*healthOutput, error) {
	if s.Ready == nil {
		return &healthOutput{Body: healthView{Status: "ready"}}, nil
	}
	err := s.Ready()
	if err == nil {
		return &healthOutput{Body: healthView{Status: "ready"}}, nil
	}
	// Not logged: who asks asks every few seconds.
	return nil, &failure{
		status: http.StatusServiceUnavailable,
		header: http.Header{"Retry-After": {"5"}},
		body: errorView{
			Code:    string(sluice.CodeUnavailable),
			Message: "Sluice is not ready: " + strings.Join(reasons(err), "; "),
		},
	}
}

// reasons are the sentences of an error, one for each error joined in it.
func reasons(err error) []string {
	if joined, ok := err.(interface{ Unwrap() []error }); ok { //nolint:errorlint // the outermost is meant
		var all []string
		for _, e := range joined.Unwrap() {
			all = append(all, reasons(e)...)
		}
		return all
	}
	if e, ok := errors.AsType[*sluice.Error](err); ok {
		return []string{e.Message}
	}
	return []string{err.Error()}
}
