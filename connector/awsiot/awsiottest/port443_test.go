package awsiottest_test

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	signer "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"
	"github.com/gorilla/websocket"

	"sluice/connector/awsiot/awsiottest"
)

// TestALPN wants MQTT at port 443 by its protocol name, and nothing by that of
// custom authorizers.
func TestALPN(t *testing.T) {
	s := start(t, awsiottest.Options{})
	cert := newCertificate(t, s, true)
	config := tlsConfig(t, s, &cert)
	config.NextProtos = []string{"x-amzn-mqtt-ca"}
	conn, err := tls.Dial("tcp", s.Addr443(), config)
	if err != nil {
		t.Fatal(err)
	}
	if got := conn.ConnectionState().NegotiatedProtocol; got != "x-amzn-mqtt-ca" {
		t.Errorf("protocol %q", got)
	}
	c := paho.NewClient(paho.ClientConfig{ClientID: "c", Conn: packets.NewThreadSafeConn(conn)})
	if _, err := c.Connect(deadline(t), &paho.Connect{ClientID: "c", KeepAlive: 60, CleanStart: true}); err != nil {
		t.Fatal(err)
	}
	if ack, err := c.Publish(deadline(t), &paho.Publish{Topic: "t", QoS: 1}); err != nil || ack.ReasonCode != 0 {
		t.Errorf("publish: %+v %v", ack, err)
	}
	_ = c.Disconnect(&paho.Disconnect{})
	<-c.Done()
	config.NextProtos = []string{"mqtt"}
	if conn, err := tls.Dial("tcp", s.Addr443(), config); err == nil {
		_ = conn.Close()
		t.Error("a custom authorizer is there")
	}
	inactive := newCertificate(t, s, false)
	config = tlsConfig(t, s, &inactive)
	config.NextProtos = []string{"x-amzn-mqtt-ca"}
	conn, err = tls.Dial("tcp", s.Addr443(), config)
	if err == nil {
		_, err = conn.Read(make([]byte, 1))
		_ = conn.Close()
	}
	if err == nil || !strings.Contains(err.Error(), "bad certificate") {
		t.Errorf("an inactive certificate: %v", err)
	}
}

// presign signs an address of the broker as the AWS IoT SDKs do: with the
// SDK's signer, and the session token added afterwards.
func presign(t testing.TB, s *awsiottest.Server, change func(*signing)) string {
	t.Helper()
	o := signing{key: s.AccessKeyID(), secret: s.SecretAccessKey(), region: s.Region(), service: "iotdevicegateway", at: time.Now(), expires: "86400"}
	if change != nil {
		change(&o)
	}
	r, err := http.NewRequest(http.MethodGet, "https://"+s.Addr443()+"/mqtt", nil)
	if err != nil {
		t.Fatal(err)
	}
	if o.expires != "" {
		r.URL.RawQuery = "X-Amz-Expires=" + o.expires
	}
	empty := sha256.Sum256(nil)
	address, _, err := signer.NewSigner().PresignHTTP(context.Background(), aws.Credentials{AccessKeyID: o.key, SecretAccessKey: o.secret},
		r, hex.EncodeToString(empty[:]), o.service, o.region, o.at)
	if err != nil {
		t.Fatal(err)
	}
	if o.token != "" {
		address += "&X-Amz-Security-Token=" + url.QueryEscape(o.token)
	}
	return strings.Replace(address, "https://", "wss://", 1)
}

type signing struct {
	key, secret, region, service, expires, token string
	at                                           time.Time
}

func dialWebSocket(t testing.TB, s *awsiottest.Server, address string, protocols ...string) (*websocket.Conn, *http.Response, error) {
	t.Helper()
	d := websocket.Dialer{TLSClientConfig: tlsConfig(t, s, nil), Subprotocols: protocols}
	return d.DialContext(deadline(t), address, nil)
}

// TestWebSocket connects as an IAM user, over WebSocket.
func TestWebSocket(t *testing.T) {
	s := start(t, awsiottest.Options{})
	for name, change := range map[string]func(*signing){
		"a day":        nil,
		"no expiry":    func(o *signing) { o.expires = "" },
		"an hour old":  func(o *signing) { o.at = o.at.Add(-time.Hour) },
		"a minute off": func(o *signing) { o.at = o.at.Add(time.Minute) },
	} {
		conn, _, err := dialWebSocket(t, s, presign(t, s, change), "mqtt")
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		c := paho.NewClient(paho.ClientConfig{ClientID: name, Conn: packets.NewThreadSafeConn(&stream{Conn: conn})})
		if _, err := c.Connect(deadline(t), &paho.Connect{ClientID: name, KeepAlive: 60, CleanStart: true}); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for _, size := range []int{0, 131072} {
			if ack, err := c.Publish(deadline(t), &paho.Publish{Topic: "t", QoS: 1, Payload: make([]byte, size)}); err != nil || ack.ReasonCode != 0 {
				t.Errorf("%s: publish: %+v %v", name, ack, err)
			}
		}
		_ = c.Disconnect(&paho.Disconnect{})
		<-c.Done()
	}
}

// stream is the client's side of a WebSocket as a stream of bytes.
type stream struct {
	*websocket.Conn
	reading io.Reader
}

func (c *stream) Read(p []byte) (int, error) {
	for {
		if c.reading == nil {
			_, r, err := c.NextReader()
			if err != nil {
				return 0, err
			}
			c.reading = r
		}
		n, err := c.reading.Read(p)
		if err == io.EOF {
			c.reading, err = nil, nil
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}

func (c *stream) Write(p []byte) (int, error) {
	return len(p), c.WriteMessage(websocket.BinaryMessage, p)
}

func (c *stream) SetDeadline(t time.Time) error {
	_ = c.SetReadDeadline(t)
	return c.SetWriteDeadline(t)
}

// TestWebSocketRefused wants 403 with AWS's form for every signature that is
// not good.
func TestWebSocketRefused(t *testing.T) {
	s := start(t, awsiottest.Options{})
	tamper := func(old, new string) func(string) string {
		return func(a string) string { return strings.Replace(a, old, new, 1) }
	}
	for name, test := range map[string]struct {
		sign   func(*signing)
		tamper func(string) string
		want   string
	}{
		"wrong secret":  {func(o *signing) { o.secret = "x" }, nil, "does not match the signature you provided"},
		"wrong key":     {func(o *signing) { o.key = "AKIAX" }, nil, "security token included in the request is invalid"},
		"a token":       {func(o *signing) { o.token = "x" }, nil, "security token included in the request is invalid"},
		"wrong region":  {func(o *signing) { o.region = "us-east-1" }, nil, "valid Region, not 'us-east-1'"},
		"wrong service": {func(o *signing) { o.service = "iotdata" }, nil, "correct service: 'iotdevicegateway'"},
		"expired":       {func(o *signing) { o.at = o.at.Add(-25 * time.Hour) }, nil, "Signature expired"},
		"short-lived":   {func(o *signing) { o.at, o.expires = o.at.Add(-time.Minute), "30" }, nil, "Signature expired"},
		"from tomorrow": {func(o *signing) { o.at = o.at.Add(24 * time.Hour) }, nil, "not yet current"},
		"for two days":  {func(o *signing) { o.expires = "172800" }, nil, "X-Amz-Expires"},
		"another path":  {nil, tamper("X-Amz-Expires=86400", "X-Amz-Expires=86399"), "does not match the signature you provided"},
		"no signature":  {nil, tamper("X-Amz-Signature", "X-Amz-Signatur"), "X-Amz-Signature"},
		"no query":      {nil, func(a string) string { a, _, _ = strings.Cut(a, "?"); return a }, "Missing Authentication Token"},
	} {
		address := presign(t, s, test.sign)
		if test.tamper != nil {
			address = test.tamper(address)
		}
		conn, answer, err := dialWebSocket(t, s, address, "mqtt")
		if err == nil || answer == nil {
			if conn != nil {
				_ = conn.Close()
			}
			t.Errorf("%s: %v", name, err)
			continue
		}
		var body struct{ Message, TraceID string }
		if err := json.NewDecoder(answer.Body).Decode(&body); err != nil || body.TraceID == "" {
			t.Errorf("%s: body %+v %v", name, body, err)
		}
		if answer.StatusCode != 403 || answer.Header.Get("X-Amzn-Errortype") != "ForbiddenException:" || !strings.Contains(body.Message, test.want) {
			t.Errorf("%s: %d %q, want 403 with %q", name, answer.StatusCode, body.Message, test.want)
		}
	}
	if conn, answer, err := dialWebSocket(t, s, presign(t, s, nil)); err == nil || answer.StatusCode != 400 {
		if conn != nil {
			_ = conn.Close()
		}
		t.Errorf("without the subprotocol: %v", err)
	}
}

// TestWebSocketLife wants a connection to end after a day, here a moment.
func TestWebSocketLife(t *testing.T) {
	s := start(t, awsiottest.Options{Quotas: awsiottest.Quotas{WebSocketLife: 3 * time.Second}})
	conn, _, err := dialWebSocket(t, s, presign(t, s, nil), "mqtt")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan byte, 1)
	c := paho.NewClient(paho.ClientConfig{
		ClientID: "c", Conn: packets.NewThreadSafeConn(&stream{Conn: conn}), OnClientError: func(error) {},
		OnServerDisconnect: func(d *paho.Disconnect) { ended <- d.ReasonCode },
	})
	if _, err := c.Connect(deadline(t), &paho.Connect{ClientID: "c", KeepAlive: 60, CleanStart: true}); err != nil {
		t.Fatal(err)
	}
	select {
	case code := <-ended:
		if code != 0x98 {
			t.Errorf("DISCONNECT 0x%02X, want 0x98", code)
		}
	case <-deadline(t).Done():
		t.Error("the connection lives")
	}
	<-c.Done()
}

// TestHTTPAt443 wants other paths to be HTTP, without a client certificate.
func TestHTTPAt443(t *testing.T) {
	s := start(t, awsiottest.Options{})
	transport := &http.Transport{TLSClientConfig: tlsConfig(t, s, nil)}
	defer transport.CloseIdleConnections()
	answer, err := (&http.Client{Transport: transport}).Get("https://" + s.Addr443() + "/nothing")
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
	if answer.StatusCode != http.StatusNotFound && answer.StatusCode != http.StatusForbidden {
		t.Errorf("status %d", answer.StatusCode)
	}
}
