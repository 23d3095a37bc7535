package awsiottest

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/listeners"
)

const (
	listenerID = "mqtt"
	// patience is how long a client has for its TLS handshake, and then for
	// its CONNECT.
	patience = 10 * time.Second
)

// listener accepts connections for the broker at its doors. Unlike mochi's own
// it bounds the handshake, and its Close leaves no connection and no goroutine
// behind, not even of a client that has said nothing yet.
type listener struct {
	log     *slog.Logger
	faults  *wireFaults
	in, out int                // bytes a second of one connection
	idle    func(*mqtt.Client) // told of each client that was silent for too long
	gone    func(*peer)        // told of each peer that is done with
	goodbye func()             // tells the clients that are connected
	slowed  func()             // told when a client had to wait
	doors   []*door
	done    chan struct{}

	establish func(listener string, c net.Conn) error // of mochi

	mu     sync.Mutex
	peers  map[*peer]bool
	closed bool
	wait   sync.WaitGroup
}

var _ listeners.Listener = (*listener)(nil)

// door is a port that clients come in by.
type door struct {
	addr string // to listen at again
	tls  *tls.Config
	// enter takes a connection whose handshake is done, and returns when it is
	// closed.
	enter func(*peer, *tls.Conn)

	mu  sync.Mutex
	net net.Listener // nil while it is shut
}

func (d *door) listen() error {
	n, err := net.Listen("tcp", d.addr)
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.net, d.addr = n, n.Addr().String()
	return nil
}

func (d *door) shut() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.net != nil {
		_ = d.net.Close()
		d.net = nil
	}
}

func (l *listener) Init(*slog.Logger) error { return nil }
func (l *listener) ID() string              { return listenerID }
func (l *listener) Address() string         { return l.doors[0].addr }
func (l *listener) Protocol() string        { return "tcp" }

// Serve accepts connections until the listener is closed.
func (l *listener) Serve(listeners.EstablishFn) {
	for _, d := range l.doors {
		l.open(d)
	}
	<-l.done
}

// open begins to accept at a door that listens.
func (l *listener) open(d *door) {
	d.mu.Lock()
	n := d.net
	d.mu.Unlock()
	if n == nil || !l.hold() {
		return
	}
	go func() {
		defer l.wait.Done()
		l.accept(d, n)
	}()
}

// hold makes Close wait for one more goroutine; false when it is closed.
func (l *listener) hold() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	l.wait.Add(1)
	return true
}

func (l *listener) accept(d *door, n net.Listener) {
	for {
		conn, err := n.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			l.log.Warn("accepting a connection failed", "error", err)
			time.Sleep(10 * time.Millisecond) // out of file descriptors, likely
			continue
		}
		p := newPeer(newWire(conn, l.faults), newThrottle(l.in), newThrottle(l.out))
		p.idle, p.slowed = l.idle, l.slowed
		if !l.add(p) {
			_ = conn.Close()
			return
		}
		go l.serve(p, d)
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

func (l *listener) serve(p *peer, d *door) {
	defer l.wait.Done()
	defer func() {
		_ = p.raw.Close()
		l.gone(p) // before anybody can take it for done with
		l.mu.Lock()
		delete(l.peers, p)
		l.mu.Unlock()
		close(p.done)
	}()
	_ = p.raw.SetDeadline(time.Now().Add(patience))
	conn := tls.Server(p.raw, d.tls)
	if err := conn.HandshakeContext(context.Background()); err != nil {
		l.log.Info("TLS handshake refused", "remote", p.raw.RemoteAddr().String(), "error", err)
		return
	}
	_ = p.raw.SetDeadline(time.Now().Add(patience))
	d.enter(p, conn)
}

// run hands a connection to the broker and returns when it is closed.
func (l *listener) run(p *peer, conn net.Conn) {
	p.Conn = conn
	if err := l.establish(listenerID, p); err != nil {
		l.log.Debug("connection ended", "remote", conn.RemoteAddr().String(), "reason", err)
	}
	_ = p.Close()
}

// shut closes the doors, so that new connections are refused; those that are
// open live on.
func (l *listener) shut() {
	for _, d := range l.doors {
		d.shut()
	}
}

// reopen opens the doors again, at their addresses.
func (l *listener) reopen() error {
	for _, d := range l.doors {
		d.mu.Lock()
		open := d.net != nil
		d.mu.Unlock()
		if open {
			continue
		}
		if err := d.listen(); err != nil {
			return fmt.Errorf("listen again: %w", err)
		}
		l.open(d)
	}
	return nil
}

// all returns the peers of now.
func (l *listener) all() []*peer {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []*peer
	for p := range l.peers {
		all = append(all, p)
	}
	return all
}

// Close stops accepting, has the broker say goodbye to its clients, closes
// every connection and waits until all are done with. mochi's own goodbye is
// left out: Clients.GetByListener of v2.7.9 takes a read lock twice, and hangs
// for ever where a client goes in between.
func (l *listener) Close(listeners.CloseFn) {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.faults.end()
	l.shut()
	for _, p := range l.all() {
		_ = p.raw.SetWriteDeadline(time.Now().Add(time.Second)) // no client holds up the goodbyes
	}
	l.goodbye()
	for _, p := range l.all() {
		_ = p.raw.Close()
	}
	l.wait.Wait()
	close(l.done)
}
