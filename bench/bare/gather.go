package bare

import "net"

// gather is a connection that paho writes a packet to in parts, between Lock
// and Unlock, and that sends it in one write. paho alone makes a TLS record and
// a system call of each part, which costs the yardstick half as much again: a
// yardstick must not be slow for a reason that is so easily mended.
type gather struct {
	net.Conn
	turn chan struct{} // of one
	out  []byte
	err  error
}

func newGather(c net.Conn) *gather { return &gather{Conn: c, turn: make(chan struct{}, 1)} }

// Lock begins a packet.
func (g *gather) Lock() { g.turn <- struct{}{} }

// Write adds a part.
func (g *gather) Write(b []byte) (int, error) {
	if g.err != nil {
		return 0, g.err
	}
	g.out = append(g.out, b...)
	return len(b), nil
}

// Unlock sends the packet.
func (g *gather) Unlock() {
	if g.err == nil && len(g.out) > 0 {
		if _, g.err = g.Conn.Write(g.out); g.err != nil {
			_ = g.Conn.Close() // paho learns of it by its reader
		}
	}
	g.out = g.out[:0]
	<-g.turn
}
