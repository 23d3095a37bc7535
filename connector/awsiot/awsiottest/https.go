package awsiottest

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// httpsServer serves a handler over TLS.
type httpsServer struct {
	listener net.Listener
	server   *http.Server
	served   sync.WaitGroup
}

type connKey struct{}

// serveHTTPS listens and serves until close.
func serveHTTPS(addr string, c *tls.Config, h http.Handler, log *slog.Logger) (*httpsServer, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen for HTTPS: %w", err)
	}
	s := &httpsServer{listener: l, server: &http.Server{
		Handler:           h,
		ReadHeaderTimeout: patience,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		ConnContext:       withTLS,
	}}
	s.served.Go(func() {
		if err := s.server.Serve(tls.NewListener(l, c)); !errors.Is(err, http.ErrServerClosed) {
			log.Error("HTTPS stopped", "error", err)
		}
	})
	return s, nil
}

// addr is host:port. The host is a name, which AWS wants to see in the
// handshake.
func (s *httpsServer) addr() string {
	tcp, ok := s.listener.Addr().(*net.TCPAddr)
	if ok && (tcp.IP.IsLoopback() || tcp.IP.IsUnspecified()) {
		return net.JoinHostPort("localhost", strconv.Itoa(tcp.Port))
	}
	return s.listener.Addr().String()
}

func (s *httpsServer) close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := s.server.Shutdown(ctx); err != nil {
		_ = s.server.Close()
	}
	s.served.Wait()
}

// hiddenTLS keeps net/http from seeing that a connection is TLS: it would
// close one whose protocol by ALPN it does not know.
type hiddenTLS struct{ net.Conn }

// withTLS keeps a connection that is hidden for tlsState.
func withTLS(ctx context.Context, c net.Conn) context.Context {
	if hidden, ok := c.(hiddenTLS); ok {
		return context.WithValue(ctx, connKey{}, hidden.Conn)
	}
	return ctx
}

// tlsState is the state of the connection that a request came over, hidden or
// not.
func tlsState(r *http.Request) *tls.ConnectionState {
	if r.TLS != nil {
		return r.TLS
	}
	if c, ok := r.Context().Value(connKey{}).(*tls.Conn); ok {
		state := c.ConnectionState()
		return &state
	}
	return nil
}

// readBody reads a request's body; an error where it is larger than most, and
// false where the client has gone.
func readBody(w http.ResponseWriter, r *http.Request, most int64) ([]byte, *apiError, bool) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, most))
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return nil, newError(http.StatusRequestEntityTooLarge, "RequestEntityTooLargeException", "The payload exceeds the maximum size allowed"), true
	}
	return body, nil, err == nil
}
