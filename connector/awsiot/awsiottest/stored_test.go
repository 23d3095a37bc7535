package awsiottest_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"
	"github.com/mochi-mqtt/server/v2/packets"

	"sluice/connector/awsiot/awsiottest"
)

// away opens a session, subscribes it and loses its connection.
func away(t *testing.T, s *awsiottest.Server, id, filter string) {
	t.Helper()
	c := connect(t, s, dialer{id: id, change: persistent(true)})
	c.subscribe(t, filter)
	_ = c.conn.Close()
	eventually(t, id+" is offline", func() bool { return !s.ClientStats()[id].Connected })
}

// TestStoredRate wants stored messages at 10 a second, and what comes now
// along with them. The clock stands still but when the test moves it.
func TestStoredRate(t *testing.T) {
	clock := newClock()
	s := start(t, awsiottest.Options{Rate: -1, Clock: clock.read, Quotas: awsiottest.Quotas{StoredRate: 10}})
	away(t, s, "sub", "t")
	sender := connect(t, s, dialer{id: "sender"})
	for i := range 25 {
		_, _ = sender.publish(t, "t", fmt.Append(nil, i))
	}
	c := connect(t, s, dialer{id: "sub", change: persistent(false)})
	for i := range 10 {
		if got := string(c.receive(t).Payload); got != fmt.Sprint(i) {
			t.Fatalf("received %q, want %d", got, i)
		}
	}
	_, _ = sender.publish(t, "t", []byte("new"))
	if got := string(c.receive(t).Payload); got != "new" {
		t.Errorf("received %q, want the new one while the stored ones wait", got)
	}
	for i := 10; i < 25; i++ {
		if i%10 == 0 {
			if got := s.ClientStats()["sub"].Delivered; got != uint64(i+1) {
				t.Errorf("%d delivered before the second is over, want %d", got, i+1)
			}
			clock.advance(time.Second)
		}
		if got := string(c.receive(t).Payload); got != fmt.Sprint(i) {
			t.Fatalf("received %q, want %d", got, i)
		}
	}
}

// TestQueueRate wants more stored messages a second than the account may have
// to be dropped, and counted.
func TestQueueRate(t *testing.T) {
	clock := newClock()
	s := start(t, awsiottest.Options{Rate: -1, Clock: clock.read, Quotas: awsiottest.Quotas{QueueRate: 5}})
	away(t, s, "sub", "t")
	sender := connect(t, s, dialer{id: "sender"})
	for range 8 {
		_, _ = sender.publish(t, "t", nil)
	}
	if s.Dropped() != 3 || s.Exceeded(awsiottest.QuotaQueueRate) != 3 {
		t.Errorf("%d dropped, want 3", s.Dropped())
	}
}

// TestNotStored wants messages of QoS 0, and those that have expired, not to
// come after a reconnect.
func TestNotStored(t *testing.T) {
	s := start(t, awsiottest.Options{})
	away(t, s, "sub", "t")
	sender := connect(t, s, dialer{id: "sender"})
	second := uint32(1)
	send := func(payload string, qos byte, expiry *uint32) {
		t.Helper()
		if _, err := sender.Publish(deadline(t), &paho.Publish{
			Topic: "t", QoS: qos, Payload: []byte(payload), Properties: &paho.PublishProperties{MessageExpiry: expiry},
		}); err != nil {
			t.Fatal(err)
		}
	}
	send("QoS 0", 0, nil)
	sent := time.Now()
	send("short", 1, &second)
	eventually(t, "a second is over", func() bool { return time.Since(sent) > time.Second })
	send("kept", 1, nil)
	c := connect(t, s, dialer{id: "sub", change: persistent(false)})
	if got := string(c.receive(t).Payload); got != "kept" {
		t.Errorf("received %q", got)
	}
}

// TestSessionExpiry wants the account's limit in CONNACK, and MQTT 3.1.1's
// sessions to end after it.
func TestSessionExpiry(t *testing.T) {
	s := start(t, awsiottest.Options{Quotas: awsiottest.Quotas{SessionExpiry: 2 * time.Second}})
	c := connect(t, s, dialer{id: "c", change: persistent(true)})
	if got := c.connack.Properties.SessionExpiryInterval; got == nil || *got != 2 {
		t.Errorf("Session Expiry Interval %v, want 2", got)
	}
	old, _ := dial311(t, s, "old", false)
	_ = old.conn.Close()
	eventually(t, "offline", func() bool { return !s.ClientStats()["old"].Connected })
	if !s.ClientStats()["old"].Session {
		t.Error("no session is kept")
	}
	eventually(t, "the session expires", func() bool { return !s.ClientStats()["old"].Session })
	if _, ack := dial311(t, s, "old", false); ack.SessionPresent {
		t.Error("an expired session is present")
	}
}

// TestGroupQueue wants what came while no member was online to wait for the
// group, as one of them has a persistent session, and to go to whoever comes.
func TestGroupQueue(t *testing.T) {
	s := start(t, awsiottest.Options{Rate: -1})
	const filter = "$share/g/t"
	away(t, s, "persistent", filter)
	sender := connect(t, s, dialer{id: "sender"})
	for i := range 5 {
		_, _ = sender.publish(t, "t", fmt.Append(nil, i))
	}
	if _, err := sender.Publish(deadline(t), &paho.Publish{Topic: "t", Payload: []byte("QoS 0")}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "QoS 0 is dropped", func() bool { return s.Unshared() == 1 })
	newcomer := connect(t, s, dialer{id: "newcomer"})
	newcomer.subscribe(t, filter)
	for i := range 5 {
		if got := string(newcomer.receive(t).Payload); got != fmt.Sprint(i) {
			t.Errorf("received %q, want %d", got, i)
		}
	}
	again := connect(t, s, dialer{id: "persistent", change: persistent(false)})
	_ = newcomer.Disconnect(&paho.Disconnect{})
	eventually(t, "the newcomer has gone", func() bool { return !s.ClientStats()["newcomer"].Connected })
	_, _ = sender.publish(t, "t", []byte("x"))
	if got := string(again.receive(t).Payload); got != "x" {
		t.Errorf("received %q", got)
	}
}

// TestGroupWithoutSessions wants nothing to be kept for a group whose members
// have no persistent session.
func TestGroupWithoutSessions(t *testing.T) {
	s := start(t, awsiottest.Options{})
	c := connect(t, s, dialer{id: "c"})
	c.subscribe(t, "$share/g/t")
	_ = c.Disconnect(&paho.Disconnect{})
	eventually(t, "it has gone", func() bool { return !s.ClientStats()["c"].Session })
	sender := connect(t, s, dialer{id: "sender"})
	_, _ = sender.publish(t, "t", []byte("lost"))
	c = connect(t, s, dialer{id: "c"})
	c.subscribe(t, "$share/g/t")
	_, _ = sender.publish(t, "t", []byte("found"))
	if got := string(c.receive(t).Payload); got != "found" {
		t.Errorf("received %q", got)
	}
}

// TestGroupGivesBack wants what a lost member had not acknowledged to go to
// another one.
func TestGroupGivesBack(t *testing.T) {
	s := start(t, awsiottest.Options{Rate: -1})
	const filter = "$share/g/t"
	mute, _ := dial311(t, s, "mute", false)
	mute.send(subscribe311(1, 1, filter))
	mute.want(packets.Suback)
	sender := connect(t, s, dialer{id: "sender"})
	for i := range 3 {
		_, _ = sender.publish(t, "t", fmt.Append(nil, i))
		mute.want(packets.Publish)
	}
	other := connect(t, s, dialer{id: "other"})
	other.subscribe(t, filter)
	_ = mute.conn.Close()
	for i := range 3 {
		if got := string(other.receive(t).Payload); got != fmt.Sprint(i) {
			t.Errorf("received %q, want %d", got, i)
		}
	}
}

// TestGroupRate wants a group of two to get twice as much as one connection
// may, and the rest to wait for it.
func TestGroupRate(t *testing.T) {
	clock := newClock()
	s := start(t, awsiottest.Options{Rate: -1, OutboundRate: 10, Clock: clock.read})
	var members []*client
	for i := range 2 {
		c := connect(t, s, dialer{id: fmt.Sprintf("member-%d", i), change: persistent(true)})
		c.subscribe(t, "$share/g/t")
		members = append(members, c)
	}
	sender := connect(t, s, dialer{id: "sender"})
	for range 30 {
		_, _ = sender.publish(t, "t", nil)
	}
	count := func(want int) func() bool {
		return func() bool { return len(members[0].messages)+len(members[1].messages) == want }
	}
	eventually(t, "20 arrive", count(20))
	clock.advance(time.Second)
	eventually(t, "30 arrive", count(30))
	if s.Dropped() != 0 || s.Unshared() != 0 {
		t.Errorf("%d dropped, %d unshared", s.Dropped(), s.Unshared())
	}
}

// TestGroupRateWithoutSessions wants what a group cannot take now to be lost
// where no member has a persistent session.
func TestGroupRateWithoutSessions(t *testing.T) {
	clock := newClock()
	s := start(t, awsiottest.Options{Rate: -1, OutboundRate: 10, Clock: clock.read})
	c := connect(t, s, dialer{id: "c"})
	c.subscribe(t, "$share/g/t")
	sender := connect(t, s, dialer{id: "sender"})
	for range 15 {
		_, _ = sender.publish(t, "t", nil)
	}
	for range 10 {
		c.receive(t)
	}
	if s.Unshared() != 5 {
		t.Errorf("%d unshared, want 5", s.Unshared())
	}
	clock.advance(time.Second)
	_, _ = sender.publish(t, "t", []byte("next"))
	if got := string(c.receive(t).Payload); got != "next" {
		t.Errorf("received %q", got)
	}
}

// TestGroupQoS wants each member to get what it asked for at most, and no
// retained message.
func TestGroupQoS(t *testing.T) {
	s := start(t, awsiottest.Options{})
	c := connect(t, s, dialer{id: "c"})
	if _, err := c.Publish(deadline(t), &paho.Publish{Topic: "t", QoS: 1, Retain: true, Payload: []byte("retained")}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Subscribe(deadline(t), &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: "$share/g/t", QoS: 0}}}); err != nil {
		t.Fatal(err)
	}
	_, _ = c.publish(t, "t", []byte("now"))
	if p := c.receive(t); string(p.Payload) != "now" || p.QoS != 0 {
		t.Errorf("received %q with QoS %d", p.Payload, p.QoS)
	}
}

// TestWillWhen wants the will for every end but the client's own goodbye.
func TestWillWhen(t *testing.T) {
	s := start(t, awsiottest.Options{})
	watcher := connect(t, s, dialer{id: "watcher"})
	watcher.subscribe(t, "will/#")
	for name, end := range map[string]func(*client){
		"lost":        func(c *client) { _ = c.conn.Close() },
		"taken over":  func(*client) { connect(t, s, dialer{id: "taken over"}) },
		"by server":   func(*client) { s.Disconnect(0x98, func(id string) bool { return id == "by server" }) },
		"own mistake": func(c *client) { _ = c.publishRaw(&paho.Publish{Topic: "$bad"}) },
		"bad alias": func(c *client) {
			alias := uint16(3)
			_ = c.publishRaw(&paho.Publish{Properties: &paho.PublishProperties{TopicAlias: &alias}})
		},
	} {
		c := connect(t, s, dialer{id: name, change: func(p *paho.Connect) {
			p.WillMessage = &paho.WillMessage{Topic: "will/" + name, QoS: 1, Retain: true, Payload: []byte("gone")}
		}})
		end(c)
		if p := watcher.receive(t); p.Topic != "will/"+name || p.Retain {
			t.Errorf("%s: received %s", name, p.Topic)
		}
		watcher.subscribe(t, "will/"+name)
		if p := watcher.receive(t); p.Topic != "will/"+name || !p.Retain {
			t.Errorf("%s: the will was not retained", name)
		}
	}
}

// TestWillRefused wants a will on a topic that AWS does not take to end the
// CONNECT, and one that its policy does not allow not to be published.
func TestWillRefused(t *testing.T) {
	s := start(t, awsiottest.Options{})
	will := func(topic string) func(*paho.Connect) {
		return func(p *paho.Connect) { p.WillMessage = &paho.WillMessage{Topic: topic, Payload: []byte("gone")} }
	}
	for _, topic := range []string{"$aws/things/a/shadow/update", "1/2/3/4/5/6/7/8/9"} {
		c, err := dial(t, s, newCertificate(t, s, true), dialer{id: "c", change: will(topic)})
		if err == nil || c.connack.ReasonCode != 0x90 {
			t.Errorf("%s: %v, want CONNACK 0x90", topic, err)
		}
	}
	watcher := connect(t, s, dialer{id: "watcher"})
	watcher.subscribe(t, "#")
	cert := withPolicies(t, s, allow("Connect client/*", "Publish topic/mine"))
	for _, topic := range []string{"theirs", "mine"} {
		c, err := dial(t, s, cert, dialer{id: topic, change: will(topic)})
		if err != nil {
			t.Fatal(err)
		}
		_ = c.conn.Close()
		eventually(t, "offline", func() bool { return !s.ClientStats()[topic].Connected })
	}
	if got := watcher.receive(t).Topic; got != "mine" {
		t.Errorf("received the will on %s", got)
	}
}

// TestPresence wants the events of a client's coming and going, with why.
func TestPresence(t *testing.T) {
	s := start(t, awsiottest.Options{})
	watcher := connect(t, s, dialer{id: "watcher"})
	watcher.subscribe(t, "$aws/events/presence/+/+")
	type event struct {
		ClientID, EventType, DisconnectReason, SessionIdentifier, PrincipalIdentifier, IPAddress string
		ClientInitiatedDisconnect                                                                *bool
		VersionNumber                                                                            int
	}
	next := func() (string, event) {
		t.Helper()
		var e event
		p := watcher.receive(t)
		if err := json.Unmarshal(p.Payload, &e); err != nil {
			t.Fatal(err)
		}
		return p.Topic, e
	}
	for id, test := range map[string]struct {
		end    func(*client)
		reason string
	}{
		"polite": {func(c *client) { _ = c.Disconnect(&paho.Disconnect{}) }, "CLIENT_INITIATED_DISCONNECT"},
		"lost":   {func(c *client) { _ = c.conn.Close() }, "CONNECTION_LOST"},
		"wrong":  {func(c *client) { _ = c.publishRaw(&paho.Publish{Topic: "$bad"}) }, "CLIENT_ERROR"},
		"kicked": {func(*client) { s.Disconnect(0x98, func(id string) bool { return id == "kicked" }) }, "API_INITIATED_DISCONNECT"},
	} {
		cert := newCertificate(t, s, true)
		c, err := dial(t, s, cert, dialer{id: id})
		if err != nil {
			t.Fatal(err)
		}
		topic, came := next()
		if topic != "$aws/events/presence/connected/"+id || came.PrincipalIdentifier != cert.ID || came.IPAddress == "" || came.VersionNumber != 1 {
			t.Errorf("%s %+v", topic, came)
		}
		test.end(c)
		topic, went := next()
		if topic != "$aws/events/presence/disconnected/"+id || went.DisconnectReason != test.reason || went.SessionIdentifier != came.SessionIdentifier ||
			went.VersionNumber != 2 || went.ClientInitiatedDisconnect == nil || *went.ClientInitiatedDisconnect != (id == "polite") {
			t.Errorf("%s %+v", topic, went)
		}
	}
}
