package api

import (
	"log/slog"
	"net/http"
	"runtime/debug"
	"strings"

	"github.com/go-chi/chi/v5"

	"sluice"
)

// observe logs requests where debugging is on. Neither headers nor the query
// are logged: they may carry secrets; nor is the unguessable part of a path.
func (s *server) observe(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !s.Log.Enabled(r.Context(), slog.LevelDebug) {
			next.ServeHTTP(w, r)
			return
		}
		start := s.Clock()
		seen := &statusWriter{ResponseWriter: w, status: http.StatusOK}
		next.ServeHTTP(seen, r)
		s.Log.DebugContext(r.Context(), "request", "method", r.Method, "path", publicPath(r.URL.Path),
			"status", seen.status, "took", s.Clock().Sub(start))
	})
}

// publicPath is a path without the part that is as good as a password.
func publicPath(path string) string {
	for _, secret := range []string{"/downlinkMessages/", "/networks/", "/ingest/"} {
		if before, _, found := strings.Cut(path, secret); found {
			return before + secret + "..."
		}
	}
	return path
}

// statusWriter remembers the status for the log.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap is for http.ResponseController.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// recoverer answers a panic with 500; what it was stands in the log alone.
func (s *server) recoverer(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer s.recovered(w, r)
		next.ServeHTTP(w, r)
	})
}

// recovered is to be deferred.
func (s *server) recovered(w http.ResponseWriter, r *http.Request) {
	p := recover()
	if p == nil {
		return
	}
	if p == http.ErrAbortHandler { //nolint:errorlint // net/http compares it so
		panic(p)
	}
	s.Log.ErrorContext(r.Context(), "panic in a request", "method", r.Method, "path", publicPath(r.URL.Path),
		"panic", p, "stack", string(debug.Stack()))
	s.refuse(w, r, internal())
}

// secure sets the headers that keep browsers from being used against their
// user. /docs sets a content policy of its own.
func secure(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		h.Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	})
}

// headAsGet routes HEAD as GET: net/http leaves out the body.
func headAsGet(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodHead {
			chi.RouteContext(r.Context()).RouteMethod = http.MethodGet
		}
		next.ServeHTTP(w, r)
	})
}

func (s *server) unknownRoute(w http.ResponseWriter, r *http.Request) {
	s.refuse(w, r, &sluice.Error{
		Code:    sluice.CodeNotFound,
		Message: "There is nothing at this address.",
		Hint:    "GET /docs lists the addresses.",
	})
}

func (s *server) unknownMethod(w http.ResponseWriter, r *http.Request) {
	var allowed []string
	path := chi.RouteContext(r.Context()).RoutePath
	if path == "" {
		path = r.URL.Path
	}
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete} {
		if s.routes.Match(chi.NewRouteContext(), method, path) {
			allowed = append(allowed, method)
		}
	}
	s.refuse(w, r, wrongMethod(allowed...))
}

func wrongMethod(allowed ...string) *failure {
	list := strings.Join(allowed, ", ")
	return &failure{
		status: http.StatusMethodNotAllowed,
		header: http.Header{"Allow": {list}},
		body: errorView{
			Code:    string(codeMethod),
			Message: "This address does not take this method.",
			Hint:    "It takes " + list + ".",
		},
	}
}
