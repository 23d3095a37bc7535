package awsiottest

import (
	"net"
	"os"
	"sync"
	"time"
)

// wire is a client's TCP connection, with the faults of the network that a
// test asks for. TLS is above it.
type wire struct {
	net.Conn
	faults *wireFaults

	mu      sync.Mutex
	writeBy time.Time
	closed  chan struct{}
	once    sync.Once
}

// wireFaults are the faults of all wires.
type wireFaults struct {
	mu      sync.Mutex
	stalled chan struct{} // closed when the stall ends; nil for none
	delay   time.Duration
	over    bool // no more faults: the server closes
	held    int  // wires that a stall holds something of
}

func newWire(c net.Conn, f *wireFaults) *wire {
	return &wire{Conn: c, faults: f, closed: make(chan struct{})}
}

// Read holds what came back while the wire is stalled or slow.
func (w *wire) Read(p []byte) (int, error) {
	n, err := w.Conn.Read(p)
	if n > 0 {
		if held := w.hold(time.Time{}); held != nil {
			return 0, held
		}
	}
	return n, err
}

func (w *wire) Write(p []byte) (int, error) {
	w.mu.Lock()
	by := w.writeBy
	w.mu.Unlock()
	if err := w.hold(by); err != nil {
		return 0, err
	}
	return w.Conn.Write(p)
}

// hold waits as long as the faults want it, at most until a time.
func (w *wire) hold(by time.Time) error {
	w.faults.mu.Lock()
	stalled, delay := w.faults.stalled, w.faults.delay
	w.faults.mu.Unlock()
	if stalled == nil && delay == 0 {
		return nil
	}
	var late <-chan time.Time
	if !by.IsZero() {
		t := time.NewTimer(time.Until(by))
		defer t.Stop()
		late = t.C
	}
	if stalled != nil {
		w.faults.hold(1)
		defer w.faults.hold(-1)
		select {
		case <-stalled:
		case <-late:
			return os.ErrDeadlineExceeded
		case <-w.closed:
			return net.ErrClosed
		}
	}
	if delay == 0 {
		return nil
	}
	t := time.NewTimer(delay)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-w.closed:
		return net.ErrClosed
	}
}

// SetDeadline, SetReadDeadline and SetWriteDeadline note how long a write may
// be held.
func (w *wire) SetDeadline(t time.Time) error {
	w.noteDeadline(t)
	return w.Conn.SetDeadline(t)
}

// SetWriteDeadline is described at SetDeadline.
func (w *wire) SetWriteDeadline(t time.Time) error {
	w.noteDeadline(t)
	return w.Conn.SetWriteDeadline(t)
}

func (w *wire) noteDeadline(t time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.writeBy = t
}

// Close closes the wire, and ends what holds it.
func (w *wire) Close() error {
	w.once.Do(func() { close(w.closed) })
	return w.Conn.Close()
}

// cut ends the connection as a network does that fails: the client sees a
// reset, and nothing was said before.
func (w *wire) cut() {
	if tcp, ok := w.Conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = w.Close()
}

func (f *wireFaults) stall(on bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case on && f.stalled == nil && !f.over:
		f.stalled = make(chan struct{})
	case !on && f.stalled != nil:
		close(f.stalled)
		f.stalled = nil
	}
}

func (f *wireFaults) hold(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.held += n
}

func (f *wireFaults) isStalled() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.stalled != nil
}

func (f *wireFaults) slow(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.delay = d
}

// end ends all faults for good.
func (f *wireFaults) end() {
	f.stall(false)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.over, f.delay = true, 0
	if f.stalled != nil {
		close(f.stalled)
		f.stalled = nil
	}
}
