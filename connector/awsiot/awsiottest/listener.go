package awsiottest

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/mochi-mqtt/server/v2/listeners"
)

const (
	listenerID = "mqtt"
	// patience is how long a client has for its TLS handshake, and then for
	// its CONNECT.
	patience = 10 * time.Second
)

// listener accepts connections for the broker with mutual TLS. Unlike
// mochi's own it bounds the handshake, and its Close leaves no connection
// and no goroutine behind, not even of a client that has said nothing yet.
type listener struct {
	net  net.Listener
	tls  *tls.Config
	log  *slog.Logger
	gone func(*peer) // told of each peer that is done with

	goodbye func() // tells the clients that are connected

	mu     sync.Mutex
	peers  map[*peer]bool
	closed bool
	wait   sync.WaitGroup
}

var _ listeners.Listener = (*listener)(nil)

// peer is a connection of a client with an accepted certificate.
type peer struct {
	*tls.Conn
	certificateID string
	// done is closed when the broker has finished with the client.
	done chan struct{}
}

func (l *listener) Init(*slog.Logger) error { return nil }
func (l *listener) ID() string              { return listenerID }
func (l *listener) Address() string         { return l.net.Addr().String() }
func (l *listener) Protocol() string        { return "tcp" }

// Serve accepts connections until the listener is closed.
func (l *listener) Serve(establish listeners.EstablishFn) {
	for {
		conn, err := l.net.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			l.log.Warn("accepting a connection failed", "error", err)
			time.Sleep(10 * time.Millisecond) // out of file descriptors, likely
			continue
		}
		p := &peer{Conn: tls.Server(conn, l.tls), done: make(chan struct{})}
		if !l.add(p) {
			_ = conn.Close()
			return
		}
		go l.serve(p, establish)
	}
}

func (l *listener) add(p *peer) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	l.peers[p] = true
	l.wait.Add(1)
	return true
}

func (l *listener) serve(p *peer, establish listeners.EstablishFn) {
	defer l.wait.Done()
	defer func() {
		_ = p.Close()
		l.mu.Lock()
		delete(l.peers, p)
		l.mu.Unlock()
		close(p.done)
		l.gone(p)
	}()
	_ = p.SetDeadline(time.Now().Add(patience))
	if err := p.HandshakeContext(context.Background()); err != nil {
		l.log.Info("TLS handshake refused", "remote", p.RemoteAddr().String(), "error", err)
		return
	}
	p.certificateID = fingerprint(p.ConnectionState().PeerCertificates[0].Raw)
	_ = p.SetDeadline(time.Now().Add(patience))
	if err := establish(listenerID, p); err != nil {
		l.log.Debug("connection ended", "remote", p.RemoteAddr().String(), "reason", err)
	}
}

// Close stops accepting, has the broker say goodbye to its clients, closes
// every connection and waits until all are done with. mochi's own goodbye is
// left out: Clients.GetByListener of v2.7.9 takes a read lock twice, and hangs
// for ever where a client goes in between.
func (l *listener) Close(listeners.CloseFn) {
	l.mu.Lock()
	l.closed = true
	for p := range l.peers {
		_ = p.SetWriteDeadline(time.Now().Add(time.Second)) // no client holds up the goodbyes
	}
	l.mu.Unlock()
	_ = l.net.Close()
	l.goodbye()
	l.mu.Lock()
	for p := range l.peers {
		_ = p.NetConn().Close()
	}
	l.mu.Unlock()
	l.wait.Wait()
}
