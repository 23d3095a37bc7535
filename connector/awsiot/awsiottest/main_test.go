package awsiottest_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"
	"go.uber.org/goleak"

	"sluice/connector/awsiot/awsiottest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds every wait of the tests; none of them depends on its value.
const patience = 30 * time.Second

func deadline(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// eventually waits until a condition holds.
func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	for ctx := deadline(t); !condition(); {
		select {
		case <-ctx.Done():
			t.Fatalf("not within %v: %s", patience, what)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// start runs an emulator with keys that are quick to make.
func start(t testing.TB, o awsiottest.Options) *awsiottest.Server {
	t.Helper()
	if o.KeyType == "" {
		o.KeyType = awsiottest.EC
	}
	s, err := awsiottest.NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func newCertificate(t testing.TB, s *awsiottest.Server, active bool) awsiottest.Certificate {
	t.Helper()
	c, err := s.CreateKeysAndCertificate(active)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// tlsConfig is that of a device; without a certificate when c is nil.
func tlsConfig(t testing.TB, s *awsiottest.Server, c *awsiottest.Certificate) *tls.Config {
	t.Helper()
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(s.CAPEM())) {
		t.Fatal("CAPEM is no certificate")
	}
	config := &tls.Config{RootCAs: roots}
	if c != nil {
		pair, err := tls.X509KeyPair([]byte(c.CertificatePEM), []byte(c.PrivateKeyPEM))
		if err != nil {
			t.Fatal(err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config
}

// client is an MQTT 5 client of the tests.
type client struct {
	*paho.Client
	conn         net.Conn
	connack      *paho.Connack
	messages     chan *paho.Publish
	disconnected chan byte
}

// dialer changes how a test client connects.
type dialer struct {
	id      string
	change  func(*paho.Connect)
	receive func(*paho.Publish) // default: into messages
}

func dial(t testing.TB, s *awsiottest.Server, c awsiottest.Certificate, d dialer) (*client, error) {
	t.Helper()
	conn, err := tls.Dial("tcp", s.MQTTAddr(), tlsConfig(t, s, &c))
	if err != nil {
		return nil, err
	}
	out := &client{conn: packets.NewThreadSafeConn(conn), messages: make(chan *paho.Publish, 1000), disconnected: make(chan byte, 1)}
	receive := d.receive
	if receive == nil {
		receive = func(p *paho.Publish) { out.messages <- p }
	}
	out.Client = paho.NewClient(paho.ClientConfig{
		ClientID: d.id,
		Conn:     out.conn,
		OnPublishReceived: []func(paho.PublishReceived) (bool, error){func(p paho.PublishReceived) (bool, error) {
			receive(p.Packet)
			return true, nil
		}},
		OnServerDisconnect: func(d *paho.Disconnect) { out.disconnected <- d.ReasonCode },
		OnClientError:      func(error) {},
		PacketTimeout:      patience,
	})
	connect := &paho.Connect{ClientID: d.id, KeepAlive: 60, CleanStart: true}
	if d.change != nil {
		d.change(connect)
	}
	out.connack, err = out.Connect(deadline(t), connect)
	if err != nil {
		_ = conn.Close()
		return out, err
	}
	t.Cleanup(func() {
		_ = out.Client.Disconnect(&paho.Disconnect{})
		<-out.Done()
	})
	return out, nil
}

func connect(t testing.TB, s *awsiottest.Server, d dialer) *client {
	t.Helper()
	c, err := dial(t, s, newCertificate(t, s, true), d)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// publish returns the reason code of the PUBACK.
func (c *client) publish(t testing.TB, topic string, payload []byte) (byte, error) {
	t.Helper()
	ack, err := c.Publish(deadline(t), &paho.Publish{Topic: topic, QoS: 1, Payload: payload})
	if ack != nil {
		return ack.ReasonCode, nil
	}
	return 0, err
}

func (c *client) subscribe(t testing.TB, filters ...string) *paho.Suback {
	t.Helper()
	sub := &paho.Subscribe{}
	for _, f := range filters {
		sub.Subscriptions = append(sub.Subscriptions, paho.SubscribeOptions{Topic: f, QoS: 1})
	}
	ack, err := c.Subscribe(deadline(t), sub)
	if ack == nil {
		t.Fatal(err)
	}
	return ack
}

func (c *client) receive(t testing.TB) *paho.Publish {
	t.Helper()
	select {
	case p := <-c.messages:
		return p
	case <-time.After(patience):
		t.Fatal("no message came")
		return nil
	}
}

// ended waits for the server's DISCONNECT and returns its reason code.
func (c *client) ended(t testing.TB) byte {
	t.Helper()
	select {
	case code := <-c.disconnected:
		return code
	case <-time.After(patience):
		t.Fatal("the server did not disconnect the client")
		return 0
	}
}

func TestCloseIsComplete(t *testing.T) {
	s := start(t, awsiottest.Options{})
	silent, err := net.Dial("tcp", s.MQTTAddr()) // never begins its handshake
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	cert := newCertificate(t, s, true)
	mute, err := tls.Dial("tcp", s.MQTTAddr(), tlsConfig(t, s, &cert)) // never sends CONNECT
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	c := connect(t, s, dialer{id: "c"})
	s.Close()
	s.Close()
	if code := c.ended(t); code != 0x8B {
		t.Errorf("DISCONNECT 0x%02X, want 0x8B", code)
	}
	if _, err := net.Dial("tcp", s.MQTTAddr()); err == nil {
		t.Error("still listening")
	}
	if _, err := silent.Read(make([]byte, 1)); err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the silent connection is open: %v", err)
	}
}

// publishRaw sends a PUBLISH past the checks of the client library.
func (c *client) publishRaw(p *paho.Publish) error {
	pb := p.Packet()
	if p.QoS > 0 {
		pb.PacketID = 7
	}
	_, err := pb.WriteTo(c.conn)
	return err
}

// subscribeRaw sends a SUBSCRIBE past the checks of the client library, and
// does not wait for an answer.
func (c *client) subscribeRaw(sub *paho.Subscribe) error {
	pb := sub.Packet()
	pb.PacketID = 7
	_, err := pb.WriteTo(c.conn)
	return err
}
