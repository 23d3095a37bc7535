package thingpark_test

import (
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"testing"
)

// serve serves a handler and returns its address. The server's own log, of
// handshakes that fail on purpose, is not shown.
func serve(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.Start()
	t.Cleanup(s.Close)
	return s.URL
}
