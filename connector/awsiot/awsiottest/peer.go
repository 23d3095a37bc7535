package awsiottest

import (
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
)

// peer is the connection of a client whose identity is known: over TLS, or
// over a WebSocket.
type peer struct {
	net.Conn  // nil until the TLS handshake is done
	raw       *wire
	principal principal
	client    atomic.Pointer[mqtt.Client] // from its CONNECT on
	stats     atomic.Pointer[clientStats] // from its CONNECT on
	idle      func(*mqtt.Client)          // told when the client was silent for too long
	slowed    func()                      // told when the client had to wait
	in, out   *throttle

	// done is closed when the broker has finished with the client.
	done    chan struct{}
	closing chan struct{}
	once    sync.Once
	// released is closed when the HTTP server has finished with the
	// connection, where it had it.
	released chan struct{}
}

func newPeer(raw *wire, in, out *throttle) *peer {
	return &peer{raw: raw, in: in, out: out, done: make(chan struct{}), closing: make(chan struct{}), released: make(chan struct{})}
}

// Read delays what comes faster than AWS takes it, and tells the broker of a
// client that was silent for longer than its keep-alive allows.
func (p *peer) Read(b []byte) (int, error) {
	n, err := p.Conn.Read(b)
	if n > 0 {
		p.pay(p.in, n)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		if cl := p.client.Load(); cl != nil {
			p.idle(cl)
		}
	}
	return n, err
}

func (p *peer) Write(b []byte) (int, error) {
	p.pay(p.out, len(b))
	return p.Conn.Write(b)
}

func (p *peer) pay(t *throttle, n int) {
	wait := t.pay(n, time.Now())
	if wait <= 0 {
		return
	}
	p.slowed()
	if s := p.stats.Load(); s != nil {
		s.delay(wait)
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-p.closing:
	}
}

// Close closes the connection; over a stalled wire without a goodbye of TLS.
func (p *peer) Close() error {
	p.once.Do(func() { close(p.closing) })
	if p.Conn == nil || p.raw.faults.isStalled() {
		return p.raw.Close()
	}
	return p.Conn.Close()
}

// throttle is a limit of bytes a second with one second's worth at once.
// What comes faster is delayed, not lost. Source: AWS General Reference,
// "Throughput per second per connection". How much may come at once is
// inferred.
type throttle struct {
	rate float64 // 0 or less: no limit

	mu     sync.Mutex
	tokens float64
	last   time.Time
}

func newThrottle(rate int) *throttle {
	return &throttle{rate: float64(rate), tokens: float64(rate)}
}

// pay takes n bytes and returns how long to wait for them.
func (t *throttle) pay(n int, now time.Time) time.Duration {
	if t.rate <= 0 {
		return 0
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if passed := now.Sub(t.last); !t.last.IsZero() && passed > 0 {
		t.tokens = min(t.rate, t.tokens+passed.Seconds()*t.rate)
	}
	t.last = now
	t.tokens -= float64(n)
	return max(0, time.Duration(-t.tokens/t.rate*float64(time.Second)))
}
