package awsiot

import (
	"bytes"
	"context"
	"errors"
	"net"
	"strings"
	"testing"

	"github.com/eclipse/paho.golang/packets"
	"github.com/google/go-cmp/cmp"

	"sluice"
)

// What is written is a PUBLISH that paho's own reader understands.
func TestAppendPublish(t *testing.T) {
	for _, tc := range []struct {
		id       uint16
		topic    string
		msgID    string
		body     string
		replayed bool
	}{
		{0, "a", "", "", false},
		{1, "tpx/things/20635F0108000496/uplink", "01JDABCDEFGHJKMNPQRSTVWXYZ", `{"DevEUI_uplink":{}}`, true},
		{65535, strings.Repeat("é", 128), strings.Repeat("i", 100), strings.Repeat("x", 128<<10), true},
		{7, "t", strings.Repeat("i", 127), strings.Repeat("x", 100), false},
	} {
		m := &sluice.Message{ID: tc.msgID, Document: []byte(tc.body), Replayed: tc.replayed}
		raw := appendPublish([]byte("before"), tc.id, tc.topic, m)
		r := bytes.NewReader(raw[len("before"):])
		cp, err := packets.ReadPacket(r)
		if err != nil || r.Len() > 0 {
			t.Fatalf("%d: %v, %d bytes left", tc.id, err, r.Len())
		}
		p, ok := cp.Content.(*packets.Publish)
		if !ok {
			t.Fatalf("%d: %T", tc.id, cp.Content)
		}
		want := &packets.Publish{
			Topic: tc.topic, PacketID: tc.id, Payload: []byte(tc.body),
			Properties: &packets.Properties{ContentType: "application/json", User: []packets.User{{Key: "sluice-id", Value: tc.msgID}}},
		}
		if tc.replayed {
			want.Properties.User = append(want.Properties.User, packets.User{Key: "sluice-replayed", Value: "true"})
		}
		if tc.id > 0 {
			want.QoS = 1
		}
		if diff := cmp.Diff(want, p); diff != "" {
			t.Errorf("%d (-want +got): %s", tc.id, diff)
		}
		if size := packetSize(tc.topic, m); size < len(raw)-len("before") {
			t.Errorf("%d: packetSize says %d, it is %d", tc.id, size, len(raw)-len("before"))
		}
	}
}

// Packet ids go round, and leave out those that are waited for.
func TestPacketIDs(t *testing.T) {
	l := newLink(nil, nil)
	held, err := l.expect(make(chan puback, 1))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[uint16]bool{held: true}
	for range 1<<16 - 2 {
		id, err := l.expect(make(chan puback, 1))
		if err != nil || id == 0 || seen[id] {
			t.Fatalf("id %d, %v", id, err)
		}
		seen[id] = true
	}
	if _, err := l.expect(make(chan puback, 1)); err == nil {
		t.Error("there was an id left")
	}
	l.forget(700)
	if id, err := l.expect(make(chan puback, 1)); err != nil || id != 700 {
		t.Errorf("id %d, %v; want 700", id, err)
	}
}

// A late acknowledgement, for a publish that was given up, reaches nobody.
func TestLateAcknowledgement(t *testing.T) {
	l := newLink(nil, nil)
	ack := make(chan puback, 1)
	id, err := l.expect(ack)
	if err != nil {
		t.Fatal(err)
	}
	l.forget(id)
	late := &packets.ControlPacket{Content: &packets.Puback{PacketID: id}}
	if err := l.PacketReceived(late, nil); err != nil || len(ack) > 0 {
		t.Errorf("%v, %d", err, len(ack))
	}
}

// An acknowledgement that comes in the moment in which its publish is given up
// is there when forget returns, or never: the channel then serves another
// publish, which it would count as delivered.
func TestAcknowledgementWhileForgetting(t *testing.T) {
	l := newLink(nil, nil)
	ack := make(chan puback, 1)
	ids, done := make(chan uint16), make(chan error)
	go func() {
		for id := range ids {
			done <- l.PacketReceived(&packets.ControlPacket{Content: &packets.Puback{PacketID: id}}, nil)
		}
		close(done)
	}()
	for range 50_000 {
		id, err := l.expect(ack)
		if err != nil {
			t.Fatal(err)
		}
		ids <- id
		l.forget(id)
		select {
		case <-ack:
		default:
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if len(ack) > 0 {
			t.Fatal("it came after forget")
		}
	}
	close(ids)
	<-done
}

func TestLostLinkTakesNoMore(t *testing.T) {
	ours, theirs := net.Pipe()
	l := newLink(ours, nil)
	answer := make(chan packets.ControlPacket, 1)
	if err := l.AddToSession(context.Background(), &packets.Subscribe{}, answer); err != nil {
		t.Fatal(err)
	}
	_ = theirs.Close()
	for range 2 {
		if err := l.ConnectionLost(nil); err != nil {
			t.Fatal(err)
		}
	}
	if p := <-answer; p.Type != 0 {
		t.Errorf("the subscriber was told %v", p.Type)
	}
	if _, err := l.expect(make(chan puback, 1)); !errors.Is(err, errLinkLost) {
		t.Errorf("expect: %v", err)
	}
	if err := l.publish(1, "t", &sluice.Message{ID: "i"}, true); err == nil {
		t.Error("publish succeeded on a closed wire")
	}
	l.abort()
}
