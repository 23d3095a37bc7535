package awsiottest

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// queueMax is how many messages may wait for one client, or for a group. What
// comes on top is dropped and counted ([ClientStats].Dropped), never silently.
const queueMax = 100_000

// message is one publish, shared by all who receive it.
type message struct {
	topic      string
	payload    []byte
	properties packets.Properties
	qos        byte
	retain     bool
	origin     string
	expires    time.Time     // zero: never
	life       time.Duration // of a will, from when it is published
	retainedAt time.Time     // set when it is retained
}

func (m *message) expired(now time.Time) bool { return !m.expires.IsZero() && !now.Before(m.expires) }

// delivery is one message for one client.
type delivery struct {
	*message
	qos    byte
	retain bool
	group  string // the filter of the shared subscription that it came by
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
	id     string
	broker *broker
	stats  *clientStats

	mu       sync.Mutex
	filters  map[string]bool
	shared   []string    // those of the filters that are shared subscriptions
	hashes   int         // filters that end with "#"
	retained []*delivery // to be sent after the SUBACK
	will     *message
	link                 // of this connection
	stored   []*delivery // from before this connection, in order
	waiting  []*delivery // in order
	acks     []ack       // PUBACKs that wait, in order
	inflight map[uint16]*delivery
	full     bool // the window is; to count once
	number   uint64
	nextID   uint16
	wake     chan struct{} // has room for one: there is something to send
}

// link is what a session knows of the client that is connected.
type link struct {
	client     *mqtt.Client // nil while offline
	guard      *guard
	persistent bool    // the session outlives the connection
	inbound    *bucket // publishes a second
	outbound   *bucket
	storedRate *bucket // stored messages a second
	queueRate  *bucket // messages a second from the queue of a group
	window     int     // publishes of QoS 1 that may be unacknowledged
	stop       chan struct{}
	stopped    chan struct{}
}

func newSession(id string, b *broker, stats *clientStats) *session {
	return &session{
		id: id, broker: b, stats: stats,
		filters: map[string]bool{}, inflight: map[uint16]*delivery{}, wake: make(chan struct{}, 1),
	}
}

// attach begins to deliver to a connected client: first what was under way
// to the one before it, then what waits.
func (s *session) attach(l link) {
	o := s.broker.options
	l.inbound, l.outbound = newBucket(float64(o.Rate)), newBucket(float64(o.OutboundRate))
	l.storedRate, l.queueRate = newBucket(float64(o.Quotas.StoredRate)), newBucket(2*float64(o.Quotas.StoredRate))
	l.stop, l.stopped = make(chan struct{}), make(chan struct{})
	s.mu.Lock()
	defer s.mu.Unlock()
	s.link = l
	go s.write(l)
}

// detach ends delivery to a client whose connection is closed and waits for
// it; false when the session has another client meanwhile. It returns what
// came by shared subscriptions and was not acknowledged.
func (s *session) detach(cl *mqtt.Client) (back []*delivery, ok bool) {
	s.mu.Lock()
	if s.client != cl {
		s.mu.Unlock()
		return nil, false
	}
	stop, stopped := s.stop, s.stopped
	s.client = nil
	s.mu.Unlock()
	close(stop)
	<-stopped
	s.mu.Lock()
	defer s.mu.Unlock()
	all := append(slices.Collect(maps.Values(s.inflight)), s.stored...)
	all = append(all, s.waiting...)
	// What came since the client is nil is stored, and is later than what waits.
	slices.SortFunc(all, func(a, b *delivery) int { return cmp.Compare(a.number, b.number) })
	clear(s.inflight)
	s.acks, s.stored, s.waiting, s.full = nil, nil, nil, false
	for _, d := range all {
		switch {
		case d.qos == 0:
		case d.group != "":
			back = append(back, d)
		default:
			s.stored = append(s.stored, d)
		}
	}
	return back, true
}

// state reports whether a client is connected, and whether the session
// outlives its connection.
func (s *session) state() (online, persistent bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.client != nil, s.persistent
}

func (s *session) online() bool {
	online, _ := s.state()
	return online
}

// offer takes a message for a client that is connected; false where it is not,
// or cannot take any more.
func (s *session) offer(d *delivery) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.send(d)
}

// send is offer; the lock is held.
func (s *session) send(d *delivery) bool {
	if s.client == nil || len(s.waiting) >= queueMax || !s.outbound.take(s.broker.options.Clock()) {
		return false
	}
	s.number++
	d.number = s.number
	s.waiting = append(s.waiting, d)
	s.signal()
	return true
}

// enqueue takes a message for the client, or drops it, with a count. A message
// of QoS 0 for one who is offline is not kept. The lock is held throughout, so
// that a client that connects meanwhile is not taken for one that is too slow.
func (s *session) enqueue(d *delivery) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.send(d) {
		return
	}
	now := s.broker.options.Clock()
	switch {
	case s.client == nil && d.qos == 0:
		return
	case len(s.waiting)+len(s.stored) >= queueMax:
		s.broker.exceeded.add(QuotaQueueSize)
	case s.client != nil:
		s.broker.exceeded.add(QuotaOutboundRate)
	case !s.broker.queued.take(now):
		s.broker.exceeded.add(QuotaQueueRate)
	default:
		s.number++
		d.number = s.number
		s.stored = append(s.stored, d)
		return
	}
	s.stats.drop()
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
	s.full = s.full && !ok
	s.mu.Unlock()
	if ok {
		s.signal()
	}
	return ok
}

// subscribe notes a filter and reports whether it is new.
func (s *session) subscribe(filter string, qos byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	isShared := strings.HasPrefix(filter, sharePrefix)
	if isShared {
		s.broker.groups.join(filter, s, qos)
	}
	if s.filters[filter] {
		return false
	}
	s.filters[filter] = true
	if isShared {
		s.shared = append(s.shared, filter)
	}
	if strings.HasSuffix(filter, "#") {
		s.hashes++
	}
	return true
}

func (s *session) unsubscribe(filter string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.filters[filter] {
		return
	}
	delete(s.filters, filter)
	if strings.HasPrefix(filter, sharePrefix) {
		s.shared = slices.DeleteFunc(s.shared, func(f string) bool { return f == filter })
		s.broker.groups.leave(filter, s)
	}
	if strings.HasSuffix(filter, "#") {
		s.hashes--
	}
}

// end ends the session: it leaves its groups.
func (s *session) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, filter := range s.shared {
		s.broker.groups.leave(filter, s)
	}
	s.shared = nil
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
		if !strings.HasPrefix(filter, sharePrefix) && matchesTopic(filter, topic) {
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
