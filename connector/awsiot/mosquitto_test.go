package awsiot_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"

	"sluice"
	"sluice/connector/awsiot"
	"sluice/connector/awsiot/awsiottest"
	"sluice/connector/connectortest"
)

// authority signs certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  string
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{cert: cert, key: key, pem: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))}
}

// sign makes a certificate with its key.
func (a *authority) sign(t *testing.T, name string) awsiottest.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return awsiottest.Certificate{
		CertificatePEM: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		PrivateKeyPEM:  string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER})),
	}
}

// mosquitto is a broker of another house, with mutual TLS.
type mosquitto struct {
	t      *testing.T
	path   string
	addr   string
	config string
	ca     *authority
	cmd    *exec.Cmd
	log    bytes.Buffer
}

func newMosquitto(t *testing.T) *mosquitto {
	t.Helper()
	path, err := exec.LookPath("mosquitto")
	if err != nil {
		path = "/usr/sbin/mosquitto"
		if _, err := os.Stat(path); err != nil {
			t.Skip("SKIPPED: mosquitto is not installed (apt-get install mosquitto): the connector was not tried on another broker")
		}
	}
	m := &mosquitto{t: t, path: path, ca: newAuthority(t), addr: closedPort(t)}
	dir := t.TempDir()
	server := m.ca.sign(t, "127.0.0.1")
	write := func(name, text string) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	_, port, _ := net.SplitHostPort(m.addr)
	m.config = write("mosquitto.conf", strings.Join([]string{
		"user root", "listener " + port + " 127.0.0.1", "require_certificate true", "use_identity_as_username true",
		"cafile " + write("ca.pem", m.ca.pem), "certfile " + write("server.pem", server.CertificatePEM),
		"keyfile " + write("server.key", server.PrivateKeyPEM), "max_queued_messages 10000",
		"acl_file " + write("acl", "user watcher\ntopic readwrite #\nuser bridge\ntopic readwrite tpx/#\n"),
	}, "\n")+"\n")
	m.start()
	t.Cleanup(m.stop)
	return m
}

func (m *mosquitto) start() {
	m.t.Helper()
	m.cmd = exec.Command(m.path, "-c", m.config)
	m.cmd.Stdout, m.cmd.Stderr = &m.log, &m.log
	if err := m.cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	await(m.t, "mosquitto listens", func() bool {
		conn, err := net.Dial("tcp", m.addr)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
}

func (m *mosquitto) stop() {
	_ = m.cmd.Process.Kill()
	_ = m.cmd.Wait()
}

func (m *mosquitto) configuration(client awsiottest.Certificate, uplinkTopic string) json.RawMessage {
	raw, err := json.Marshal(map[string]any{
		"uplinkTopicPattern": uplinkTopic, "downlinkTopicPattern": "tpx/things/{DevEUI}/downlink",
		"region": "eu-central-1", "accountPrefix": "none-ats", "dataEndpoint": m.addr, "caCertificate": m.ca.pem,
		"certificate": client.CertificatePEM, "privateKey": client.PrivateKeyPEM, "poolSize": 2, "createDevices": false,
	})
	if err != nil {
		m.t.Fatal(err)
	}
	return raw
}

func TestContractOnMosquitto(t *testing.T) {
	connectortest.Run(t, func(t *testing.T) connectortest.Cloud {
		m := newMosquitto(t)
		w := watch(t, "watcher", m.addr, m.ca.pem, m.ca.sign(t, "watcher"), "tpx/things/+/uplink")
		stranger := newAuthority(t).sign(t, "bridge")
		bridge := m.ca.sign(t, "bridge")
		return connectortest.Cloud{
			Connector:     awsiot.New(unpaced),
			Configuration: m.configuration(bridge, "tpx/things/{DevEUI}/uplink"),
			Secrets:       []string{strings.Split(bridge.PrivateKeyPEM, "\n")[1]},
			Refused:       m.configuration(stranger, "tpx/things/{DevEUI}/uplink"),
			TooLarge:      128<<10 + 1,
			Keeps:         true,
			Received:      w.received,
			Cut: func() {
				m.stop()
				m.start()
			},
			Send: func(devEUI string, document []byte) error {
				_, err := w.client.Publish(within(t), &paho.Publish{Topic: "tpx/things/" + devEUI + "/downlink", QoS: 1, Payload: document})
				return err
			},
		}
	})
}

// A publish that a policy does not allow costs neither the message nor the
// session, and says what to allow.
func TestPublishNotAllowed(t *testing.T) {
	m := newMosquitto(t)
	r := newRig()
	s := open(t, r.dial(t, unpaced, m.configuration(m.ca.sign(t, "bridge"), "denied/{DevEUI}")), 0)
	for i := range 3 {
		f := failureOf(t, s.Handle(within(t), connectortest.Uplink(device, i)))
		if f.Verdict != sluice.RetryAfter || f.Reason != sluice.ReasonNotAuthorized || !strings.Contains(f.Hint, "iot:Publish on arn:aws:iot:eu-central-1:*:topic/denied/"+device) {
			t.Errorf("%+v", f)
		}
	}
	if e := r.events.Of(sluice.EventUplinkFailed); len(e) != 1 {
		t.Errorf("%d events: %+v", len(e), e)
	}
	select {
	case <-s.Done():
		t.Error(fmt.Sprint("the session ended: ", s.Err()))
	default:
	}
}
