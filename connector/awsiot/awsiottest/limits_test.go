package awsiottest_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"
	"github.com/mochi-mqtt/server/v2/packets"

	"sluice/connector/awsiot/awsiottest"
)

// clock is a clock that a test moves.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Now()} }

func (c *clock) read() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// TestSilentThrottle wants no PUBACK in MQTT 5, either, and the connection to
// stay.
func TestSilentThrottle(t *testing.T) {
	clock := newClock()
	s := start(t, awsiottest.Options{Rate: 1, Clock: clock.read, Inferred: awsiottest.Inferred{SilentThrottle: true}})
	c := connect(t, s, dialer{id: "c"})
	_, _ = c.publish(t, "t", nil)
	for range 2 {
		if err := c.publishRaw(&paho.Publish{Topic: "t", QoS: 1}); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "2 discarded", func() bool { return s.Discarded() == 2 && s.Exceeded(awsiottest.QuotaPublishRate) == 2 })
	clock.advance(time.Second)
	if code, err := c.publish(t, "t", nil); err != nil || code != 0 {
		t.Errorf("a second later: 0x%02X %v", code, err)
	}
}

// TestThroughput wants a client that sends too many bytes to be delayed, not
// to lose anything.
func TestThroughput(t *testing.T) {
	s := start(t, awsiottest.Options{})
	c := connect(t, s, dialer{id: "c"})
	for range 6 { // 512 KiB at once are free
		if code, err := c.publish(t, "t", make([]byte, 100<<10)); err != nil || code != 0 {
			t.Fatalf("0x%02X %v", code, err)
		}
	}
	stats := s.ClientStats()["c"]
	if stats.Delayed == 0 || s.Exceeded(awsiottest.QuotaThroughput) == 0 || stats.Published != 6 || stats.Discarded != 0 {
		t.Errorf("stats %+v", stats)
	}
}

// TestUnlimitedThroughput wants a server without a rate to delay nothing.
func TestUnlimitedThroughput(t *testing.T) {
	s := start(t, awsiottest.Options{Rate: -1})
	c := connect(t, s, dialer{id: "c"})
	for range 20 {
		_, _ = c.publish(t, "t", make([]byte, 100<<10))
	}
	if got := s.ClientStats()["c"]; got.Delayed != 0 || got.Published != 20 {
		t.Errorf("stats %+v", got)
	}
}

// TestInboundUnacknowledged wants the 101st publish without a PUBACK to be
// refused: DISCONNECT 0x93, and in MQTT 3.1.1 nothing.
func TestInboundUnacknowledged(t *testing.T) {
	s := start(t, awsiottest.Options{Rate: -1})
	watcher := connect(t, s, dialer{id: "watcher"})
	watcher.subscribe(t, "#")
	s.DelayPubacks(time.Hour)
	c := connect(t, s, dialer{id: "c"})
	old, _ := dial311(t, s, "old", true)
	for i := range uint16(101) {
		old.send(publish311("old", 1, i+1))
		p := (&paho.Publish{Topic: "new", QoS: 1}).Packet()
		p.PacketID = i + 1
		if _, err := p.WriteTo(c.conn); err != nil && i < 100 {
			t.Fatal(err)
		}
	}
	if code := c.ended(t); code != 0x93 {
		t.Errorf("DISCONNECT 0x%02X, want 0x93", code)
	}
	old.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pingreq}})
	old.want(packets.Pingresp) // it is there, without a PUBACK
	count := map[string]int{}
	for range 200 {
		count[watcher.receive(t).Topic]++
	}
	if count["old"] != 100 || count["new"] != 100 || s.Exceeded(awsiottest.QuotaInboundUnacked) != 2 {
		t.Errorf("%v taken, %d refused; want 100 each, 2", count, s.Exceeded(awsiottest.QuotaInboundUnacked))
	}
}

// TestOutboundUnacknowledged wants a client that acknowledges nothing to get
// 100 messages.
func TestOutboundUnacknowledged(t *testing.T) {
	s := start(t, awsiottest.Options{Rate: -1})
	old, _ := dial311(t, s, "old", true)
	old.send(subscribe311(1, 1, "t"))
	old.want(packets.Suback)
	sender := connect(t, s, dialer{id: "sender"})
	for range 150 {
		_, _ = sender.publish(t, "t", nil)
	}
	var first packets.Packet
	for i := range 100 {
		if p := old.want(packets.Publish); i == 0 {
			first = p
		}
	}
	eventually(t, "the window is full", func() bool { return s.Exceeded(awsiottest.QuotaOutboundUnacked) == 1 })
	if got := s.ClientStats()["old"].Delivered; got != 100 {
		t.Errorf("%d delivered, want 100", got)
	}
	old.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Puback}, PacketID: first.PacketID})
	old.want(packets.Publish)
}

// TestConnectRate wants the second CONNECT of a client id within a second to
// be refused with 0x97, in MQTT 3.1.1 with 3.
func TestConnectRate(t *testing.T) {
	clock := newClock()
	s := start(t, awsiottest.Options{Clock: clock.read, Quotas: awsiottest.Quotas{ConnectRate: 1, AccountConnectRate: 3}})
	cert := newCertificate(t, s, true)
	try := func(id string, want byte) {
		t.Helper()
		c, err := dial(t, s, cert, dialer{id: id})
		switch {
		case c == nil || c.connack == nil:
			t.Fatal(err)
		case c.connack.ReasonCode != want:
			t.Errorf("CONNECT of %s: 0x%02X, want 0x%02X", id, c.connack.ReasonCode, want)
		}
	}
	try("a", 0)
	try("a", 0x97)
	if _, ack := dial311(t, s, "a", true); ack.ReasonCode != 3 {
		t.Errorf("MQTT 3.1.1: %d, want 3", ack.ReasonCode)
	}
	if got := s.Exceeded(awsiottest.QuotaConnectRate); got != 2 || s.ClientStats()["a"].Refused != 2 {
		t.Errorf("%d refused, stats %+v", got, s.ClientStats()["a"])
	}
	try("b", 0)
	try("c", 0)
	try("d", 0x97) // the account's
	if got := s.Exceeded(awsiottest.QuotaAccountConnectRate); got != 1 {
		t.Errorf("%d refused for the account", got)
	}
	clock.advance(time.Second)
	try("a", 0)
}

func TestAccountPublishRate(t *testing.T) {
	clock := newClock()
	s := start(t, awsiottest.Options{Clock: clock.read, Quotas: awsiottest.Quotas{AccountPublishRate: 10}})
	codes := map[byte]int{}
	for i := range 2 {
		c := connect(t, s, dialer{id: fmt.Sprint(i)})
		for range 8 {
			code, _ := c.publish(t, "t", nil)
			codes[code]++
		}
	}
	if codes[0] != 10 || codes[0x97] != 6 || s.Exceeded(awsiottest.QuotaAccountPublishRate) != 6 {
		t.Errorf("codes %v", codes)
	}
}

// TestKeepAlive wants a silent client to be disconnected with 0x8D.
func TestKeepAlive(t *testing.T) {
	s := start(t, awsiottest.Options{Quotas: awsiottest.Quotas{KeepAliveMin: 1}})
	watcher := connect(t, s, dialer{id: "watcher"})
	watcher.subscribe(t, "will")
	c := wire311(t, s, newCertificate(t, s, true))
	silent := connect311("silent", true)
	silent.Connect.Keepalive = 1
	silent.Connect.WillFlag, silent.Connect.WillTopic, silent.Connect.WillPayload = true, "will", []byte("lost")
	c.send(silent)
	c.want(packets.Connack)
	c.ended("silent") // MQTT 3.1.1 is not told
	if got := string(watcher.receive(t).Payload); got != "lost" {
		t.Errorf("the will is %q", got)
	}
	five := raw5(t, s, "five", 1)
	pk, err := five.next()
	if err != nil || pk.FixedHeader.Type != packets.Disconnect || pk.ReasonCode != 0x8D {
		t.Errorf("%+v %v, want DISCONNECT 0x8D", pk, err)
	}
}

// TestKeepAliveLimits wants a keep-alive that AWS does not take to be set to
// the nearest, and none to be 20 minutes.
func TestKeepAliveLimits(t *testing.T) {
	s := start(t, awsiottest.Options{})
	for asked, want := range map[uint16]uint16{0: 1200, 1: 30, 30: 30, 60: 60, 1200: 1200, 1201: 1200, 65535: 1200} {
		c := connect(t, s, dialer{id: fmt.Sprint(asked), change: func(p *paho.Connect) { p.KeepAlive = asked }})
		if got := c.connack.Properties.ServerKeepAlive; got == nil || *got != want {
			t.Errorf("keep-alive %d: server's is %v, want %d", asked, got, want)
		}
	}
}

// TestReservedTopics wants a publish to a reserved topic that is not for
// clients to end the connection.
func TestReservedTopics(t *testing.T) {
	s := start(t, awsiottest.Options{})
	for _, topic := range []string{"$aws/events/presence/connected/c", "$aws/things/a/shadow/update/accepted", "$aws/other", "$aws/things/a/x"} {
		c := connect(t, s, dialer{id: "c"})
		_ = c.publishRaw(&paho.Publish{Topic: topic, QoS: 1})
		if code := c.ended(t); code != 0x90 {
			t.Errorf("%s: DISCONNECT 0x%02X, want 0x90", topic, code)
		}
	}
	c := connect(t, s, dialer{id: "c"})
	for _, topic := range []string{"$aws/things/a/jobs/get", "$aws/rules/r/a"} {
		if code, err := c.publish(t, topic, []byte("{}")); err != nil || code != 0 {
			t.Errorf("%s: 0x%02X %v", topic, code, err)
		}
	}
	if got := s.Exceeded(awsiottest.QuotaTopic); got != 4 {
		t.Errorf("%d counted, want 4", got)
	}
}

// TestRetainedLimit wants a message that would be one too many to retain to
// be throttled.
func TestRetainedLimit(t *testing.T) {
	s := start(t, awsiottest.Options{Quotas: awsiottest.Quotas{Retained: 2}})
	c := connect(t, s, dialer{id: "c"})
	retain := func(topic, payload string) byte {
		t.Helper()
		ack, err := c.Publish(deadline(t), &paho.Publish{Topic: topic, QoS: 1, Retain: true, Payload: []byte(payload)})
		if ack == nil {
			t.Fatal(err)
		}
		return ack.ReasonCode
	}
	got := []byte{retain("a", "1"), retain("b", "1"), retain("c", "1"), retain("a", "2"), retain("b", ""), retain("c", "1")}
	if want := []byte{0, 0, 0x97, 0, 0, 0}; !slices.Equal(got, want) || s.Exceeded(awsiottest.QuotaRetained) != 1 {
		t.Errorf("PUBACKs % X, want % X", got, want)
	}
}

func TestRetainedExpires(t *testing.T) {
	s := start(t, awsiottest.Options{})
	c := connect(t, s, dialer{id: "c"})
	second := uint32(1)
	_, err := c.Publish(deadline(t), &paho.Publish{
		Topic: "r", QoS: 1, Retain: true, Payload: []byte("old"),
		Properties: &paho.PublishProperties{MessageExpiry: &second},
	})
	if err != nil {
		t.Fatal(err)
	}
	comes := func() bool {
		c.subscribe(t, "r")
		_, _ = c.publish(t, "r", []byte("end"))
		if string(c.receive(t).Payload) == "end" {
			return false
		}
		c.receive(t) // the end
		return true
	}
	if !comes() {
		t.Error("it did not come while it was young")
	}
	eventually(t, "it expires", func() bool { return !comes() })
}

// TestWithAWSQuotas wants every quota to be on.
func TestWithAWSQuotas(t *testing.T) {
	o := awsiottest.Options{KeyType: awsiottest.EC}.WithAWSQuotas()
	q := o.Quotas
	if o.Rate != 100 || o.OutboundRate != 100 || q.ConnectRate != 1 || q.AccountConnectRate != 500 || q.AccountPublishRate != 20000 ||
		q.StoredRate != 10 || q.QueueRate != 500 || q.Throughput != 512<<10 || o.KeyType != awsiottest.EC {
		t.Errorf("%+v", o)
	}
}
