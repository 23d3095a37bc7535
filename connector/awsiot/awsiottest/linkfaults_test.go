package awsiottest_test

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"
	"github.com/mochi-mqtt/server/v2/packets"

	"sluice/connector/awsiot/awsiottest"
)

// TestDropPubacksFraction wants about the part that was asked for, and the
// same ones for the same seed.
func TestDropPubacksFraction(t *testing.T) {
	var runs [2][]uint16
	for i := range runs {
		s := start(t, awsiottest.Options{Rate: -1})
		s.DropPubacksFraction(0.2, 42)
		c, _ := dial311(t, s, "c", true)
		for id := range uint16(200) {
			c.send(publish311("t", 1, id+1))
		}
		c.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pingreq}})
		for {
			pk, err := c.next()
			if err != nil {
				t.Fatal(err)
			}
			if pk.FixedHeader.Type == packets.Pingresp {
				break
			}
			runs[i] = append(runs[i], pk.PacketID)
		}
		s.DropPubacksFraction(0, 0)
		c.send(publish311("t", 1, 1000))
		c.want(packets.Puback)
	}
	if n := len(runs[0]); n < 130 || n > 190 || !slices.Equal(runs[0], runs[1]) {
		t.Errorf("%d and %d of 200 acknowledged; want about 160, the same ones", len(runs[0]), len(runs[1]))
	}
}

// TestDelayPubacks wants PUBACKs later, in order, and other answers now.
func TestDelayPubacks(t *testing.T) {
	s := start(t, awsiottest.Options{})
	c, _ := dial311(t, s, "c", true)
	s.DelayPubacks(200 * time.Millisecond)
	for id := range uint16(3) {
		c.send(publish311("t", 1, id+1))
	}
	c.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pingreq}})
	c.want(packets.Pingresp)
	for id := range uint16(3) {
		if pk := c.want(packets.Puback); pk.PacketID != id+1 {
			t.Errorf("PUBACK of %d, want %d", pk.PacketID, id+1)
		}
	}
}

// TestCut wants connections to end without a word, and only those that were
// picked.
func TestCut(t *testing.T) {
	s := start(t, awsiottest.Options{})
	a, _ := dial311(t, s, "a", true)
	b, _ := dial311(t, s, "b", true)
	if n := s.Cut(func(id string) bool { return id == "a" }); n != 1 {
		t.Errorf("%d cut, want 1", n)
	}
	if _, err := a.next(); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("cut: %v, want a reset", err)
	}
	b.send(publish311("t", 1, 1))
	b.want(packets.Puback)
	eventually(t, "a is offline", func() bool { return !s.ClientStats()["a"].Connected })
	if n := s.CutAll(); n != 1 {
		t.Errorf("%d cut, want 1", n)
	}
}

// TestCutInPuback wants the publish to have been taken and the PUBACK to come
// in half.
func TestCutInPuback(t *testing.T) {
	s := start(t, awsiottest.Options{})
	watcher := connect(t, s, dialer{id: "watcher"})
	watcher.subscribe(t, "t")
	c, _ := dial311(t, s, "c", true)
	s.CutInPubacks(1)
	c.send(publish311("t", 1, 1))
	if pk, err := c.next(); err == nil {
		t.Errorf("got %+v", pk)
	}
	watcher.receive(t)
	again, _ := dial311(t, s, "c", true)
	again.send(publish311("t", 1, 1))
	again.want(packets.Puback)
}

// TestCutInPublish wants a message that was cut to come again to a session
// that is resumed.
func TestCutInPublish(t *testing.T) {
	s := start(t, awsiottest.Options{})
	c, _ := dial311(t, s, "c", false)
	c.send(subscribe311(1, 1, "t"))
	c.want(packets.Suback)
	s.CutInPublishes(1)
	_, _ = connect(t, s, dialer{id: "sender"}).publish(t, "t", []byte("x"))
	if pk, err := c.next(); err == nil {
		t.Errorf("got %+v", pk)
	}
	again, ack := dial311(t, s, "c", false)
	if !ack.SessionPresent {
		t.Fatal("no session")
	}
	if pk := again.want(packets.Publish); string(pk.Payload) != "x" || pk.FixedHeader.Dup {
		t.Errorf("got %+v", pk)
	}
}

// TestStall wants nothing to go in or out, and what was under way to come
// afterwards.
func TestStall(t *testing.T) {
	s := start(t, awsiottest.Options{})
	c := connect(t, s, dialer{id: "c"})
	s.Stall(true)
	done := make(chan error, 1)
	go func() {
		_, err := c.Publish(deadline(t), &paho.Publish{Topic: "t", QoS: 1})
		done <- err
	}()
	connected := make(chan error, 1)
	cert := newCertificate(t, s, true)
	go func() {
		_, err := dial(t, s, cert, dialer{id: "late"})
		connected <- err
	}()
	eventually(t, "what both sent is held", func() bool { return s.Held() == 2 })
	if n := s.ClientStats()["c"].Published; n != 0 {
		t.Errorf("%d published", n)
	}
	select {
	case err := <-done:
		t.Errorf("acknowledged: %v", err)
	case err := <-connected:
		t.Errorf("connected: %v", err)
	default:
	}
	s.Stall(false)
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := <-connected; err != nil {
		t.Error(err)
	}
}

// TestCloseStalled wants a stalled server to close.
func TestCloseStalled(t *testing.T) {
	s := start(t, awsiottest.Options{})
	connect(t, s, dialer{id: "c"})
	s.Stall(true)
	s.Close()
}

func TestSlow(t *testing.T) {
	s := start(t, awsiottest.Options{})
	c := connect(t, s, dialer{id: "c"})
	s.Slow(50 * time.Millisecond)
	began := time.Now()
	if code, err := c.publish(t, "t", nil); err != nil || code != 0 {
		t.Errorf("0x%02X %v", code, err)
	}
	if took := time.Since(began); took < 100*time.Millisecond {
		t.Errorf("there and back in %v: each way takes 50 ms at least", took)
	}
	s.Slow(0)
}

// TestListeners wants new connections to be refused while the doors are shut,
// and those that are open to live.
func TestListeners(t *testing.T) {
	s := start(t, awsiottest.Options{})
	c := connect(t, s, dialer{id: "c"})
	before := s.MQTTAddr()
	s.CloseListeners()
	if _, err := dial(t, s, newCertificate(t, s, true), dialer{id: "d"}); err == nil {
		t.Error("a new connection is accepted")
	}
	if code, err := c.publish(t, "t", nil); err != nil || code != 0 {
		t.Errorf("the open one: 0x%02X %v", code, err)
	}
	for range 2 { // the second finds them open
		if err := s.OpenListeners(); err != nil {
			t.Fatal(err)
		}
	}
	connect(t, s, dialer{id: "d"})
	if s.MQTTAddr() != before {
		t.Errorf("at %s, was at %s", s.MQTTAddr(), before)
	}
}

// TestRestartBroker wants all connections to be lost, and sessions to be kept
// or lost as asked.
func TestRestartBroker(t *testing.T) {
	for _, keep := range []bool{true, false} {
		t.Run(fmt.Sprintf("sessions kept: %v", keep), func(t *testing.T) {
			s := start(t, awsiottest.Options{})
			c := connect(t, s, dialer{id: "c", change: persistent(true)})
			c.subscribe(t, "t")
			away(t, s, "away", "t")
			_, _ = connect(t, s, dialer{id: "sender"}).publish(t, "t", []byte("x"))
			c.receive(t)
			if err := s.RestartBroker(keep); err != nil {
				t.Fatal(err)
			}
			<-c.Done()
			for _, id := range []string{"c", "away"} {
				again := connect(t, s, dialer{id: id, change: persistent(false)})
				if again.connack.SessionPresent != keep {
					t.Errorf("%s: session present %v", id, again.connack.SessionPresent)
				}
				if id == "away" && keep {
					again.receive(t)
				}
			}
		})
	}
}

// Faults can be for some clients only.
func TestFailOnly(t *testing.T) {
	s := start(t, awsiottest.Options{})
	other, c := connect(t, s, dialer{id: "other"}), connect(t, s, dialer{id: "c"})
	s.FailOnly(func(id string) bool { return id == "c" })
	s.CutInPubacks(1)
	if _, err := other.publish(t, "t", nil); err != nil {
		t.Errorf("another client: %v", err)
	}
	if err := c.publishRaw(&paho.Publish{Topic: "t", QoS: 1, Payload: []byte("x")}); err != nil {
		t.Fatal(err)
	}
	<-c.Done() // the link is lost
}

// A session is lost with all that waits in it; others are spared.
func TestLoseSessions(t *testing.T) {
	s := start(t, awsiottest.Options{})
	lasting := func(p *paho.Connect) {
		expiry := uint32(600)
		p.CleanStart, p.Properties = false, &paho.ConnectProperties{SessionExpiryInterval: &expiry}
	}
	other := connect(t, s, dialer{id: "other", change: lasting})
	c := connect(t, s, dialer{id: "c", change: lasting})
	c.subscribe(t, "t")
	s.LoseSessions(func(id string) bool { return id == "c" })
	<-c.Done()
	if _, err := other.publish(t, "t", []byte("x")); err != nil {
		t.Fatal(err)
	}
	again := connect(t, s, dialer{id: "c", change: lasting})
	if again.connack.SessionPresent {
		t.Fatal("the session is there")
	}
	again.subscribe(t, "t")
	if _, err := other.publish(t, "t", []byte("y")); err != nil {
		t.Fatal(err)
	}
	if got := again.receive(t); string(got.Payload) != "y" {
		t.Errorf("received %q", got.Payload)
	}
}
