package awsiottest_test

import (
	"encoding/binary"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"

	"sluice/connector/awsiot/awsiottest"
)

// TestNothingIsLost sends 20,000 messages of QoS 1 from ten clients, as fast as
// it goes, to one subscriber: each arrives once, and those of one client in
// order. Then the same with a small Receive Maximum and senders that receive,
// too, as what goes in and out by one connection must not meet.
func TestNothingIsLost(t *testing.T) {
	const clients = 10
	s := start(t, awsiottest.Options{Rate: -1})
	for _, test := range []struct {
		name   string
		window uint16
		each   int
		both   bool
	}{{"AWS's window", 65535, 2000, false}, {"a small window", 7, 200, true}} {
		t.Run(test.name, func(t *testing.T) {
			each, window := uint64(test.each), test.window
			var last [clients]uint64 // the next that is due, touched by the subscriber alone
			var wrong, received atomic.Uint64
			all := make(chan struct{})
			subscriber := connect(t, s, dialer{
				id: "subscriber",
				change: func(p *paho.Connect) {
					p.Properties = &paho.ConnectProperties{ReceiveMaximum: &window}
				},
				receive: func(p *paho.Publish) {
					client, number := p.Payload[0], binary.BigEndian.Uint64(p.Payload[1:])
					if last[client] != number {
						wrong.Add(1)
					}
					last[client] = number + 1
					if received.Add(1) == clients*each {
						close(all)
					}
				},
			})
			subscriber.subscribe(t, "up/+")
			var senders sync.WaitGroup
			for i := range clients {
				c := connect(t, s, dialer{id: fmt.Sprintf("client-%d", i), receive: func(*paho.Publish) {}})
				if test.both {
					c.subscribe(t, "up/"+fmt.Sprint((i+1)%clients))
				}
				senders.Go(func() { sendMany(t, c, byte(i), test.each) })
			}
			senders.Wait()
			select {
			case <-all:
			case <-time.After(2 * patience):
			}
			if received.Load() != clients*each || wrong.Load() > 0 {
				t.Errorf("%d received, want %d; %d out of order, lost or twice", received.Load(), clients*each, wrong.Load())
			}
		})
	}
	if s.Dropped() > 0 || s.Discarded() > 0 {
		t.Errorf("%d dropped, %d discarded", s.Dropped(), s.Discarded())
	}
}

func sendMany(t *testing.T, c *client, number byte, n int) {
	for i := range n {
		payload := binary.BigEndian.AppendUint64([]byte{number}, uint64(i))
		ack, err := c.Publish(t.Context(), &paho.Publish{Topic: fmt.Sprintf("up/%d", number), QoS: 1, Payload: payload})
		if err != nil || ack.ReasonCode != 0 {
			t.Errorf("publish %d: %v", i, err)
			return
		}
	}
}

func persistent(clean bool) func(*paho.Connect) {
	return func(p *paho.Connect) {
		hour := uint32(3600)
		p.CleanStart = clean
		p.Properties = &paho.ConnectProperties{SessionExpiryInterval: &hour}
	}
}

// TestPersistentSession wants what was sent meanwhile, and what was not
// acknowledged, after a reconnect: in order, without DUP.
func TestPersistentSession(t *testing.T) {
	s := start(t, awsiottest.Options{Rate: -1})
	block := make(chan struct{})
	got := make(chan string, 1)
	first := connect(t, s, dialer{id: "sub", change: persistent(true), receive: func(p *paho.Publish) {
		got <- string(p.Payload)
		<-block // never acknowledged
	}})
	first.subscribe(t, "t/#")
	sender := connect(t, s, dialer{id: "sender"})
	_, _ = sender.publish(t, "t/1", []byte("0"))
	<-got
	_, _ = sender.publish(t, "t/1", []byte("1"))
	_ = first.conn.Close() // lost
	close(block)
	eventually(t, "offline", func() bool { return !s.ClientStats()["sub"].Connected })
	for i := 2; i < 500; i++ {
		_, _ = sender.publish(t, "t/1", fmt.Append(nil, i))
	}
	second := connect(t, s, dialer{id: "sub", change: persistent(false)})
	if !second.connack.SessionPresent {
		t.Fatal("no session present")
	}
	for i := range 500 {
		p := second.receive(t)
		if string(p.Payload) != fmt.Sprint(i) || p.Duplicate() {
			t.Fatalf("received %q (dup %v), want %d", p.Payload, p.Duplicate(), i)
		}
	}
	if s.Dropped() != 0 {
		t.Errorf("%d dropped", s.Dropped())
	}
	third := connect(t, s, dialer{id: "sub", change: persistent(true)})
	if third.connack.SessionPresent {
		t.Error("a clean start finds a session")
	}
	_, _ = sender.publish(t, "t/1", []byte("x"))
	third.subscribe(t, "t/2")
	_, _ = sender.publish(t, "t/2", []byte("y"))
	if got := string(third.receive(t).Payload); got != "y" {
		t.Errorf("received %q: the old subscription is alive", got)
	}
}

// TestTakeoverKeepsSession moves a session between connections while messages
// come.
func TestTakeoverKeepsSession(t *testing.T) {
	s := start(t, awsiottest.Options{Rate: -1})
	var mu sync.Mutex
	seen := map[string]bool{}
	receive := func(p *paho.Publish) {
		mu.Lock()
		defer mu.Unlock()
		seen[string(p.Payload)] = true
	}
	connect(t, s, dialer{id: "sub", change: persistent(true), receive: receive}).subscribe(t, "t")
	sender := connect(t, s, dialer{id: "sender"})
	const n = 2000
	var wait sync.WaitGroup
	wait.Go(func() {
		for i := range n {
			_, _ = sender.publish(t, "t", fmt.Append(nil, i))
		}
	})
	for range 10 {
		c := connect(t, s, dialer{id: "sub", change: persistent(false), receive: receive})
		if !c.connack.SessionPresent {
			t.Error("no session present")
		}
	}
	wait.Wait()
	eventually(t, "all arrived", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(seen) == n
	})
}

func TestSharedSubscription(t *testing.T) {
	const members, messages = 5, 500
	s := start(t, awsiottest.Options{Rate: -1})
	var mu sync.Mutex
	seen, byMember := map[string]int{}, [members]int{}
	for i := range members {
		connect(t, s, dialer{id: fmt.Sprintf("member-%d", i), receive: func(p *paho.Publish) {
			mu.Lock()
			defer mu.Unlock()
			seen[string(p.Payload)]++
			byMember[i]++
		}}).subscribe(t, "$share/sluice/down/#")
	}
	sender := connect(t, s, dialer{id: "sender"})
	for i := range messages {
		_, _ = sender.publish(t, "down/1", fmt.Append(nil, i))
	}
	eventually(t, "all arrived", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(seen) == messages
	})
	mu.Lock()
	defer mu.Unlock()
	for payload, n := range seen {
		if n != 1 {
			t.Errorf("message %s came %d times", payload, n)
		}
	}
	for i, n := range byMember {
		if n == 0 || n == messages {
			t.Errorf("member %d got %d", i, n)
		}
	}
}

func TestRetained(t *testing.T) {
	s := start(t, awsiottest.Options{})
	c := connect(t, s, dialer{id: "c"})
	for _, topic := range []string{"r/1", "r/2"} {
		if _, err := c.Publish(deadline(t), &paho.Publish{Topic: topic, QoS: 1, Retain: true, Payload: []byte(topic)}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Publish(deadline(t), &paho.Publish{Topic: "r/2", QoS: 1, Retain: true}); err != nil {
		t.Fatal(err)
	}
	c.subscribe(t, "r/+") // gets none: it has a wildcard
	c.subscribe(t, "r/2") // removed
	c.subscribe(t, "r/1")
	if p := c.receive(t); string(p.Payload) != "r/1" || !p.Retain {
		t.Errorf("received %q, retain %v", p.Payload, p.Retain)
	}
}

func TestWill(t *testing.T) {
	s := start(t, awsiottest.Options{})
	watcher := connect(t, s, dialer{id: "watcher"})
	watcher.subscribe(t, "will/#")
	will := func(topic string) func(*paho.Connect) {
		return func(p *paho.Connect) {
			p.WillMessage = &paho.WillMessage{Topic: topic, QoS: 1, Payload: []byte("gone")}
		}
	}
	polite := connect(t, s, dialer{id: "polite", change: will("will/polite")})
	_ = polite.Disconnect(&paho.Disconnect{})
	<-polite.Done()
	eventually(t, "the polite one is gone", func() bool { return !s.ClientStats()["polite"].Connected })
	lost := connect(t, s, dialer{id: "lost", change: will("will/lost")})
	_ = lost.conn.Close()
	if p := watcher.receive(t); p.Topic != "will/lost" || string(p.Payload) != "gone" {
		t.Errorf("received %s %q", p.Topic, p.Payload)
	}
}

// TestSessionExpires wants a session to end in time, with its part in a
// shared subscription.
func TestSessionExpires(t *testing.T) {
	s := start(t, awsiottest.Options{})
	short := connect(t, s, dialer{id: "short", change: func(p *paho.Connect) {
		second := uint32(1)
		p.Properties = &paho.ConnectProperties{SessionExpiryInterval: &second}
	}})
	short.subscribe(t, "$share/g/t")
	_ = short.conn.Close()
	eventually(t, "offline", func() bool { return !s.ClientStats()["short"].Connected })
	if !s.ClientStats()["short"].Session {
		t.Error("no session is kept")
	}
	eventually(t, "the session expires", func() bool { return !s.ClientStats()["short"].Session })
	c := connect(t, s, dialer{id: "c"})
	c.subscribe(t, "$share/g/t")
	for range 20 {
		_, _ = c.publish(t, "t", nil)
		c.receive(t) // none goes to the one that has gone
	}
}
