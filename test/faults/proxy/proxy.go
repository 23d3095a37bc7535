// Package proxy is a wire that fails on request: a TCP proxy between Sluice
// and a cloud.
package proxy

import (
	"errors"
	"net"
	"sync"
	"time"
)

// Direction is one of the two ways through the wire, or both.
type Direction int

// The directions.
const (
	Up   Direction = 1 << iota // from the client to the server
	Down                       // from the server to the client
	Both = Up | Down
)

// Proxy passes connections on to one server. Its faults concern all
// connections that are open, and those that come while they last.
type Proxy struct {
	listener net.Listener
	server   string
	wait     sync.WaitGroup

	mu      sync.Mutex
	changed chan struct{} // closed and replaced when what follows changes
	stalled Direction
	refuse  bool
	delay   time.Duration
	rate    int // bytes a second, each way; 0: no limit
	links   map[*link]bool
	closed  bool
}

// link is one connection through the proxy.
type link struct {
	client, server net.Conn
	// cutAfter is how many more bytes pass in each direction before the link
	// is cut; negative: it is not. Guarded by the proxy's mutex.
	cutUp, cutDown int
}

// New starts a proxy to a server at host:port. Close ends it.
func New(server string) (*Proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &Proxy{listener: l, server: server, links: map[*link]bool{}, changed: make(chan struct{})}
	p.wait.Go(p.accept)
	return p, nil
}

// Addr is host:port of the proxy.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Close cuts all connections and waits until the proxy has ended.
func (p *Proxy) Close() {
	p.set(func() { p.closed, p.stalled = true, 0 })
	_ = p.listener.Close()
	p.Cut()
	p.wait.Wait()
}

// set changes the faults.
func (p *Proxy) set(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
	close(p.changed)
	p.changed = make(chan struct{})
}

// Stall lets nothing through in a direction, as a black hole does; 0 lets all
// through again, what was held back included.
func (p *Proxy) Stall(d Direction) { p.set(func() { p.stalled = d }) }

// Slow delays what passes, and limits how many bytes pass in a second each
// way; zeros end it.
func (p *Proxy) Slow(delay time.Duration, bytesPerSecond int) {
	p.set(func() { p.delay, p.rate = delay, bytesPerSecond })
}

// Refuse cuts all connections, and each new one at once, until it is called
// with false.
func (p *Proxy) Refuse(refuse bool) {
	p.set(func() { p.refuse = refuse })
	if refuse {
		p.Cut()
	}
}

// Cut resets all connections, on both sides.
func (p *Proxy) Cut() {
	for _, l := range p.all() {
		reset(l.client)
		reset(l.server)
	}
}

// HalfOpen ends all connections on the server's side only: the client's stand,
// and nobody is at their other end.
func (p *Proxy) HalfOpen() {
	for _, l := range p.all() {
		reset(l.server)
	}
}

// CutAfter resets each connection that is open once n more bytes have passed
// in a direction: in the middle of a packet, as a rule.
func (p *Proxy) CutAfter(n int, d Direction) {
	for _, l := range p.all() {
		p.mu.Lock()
		if d&Up != 0 {
			l.cutUp = n
		}
		if d&Down != 0 {
			l.cutDown = n
		}
		p.mu.Unlock()
	}
}

func (p *Proxy) all() []*link {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []*link
	for l := range p.links {
		all = append(all, l)
	}
	return all
}

// reset closes a connection so that the other side sees a reset.
func reset(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = c.Close()
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		p.wait.Go(func() { p.serve(client) })
	}
}

func (p *Proxy) serve(client net.Conn) {
	defer reset(client)
	p.mu.Lock()
	no := p.refuse || p.closed
	p.mu.Unlock()
	if no {
		return
	}
	server, err := net.Dial("tcp", p.server)
	if err != nil {
		return
	}
	defer reset(server)
	l := &link{client: client, server: server, cutUp: -1, cutDown: -1}
	p.mu.Lock()
	if no = p.refuse || p.closed; !no {
		p.links[l] = true
	}
	p.mu.Unlock()
	if no {
		return
	}
	defer func() {
		p.mu.Lock()
		delete(p.links, l)
		p.mu.Unlock()
	}()
	done := make(chan struct{})
	go func() {
		defer close(done)
		// What the server ends is not passed on to the client: it notices by
		// itself, or not at all where the end was ours (see HalfOpen).
		if p.copy(l, server, client, Down, &l.cutDown) {
			reset(client)
		}
	}()
	p.copy(l, client, server, Up, &l.cutUp)
	reset(client)
	reset(server)
	<-done
}

// copy passes bytes on until one side ends, and reports whether the other is
// to be told: not when we have closed the reading side ourselves.
func (p *Proxy) copy(l *link, from, to net.Conn, d Direction, cut *int) (tell bool) {
	buf := make([]byte, 16<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			if !p.pass(l, d, n) {
				return true
			}
			part, ends := p.part(cut, n)
			if _, err := to.Write(buf[:part]); err != nil && d == Up {
				// Nobody is at the other end: a black hole takes all.
				if !p.swallow(from) {
					return false
				}
			} else if err != nil {
				return false
			}
			if ends {
				reset(l.client)
				reset(l.server)
				return false
			}
		}
		if err != nil {
			return !errors.Is(err, net.ErrClosed)
		}
	}
}

// swallow reads what a client sends to nobody, until it ends.
func (p *Proxy) swallow(from net.Conn) bool {
	buf := make([]byte, 16<<10)
	for {
		if _, err := from.Read(buf); err != nil {
			return false
		}
	}
}

// pass waits until n bytes may pass; false when the link has ended meanwhile.
func (p *Proxy) pass(l *link, d Direction, n int) bool {
	for {
		p.mu.Lock()
		stalled, changed, delay, rate := p.stalled&d != 0, p.changed, p.delay, p.rate
		alive := p.links[l] && !p.closed
		p.mu.Unlock()
		if !alive {
			return false
		}
		if rate > 0 {
			delay += time.Duration(n) * time.Second / time.Duration(rate)
		}
		if !stalled {
			if delay > 0 {
				t := time.NewTimer(delay)
				defer t.Stop()
				select {
				case <-t.C:
				case <-changed: // a delay ends when the fault does
				}
			}
			return true
		}
		<-changed
	}
}

// part is how many of n bytes pass before the link is to be cut.
func (p *Proxy) part(cut *int, n int) (part int, ends bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if *cut < 0 {
		return n, false
	}
	part = min(n, *cut)
	*cut -= part
	return part, *cut == 0
}
