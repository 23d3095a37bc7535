package awsiottest_test

import (
	"testing"

	"github.com/eclipse/paho.golang/paho"

	"sluice/connector/awsiot/awsiottest"
)

func TestFailPubacks(t *testing.T) {
	s := start(t, awsiottest.Options{})
	watcher := connect(t, s, dialer{id: "watcher"})
	watcher.subscribe(t, "t")
	c := connect(t, s, dialer{id: "c"})
	s.FailPubacks(1, 1, func(id string) bool { return id == "c" })
	if _, err := watcher.publish(t, "other", nil); err != nil {
		t.Errorf("another client: %v", err)
	}
	if err := c.publishRaw(&paho.Publish{Topic: "t", QoS: 1, Payload: []byte("dropped")}); err != nil {
		t.Fatal(err)
	}
	if got := watcher.receive(t); string(got.Payload) != "dropped" {
		t.Errorf("received %q", got.Payload)
	}
	if err := c.publishRaw(&paho.Publish{Topic: "t", QoS: 1, Payload: []byte("x")}); err != nil {
		t.Fatal(err)
	}
	<-c.Done() // the link is lost
	if got := watcher.receive(t); string(got.Payload) != "x" {
		t.Errorf("received %q", got.Payload)
	}
	again := connect(t, s, dialer{id: "c"})
	if _, err := again.publish(t, "t", []byte("y")); err != nil {
		t.Errorf("after the only cut: %v", err)
	}
}

// A broker that restarts keeps its sessions, or loses them with all that
// waits in them; others are spared.
func TestRestart(t *testing.T) {
	for _, keep := range []bool{true, false} {
		s := start(t, awsiottest.Options{})
		lasting := func(p *paho.Connect) {
			expiry := uint32(600)
			p.CleanStart, p.Properties = false, &paho.ConnectProperties{SessionExpiryInterval: &expiry}
		}
		other := connect(t, s, dialer{id: "other"})
		c := connect(t, s, dialer{id: "c", change: lasting})
		c.subscribe(t, "t")
		s.Restart(keep, func(id string) bool { return id == "c" })
		<-c.Done()
		if _, err := other.publish(t, "t", []byte("x")); err != nil {
			t.Fatal(err)
		}
		again := connect(t, s, dialer{id: "c", change: lasting})
		if again.connack.SessionPresent != keep {
			t.Fatalf("keep=%v: session present: %v", keep, again.connack.SessionPresent)
		}
		if !keep {
			again.subscribe(t, "t")
			if _, err := other.publish(t, "t", []byte("y")); err != nil {
				t.Fatal(err)
			}
		}
		want := map[bool]string{true: "x", false: "y"}[keep]
		if got := again.receive(t); string(got.Payload) != want {
			t.Errorf("keep=%v: received %q, want %q", keep, got.Payload, want)
		}
	}
}
