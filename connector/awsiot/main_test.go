package awsiot_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"
	"go.uber.org/goleak"

	"sluice"
	"sluice/connector/awsiot"
	"sluice/connector/awsiot/awsiottest"
	"sluice/connector/connectortest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds every wait of the tests; none depends on its value.
const patience = connectortest.Patience

func within(tb testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	tb.Cleanup(cancel)
	return ctx
}

func await(tb testing.TB, what string, condition func() bool) {
	tb.Helper()
	for end := time.Now().Add(patience); !condition(); {
		if time.Now().After(end) {
			tb.Fatalf("waited in vain: %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// cloud is an emulated AWS with a configuration for it.
type cloud struct {
	*awsiottest.Server
	conf map[string]any
}

func newCloud(tb testing.TB, o awsiottest.Options) *cloud {
	tb.Helper()
	if o.KeyType == "" {
		o.KeyType = awsiottest.EC
	}
	s, err := awsiottest.NewServer(o)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(s.Close)
	c := &cloud{Server: s}
	raw, err := json.Marshal(s.Configuration())
	if err != nil {
		tb.Fatal(err)
	}
	if err := json.Unmarshal(raw, &c.conf); err != nil {
		tb.Fatal(err)
	}
	c.conf["poolSize"] = 2
	return c
}

// with is the configuration with some properties changed; nil removes one.
func (c *cloud) with(tb testing.TB, changes map[string]any) json.RawMessage {
	tb.Helper()
	m := map[string]any{}
	for k, v := range c.conf {
		m[k] = v
	}
	for k, v := range changes {
		if v == nil {
			delete(m, k)
		} else {
			m[k] = v
		}
	}
	raw, err := json.Marshal(m)
	if err != nil {
		tb.Fatal(err)
	}
	return raw
}

// bench is what a Dialer is made from and what it leaves behind.
type rig struct {
	things *connectortest.Things
	events *connectortest.Events
	common sluice.Common
}

func newRig() *rig {
	return &rig{
		things: connectortest.NewThings(), events: &connectortest.Events{},
		common: sluice.Common{CreateDevices: true, DownlinkEnabled: true},
	}
}

func (r *rig) dial(tb testing.TB, o awsiot.Options, configuration json.RawMessage) sluice.Dialer {
	tb.Helper()
	return r.dialWith(tb, awsiot.New(o), configuration)
}

func (r *rig) dialWith(tb testing.TB, c *awsiot.Connector, configuration json.RawMessage) sluice.Dialer {
	tb.Helper()
	d, err := c.Dialer(sluice.DialerSpec{
		Connection: sluice.Connection{ID: "8", Configuration: configuration},
		Common:     r.common,
		Instance:   "a1b2c3d4",
		Things:     r.things,
		Events:     r.events,
		Clock:      time.Now,
		Log:        slog.New(slog.DiscardHandler),
	})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(d.Close)
	return d
}

func open(tb testing.TB, d sluice.Dialer, lane int) sluice.Session {
	tb.Helper()
	s, err := d.Open(within(tb), lane, func() {})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = s.Close(within(tb)) })
	return s
}

// watcher is a client of the cloud: it sees what is published and publishes.
type watcher struct {
	client *paho.Client
	mu     sync.Mutex
	got    []*paho.Publish
}

// watch connects a client with a certificate of its own and subscribes it.
func watch(tb testing.TB, id, addr, ca string, cert awsiottest.Certificate, filters ...string) *watcher {
	tb.Helper()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(ca))
	conf := &tls.Config{RootCAs: roots}
	if cert.PrivateKeyPEM != "" {
		pair, err := tls.X509KeyPair([]byte(cert.CertificatePEM), []byte(cert.PrivateKeyPEM))
		if err != nil {
			tb.Fatal(err)
		}
		conf.Certificates = []tls.Certificate{pair}
	}
	conn, err := (&tls.Dialer{Config: conf, NetDialer: &net.Dialer{}}).DialContext(within(tb), "tcp", addr)
	if err != nil {
		tb.Fatal(err)
	}
	w := &watcher{}
	w.client = paho.NewClient(paho.ClientConfig{
		Conn: packets.NewThreadSafeConn(conn),
		OnPublishReceived: []func(paho.PublishReceived) (bool, error){func(p paho.PublishReceived) (bool, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.got = append(w.got, p.Packet)
			return true, nil
		}},
	})
	if _, err := w.client.Connect(within(tb), &paho.Connect{ClientID: id, KeepAlive: 60, CleanStart: true}); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = w.client.Disconnect(&paho.Disconnect{}) })
	for _, f := range filters {
		if _, err := w.client.Subscribe(within(tb), &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: f, QoS: 1}}}); err != nil {
			tb.Fatal(err)
		}
	}
	return w
}

func (c *cloud) watch(tb testing.TB, filters ...string) *watcher {
	tb.Helper()
	return c.watchAs(tb, "watcher", filters...)
}

// watchAs is watch under another client id.
func (c *cloud) watchAs(tb testing.TB, id string, filters ...string) *watcher {
	tb.Helper()
	cert, err := c.CreateKeysAndCertificate(true)
	if err != nil {
		tb.Fatal(err)
	}
	return watch(tb, id, c.MQTTAddr(), c.CAPEM(), cert, filters...)
}

func (w *watcher) all() []*paho.Publish {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]*paho.Publish(nil), w.got...)
}

func (w *watcher) publish(tb testing.TB, topic string, qos byte, payload []byte) {
	tb.Helper()
	if _, err := w.client.Publish(within(tb), &paho.Publish{Topic: topic, QoS: qos, Payload: payload}); err != nil {
		tb.Fatal(err)
	}
}

// received is what the watcher got, as the contract wants it.
func (w *watcher) received() []connectortest.Received {
	var list []connectortest.Received
	for _, p := range w.all() {
		r := connectortest.Received{Payload: p.Payload}
		if levels := strings.Split(p.Topic, "/"); len(levels) == 4 {
			r.DevEUI = levels[2]
		}
		if p.Properties != nil {
			r.ID = p.Properties.User.Get("sluice-id")
		}
		list = append(list, r)
	}
	return list
}

// protocols are the ways to AWS, as changes of a configuration for SSL.
func (c *cloud) protocols() map[string]map[string]any {
	return map[string]map[string]any{
		"SSL":             {},
		"SSL at 443":      {"port": 443, "dataEndpoint": c.Addr443()},
		"WSS":             {"protocol": "WSS", "certificate": nil, "privateKey": nil},
		"HTTPS":           {"protocol": "HTTPS"},
		"HTTPS at 443":    {"protocol": "HTTPS", "port": 443, "publishEndpoint": c.Addr443(), "dataEndpoint": c.Addr443()},
		"HTTPS by access": {"protocol": "HTTPS", "publishEndpoint": c.Addr443(), "certificate": nil, "privateKey": nil},
	}
}

// TestContract holds every protocol to the contract of a connector.
func TestContract(t *testing.T) {
	for _, name := range ways() {
		t.Run(name, func(t *testing.T) {
			connectortest.Run(t, func(t *testing.T) connectortest.Cloud { return contractCloud(t, name) })
		})
	}
}

// TestContractWithShadows holds sessions to it that have more to do.
func TestContractWithShadows(t *testing.T) {
	for _, name := range []string{"SSL", "WSS", "HTTPS", "HTTPS by access"} {
		t.Run(name, func(t *testing.T) {
			connectortest.Run(t, func(t *testing.T) connectortest.Cloud {
				return withShadows(t, contractCloud(t, name))
			})
		})
	}
}

func withShadows(t *testing.T, c connectortest.Cloud) connectortest.Cloud {
	for _, raw := range []*json.RawMessage{&c.Configuration, &c.Refused} {
		var m map[string]any
		if err := json.Unmarshal(*raw, &m); err != nil {
			t.Fatal(err)
		}
		m["shadow"] = map[string]any{"enabled": true, "desired": true}
		var err error
		if *raw, err = json.Marshal(m); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

func contractCloud(t *testing.T, name string) connectortest.Cloud {
	c := newCloud(t, awsiottest.Options{Rate: -1})
	w := c.watch(t, "tpx/things/+/uplink")
	inactive, err := c.CreateKeysAndCertificate(false)
	if err != nil {
		t.Fatal(err)
	}
	key, secret := inactive.PrivateKeyPEM, c.SecretAccessKey()
	changes := c.protocols()[name]
	refused := map[string]any{"certificate": inactive.CertificatePEM, "privateKey": key}
	if _, without := changes["certificate"]; without {
		refused = map[string]any{"secretAccessKey": strings.Repeat("x", 40)}
	}
	for k, v := range changes {
		if _, set := refused[k]; !set {
			refused[k] = v
		}
	}
	return connectortest.Cloud{
		Connector:     awsiot.New(awsiot.Options{PublishRate: -1}),
		Configuration: c.with(t, changes),
		Secrets:       []string{key, strings.Split(key, "\n")[1], secret, c.AccessKeyID()},
		Refused:       c.with(t, refused),
		TooLarge:      128<<10 + 1,
		Keeps:         true,
		Linkless:      strings.HasPrefix(name, "HTTPS"),
		Received:      w.received,
		Cut: func() {
			c.DisconnectAll(0x98)
		},
		Send: func(devEUI string, document []byte) error {
			_, err := w.client.Publish(within(t), &paho.Publish{
				Topic: "tpx/things/" + devEUI + "/downlink", QoS: 1, Payload: document,
			})
			return err
		},
	}
}
