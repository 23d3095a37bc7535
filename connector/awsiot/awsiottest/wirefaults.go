package awsiottest

import (
	"net"
	"sync"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// wireFaults are faults of the broker's links that nothing but the broker can
// make: from outside, TLS hides where a packet begins.
type wireFaults struct {
	mu        sync.Mutex
	drop, cut int                        // of the next PUBACKs
	match     func(clientID string) bool // for whom
}

// FailPubacks makes the broker take publishes of the client ids that match
// picks, drop the next so many of their PUBACKs, and then break the connection
// in the middle of each of the next so many. Zeros end it.
func (s *Server) FailPubacks(drop, cut int, match func(clientID string) bool) {
	w := &s.broker.wire
	w.mu.Lock()
	defer w.mu.Unlock()
	w.drop, w.cut, w.match = drop, cut, match
}

// fails drops a PUBACK, or breaks the connection in the middle of it, when it
// is to.
func (w *wireFaults) fails(cl *mqtt.Client, id uint16) bool {
	drops, cuts := w.take(cl.ID)
	if cuts {
		_ = writeRaw(cl, []byte{packets.Puback << 4, 2, byte(id >> 8)}) // the last byte is missing
		sever(cl)
	}
	return drops || cuts
}

func (w *wireFaults) take(clientID string) (drops, cuts bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.drop+w.cut == 0 || !w.match(clientID):
	case w.drop > 0:
		w.drop--
		drops = true
	default:
		w.cut--
		cuts = true
	}
	return drops, cuts
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
