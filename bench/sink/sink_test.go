package sink

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"
	"go.uber.org/goleak"

	"sluice/bench/ledger"
	"sluice/bench/load"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func dial(t *testing.T, s *Sink) *paho.Client {
	t.Helper()
	config, err := s.Papers().ClientTLS()
	if err != nil {
		t.Fatal(err)
	}
	conn, err := tls.Dial("tcp", s.Addr(), config)
	if err != nil {
		t.Fatal(err)
	}
	c := paho.NewClient(paho.ClientConfig{Conn: packets.NewThreadSafeConn(conn)})
	if _, err := c.Connect(within(t), &paho.Connect{ClientID: "test", KeepAlive: 30, CleanStart: true}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Disconnect(&paho.Disconnect{}); <-c.Done() })
	return c
}

func uplink(device, fCnt uint32, more int) []byte {
	return fmt.Appendf(nil, `{"DevEUI_uplink":{"DevEUI":"%016X","FCntUp":%d,"payload_hex":"%08x%016x","x":"%*s"}}`,
		uint64(load.FirstDevEUI)+uint64(device), fCnt, fCnt, time.Now().UnixNano(), more, "")
}

func TestSink(t *testing.T) {
	l := ledger.New(load.FirstDevEUI, 2)
	s, err := New(Options{Ledger: l, Quota: 3})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Stop()
	c := dial(t, s)
	if _, err := c.Subscribe(within(t), &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: "a/+", QoS: 1}, {Topic: "b", QoS: 0}}}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Unsubscribe(within(t), &paho.Unsubscribe{Topics: []string{"a/+", "b"}}); err != nil {
		t.Fatal(err)
	}
	publish := func(qos byte, body []byte) {
		t.Helper()
		if _, err := c.Publish(within(t), &paho.Publish{
			Topic: "x/y", QoS: qos, Payload: body,
			Properties: &paho.PublishProperties{ContentType: "application/json", User: paho.UserProperties{{Key: "sluice-id", Value: "1"}}},
		}); err != nil {
			t.Fatal(err)
		}
	}
	publish(0, uplink(0, ledger.FirstFCnt, 0))
	publish(1, uplink(0, ledger.FirstFCnt+1, 200<<10)) // more than the first buffer
	publish(1, uplink(0, ledger.FirstFCnt+1, 0))
	publish(1, uplink(1, ledger.FirstFCnt+1, 0))
	publish(1, uplink(1, ledger.FirstFCnt, 0))
	publish(1, []byte("nothing of ours"))
	want := ledger.Totals{Arrived: 4, Copies: 1, Disordered: 1, Strangers: 1}
	if got := l.Totals(); got != want {
		t.Errorf("written down: %+v, want %+v", got, want)
	}
	if n, over := s.Publishes(); n != 6 || over < 1 {
		t.Errorf("%d publishes, %d over the quota", n, over)
	}
	if n := s.Sessions(); n != 1 {
		t.Errorf("%d sessions", n)
	}

	address := s.Addr()
	s.Stop()
	<-c.Done()
	if conn, err := net.Dial("tcp", address); err == nil {
		_ = conn.Close()
		t.Error("the sink listens in an outage")
	}
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	if s.Addr() != address || s.Sessions() != 0 {
		t.Errorf("after the outage: %s instead of %s, %d sessions", s.Addr(), address, s.Sessions())
	}
	old := dial(t, s)
	dial(t, s)
	<-old.Done()
	if s.Takeovers() != 1 || s.Sessions() != 1 {
		t.Errorf("after two clients with one id: %d takeovers, clients %q", s.Takeovers(), s.ClientIDs())
	}
}

// TestMutual wants clients without a certificate refused.
func TestMutual(t *testing.T) {
	s, err := New(Options{Ledger: ledger.New(load.FirstDevEUI, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Stop()
	config, err := s.Papers().ClientTLS()
	if err != nil {
		t.Fatal(err)
	}
	config.Certificates = nil
	conn, err := tls.Dial("tcp", s.Addr(), config)
	if err != nil {
		return
	}
	defer conn.Close()
	if _, err := conn.Read(make([]byte, 1)); err == nil {
		t.Error("a client without a certificate is taken")
	}
}

// FuzzPackets feeds what is no MQTT to a client's side of the sink.
func FuzzPackets(f *testing.F) {
	f.Add([]byte("\x10\x0e\x00\x04MQTT\x05\x02\x00\x1e\x00\x00\x00\x32\x09\x00\x01x\x00\x01\x00abc\xc0\x00"), uint8(3))
	f.Add([]byte("\x10\x0e\x00\x04MQTT\x04\x02\x00\x1e\x00\x00\x00\x82\x06\x00\x01\x00\x01x\x01\xe0\x00"), uint8(40))
	f.Fuzz(func(t *testing.T, b []byte, cut uint8) {
		c := &client{sink: &Sink{o: Options{Ledger: ledger.New(load.FirstDevEUI, 1)}, clients: map[string]*client{}}}
		n := min(int(cut), len(b))
		rest, err := c.packets(b[:n])
		if err != nil {
			return
		}
		_, _ = c.packets(append(rest[:len(rest):len(rest)], b[n:]...))
	})
}
