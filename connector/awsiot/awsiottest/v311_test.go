package awsiottest_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"
	"github.com/mochi-mqtt/server/v2/packets"

	"sluice/connector/awsiot/awsiottest"
)

// v311 is a client of MQTT 3.1.1 that sends and reads single packets.
type v311 struct {
	t    *testing.T
	conn *tls.Conn
	read *bufio.Reader
	// version is that of what is read; 0 is 4.
	version byte
}

// dial311 sends CONNECT and returns the CONNACK.
func dial311(t *testing.T, s *awsiottest.Server, id string, clean bool) (*v311, packets.Packet) {
	t.Helper()
	c := wire311(t, s, newCertificate(t, s, true))
	c.send(connect311(id, clean))
	ack, err := c.next()
	if err != nil {
		t.Fatal(err)
	}
	return c, ack
}

// wire311 is a connection on which nothing was sent.
func wire311(t *testing.T, s *awsiottest.Server, cert awsiottest.Certificate) *v311 {
	t.Helper()
	conn, err := tls.Dial("tcp", s.MQTTAddr(), tlsConfig(t, s, &cert))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &v311{t: t, conn: conn, read: bufio.NewReader(conn)}
}

func connect311(id string, clean bool) packets.Packet {
	return packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Connect}, Connect: packets.ConnectParams{
		ProtocolName: []byte("MQTT"), ClientIdentifier: id, Clean: clean, Keepalive: 60,
	}}
}

// ended wants the connection to be closed without a packet.
func (c *v311) ended(what string) {
	c.t.Helper()
	if answer, err := c.next(); !errors.Is(err, io.EOF) {
		c.t.Errorf("%s: %+v %v, want the end", what, answer, err)
	}
}

func (c *v311) send(pk packets.Packet) {
	c.t.Helper()
	pk.ProtocolVersion = 4
	var buf bytes.Buffer
	var err error
	switch pk.FixedHeader.Type {
	case packets.Connect:
		err = pk.ConnectEncode(&buf)
	case packets.Publish:
		err = pk.PublishEncode(&buf)
	case packets.Subscribe:
		pk.FixedHeader.Qos = 1
		err = pk.SubscribeEncode(&buf)
	case packets.Puback:
		err = pk.PubackEncode(&buf)
	case packets.Pingreq:
		err = pk.PingreqEncode(&buf)
	}
	if err == nil {
		_, err = c.conn.Write(buf.Bytes())
	}
	if err != nil {
		c.t.Fatal(err)
	}
}

// next reads a packet: of the types that answer, only what the tests look at.
func (c *v311) next() (pk packets.Packet, err error) {
	_ = c.conn.SetReadDeadline(time.Now().Add(patience))
	first, err := c.read.ReadByte()
	if err != nil {
		return pk, err
	}
	if err := pk.FixedHeader.Decode(first); err != nil {
		return pk, err
	}
	n, _, err := packets.DecodeLength(c.read)
	if err != nil {
		return pk, err
	}
	pk.FixedHeader.Remaining, pk.ProtocolVersion = n, max(4, c.version)
	body := make([]byte, n)
	if _, err := io.ReadFull(c.read, body); err != nil {
		return pk, err
	}
	switch pk.FixedHeader.Type {
	case packets.Connack:
		err = pk.ConnackDecode(body)
	case packets.Publish:
		err = pk.PublishDecode(body)
	case packets.Puback:
		err = pk.PubackDecode(body)
	case packets.Suback:
		err = pk.SubackDecode(body)
	case packets.Disconnect:
		err = pk.DisconnectDecode(body)
	}
	return pk, err
}

func (c *v311) want(kind byte) packets.Packet {
	c.t.Helper()
	pk, err := c.next()
	if err != nil || pk.FixedHeader.Type != kind {
		c.t.Fatalf("got %s %v, want %s", packets.PacketNames[pk.FixedHeader.Type], err, packets.PacketNames[kind])
	}
	return pk
}

func publish311(topic string, qos byte, id uint16) packets.Packet {
	return packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: qos}, TopicName: topic, PacketID: id, Payload: []byte("x")}
}

func subscribe311(id uint16, qos byte, filter string) packets.Packet {
	return packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Subscribe}, PacketID: id,
		Filters: packets.Subscriptions{{Filter: filter, Qos: qos}},
	}
}

// TestV311QoS2 wants QoS 2 to stay without an answer.
func TestV311QoS2(t *testing.T) {
	s := start(t, awsiottest.Options{})
	c, ack := dial311(t, s, "c", true)
	if ack.ReasonCode != 0 {
		t.Fatalf("CONNACK %d", ack.ReasonCode)
	}
	c.send(subscribe311(1, 2, "q/2"))
	c.send(publish311("q/1", 2, 2))
	c.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pingreq}})
	c.want(packets.Pingresp) // neither SUBACK nor PUBREC came before it
	c.send(subscribe311(3, 1, "q/1"))
	if suback := c.want(packets.Suback); suback.PacketID != 3 || !bytes.Equal(suback.ReasonCodes, []byte{1}) {
		t.Errorf("SUBACK %+v", suback)
	}
	c.send(subscribe311(4, 1, "1/2/3/4/5/6/7/8/9"))
	if suback := c.want(packets.Suback); !bytes.Equal(suback.ReasonCodes, []byte{0x80}) {
		t.Errorf("SUBACK % X, want 80", suback.ReasonCodes)
	}
	c.send(publish311("q/1", 1, 5))
	got := map[byte]bool{}
	for range 2 { // the order of the two is open
		pk, err := c.next()
		if err != nil {
			t.Fatal(err)
		}
		got[pk.FixedHeader.Type] = true
	}
	if !got[packets.Publish] || !got[packets.Puback] {
		t.Errorf("got %v, want a PUBLISH and a PUBACK", got)
	}
}

// TestV311Refusals wants what MQTT 5 is told in a DISCONNECT to end the
// connection without a packet.
func TestV311Refusals(t *testing.T) {
	s := start(t, awsiottest.Options{})
	big := publish311("a", 1, 1)
	big.Payload = make([]byte, 131073)
	for what, pk := range map[string]packets.Packet{"slashes": publish311("1/2/3/4/5/6/7/8/9", 1, 1), "payload": big} {
		c, _ := dial311(t, s, "c", true)
		c.send(pk)
		if answer, err := c.next(); !errors.Is(err, io.EOF) {
			t.Errorf("%s: %+v %v, want the end", what, answer, err)
		}
	}
	first, _ := dial311(t, s, "same", true)
	dial311(t, s, "same", true)
	if answer, err := first.next(); !errors.Is(err, io.EOF) {
		t.Errorf("taken over: %+v %v, want the end", answer, err)
	}
	for code, want := range map[byte]byte{0x87: 5, 0x85: 2, 0x97: 3} {
		s.RefuseConnects(code)
		if _, ack := dial311(t, s, "c", true); ack.ReasonCode != want {
			t.Errorf("refused with 0x%02X: CONNACK %d, want %d", code, ack.ReasonCode, want)
		}
	}
}

// TestV311Rate wants what comes too fast to stay unanswered.
func TestV311Rate(t *testing.T) {
	now := time.Now()
	s := start(t, awsiottest.Options{Rate: 3, Clock: func() time.Time { return now }})
	c, _ := dial311(t, s, "c", true)
	for id := range uint16(5) {
		c.send(publish311("a", 1, id+1))
	}
	c.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pingreq}})
	for id := range uint16(3) {
		if ack := c.want(packets.Puback); ack.PacketID != id+1 {
			t.Errorf("PUBACK of %d, want %d", ack.PacketID, id+1)
		}
	}
	c.want(packets.Pingresp)
	if s.Discarded() != 2 {
		t.Errorf("%d discarded, want 2", s.Discarded())
	}
}

// TestSessionsOfTwoVersions wants a session not to be resumed by the other
// version of MQTT.
func TestSessionsOfTwoVersions(t *testing.T) {
	s := start(t, awsiottest.Options{})
	c, _ := dial311(t, s, "c", false)
	c.send(subscribe311(1, 1, "t/#"))
	c.want(packets.Suback)
	again, ack := dial311(t, s, "c", false)
	if !ack.SessionPresent {
		t.Fatal("the same version does not resume")
	}
	again.send(publish311("t/1", 1, 9))
	other := connect(t, s, dialer{id: "c", change: persistent(false)})
	if other.connack.SessionPresent {
		t.Error("MQTT 5 resumes a session of MQTT 3.1.1")
	}
	other.subscribe(t, "u")
	for i, topic := range []string{"t/1", "u"} {
		if _, err := other.Publish(deadline(t), &paho.Publish{Topic: topic, QoS: 1, Payload: fmt.Append(nil, i)}); err != nil {
			t.Fatal(err)
		}
	}
	if p := other.receive(t); p.Topic != "u" {
		t.Errorf("received %s: the subscription of the old session is alive", p.Topic)
	}
}

// raw5 is a client of MQTT 5 that sends CONNECT, and then nothing of itself.
func raw5(t *testing.T, s *awsiottest.Server, id string, keepAlive uint16) *v311 {
	t.Helper()
	c := wire311(t, s, newCertificate(t, s, true))
	pk := connect311(id, true)
	pk.Connect.Keepalive, pk.ProtocolVersion = keepAlive, 5
	var buf bytes.Buffer
	if err := pk.ConnectEncode(&buf); err != nil {
		t.Fatal(err)
	}
	if _, err := c.conn.Write(buf.Bytes()); err != nil {
		t.Fatal(err)
	}
	c.version = 5
	c.want(packets.Connack)
	return c
}
