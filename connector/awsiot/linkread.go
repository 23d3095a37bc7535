package awsiot

import (
	"bufio"

	"github.com/eclipse/paho.golang/packets"
)

// readBuffer holds many acknowledgements, and the head of any packet.
const readBuffer = 4 << 10

// reader takes the plain acknowledgements out of what a link receives, and
// leaves all else to paho, which allocates a kilobyte for each packet.
type reader struct {
	in   *bufio.Reader
	left int // of the packet that paho is reading
}

// Read is the reader of paho; it remembers why it failed first.
func (l *link) Read(b []byte) (int, error) {
	n, err := l.read(b)
	if err != nil {
		l.failed(err)
	}
	return n, err
}

func (l *link) read(b []byte) (int, error) {
	for l.left == 0 {
		taken, err := l.takeAck()
		if err != nil {
			return 0, err
		}
		if taken {
			continue
		}
		if l.left, err = l.packetSize(); err != nil {
			return 0, err
		}
	}
	n, err := l.in.Read(b[:min(len(b), l.left)])
	l.left -= n
	return n, err
}

// takeAck takes the packet that comes next if it is a PUBACK without
// properties (MQTT 5.0, section 3.4: packet id and, unless it is success, the
// reason code).
func (l *link) takeAck() (bool, error) {
	head, err := l.in.Peek(2) // no packet is shorter
	if err != nil {
		return false, err
	}
	n := int(head[1])
	if head[0]>>4 != packets.PUBACK || n < 2 || n > 4 {
		return false, nil
	}
	p, err := l.in.Peek(2 + n)
	if err != nil {
		return false, err
	}
	a := puback{}
	if n > 2 {
		a.code = p[4]
	}
	if n > 3 && p[5] != 0 { // the length of its properties
		return false, nil
	}
	l.acknowledged(uint16(p[2])<<8|uint16(p[3]), a)
	_, err = l.in.Discard(2 + n)
	return true, err
}

// packetSize is the size of the packet that comes next: its head, whose length
// is written in up to four bytes (MQTT 5.0, section 1.5.5), and what follows.
func (l *link) packetSize() (int, error) {
	size := 0
	for i := range 4 {
		head, err := l.in.Peek(2 + i)
		if err != nil {
			return 0, err
		}
		c := int(head[1+i])
		size |= (c & 0x7f) << (7 * i)
		if c < 0x80 {
			return 2 + i + size, nil
		}
	}
	return 5, nil // no length: paho refuses it
}
