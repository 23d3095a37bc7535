package sink

import (
	"encoding/binary"
	"errors"
	"net"
	"time"

	"sluice/bench/load"
)

// The types of packets, as the high half of their first byte.
const (
	packetConnect     = 1
	packetPublish     = 3
	packetSubscribe   = 8
	packetUnsubscribe = 10
	packetPing        = 12
	packetDisconnect  = 14
)

// maxPacket bounds a packet: no report is near it.
const maxPacket = 1 << 20

var errProtocol = errors.New("not what MQTT allows, or not what the sink knows")

// client is one connection. in holds what was read and is not over yet, out
// the answers to it, which are sent together.
type client struct {
	sink      *Sink
	conn      net.Conn
	wire      net.Conn // below its TLS
	in, out   []byte
	id        string // the client id
	connected bool
	five      bool // MQTT 5
	recent    []time.Time
	oldest    int
}

func (c *client) run() {
	c.in = make([]byte, 0, 64<<10)
	for {
		rest, err := c.packets(c.in)
		if len(c.out) > 0 {
			if _, e := c.conn.Write(c.out); e != nil {
				return
			}
			c.out = c.out[:0]
		}
		if err != nil {
			return
		}
		c.in = c.in[:copy(c.in[:cap(c.in)], rest)]
		if len(c.in) == cap(c.in) {
			if cap(c.in) >= maxPacket {
				return
			}
			c.in = append(make([]byte, 0, 2*cap(c.in)), c.in...)
		}
		n, err := c.conn.Read(c.in[len(c.in):cap(c.in)])
		if err != nil {
			return
		}
		c.in = c.in[:len(c.in)+n]
	}
}

// packets handles all whole packets in b and returns what is left.
func (c *client) packets(b []byte) (rest []byte, err error) {
	for len(b) >= 2 {
		length, n := binary.Uvarint(b[1:min(len(b), 5)])
		if n < 0 || n == 0 && len(b) >= 5 || length > maxPacket {
			return b, errProtocol
		}
		if n == 0 || uint64(len(b)-1-n) < length {
			break
		}
		end := 1 + n + int(length)
		if err := c.packet(b[0], b[1+n:end]); err != nil {
			return b, err
		}
		b = b[end:]
	}
	return b, nil
}

func (c *client) packet(first byte, body []byte) error {
	kind := first >> 4
	if c.connected == (kind == packetConnect) {
		return errProtocol
	}
	switch kind {
	case packetConnect:
		return c.connect(body)
	case packetPublish:
		return c.publish(first, body)
	case packetSubscribe:
		return c.subscribe(body, true)
	case packetUnsubscribe:
		return c.subscribe(body, false)
	case packetPing:
		if c.sink.stalled.Load() {
			return nil
		}
		c.out = append(c.out, 0xD0, 0)
		return nil
	}
	return errProtocol // or DISCONNECT, which ends it too
}

func (c *client) connect(body []byte) error {
	if len(body) < 10 || string(body[:6]) != "\x00\x04MQTT" || body[6] != 4 && body[6] != 5 {
		return errProtocol
	}
	c.five = body[6] == 5
	rest := body[10:]
	if c.five {
		length, n := binary.Uvarint(rest)
		if n <= 0 || uint64(len(rest)-n) < length {
			return errProtocol
		}
		rest = rest[n+int(length):]
	}
	if len(rest) < 2 || len(rest)-2 < int(binary.BigEndian.Uint16(rest)) {
		return errProtocol
	}
	c.id, c.connected = string(rest[2:2+binary.BigEndian.Uint16(rest)]), true
	c.sink.enter(c)
	if c.five {
		c.out = append(c.out, 0x20, 3, 0, 0, 0)
	} else {
		c.out = append(c.out, 0x20, 2, 0, 0)
	}
	return nil
}

func (c *client) publish(first byte, body []byte) error {
	if c.sink.stalled.Load() {
		return nil
	}
	now := time.Now()
	qos := first >> 1 & 3
	if len(body) < 2 || qos > 1 {
		return errProtocol
	}
	at := 2 + int(binary.BigEndian.Uint16(body))
	if len(body) < at+2*int(qos) {
		return errProtocol
	}
	if qos == 1 {
		c.out = append(c.out, 0x40, 2, body[at], body[at+1])
		at += 2
	}
	if c.five {
		length, n := binary.Uvarint(body[at:])
		if n <= 0 || uint64(len(body)-at-n) < length {
			return errProtocol
		}
		at += n + int(length)
	}
	c.sink.publishes.Add(1)
	c.count(now)
	devEUI, fCnt, posted, ok := load.Read(body[at:])
	if ok {
		c.sink.o.Ledger.Arrive(devEUI, fCnt, now.Sub(posted))
	} else {
		c.sink.o.Ledger.Arrive(0, 0, 0) // a stranger
	}
	return nil
}

// count counts a publish against the quota of the session.
func (c *client) count(now time.Time) {
	if len(c.recent) == 0 {
		return
	}
	if !c.recent[c.oldest].IsZero() && now.Sub(c.recent[c.oldest]) < time.Second {
		c.sink.over.Add(1)
	}
	c.recent[c.oldest] = now
	c.oldest = (c.oldest + 1) % len(c.recent)
}

// subscribe grants what is asked for, by SUBSCRIBE or UNSUBSCRIBE (a bridge of
// Mosquitto sends that first of all); nothing ever comes.
func (c *client) subscribe(body []byte, begin bool) error {
	if len(body) < 2 {
		return errProtocol
	}
	rest := body[2:]
	answer := []byte{body[0], body[1]}
	if c.five {
		length, n := binary.Uvarint(rest)
		if n <= 0 || uint64(len(rest)-n) < length {
			return errProtocol
		}
		rest, answer = rest[n+int(length):], append(answer, 0)
	}
	for len(rest) > 0 {
		if len(rest) < 2 {
			return errProtocol
		}
		end := 2 + int(binary.BigEndian.Uint16(rest))
		switch {
		case len(rest) < end || begin && len(rest) == end:
			return errProtocol
		case begin: // the options follow, with the QoS
			answer, rest = append(answer, rest[end]&1), rest[end+1:]
			continue
		case c.five:
			answer = append(answer, 0)
		}
		rest = rest[end:]
	}
	first := byte(0x90)
	if !begin {
		first = 0xB0
	}
	c.out = binary.AppendUvarint(append(c.out, first), uint64(len(answer)))
	c.out = append(c.out, answer...)
	return nil
}
