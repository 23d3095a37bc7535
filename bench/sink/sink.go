// Package sink is where a measurement ends: an MQTT server over mutual TLS
// that writes each report into the ledger and acknowledges it.
//
// It is a measuring instrument and no broker: it knows CONNECT, PUBLISH with
// QoS 0 and 1, SUBSCRIBE, UNSUBSCRIBE, PINGREQ and DISCONNECT of MQTT 3.1.1
// and 5, keeps no
// session and forwards nothing. That makes it several times cheaper than a
// broker, which matters since it shares its processors with what it measures.
// What is right about MQTT is tested elsewhere, against real brokers.
package sink

import (
	"crypto/tls"
	"errors"
	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"sluice/bench/ledger"
)

// Options say what a sink does.
type Options struct {
	Ledger *ledger.Ledger
	// Quota, if above zero, is how many publishes a session may make in any
	// second; those over it are counted, and taken all the same.
	Quota int
}

// Sink is the server. It is stopped and started again to play an outage.
type Sink struct {
	o      Options
	tls    *tls.Config
	papers Papers

	publishes, over, takeovers atomic.Int64
	stalled                    atomic.Bool

	mu       sync.Mutex
	address  string
	listener net.Listener // nil while stopped
	conns    map[net.Conn]struct{}
	clients  map[string]*client // by client id
	all      sync.WaitGroup
}

// New makes a sink and starts it on a free port of the loopback.
func New(o Options) (*Sink, error) {
	config, papers, err := newPapers()
	if err != nil {
		return nil, err
	}
	s := &Sink{o: o, tls: config, papers: papers, address: "127.0.0.1:0", conns: map[net.Conn]struct{}{}, clients: map[string]*client{}}
	return s, s.Start()
}

// Addr is the address of the sink, the same after a stop and a start.
func (s *Sink) Addr() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.address
}

// Papers are what a client needs.
func (s *Sink) Papers() Papers { return s.papers }

// Sessions is how many clients are connected.
func (s *Sink) Sessions() int { return len(s.ClientIDs()) }

// ClientIDs are the ids of the clients that are connected, sorted.
func (s *Sink) ClientIDs() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.clients))
}

// Takeovers is how many clients threw another with their id out.
func (s *Sink) Takeovers() int { return int(s.takeovers.Load()) }

// enter notes a client, which throws out another with its id, as MQTT has it.
func (s *Sink) enter(c *client) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.clients[c.id]; old != nil {
		s.takeovers.Add(1)
		_ = old.wire.Close()
	}
	s.clients[c.id] = c
}

func (s *Sink) leave(c *client) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.clients[c.id] == c {
		delete(s.clients, c.id)
	}
}

// Publishes is how many publishes came in, copies among them, and how many
// were over the quota of their session.
func (s *Sink) Publishes() (all, over int) { return int(s.publishes.Load()), int(s.over.Load()) }

// Stall plays a cloud that takes what is sent and answers nothing more; with
// false it answers again, but for what came meanwhile.
func (s *Sink) Stall(on bool) { s.stalled.Store(on) }

// Start listens, unless it does already.
func (s *Sink) Start() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listener != nil {
		return nil
	}
	l, err := net.Listen("tcp", s.address)
	if err != nil {
		return err
	}
	s.listener, s.address = l, l.Addr().String()
	s.all.Go(func() { s.accept(l) })
	return nil
}

// Stop plays an outage: it cuts all connections, without a goodbye, and
// refuses new ones until Start. It waits until all has ended.
func (s *Sink) Stop() {
	s.mu.Lock()
	if s.listener != nil {
		_ = s.listener.Close()
		s.listener = nil
	}
	for c := range s.conns {
		_ = c.Close()
	}
	s.mu.Unlock()
	s.all.Wait()
}

func (s *Sink) accept(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			time.Sleep(10 * time.Millisecond) // no files left: they come back
			continue
		}
		s.mu.Lock()
		if s.listener != l {
			s.mu.Unlock()
			_ = conn.Close()
			return
		}
		s.conns[conn] = struct{}{}
		s.mu.Unlock()
		s.all.Go(func() {
			s.serve(conn)
			_ = conn.Close()
			s.mu.Lock()
			delete(s.conns, conn)
			s.mu.Unlock()
		})
	}
}

// serve serves a client until it leaves. What a client does wrong ends its
// connection: the bridge then shows in the figures what is wrong.
func (s *Sink) serve(conn net.Conn) {
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	secure := tls.Server(conn, s.tls)
	if secure.Handshake() != nil {
		return
	}
	_ = conn.SetDeadline(time.Time{})
	c := &client{sink: s, conn: secure, wire: conn}
	if s.o.Quota > 0 {
		c.recent = make([]time.Time, s.o.Quota)
	}
	c.run()
	s.leave(c)
}
