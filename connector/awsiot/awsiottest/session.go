package awsiottest

import (
	"bytes"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// queueMax is how many messages may wait for one client. What comes on top
// is dropped and counted ([ClientStats].Dropped), never silently.
const queueMax = 100_000

// message is one publish, shared by all who receive it.
type message struct {
	topic      string
	payload    []byte
	properties packets.Properties
	qos        byte
	retain     bool
	origin     string
	expires    time.Time // zero: never
	retainedAt time.Time // set when it is retained
}

// delivery is one message for one client.
type delivery struct {
	*message
	qos    byte
	retain bool
	number uint64 // the order in which the session got them
	id     uint16 // the packet id, while under way
}

// session is what the broker keeps for a client id: its subscriptions and
// what it is to receive. It delivers in order, with at most window messages
// of QoS 1 unacknowledged.
//
// mochi's own delivery is not used: with a Receive Maximum it loses quota at
// each message that had to wait, until nothing is sent any more; it sends what
// waited in any order; and a client's own packet ids overwrite those of
// messages sent to it.
type session struct {
	id    string
	stats *clientStats
	clock func() time.Time

	mu       sync.Mutex
	filters  map[string]bool
	hashes   int         // filters that end with "#"
	retained []*delivery // to be sent after the SUBACK
	will     *message
	client   *mqtt.Client // nil while offline
	outbound *bucket      // of this connection
	inbound  *bucket      // of this connection
	window   int          // of this connection
	waiting  []*delivery  // in order
	inflight map[uint16]*delivery
	number   uint64
	nextID   uint16
	wake     chan struct{} // has room for one: there is something to send
	stop     chan struct{}
	stopped  chan struct{}
}

func newSession(id string, stats *clientStats, clock func() time.Time) *session {
	return &session{
		id: id, stats: stats, clock: clock,
		filters: map[string]bool{}, inflight: map[uint16]*delivery{}, wake: make(chan struct{}, 1),
	}
}

// attach begins to deliver to a connected client: first what was under way
// to the one before it, then what waits.
func (s *session) attach(cl *mqtt.Client, window int, inbound, outbound *bucket) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.client, s.window, s.inbound, s.outbound = cl, window, inbound, outbound
	s.stop, s.stopped = make(chan struct{}), make(chan struct{})
	go s.write(cl, s.stop, s.stopped)
}

// detach ends delivery to a client whose connection is closed and waits for
// it; false when the session has another client meanwhile.
func (s *session) detach(cl *mqtt.Client) bool {
	s.mu.Lock()
	if s.client != cl {
		s.mu.Unlock()
		return false
	}
	stop, stopped := s.stop, s.stopped
	s.client = nil
	s.mu.Unlock()
	close(stop)
	<-stopped
	s.mu.Lock()
	defer s.mu.Unlock()
	again := slices.SortedFunc(maps.Values(s.inflight), func(a, b *delivery) int { return int(int64(a.number - b.number)) })
	clear(s.inflight)
	s.waiting = slices.DeleteFunc(append(again, s.waiting...), func(d *delivery) bool { return d.qos == 0 })
	return true
}

// online reports whether a client is connected.
func (s *session) online() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.client != nil
}

// enqueue takes a message for the client. A message of QoS 0 for one who is
// offline is not kept.
func (s *session) enqueue(d *delivery) {
	s.mu.Lock()
	switch {
	case s.client == nil && d.qos == 0:
		s.mu.Unlock()
		return
	case s.client != nil && !s.outbound.take(s.clock()), len(s.waiting) >= queueMax:
		s.mu.Unlock()
		s.stats.drop()
		return
	}
	s.number++
	d.number = s.number
	s.waiting = append(s.waiting, d)
	s.mu.Unlock()
	s.signal()
}

func (s *session) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// acknowledge takes a client's acknowledgement of a packet id.
func (s *session) acknowledge(id uint16) {
	if s.settle(id) {
		s.stats.acknowledge()
	}
}

// settle ends the delivery of a packet id; an unknown one is ignored.
func (s *session) settle(id uint16) bool {
	s.mu.Lock()
	_, ok := s.inflight[id]
	delete(s.inflight, id)
	s.mu.Unlock()
	if ok {
		s.signal()
	}
	return ok
}

// batchBytes is about how much is written at once.
const batchBytes = 16 << 10

// write sends what waits until stop is closed. A failed write ends it: the
// broker's reader finds the connection broken, too.
func (s *session) write(cl *mqtt.Client, stop, stopped chan struct{}) {
	defer close(stopped)
	var buf bytes.Buffer
	for {
		buf.Reset()
		sent := 0
		for buf.Len() < batchBytes {
			d := s.next()
			if d == nil {
				break
			}
			if encode(&buf, cl, d) {
				sent++
			} else {
				s.settle(d.id) // it can never be sent to this client
			}
		}
		if buf.Len() > 0 {
			if err := writeRaw(cl, buf.Bytes()); err != nil {
				return
			}
			s.stats.deliver(sent)
			continue
		}
		select {
		case <-s.wake:
		case <-stop:
			return
		}
	}
}

// next takes the next delivery that may be sent now, with its packet id; nil
// when there is none.
func (s *session) next() *delivery {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.waiting) > 0 {
		d := s.waiting[0]
		if d.qos > 0 && len(s.inflight) >= s.window {
			return nil
		}
		s.waiting[0] = nil
		s.waiting = s.waiting[1:]
		if !d.expires.IsZero() && !now.Before(d.expires) {
			continue
		}
		if d.qos > 0 {
			d.id = s.freeID()
			s.inflight[d.id] = d
		}
		return d
	}
	s.waiting = nil // gives the memory back
	return nil
}

func (s *session) freeID() uint16 {
	for {
		if s.nextID++; s.nextID == 0 {
			s.nextID = 1
		}
		if s.inflight[s.nextID] == nil {
			return s.nextID
		}
	}
}

// encode appends the PUBLISH of a delivery to buf; false when the client
// cannot take a packet of this size. DUP is never set, as on AWS.
func encode(buf *bytes.Buffer, cl *mqtt.Client, d *delivery) bool {
	pk := packets.Packet{
		FixedHeader:     packets.FixedHeader{Type: packets.Publish, Qos: d.qos, Retain: d.retain},
		ProtocolVersion: cl.Properties.ProtocolVersion,
		Mods:            packets.Mods{AllowResponseInfo: true},
		TopicName:       d.topic,
		Payload:         d.payload,
		PacketID:        d.id,
		Properties:      d.properties,
	}
	if !d.expires.IsZero() {
		pk.Properties.MessageExpiryInterval = uint32(time.Until(d.expires)/time.Second) + 1
	}
	before := buf.Len()
	if err := pk.PublishEncode(buf); err != nil {
		buf.Truncate(before)
		return false
	}
	if limit := cl.Properties.Props.MaximumPacketSize; limit > 0 && buf.Len()-before > int(limit) {
		buf.Truncate(before)
		return false
	}
	return true
}

// writeRaw writes whole packets, between those that mochi writes.
func writeRaw(cl *mqtt.Client, p []byte) error {
	cl.Lock()
	defer cl.Unlock()
	_, err := cl.Net.Conn.Write(p)
	return err
}

// subscribe notes a filter and reports whether it is new.
func (s *session) subscribe(filter string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.filters[filter] {
		return false
	}
	s.filters[filter] = true
	if strings.HasSuffix(filter, "#") {
		s.hashes++
	}
	return true
}

func (s *session) unsubscribe(filter string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.filters[filter] {
		delete(s.filters, filter)
		if strings.HasSuffix(filter, "#") {
			s.hashes--
		}
	}
}

// wants reports whether one of the client's filters matches a topic, given
// that the standard says so; on AWS "a/#" does not match "a".
func (s *session) wants(topic string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.hashes == 0 {
		return true
	}
	for filter := range s.filters {
		if !strings.HasPrefix(filter, "$share/") && matchesTopic(filter, topic) {
			return true
		}
	}
	return false
}

// keepRetained notes a retained message that is due once the subscription
// is granted; takeRetained takes those that are.
func (s *session) keepRetained(d *delivery) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.retained = append(s.retained, d)
}

func (s *session) takeRetained() []*delivery {
	s.mu.Lock()
	defer s.mu.Unlock()
	due := s.retained
	s.retained = nil
	return due
}

// subscribed reports whether the client has a filter; count is how many.
func (s *session) subscribed(filter string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.filters[filter]
}

func (s *session) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.filters)
}

// setWill sets the message that is published when the client is lost, and
// returns the one before it.
func (s *session) setWill(m *message) (before *message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before, s.will = s.will, m
	return before
}
