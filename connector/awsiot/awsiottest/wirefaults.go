package awsiottest

import (
	"net"
	"sync/atomic"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// wireFaults are faults of the broker's links that nothing but the broker can
// make: from outside, TLS hides where a packet begins.
type wireFaults struct {
	cutPubacks atomic.Int64
}

// CutInPuback makes the broker break the connection in the middle of each of
// the next n PUBACKs: it has taken the publish, and its client has a part of
// the answer.
func (s *Server) CutInPuback(n int) { s.broker.wire.cutPubacks.Store(int64(n)) }

// cutsPuback breaks the connection in the middle of a PUBACK, when it is to.
func (w *wireFaults) cutsPuback(cl *mqtt.Client, id uint16) bool {
	if !takeOne(&w.cutPubacks) {
		return false
	}
	_ = writeRaw(cl, []byte{packets.Puback << 4, 2, byte(id >> 8)}) // the last byte is missing
	sever(cl)
	return true
}

// takeOne takes one of n, where there is one.
func takeOne(n *atomic.Int64) bool {
	for {
		left := n.Load()
		if left <= 0 {
			return false
		}
		if n.CompareAndSwap(left, left-1) {
			return true
		}
	}
}

// sever resets a client's connection without a word.
func sever(cl *mqtt.Client) {
	conn := cl.Net.Conn.(*peer).NetConn()
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // what waits to be sent is lost
	}
	_ = conn.Close()
}

// Restart breaks the connections of the client ids that match picks, without
// a word, as a broker does that goes down, and returns when they are gone.
// Without keep their sessions are lost too, with all that waits in them.
func (s *Server) Restart(keep bool, match func(clientID string) bool) {
	b := s.broker
	for _, cl := range b.connected() {
		if !match(cl.ID) {
			continue
		}
		sever(cl)
		p := cl.Net.Conn.(*peer)
		<-p.done
		b.gone(p)
	}
	if keep {
		return
	}
	for _, id := range b.offline(match) {
		if cl, ok := b.mqtt.Clients.Get(id); ok {
			(&hook{broker: b}).OnClientExpired(cl)
			b.mqtt.Clients.Delete(id)
		}
	}
}

// offline are the client ids that have a session and no connection.
func (b *broker) offline(match func(string) bool) (ids []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for id := range b.sessions {
		if b.live[id] == nil && match(id) {
			ids = append(ids, id)
		}
	}
	return ids
}
