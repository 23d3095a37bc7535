// Package natsd runs a NATS server with JetStream inside this process. It
// listens on no port: connections are made in process.
package natsd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
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

	// reconnectWait is how long a connection waits between its tries to reach
	// a server that restarts.
	reconnectWait = 20 * time.Millisecond

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
	o   Options
	log *logger

	restarting sync.Mutex // held by Restart and Close

	mu     sync.Mutex
	srv    *server.Server // nil while it restarts
	conns  []*nats.Conn
	damage []Damage
	closed bool
}

var _ nats.InProcessConnProvider = (*Server)(nil)

// Start verifies the files of the streams, mends what is damaged (see
// [Server.Damage]), starts a server and returns once it takes connections,
// which is after JetStream has recovered its streams. ctx bounds the start, not
// the server's life. The caller closes it.
func Start(ctx context.Context, o Options) (*Server, error) {
	if o.Dir == "" {
		return nil, errors.New("natsd: no directory given")
	}
	s := &Server{o: o, log: newLogger(o.Log)}
	if err := s.start(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

// start checks the files and starts a server on them.
func (s *Server) start(ctx context.Context) error {
	found, err := check(s.o.Dir)
	for _, d := range found {
		s.log.Errorf("%s", d)
	}
	s.mu.Lock()
	s.damage = append(s.damage, found...)
	s.mu.Unlock()
	if err != nil {
		return err
	}
	s.log.forget()
	srv, err := server.NewServer(&server.Options{
		ServerName:         "sluice",
		DontListen:         true,
		NoSigs:             true,
		JetStream:          true,
		StoreDir:           s.o.Dir,
		SyncAlways:         s.o.SyncAlways,
		SyncInterval:       syncInterval,
		JetStreamMaxMemory: unlimited,
		JetStreamMaxStore:  unlimited,
		MaxPayload:         maxPayload,
	})
	if err != nil {
		return fmt.Errorf("natsd: configure the server: %w", err)
	}
	srv.SetLoggerV2(s.log, false, false, false)

	started := make(chan struct{})
	go func() {
		defer close(started)
		srv.Start()
	}()
	select {
	case <-started:
		err = ready(ctx, srv, s.log)
	case <-ctx.Done():
		srv.Shutdown()
		<-started
		err = fmt.Errorf("natsd: start: %w", ctx.Err())
	}
	if err != nil {
		srv.Shutdown()
		srv.WaitForShutdown()
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.srv = srv
	return nil
}

func ready(ctx context.Context, srv *server.Server, log *logger) error {
	for !srv.ReadyForConnections(50 * time.Millisecond) {
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
	if !srv.JetStreamEnabled() {
		return errors.New("natsd: JetStream did not start")
	}
	return nil
}

// Damage is what was damaged when the server started, and when it was started
// again.
func (s *Server) Damage() []Damage {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.damage)
}

// Restart stops the server and starts it again on the same files: a stream
// that met a write error, as on a full disk, refuses all writes until then.
// The connections that were handed out live on; what they were asked for
// meanwhile is answered late or not at all. After an error there is no server,
// and Restart may be tried again.
func (s *Server) Restart(ctx context.Context) error {
	s.restarting.Lock()
	defer s.restarting.Unlock()
	s.mu.Lock()
	srv, closed := s.srv, s.closed
	s.srv = nil
	s.mu.Unlock()
	if closed {
		return errClosed
	}
	if srv != nil {
		srv.Shutdown()
		srv.WaitForShutdown()
	}
	return s.start(ctx)
}

var errClosed = errors.New("natsd: the server is closed")

// InProcessConn makes the wire of a connection, for nats.go. It fails while
// there is no server.
func (s *Server) InProcessConn() (net.Conn, error) {
	s.mu.Lock()
	srv := s.srv
	s.mu.Unlock()
	if srv == nil {
		return nil, errors.New("natsd: the server is not running")
	}
	return srv.InProcessConn()
}

// Connect makes an in-process connection. It lives until it or the server is
// closed, also over a Restart.
func (s *Server) Connect() (*nats.Conn, error) {
	s.mu.Lock()
	closed := s.closed
	s.mu.Unlock()
	if closed {
		return nil, errClosed
	}
	nc, err := nats.Connect("",
		nats.InProcessServer(s),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(reconnectWait),
		nats.ReconnectJitter(0, 0),
		nats.Name("sluice"),
	)
	if err != nil {
		return nil, fmt.Errorf("natsd: connect: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		nc.Close()
		return nil, errClosed
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
	s.restarting.Lock()
	defer s.restarting.Unlock()
	s.mu.Lock()
	srv := s.srv
	s.mu.Unlock()
	if srv != nil {
		srv.Shutdown()
		srv.WaitForShutdown()
	}
}
