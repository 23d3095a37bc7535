package awsiot

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"

	"github.com/eclipse/paho.golang/packets"

	"sluice"
)

// wireOf makes a link on one end of a pipe.
func wireOf(t *testing.T) (*link, net.Conn) {
	near, far := net.Pipe()
	t.Cleanup(func() { _ = near.Close(); _ = far.Close() })
	return newLink(near, nil), far
}

// All packets arrive whole, whoever writes them, those of a goroutine in its
// order, and those of QoS 0 are written when publish returns.
func TestPacketsAreWrittenTogether(t *testing.T) {
	l, far := wireOf(t)
	const hands, each = 20, 50
	var all sync.WaitGroup
	for hand := range hands {
		all.Go(func() {
			for i := range each {
				m := &sluice.Message{ID: fmt.Sprint(hand), Document: []byte(fmt.Sprint(i))}
				id := uint16(hand % 2) // 0: QoS 0
				if err := l.publish(id, "t", m, hand%3 == 0); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Go(func() {
		for range each {
			if _, err := packets.NewControlPacket(packets.PINGREQ).WriteTo(l); err != nil {
				t.Error(err)
			}
		}
	})
	got, pings := map[string]int{}, 0
	for range hands*each + each {
		p, err := packets.ReadPacket(far)
		if err != nil {
			t.Fatal(err)
		}
		publish, ok := p.Content.(*packets.Publish)
		if !ok {
			pings++
			continue
		}
		from := publish.Properties.User[0].Value
		if want := fmt.Sprint(got[from]); string(publish.Payload) != want {
			t.Fatalf("%s: %s instead of %s", from, publish.Payload, want)
		}
		got[from]++
	}
	all.Wait()
	if len(got) != hands || pings != each {
		t.Errorf("%d wrote, %d pings", len(got), pings)
	}
}

func TestAWriteThatFails(t *testing.T) {
	l, far := wireOf(t)
	_ = far.Close()
	m := &sluice.Message{ID: "x"}
	for range 2 {
		if l.publish(1, "t", m, true) == nil {
			t.Error("nothing failed")
		}
	}
	l.Lock()
	if _, err := l.Write([]byte("x")); err == nil {
		t.Error("paho may write")
	}
	l.Unlock()
}

// Plain acknowledgements do not reach paho; all else does, byte for byte,
// however the wire cuts it.
func TestAcknowledgementsAreTakenOut(t *testing.T) {
	var wire, rest bytes.Buffer
	var want []puback
	add := func(b *bytes.Buffer, p io.WriterTo) {
		if _, err := p.WriteTo(b); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 200 {
		code := byte(0)
		switch i % 4 {
		case 1:
			code = 0x97
		case 2: // has properties: paho's
			p := &packets.Puback{PacketID: uint16(i + 1), ReasonCode: 0x87, Properties: &packets.Properties{ReasonString: "because"}}
			add(&wire, p)
			add(&rest, p)
			continue
		case 3:
			p := &packets.Publish{Topic: "t", Payload: bytes.Repeat([]byte("x"), i*60), Properties: &packets.Properties{}}
			add(&wire, p)
			add(&rest, p)
			continue
		}
		if code == 0 && i%8 == 0 {
			wire.Write([]byte{packets.PUBACK << 4, 2, 0, byte(i + 1)}) // the shortest form
		} else {
			add(&wire, &packets.Puback{PacketID: uint16(i + 1), ReasonCode: code, Properties: &packets.Properties{}})
		}
		want = append(want, puback{code: code})
	}
	l, far := wireOf(t)
	acks := make(chan puback, len(want))
	for range 256 {
		if _, err := l.expect(acks); err != nil {
			t.Fatal(err)
		}
	}
	go func() {
		for b := wire.Bytes(); len(b) > 0; {
			n := min(len(b), 1+len(b)%7*97)
			_, _ = far.Write(b[:n])
			b = b[n:]
		}
		_ = far.Close()
	}()
	got, err := io.ReadAll(l)
	if err != nil || !bytes.Equal(got, rest.Bytes()) {
		t.Errorf("%v, %d bytes for paho instead of %d", err, len(got), rest.Len())
	}
	if len(acks) != len(want) {
		t.Fatalf("%d acknowledgements, want %d", len(acks), len(want))
	}
	for i, w := range want {
		if a := <-acks; a != w {
			t.Errorf("acknowledgement %d: %+v, want %+v", i, a, w)
		}
	}
}
