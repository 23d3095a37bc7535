package awsiot

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho/log"
	pahosession "github.com/eclipse/paho.golang/paho/session"

	"sluice"
)

// messageIDProperty names the MQTT 5 user property that carries the message's
// id, by which a receiver can drop a copy. It is part of Sluice's interface.
const messageIDProperty = "sluice-id"

// replayedProperty is there, as "true", on what a replay sends. It is part of
// Sluice's interface, too.
const replayedProperty = "sluice-replayed"

var errLinkLost = errors.New("the link is lost")

// link is the wire of one session: the connection that paho's client writes
// to, and paho's session state.
//
// It stands in for paho's own state and for its Publish (v0.23.0) because
// those, when a link is lost whose session does not outlive it, leave the
// publishes under way waiting for their time-out; never give back the place in
// flight of a publish that the broker discards, as AWS does with what is over
// its quota; and write each packet in several TLS records. Here a publish is
// one write, or a part of one, ends at once with the link, and costs few
// allocations.
type link struct {
	net.Conn // the TLS or WebSocket connection; Close is its

	writer
	reader

	mu         sync.Mutex
	waiting    map[uint16]waiter // by packet id
	lastID     uint16
	lost       chan struct{} // closed when the link is lost
	isLost     bool
	disconnect *packets.Disconnect // the server's last word, if it had one
	readErr    error               // why reading failed first

	receive func(p *packets.Publish) // takes what comes in with QoS 1; must not block
}

// waiter waits for the acknowledgement of a packet id. One of the three is set.
type waiter struct {
	puback  chan<- puback
	request chan<- packets.ControlPacket // of paho's Subscribe
	late    *late
}

// puback is the acknowledgement of a publish.
type puback struct {
	code   byte
	reason string // the server's words, if any
}

var (
	_ pahosession.SessionManager = (*link)(nil)
	_ sync.Locker                = (*link)(nil)
)

func newLink(conn net.Conn, receive func(*packets.Publish)) *link {
	l := &link{Conn: conn, waiting: map[uint16]waiter{}, lost: make(chan struct{}), receive: receive}
	l.writer.written.L = &l.wmu
	l.reader.in = bufio.NewReaderSize(conn, readBuffer)
	return l
}

// abort closes the wire without the goodbyes of TLS and WebSocket, which may block.
func (l *link) abort() {
	c := l.Conn
	for {
		outer, ok := c.(interface{ NetConn() net.Conn })
		if !ok {
			break
		}
		c = outer.NetConn()
	}
	_ = c.Close()
}

func (l *link) failed(err error) {
	l.mu.Lock()
	if l.readErr == nil {
		l.readErr = err
	}
	l.mu.Unlock()
}

// gone reports whether the link is lost.
func (l *link) gone() bool {
	select {
	case <-l.lost:
		return true
	default:
		return false
	}
}

// cause returns what ended the link: the server's DISCONNECT, or else the
// first error of the wire.
func (l *link) cause() (*packets.Disconnect, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.disconnect, l.readErr
}

// appendPublish appends a PUBLISH packet (MQTT 5.0, section 3.3) with content
// type JSON and, as user properties, the message's id and whether a replay
// sends it.
func appendPublish(b []byte, id uint16, topic string, m *sluice.Message) []byte {
	const contentType = "application/json"
	body := m.Body()
	properties := 1 + 2 + len(contentType) + 1 + 2 + len(messageIDProperty) + 2 + len(m.ID)
	if m.Replayed {
		properties += 1 + 2 + len(replayedProperty) + 2 + len("true")
	}
	header := publishOverhead(id, topic, properties)
	flags := byte(0)
	if id != 0 {
		flags = 1 << 1
	}
	b = append(b, packets.PUBLISH<<4|flags)
	b = binary.AppendUvarint(b, uint64(header+len(body)))
	b = appendText(b, topic)
	if id != 0 {
		b = binary.BigEndian.AppendUint16(b, id)
	}
	b = binary.AppendUvarint(b, uint64(properties))
	b = append(b, packets.PropContentType)
	b = appendText(b, contentType)
	b = append(b, packets.PropUser)
	b = appendText(b, messageIDProperty)
	b = appendText(b, m.ID)
	if m.Replayed {
		b = append(b, packets.PropUser)
		b = appendText(b, replayedProperty)
		b = appendText(b, "true")
	}
	return append(b, body...)
}

// publishOverhead is the remaining length of a PUBLISH without its payload.
// MQTT's variable byte integer is the same code as Go's uvarint.
func publishOverhead(id uint16, topic string, properties int) int {
	n := 2 + len(topic) + len(binary.AppendUvarint(nil, uint64(properties))) + properties
	if id != 0 {
		n += 2
	}
	return n
}

func appendText(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
}

// expect takes a free packet id for a publish whose acknowledgement goes to
// ack, which must have room for one.
func (l *link) expect(ack chan<- puback) (uint16, error) { return l.register(waiter{puback: ack}) }

func (l *link) register(w waiter) (uint16, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.isLost {
		return 0, errLinkLost
	}
	for range 1 << 16 {
		l.lastID++
		if _, taken := l.waiting[l.lastID]; !taken && l.lastID != 0 {
			l.waiting[l.lastID] = w
			return l.lastID, nil
		}
	}
	return 0, pahosession.ErrPacketIdentifiersExhausted
}

// forget gives up waiting for a packet id: nothing is sent to its waiter after
// it returns. Ids are taken in turn, so at AWS's 100 a second it is eleven
// minutes before a late acknowledgement could be taken for another's.
func (l *link) forget(id uint16) {
	l.mu.Lock()
	delete(l.waiting, id)
	l.mu.Unlock()
}

// acknowledge sends the PUBACK of a received publish.
func (l *link) acknowledge(p *packets.Publish) error {
	ack := packets.Puback{PacketID: p.PacketID}
	if _, err := ack.WriteTo(l); err != nil {
		return err
	}
	l.wmu.Lock()
	defer l.wmu.Unlock()
	return l.writeErr
}

// ConAckReceived is paho telling that the link is up.
func (l *link) ConAckReceived(io.Writer, *packets.Connect, *packets.Connack) error { return nil }

// ConnectionLost is paho telling that the link is down, possibly several
// times; the first may have the server's DISCONNECT.
func (l *link) ConnectionLost(d *packets.Disconnect) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.isLost {
		return nil
	}
	l.isLost, l.disconnect = true, d
	for id, w := range l.waiting {
		if w.request != nil {
			w.request <- packets.ControlPacket{} // paho takes it for "shutting down"
			delete(l.waiting, id)
		}
		if w.late != nil {
			l.release(id, w.late)
		}
	}
	close(l.lost)
	return nil
}

// AddToSession gives a packet id to paho's SUBSCRIBE and UNSUBSCRIBE.
func (l *link) AddToSession(_ context.Context, p pahosession.Packet, response chan<- packets.ControlPacket) error {
	id, err := l.register(waiter{request: response})
	if err != nil {
		return pahosession.ErrNoConnection
	}
	p.SetIdentifier(id)
	return nil
}

// PacketReceived takes the packets with a packet id, from paho's reader.
// Publishes do not go paho's way, which acknowledges them by itself.
func (l *link) PacketReceived(p *packets.ControlPacket, _ chan<- *packets.Publish) error {
	switch c := p.Content.(type) {
	case *packets.Publish:
		l.receive(c)
	case *packets.Puback:
		a := puback{code: c.ReasonCode}
		if c.Properties != nil {
			a.reason = c.Properties.ReasonString
		}
		l.acknowledged(c.PacketID, a)
	case *packets.Suback, *packets.Unsuback:
		if w := l.take(p.PacketID()); w.request != nil {
			w.request <- *p
		}
	}
	return nil
}

// acknowledged hands an acknowledgement to who waits for it, if anybody. It
// does so under the lock, so that after forget the channel is the waiter's to
// use for another publish.
func (l *link) acknowledged(id uint16, a puback) {
	l.mu.Lock()
	defer l.mu.Unlock()
	w := l.waiting[id]
	if w.late != nil {
		l.release(id, w.late)
		return
	}
	if w.puback == nil {
		return
	}
	delete(l.waiting, id)
	select {
	case w.puback <- a: // it has room for one
	default:
	}
}

// take ends the waiting of paho's for a packet id.
func (l *link) take(id uint16) waiter {
	l.mu.Lock()
	defer l.mu.Unlock()
	w := l.waiting[id]
	delete(l.waiting, id)
	return w
}

// Ack is called by paho after a publish with QoS 0, which needs none.
func (l *link) Ack(*packets.Publish) error { return nil }

// SetErrorLogger does nothing: what matters is an error or an event.
func (l *link) SetErrorLogger(log.Logger) {}

// SetDebugLogger does nothing.
func (l *link) SetDebugLogger(log.Logger) {}
