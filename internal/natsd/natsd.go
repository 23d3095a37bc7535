// Package natsd runs a NATS server with JetStream inside this process. It
// listens on no port: connections are made in process.
package natsd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

const (
	// unlimited is what JetStream is told that it may use of memory and disk.
	// What really limits is the reserve that the journal keeps free on the
	// disk: JetStream's own limits count a deleted message's room wrongly
	// until its block is compacted, and refuse with an error that looks like
	// damage.
	unlimited = 1 << 50

	// syncInterval is how often streams that do not sync each write (those
	// with PersistMode async) are synced. NATS' own default is two minutes.
	syncInterval = time.Second

	// maxPayload bounds a message. A report is at most 128 KiB.
	maxPayload = 1 << 20
)

// Options are what [Start] needs.
type Options struct {
	// Dir is where JetStream keeps its files; it is made when missing.
	Dir string
	// SyncAlways makes each write to a stream durable before it is
	// acknowledged, except in streams with PersistMode async.
	SyncAlways bool
	// Log takes the server's log; nil drops it.
	Log *slog.Logger
}

// Server is a running server.
type Server struct {
	srv *server.Server

	mu     sync.Mutex
	conns  []*nats.Conn
	closed bool
}

// Start starts a server and returns once it takes connections, which is after
// JetStream has recovered its streams. ctx bounds the start, not the server's
// life. The caller closes it.
func Start(ctx context.Context, o Options) (*Server, error) {
	if o.Dir == "" {
		return nil, errors.New("natsd: no directory given")
	}
	log := newLogger(o.Log)
	srv, err := server.NewServer(&server.Options{
		ServerName:         "sluice",
		DontListen:         true,
		NoSigs:             true,
		JetStream:          true,
		StoreDir:           o.Dir,
		SyncAlways:         o.SyncAlways,
		SyncInterval:       syncInterval,
		JetStreamMaxMemory: unlimited,
		JetStreamMaxStore:  unlimited,
		MaxPayload:         maxPayload,
	})
	if err != nil {
		return nil, fmt.Errorf("natsd: configure the server: %w", err)
	}
	srv.SetLoggerV2(log, false, false, false)

	started := make(chan struct{})
	go func() {
		defer close(started)
		srv.Start()
	}()
	s := &Server{srv: srv}
	select {
	case <-started:
	case <-ctx.Done():
		srv.Shutdown()
		<-started
		s.Close()
		return nil, fmt.Errorf("natsd: start: %w", ctx.Err())
	}
	if err := s.ready(ctx, log); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *Server) ready(ctx context.Context, log *logger) error {
	for !s.srv.ReadyForConnections(50 * time.Millisecond) {
		if err := log.fatal(); err != nil {
			return fmt.Errorf("natsd: start: %w", err)
		}
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("natsd: start: %w", err)
		}
	}
	if err := log.fatal(); err != nil {
		return fmt.Errorf("natsd: start: %w", err)
	}
	if !s.srv.JetStreamEnabled() {
		return errors.New("natsd: JetStream did not start")
	}
	return nil
}

// Connect makes an in-process connection. It lives until it or the server is
// closed and does not reconnect: there is no wire that could break.
func (s *Server) Connect() (*nats.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errors.New("natsd: the server is closed")
	}
	nc, err := nats.Connect("",
		nats.InProcessServer(s.srv),
		nats.NoReconnect(),
		nats.Name("sluice"),
	)
	if err != nil {
		return nil, fmt.Errorf("natsd: connect: %w", err)
	}
	s.conns = append(s.conns, nc)
	return nc, nil
}

// Close closes all connections that Connect made, stops the server and waits
// until its files are closed. It may be called more than once.
func (s *Server) Close() {
	s.mu.Lock()
	conns := s.conns
	s.conns, s.closed = nil, true
	s.mu.Unlock()
	for _, nc := range conns {
		nc.Close()
	}
	s.srv.Shutdown()
	s.srv.WaitForShutdown()
}
