package awsiottest

import (
	"sync"
	"time"
)

// ClientStats are the counts of one client id, over all its connections.
type ClientStats struct {
	// Connects is how often it connected.
	Connects int
	// Connected says whether it is connected now.
	Connected bool
	// Session says whether it has a session, connected or kept for it.
	Session bool
	// Published is how many publishes it sent, with those Discarded because
	// they came too fast.
	Published, Discarded uint64
	// PeakRate is the most publishes that it sent in one whole second of the
	// clock.
	PeakRate int
	// Delivered is how many messages were sent to it; Dropped is how many
	// were not because its queue was full or they came too fast.
	Delivered, Dropped uint64
	// Acknowledged is how many messages of QoS 1 it acknowledged.
	Acknowledged uint64
	// Denied is how many publishes, subscriptions and deliveries its policy did
	// not allow; Refused is how many of its CONNECTs were refused since it
	// first connected.
	Denied, Refused uint64
	// Delayed is how long it was made to wait for sending or being sent too
	// many bytes.
	Delayed time.Duration
}

type clientStats struct {
	mu     sync.Mutex
	counts ClientStats
	second int64
	inThis int
	events uint64
}

func (c *clientStats) publish(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.counts.Published++
	if second := now.Unix(); second != c.second {
		c.second, c.inThis = second, 0
	}
	c.inThis++
	c.counts.PeakRate = max(c.counts.PeakRate, c.inThis)
}

func (c *clientStats) connect(connected bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.counts.Connected = connected
	if connected {
		c.counts.Connects++
	}
}

func (c *clientStats) discard() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.counts.Discarded++
}

func (c *clientStats) drop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.counts.Dropped++
}

func (c *clientStats) deliver(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.counts.Delivered += uint64(n)
}

func (c *clientStats) acknowledge() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.counts.Acknowledged++
}

func (c *clientStats) deny() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.counts.Denied++
}

func (c *clientStats) refuse() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.counts.Refused++
}

func (c *clientStats) delay(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.counts.Delayed += d
}

// event numbers the lifecycle events of a client.
func (c *clientStats) event() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.events++
	return c.events
}

func (c *clientStats) get() ClientStats {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.counts
}

// ClientStats returns the counts of every client id that ever connected.
func (s *Server) ClientStats() map[string]ClientStats {
	s.broker.mu.Lock()
	defer s.broker.mu.Unlock()
	all := make(map[string]ClientStats, len(s.broker.stats))
	for id, c := range s.broker.stats {
		counts := c.get()
		counts.Session = s.broker.sessions[id] != nil
		all[id] = counts
	}
	return all
}

// Discarded is how many publishes were discarded because their connection
// sent too many.
func (s *Server) Discarded() uint64 {
	var n uint64
	for _, c := range s.ClientStats() {
		n += c.Discarded
	}
	return n
}

// Dropped is how many messages did not reach a subscriber because its queue
// was full, or, with [Options].OutboundRate, because they came too fast.
func (s *Server) Dropped() uint64 {
	var n uint64
	for _, c := range s.ClientStats() {
		n += c.Dropped
	}
	return n
}
