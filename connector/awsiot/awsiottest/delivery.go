package awsiottest

import (
	"bytes"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

const (
	// batchBytes is about how much is written at once.
	batchBytes = 16 << 10
	// look is how often a session with messages that come too fast looks at the
	// clock again.
	look = 10 * time.Millisecond
)

// ack is a PUBACK that waits.
type ack struct {
	id   uint16
	code packets.Code
	due  time.Time
}

// answer takes the PUBACK of a client's publish and writes it, later
// where a fault wants it.
func (s *session) answer(cl *mqtt.Client, id uint16, code packets.Code) {
	delay := time.Duration(s.broker.delayPubacks.Load())
	s.mu.Lock()
	if delay == 0 && len(s.acks) == 0 {
		s.mu.Unlock()
		s.broker.puback(cl, id, code)
		return
	}
	s.acks = append(s.acks, ack{id: id, code: code, due: time.Now().Add(delay)})
	s.mu.Unlock()
	s.signal()
}

// unacknowledged is how many PUBACKs the client waits for.
func (s *session) unacknowledged() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.acks)
}

// write sends what waits until the link's stop is closed. A failed write ends
// it: the broker's reader finds the connection broken, too.
func (s *session) write(l link) {
	defer close(l.stopped)
	var buf bytes.Buffer
	for {
		wait := s.sendAcks(l.client)
		again, err := s.sendBatch(l.client, &buf)
		if err != nil {
			return
		}
		if again == 0 {
			continue
		}
		if again > 0 && (wait == 0 || again < wait) {
			wait = again
		}
		var timer <-chan time.Time
		if wait > 0 {
			timer = time.After(wait)
		}
		select {
		case <-s.wake:
		case <-timer:
		case <-l.stop:
			return
		}
	}
}

// sendAcks writes the PUBACKs that are due, and returns when the next one is;
// 0 for none.
func (s *session) sendAcks(cl *mqtt.Client) time.Duration {
	for {
		s.mu.Lock()
		if len(s.acks) == 0 {
			s.mu.Unlock()
			return 0
		}
		next := s.acks[0]
		if wait := time.Until(next.due); wait > 0 {
			s.mu.Unlock()
			return wait
		}
		s.acks = s.acks[1:]
		s.mu.Unlock()
		s.broker.puback(cl, next.id, next.code)
	}
}

// sendBatch writes what may be sent now. again is when to look next: at once
// (0), later, or when woken (negative).
func (s *session) sendBatch(cl *mqtt.Client, buf *bytes.Buffer) (again time.Duration, err error) {
	buf.Reset()
	sent := 0
	for buf.Len() < batchBytes {
		var d *delivery
		if d, again = s.next(); d == nil {
			break
		}
		if encode(buf, cl, d) {
			sent++
		} else {
			s.settle(d.id) // it can never be sent to this client
		}
	}
	if buf.Len() == 0 {
		return again, nil
	}
	if s.broker.cutsPublish(s.id) {
		_ = writeRaw(cl, buf.Bytes()[:buf.Len()/2])
		cl.Net.Conn.(*peer).raw.cut()
		return 0, errCut
	}
	s.stats.deliver(sent) // before the client can know
	if err := writeRaw(cl, buf.Bytes()); err != nil {
		s.stats.deliver(-sent)
		return 0, err
	}
	return 0, nil
}

// next takes the next delivery that may be sent now, with its packet id; nil
// when there is none, with when to look again (negative: when woken).
func (s *session) next() (*delivery, time.Duration) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		d, later := s.candidate()
		if d == nil {
			return nil, later
		}
		if d.expired(now) {
			continue
		}
		if s.guard != nil && !s.guard.mayReceive(d.topic) {
			s.stats.deny()
			continue
		}
		if d.qos > 0 {
			d.id = s.freeID()
			s.inflight[d.id] = d
		}
		return d, 0
	}
}

// candidate takes what is next: a stored message if one is due, else one of
// now, else one that waits for a group. Source: Developer Guide, "Message
// traffic after reconnection to a persistent session": stored messages come at
// their own rate, along with current ones.
func (s *session) candidate() (*delivery, time.Duration) {
	later, now := time.Duration(-1), s.broker.options.Clock()
	if len(s.stored) > 0 {
		if s.blocked(s.stored[0]) {
			return nil, -1
		}
		if s.storedRate.take(now) {
			return shift(&s.stored), 0
		}
		later = look
	}
	if len(s.waiting) > 0 {
		if s.blocked(s.waiting[0]) {
			return nil, -1
		}
		return shift(&s.waiting), 0
	}
	if len(s.shared) > 0 && s.broker.groups.waiting(s.shared) && len(s.inflight) < s.window {
		if !s.queueRate.take(now) || !s.outbound.take(now) {
			return nil, look
		}
		if d := s.broker.groups.take(s.shared, s); d != nil {
			s.number++
			d.number = s.number
			return d, 0
		}
	}
	return nil, later
}

// blocked reports whether a message has to wait for acknowledgements.
func (s *session) blocked(d *delivery) bool {
	if d.qos == 0 || len(s.inflight) < s.window {
		return false
	}
	if !s.full {
		s.full = true
		s.broker.exceeded.add(QuotaOutboundUnacked)
	}
	return true
}

func shift(queue *[]*delivery) *delivery {
	d := (*queue)[0]
	(*queue)[0] = nil
	if *queue = (*queue)[1:]; len(*queue) == 0 {
		*queue = nil // gives the memory back
	}
	return d
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
