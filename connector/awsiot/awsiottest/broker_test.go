package awsiottest_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"

	"sluice/connector/awsiot/awsiottest"
)

func TestPublishAndSubscribe(t *testing.T) {
	s := start(t, awsiottest.Options{KeyType: awsiottest.RSA})
	c := connect(t, s, dialer{id: "c"})
	if ack := c.subscribe(t, "tpx/things/+/uplink"); ack.Reasons[0] != 1 {
		t.Fatalf("SUBACK 0x%02X, want QoS 1", ack.Reasons[0])
	}
	expiry := uint32(60)
	_, err := c.Publish(deadline(t), &paho.Publish{
		Topic: "tpx/things/0018B20000000001/uplink", QoS: 1, Payload: []byte(`{"a":1}`),
		Properties: &paho.PublishProperties{
			ContentType: "application/json", MessageExpiry: &expiry,
			User: paho.UserProperties{{Key: "messageId", Value: "01H"}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	got := c.receive(t)
	if got.Topic != "tpx/things/0018B20000000001/uplink" || string(got.Payload) != `{"a":1}` || got.QoS != 1 {
		t.Errorf("received %+v", got)
	}
	if got.Properties.User.Get("messageId") != "01H" || got.Properties.ContentType != "application/json" {
		t.Errorf("properties %+v", got.Properties)
	}
	if e := got.Properties.MessageExpiry; e == nil || *e > 60 || *e < 30 {
		t.Errorf("message expiry %v, want what is left of 60", e)
	}
	stats := s.ClientStats()["c"]
	if stats.Connects != 1 || !stats.Connected || stats.Published != 1 || stats.Delivered != 1 || stats.PeakRate != 1 {
		t.Errorf("stats %+v", stats)
	}
}

func TestConnack(t *testing.T) {
	s := start(t, awsiottest.Options{})
	day := uint32(86400)
	c := connect(t, s, dialer{id: "c", change: func(p *paho.Connect) {
		p.KeepAlive = 5
		p.Properties = &paho.ConnectProperties{SessionExpiryInterval: &day}
	}})
	p := c.connack.Properties
	switch {
	case p.MaximumQoS == nil || *p.MaximumQoS != 1:
		t.Error("Maximum QoS is not 1")
	case p.ReceiveMaximum == nil || *p.ReceiveMaximum != 100:
		t.Error("Receive Maximum is not 100")
	case p.TopicAliasMaximum == nil || *p.TopicAliasMaximum != 8:
		t.Error("Topic Alias Maximum is not 8")
	case p.MaximumPacketSize == nil || *p.MaximumPacketSize < 131072:
		t.Error("Maximum Packet Size is under 128 KiB")
	case p.SubIDAvailable:
		t.Error("subscription identifiers are available")
	case p.ServerKeepAlive == nil || *p.ServerKeepAlive != 30:
		t.Error("Server Keep Alive is not 30")
	case p.SessionExpiryInterval == nil || *p.SessionExpiryInterval != 3600:
		t.Error("Session Expiry Interval is not cut to an hour")
	}
}

func TestCertificates(t *testing.T) {
	s, other := start(t, awsiottest.Options{}), start(t, awsiottest.Options{})
	good, inactive, unknown := newCertificate(t, s, true), newCertificate(t, s, false), newCertificate(t, other, true)
	for name, c := range map[string]awsiottest.Certificate{"inactive": inactive, "unknown": unknown} {
		if _, err := dial(t, s, c, dialer{id: "c"}); err == nil {
			t.Errorf("an %s certificate connects", name)
		}
	}
	none, err := tls.Dial("tcp", s.MQTTAddr(), tlsConfig(t, s, nil))
	if err == nil { // TLS 1.3: told at the first read
		_, err = none.Read(make([]byte, 1))
		_ = none.Close()
	}
	if err == nil || !strings.Contains(err.Error(), "tls:") {
		t.Errorf("without a certificate: %v, want a TLS alert", err)
	}
	c, err := dial(t, s, good, dialer{id: "c"})
	if err != nil {
		t.Fatal(err)
	}
	if !s.DeactivateCertificate(good.ID) {
		t.Fatal("the certificate is not there")
	}
	if code := c.ended(t); code != 0x87 {
		t.Errorf("DISCONNECT 0x%02X, want 0x87", code)
	}
	if _, err := dial(t, s, good, dialer{id: "c"}); err == nil {
		t.Error("a deactivated certificate connects")
	}
	s.ActivateCertificate(good.ID)
	if _, err := dial(t, s, good, dialer{id: "c"}); err != nil {
		t.Errorf("activated again: %v", err)
	}
}

func TestServerNames(t *testing.T) {
	s := start(t, awsiottest.Options{})
	cert := newCertificate(t, s, true)
	lax := start(t, awsiottest.Options{AllowNoSNI: true})
	laxCert := newCertificate(t, lax, true)
	for name, refused := range map[string]bool{
		"localhost": false, "emulator-ats.iot.eu-central-1.amazonaws.com": false,
		"127.0.0.1": true, "::1": true, // an address is never sent as a name
	} {
		for _, addr := range []string{s.MQTTAddr(), s.Addr443()} {
			config := tlsConfig(t, s, &cert)
			config.ServerName = name
			conn, err := tls.Dial("tcp", addr, config)
			if err == nil {
				_ = conn.Close()
			}
			if (err != nil) != refused || refused && !strings.Contains(err.Error(), "unrecognized name") {
				t.Errorf("%s: %v", name, err)
			}
		}
		config := tlsConfig(t, lax, &laxCert)
		config.ServerName = name
		conn, err := tls.Dial("tcp", lax.MQTTAddr(), config)
		if err != nil {
			t.Errorf("%s, names not needed: %v", name, err)
			continue
		}
		_ = conn.Close()
	}
	config := tlsConfig(t, s, &cert)
	config.ServerName, config.InsecureSkipVerify = "other.example", true
	if conn, err := tls.Dial("tcp", s.MQTTAddr(), config); err == nil {
		_ = conn.Close()
		t.Error("the name of another server is accepted")
	}
	old := tlsConfig(t, s, &cert)
	old.MinVersion, old.MaxVersion = tls.VersionTLS11, tls.VersionTLS11
	if conn, err := tls.Dial("tcp", s.MQTTAddr(), old); err == nil {
		_ = conn.Close()
		t.Error("TLS 1.1 is accepted")
	}
}

// TestRefusedPublishes wants a DISCONNECT for each publish that AWS refuses.
func TestRefusedPublishes(t *testing.T) {
	s := start(t, awsiottest.Options{})
	for name, test := range map[string]struct {
		publish paho.Publish
		code    byte
	}{
		"payload over 128 KiB":  {paho.Publish{Topic: "a", QoS: 1, Payload: make([]byte, 131073)}, 0x95},
		"far too large":         {paho.Publish{Topic: "a", QoS: 1, Payload: make([]byte, 200000)}, 0x95},
		"over 7 slashes":        {paho.Publish{Topic: "1/2/3/4/5/6/7/8/9", QoS: 1}, 0x90},
		"over 256 bytes":        {paho.Publish{Topic: strings.Repeat("a", 257), QoS: 1}, 0x90},
		"reserved topic":        {paho.Publish{Topic: "$mine/a", QoS: 1}, 0x90},
		"$SYS":                  {paho.Publish{Topic: "$SYS/a", QoS: 1}, 0x90},
		"retained and reserved": {paho.Publish{Topic: "$aws/things/a/x", QoS: 1, Retain: true}, 0x90},
		"QoS 2":                 {paho.Publish{Topic: "a", QoS: 2}, 0x9B},
	} {
		t.Run(name, func(t *testing.T) {
			c := connect(t, s, dialer{id: "c"})
			// As a client that does not heed CONNACK.
			_ = c.publishRaw(&test.publish)
			if code := c.ended(t); code != test.code {
				t.Errorf("DISCONNECT 0x%02X, want 0x%02X", code, test.code)
			}
		})
	}
}

func TestLargestPublishes(t *testing.T) {
	s := start(t, awsiottest.Options{})
	c := connect(t, s, dialer{id: "c"})
	for _, p := range []paho.Publish{
		{Topic: "a", Payload: make([]byte, 131072)},
		{Topic: "1/2/3/4/5/6/7/8"},
		{Topic: strings.Repeat("a", 256)},
		{Topic: "$aws/rules/sluice/1/2/3/4/5/6/7/8"},
	} {
		if code, err := c.publish(t, p.Topic, p.Payload); err != nil || code != 0 {
			t.Errorf("%.40s: 0x%02X %v", p.Topic, code, err)
		}
	}
}

func TestSubscriptions(t *testing.T) {
	s := start(t, awsiottest.Options{})
	c := connect(t, s, dialer{id: "c"})
	ack := c.subscribe(t, "a/#", "1/2/3/4/5/6/7/8/9", strings.Repeat("a", 257), "$SYS/#", "a/b#", "$share/g/1/2/3/4/5/6/7/8")
	if want := []byte{1, 0x8F, 0x8F, 0x8F, 0x8F, 1}; !bytes.Equal(ack.Reasons, want) {
		t.Errorf("SUBACK % X, want % X", ack.Reasons, want)
	}
	for _, topic := range []string{"a", "a/", "a/b/c"} { // AWS: "a/#" is not "a"
		if _, err := c.publish(t, topic, []byte(topic)); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []string{"a/", "a/b/c"} {
		if got := c.receive(t).Topic; got != want {
			t.Errorf("received %s, want %s", got, want)
		}
	}
	if _, err := c.Unsubscribe(deadline(t), &paho.Unsubscribe{Topics: []string{"a/#"}}); err != nil {
		t.Fatal(err)
	}
	c.subscribe(t, "a")
	_, _ = c.publish(t, "a/b", nil)
	_, _ = c.publish(t, "a", []byte("parent"))
	if got := string(c.receive(t).Payload); got != "parent" {
		t.Errorf("received %q", got)
	}
}

func TestSubscriptionLimits(t *testing.T) {
	s := start(t, awsiottest.Options{})
	filters := func(from, n int) (all []paho.SubscribeOptions) {
		for i := range n {
			all = append(all, paho.SubscribeOptions{Topic: fmt.Sprintf("t/%d", from+i), QoS: 1})
		}
		return all
	}
	c := connect(t, s, dialer{id: "c"})
	_ = c.subscribeRaw(&paho.Subscribe{Subscriptions: filters(0, 9)})
	if code := c.ended(t); code != 0x97 {
		t.Errorf("9 filters at once: 0x%02X, want 0x97", code)
	}
	c = connect(t, s, dialer{id: "c"})
	for i := range 7 {
		if _, err := c.Subscribe(deadline(t), &paho.Subscribe{Subscriptions: filters(7*i, 7)}); err != nil {
			t.Fatal(err)
		}
	}
	_ = c.subscribeRaw(&paho.Subscribe{Subscriptions: filters(100, 2)})
	if code := c.ended(t); code != 0x97 {
		t.Errorf("51 filters: 0x%02X, want 0x97", code)
	}
	c = connect(t, s, dialer{id: "c"})
	id := 1
	_ = c.subscribeRaw(&paho.Subscribe{Subscriptions: filters(0, 1), Properties: &paho.SubscribeProperties{SubscriptionIdentifier: &id}})
	if code := c.ended(t); code != 0xA1 {
		t.Errorf("subscription identifier: 0x%02X, want 0xA1", code)
	}
}

// TestPublishRate sends faster than AWS takes it. The clock stands still, so
// that exactly the first hundred are taken.
func TestPublishRate(t *testing.T) {
	now := time.Now()
	s := start(t, awsiottest.Options{Clock: func() time.Time { return now }})
	c := connect(t, s, dialer{id: "c"})
	c.subscribe(t, "t/#")
	var codes [256]int
	for range 150 {
		code, err := c.publish(t, "t/1", nil)
		if err != nil {
			t.Fatal(err)
		}
		codes[code]++
	}
	if codes[0] != 100 || codes[0x97] != 50 {
		t.Errorf("%d accepted, %d refused with 0x97; want 100 and 50", codes[0], codes[0x97])
	}
	for range 10 { // without a word
		if _, err := c.Publish(deadline(t), &paho.Publish{Topic: "t/1"}); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "60 discarded", func() bool { return s.Discarded() == 60 })
	if got := s.ClientStats()["c"]; got.PeakRate != 160 || got.Published != 160 || got.Delivered != 100 {
		t.Errorf("stats %+v", got)
	}
}

func TestPublishRateOff(t *testing.T) {
	now := time.Now()
	s := start(t, awsiottest.Options{Rate: -1, Clock: func() time.Time { return now }})
	c := connect(t, s, dialer{id: "c"})
	for range 300 {
		if code, err := c.publish(t, "t/1", nil); err != nil || code != 0 {
			t.Fatalf("0x%02X %v", code, err)
		}
	}
}

func TestOutboundRate(t *testing.T) {
	now := time.Now()
	s := start(t, awsiottest.Options{Rate: -1, OutboundRate: 10, Clock: func() time.Time { return now }})
	c := connect(t, s, dialer{id: "c"})
	c.subscribe(t, "t/#")
	for range 25 {
		_, _ = c.publish(t, "t/1", nil)
	}
	eventually(t, "10 delivered, 15 dropped", func() bool {
		return s.ClientStats()["c"].Delivered == 10 && s.Dropped() == 15
	})
}

func TestTakeover(t *testing.T) {
	s := start(t, awsiottest.Options{})
	var last *client
	for i := range 5 {
		c := connect(t, s, dialer{id: "same"})
		if last != nil {
			if code := last.ended(t); code != 0x8E {
				t.Errorf("DISCONNECT 0x%02X, want 0x8E", code)
			}
		}
		if got := s.ClientStats()["same"].Connects; got != i+1 {
			t.Errorf("%d connects, want %d", got, i+1)
		}
		last = c
	}
	if code, err := last.publish(t, "t", nil); err != nil || code != 0 {
		t.Errorf("the last one does not work: 0x%02X %v", code, err)
	}
	if !s.ClientStats()["same"].Connected {
		t.Error("not connected")
	}
}

func TestKnobs(t *testing.T) {
	s := start(t, awsiottest.Options{})
	s.RefuseConnects(0x87)
	refused, err := dial(t, s, newCertificate(t, s, true), dialer{id: "c"})
	if err == nil || refused.connack == nil || refused.connack.ReasonCode != 0x87 {
		t.Errorf("CONNECT: %v, want CONNACK 0x87", err)
	}
	s.RefuseConnects(0)
	c := connect(t, s, dialer{id: "c"})
	c.subscribe(t, "t")
	s.DropPubacks(1)
	unanswered := make(chan error, 1)
	ctx, cancel := context.WithCancel(deadline(t))
	go func() {
		_, err := c.Publish(ctx, &paho.Publish{Topic: "t", QoS: 1})
		unanswered <- err
	}()
	c.receive(t) // taken, but not acknowledged
	if code, err := c.publish(t, "t", nil); err != nil || code != 0 {
		t.Errorf("the next: 0x%02X %v", code, err)
	}
	if n := s.DisconnectAll(0x98); n != 1 {
		t.Errorf("%d disconnected, want 1", n)
	}
	if code := c.ended(t); code != 0x98 {
		t.Errorf("DISCONNECT 0x%02X, want 0x98", code)
	}
	cancel()
	if err := <-unanswered; err == nil {
		t.Error("the dropped PUBACK came")
	}
}

// What asks for a persistent session is refused, in either of the two ways.
func TestRefusePersistent(t *testing.T) {
	s := start(t, awsiottest.Options{})
	s.RefusePersistent(true)
	for name, change := range map[string]func(*paho.Connect){
		"no clean start": func(p *paho.Connect) { p.CleanStart = false },
		"an expiry":      persistent(true),
	} {
		c, err := dial(t, s, newCertificate(t, s, true), dialer{id: "c", change: change})
		if err == nil || c.connack == nil || c.connack.ReasonCode != 0x87 {
			t.Errorf("%s: %v, want CONNACK 0x87", name, err)
		}
	}
	connect(t, s, dialer{id: "c"})
	s.RefusePersistent(false)
	connect(t, s, dialer{id: "d", change: persistent(false)})
}

// A DISCONNECT may end a session that was to be kept, and what waits in it.
func TestDisconnectEndsSession(t *testing.T) {
	s := start(t, awsiottest.Options{})
	never, c := uint32(0), connect(t, s, dialer{id: "c", change: persistent(true)})
	c.subscribe(t, "t")
	if err := c.Disconnect(&paho.Disconnect{Properties: &paho.DisconnectProperties{SessionExpiryInterval: &never}}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the session has ended", func() bool { return !s.ClientStats()["c"].Session })
	_, _ = connect(t, s, dialer{id: "sender"}).publish(t, "t", []byte("x"))
	if again := connect(t, s, dialer{id: "c", change: persistent(false)}); again.connack.SessionPresent {
		t.Error("the session is present")
	}
}

func TestClientIDs(t *testing.T) {
	s := start(t, awsiottest.Options{})
	for _, id := range []string{strings.Repeat("x", 129), "$mine"} {
		c, err := dial(t, s, newCertificate(t, s, true), dialer{id: id})
		if err == nil || c.connack == nil || c.connack.ReasonCode != 0x85 {
			t.Errorf("client id %.10s: %v, want CONNACK 0x85", id, err)
		}
	}
	connect(t, s, dialer{id: strings.Repeat("x", 128)})
}

func TestTopicAlias(t *testing.T) {
	s := start(t, awsiottest.Options{})
	c := connect(t, s, dialer{id: "c"})
	c.subscribe(t, "a")
	publish := func(topic string, alias uint16) {
		t.Helper()
		// An error may be that of a connection closed as expected.
		_ = c.publishRaw(&paho.Publish{Topic: topic, Properties: &paho.PublishProperties{TopicAlias: &alias}})
	}
	publish("a", 8)
	publish("", 8)
	for range 2 {
		if p := c.receive(t); p.Topic != "a" {
			t.Errorf("received %q", p.Topic)
		}
	}
	publish("", 7)
	if code := c.ended(t); code != 0x82 {
		t.Errorf("an unknown alias: 0x%02X, want 0x82", code)
	}
	c = connect(t, s, dialer{id: "c"})
	publish("a", 9)
	if code := c.ended(t); code != 0x94 {
		t.Errorf("alias 9: 0x%02X, want 0x94", code)
	}
}

func TestListenEverywhere(t *testing.T) {
	s := start(t, awsiottest.Options{Addr: ":0", ControlAddr: ":0"})
	if !strings.HasPrefix(s.MQTTAddr(), "localhost:") || !strings.HasPrefix(s.ControlURL(), "http://localhost:") {
		t.Errorf("addresses %s, %s", s.MQTTAddr(), s.ControlURL())
	}
}
