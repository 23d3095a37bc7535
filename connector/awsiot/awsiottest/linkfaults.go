package awsiottest

import (
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// The faults of the broker and of the network, on request. Those of the HTTP
// APIs are in faults.go. All are off when a server starts.
//
//	s.RefuseConnects(0x87)                 CONNACK with a reason code, until 0
//	s.RefusePersistent(true)               CONNACK 0x87 for persistent sessions
//	s.DropPubacks(n)                       the next n publishes get no PUBACK
//	s.DropPubacksFraction(0.05, seed)      one in twenty, the same ones for a seed
//	s.DelayPubacks(d)                      PUBACKs come d later
//	s.CutInPubacks(n), s.CutInPublishes(n) the next n are cut in the middle
//	s.FailOnly(match)                      which clients the faults of packets hit
//	s.Cut(match), s.CutAll()               connections are reset, now
//	s.Disconnect(code, match), s.DisconnectAll(code)  with a DISCONNECT
//	s.Stall(true)                          nothing goes in or out, until false; s.Held() says how much waits
//	s.Slow(d)                              what goes in or out takes d longer
//	s.CloseListeners(), s.OpenListeners()  new connections are refused
//	s.RestartBroker(keepSessions)          all connections are lost at once
//	s.LoseSessions(match)                  connections and sessions are lost, of some

var errCut = errors.New("cut as the test asked for")

// linkFaults are those that a test has asked for.
type linkFaults struct {
	dropPubacks      atomic.Int64
	delayPubacks     atomic.Int64 // a duration
	cutPubacks       atomic.Int64
	cutPublishes     atomic.Int64
	refuse           atomic.Uint32 // a reason code, 0 for none
	refusePersistent atomic.Bool

	mu       sync.Mutex
	fraction float64
	random   *rand.Rand
	only     func(clientID string) bool // nil: all
}

// takeOne takes one of a number of faults, if any is left.
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

// hits reports whether the faults of packets are for a client.
func (f *linkFaults) hits(clientID string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.only == nil || f.only(clientID)
}

func (f *linkFaults) dropsPuback(clientID string) bool {
	if !f.hits(clientID) {
		return false
	}
	if takeOne(&f.dropPubacks) {
		return true
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.fraction > 0 && f.random.Float64() < f.fraction
}

func (f *linkFaults) cutsPuback(clientID string) bool {
	return f.hits(clientID) && takeOne(&f.cutPubacks)
}

func (f *linkFaults) cutsPublish(clientID string) bool {
	return f.hits(clientID) && takeOne(&f.cutPublishes)
}

// FailOnly restricts the faults of packets, those of DropPubacks,
// DropPubacksFraction, CutInPubacks and CutInPublishes, to the client ids that
// match picks; with nil they hit all.
func (s *Server) FailOnly(match func(clientID string) bool) {
	f := &s.broker.linkFaults
	f.mu.Lock()
	defer f.mu.Unlock()
	f.only = match
}

// DropPubacks makes the broker take the next n publishes of QoS 1 without
// acknowledging them.
func (s *Server) DropPubacks(n int) { s.broker.dropPubacks.Store(int64(n)) }

// DropPubacksFraction makes the broker take that part of all publishes of QoS 1
// without acknowledging them; the same ones for the same seed and order. 0 ends
// it.
func (s *Server) DropPubacksFraction(fraction float64, seed uint64) {
	f := &s.broker.linkFaults
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fraction, f.random = fraction, rand.New(rand.NewPCG(seed, seed))
}

// DelayPubacks makes the broker acknowledge each publish so much later, in
// order. 0 ends it.
func (s *Server) DelayPubacks(d time.Duration) { s.broker.delayPubacks.Store(int64(d)) }

// CutInPubacks resets the connection in the middle of the next n PUBACKs: the
// publish was taken, and the client cannot know.
func (s *Server) CutInPubacks(n int) { s.broker.cutPubacks.Store(int64(n)) }

// CutInPublishes resets the connection in the middle of the next n messages to
// subscribers.
func (s *Server) CutInPublishes(n int) { s.broker.cutPublishes.Store(int64(n)) }

// RefuseConnects makes the broker answer every CONNECT with a reason code of
// MQTT 5, such as 0x87, not authorized (MQTT 3.1.1 gets the return code that
// is nearest). 0 accepts them again.
func (s *Server) RefuseConnects(code byte) { s.broker.refuse.Store(uint32(code)) }

// RefusePersistent makes the broker refuse persistent sessions with 0x87, not
// authorized, as AWS does where the policy has a condition on
// iot:ConnectAttributes that lacks PersistentConnect (see also
// [Server.SetPolicies]).
func (s *Server) RefusePersistent(refuse bool) { s.broker.refusePersistent.Store(refuse) }

// DisconnectAll ends every connection with a reason code of MQTT 5, such as
// 0x98, administrative action, and returns how many there were.
func (s *Server) DisconnectAll(code byte) int { return s.Disconnect(code, anyClient) }

// Disconnect ends the connections of those client ids that match picks, as
// DisconnectAll does.
func (s *Server) Disconnect(code byte, match func(clientID string) bool) int {
	return s.forClients(match, func(cl *mqtt.Client) {
		s.broker.disconnect(cl, packets.Code{Code: code, Reason: "asked for by the test"})
	})
}

// CutAll resets every connection, without a word.
func (s *Server) CutAll() int { return s.Cut(anyClient) }

// Cut resets the connections of those client ids that match picks, and returns
// how many there were.
func (s *Server) Cut(match func(clientID string) bool) int {
	return s.forClients(match, func(cl *mqtt.Client) { cl.Net.Conn.(*peer).raw.cut() })
}

func anyClient(string) bool { return true }

func (s *Server) forClients(match func(string) bool, do func(*mqtt.Client)) int {
	n := 0
	for _, cl := range s.broker.connected() {
		if match(cl.ID) {
			do(cl)
			n++
		}
	}
	return n
}

// Stall makes every connection a black hole: nothing goes in or out, new
// handshakes included, until Stall(false). What was under way comes then.
func (s *Server) Stall(on bool) { s.broker.wires.stall(on) }

// Held is how many reads and writes a stall holds now: at least one of each
// client that has sent something meanwhile.
func (s *Server) Held() int {
	s.broker.wires.mu.Lock()
	defer s.broker.wires.mu.Unlock()
	return s.broker.wires.held
}

// Slow makes what goes in or out take so much longer. 0 ends it.
func (s *Server) Slow(d time.Duration) { s.broker.wires.slow(d) }

// CloseListeners refuses new connections; those that are open live on.
func (s *Server) CloseListeners() { s.broker.listener.shut() }

// OpenListeners accepts connections again, at the same addresses.
func (s *Server) OpenListeners() error { return s.broker.listener.reopen() }

// RestartBroker loses every connection at once, and without keepSessions every
// session and what waits in it. New connections are accepted when it returns.
func (s *Server) RestartBroker(keepSessions bool) error {
	b := s.broker
	b.listener.shut()
	for _, p := range b.listener.all() {
		p.raw.cut()
		<-p.done
	}
	if !keepSessions {
		b.forgetSessions(anyClient)
	}
	return b.listener.reopen()
}

// LoseSessions resets the connections of the client ids that match picks, and
// forgets their sessions with all that waits in them.
func (s *Server) LoseSessions(match func(clientID string) bool) {
	b := s.broker
	for _, cl := range b.connected() {
		if match(cl.ID) {
			p := cl.Net.Conn.(*peer)
			p.raw.cut()
			<-p.done
		}
	}
	b.forgetSessions(match)
}
