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
	"slices"
	"strconv"
	"sync"
	"time"
)

// alpnHTTP is what clients with a certificate ask for at port 443. Source:
// Developer Guide, "Protocols, port mappings, and authentication".
const alpnHTTP = "x-amzn-http-ca"

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
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			if hidden, ok := c.(hiddenTLS); ok {
				ctx = context.WithValue(ctx, connKey{}, hidden.Conn)
			}
			return ctx
		},
	}}
	s.served.Go(func() {
		if err := s.server.Serve(hiding{tls.NewListener(l, c)}); !errors.Is(err, http.ErrServerClosed) {
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

// hiding keeps net/http from seeing that a connection is TLS: it would close
// one whose protocol by ALPN it does not know.
type hiding struct{ net.Listener }

func (h hiding) Accept() (net.Conn, error) {
	c, err := h.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return hiddenTLS{c}, nil
}

type hiddenTLS struct{ net.Conn }

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

// certifiedTLS is the configuration of a port where clients show a
// certificate, as AWS has at 8443.
func (s *Server) certifiedTLS(leaf tls.Certificate, protocols ...string) *tls.Config {
	return &tls.Config{
		Certificates:           []tls.Certificate{leaf},
		MinVersion:             tls.VersionTLS12,
		ClientAuth:             tls.RequireAnyClientCert,
		NextProtos:             protocols,
		SessionTicketsDisabled: true, // as AWS
		VerifyConnection: func(cs tls.ConnectionState) error {
			_, err := s.registry.authorize(cs.PeerCertificates[0])
			return err
		},
	}
}

// chosenTLS is the configuration of port 443: with ALPN clients show a
// certificate, without it they sign their requests.
func (s *Server) chosenTLS(leaf tls.Certificate) *tls.Config {
	certified := s.certifiedTLS(leaf, alpnHTTP)
	plain := &tls.Config{
		Certificates: []tls.Certificate{leaf}, MinVersion: tls.VersionTLS12,
		NextProtos: []string{"http/1.1"}, SessionTicketsDisabled: true,
	}
	return &tls.Config{
		Certificates: plain.Certificates, MinVersion: plain.MinVersion,
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			if slices.Contains(hello.SupportedProtos, alpnHTTP) {
				return certified, nil
			}
			return plain, nil
		},
	}
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
