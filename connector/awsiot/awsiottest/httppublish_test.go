package awsiottest_test

import (
	"bytes"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iotdataplane"
	"github.com/aws/aws-sdk-go-v2/service/iotdataplane/types"
	"github.com/eclipse/paho.golang/paho"

	"sluice/connector/awsiot/awsiottest"
)

// dataSDK is a client of the SDK for publishing and shadows.
func dataSDK(t *testing.T, s *awsiottest.Server, p aws.CredentialsProvider) *iotdataplane.Client {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: tlsConfig(t, s, nil)}
	t.Cleanup(transport.CloseIdleConnections)
	return iotdataplane.New(iotdataplane.Options{
		Region: s.Region(), BaseEndpoint: aws.String("https://" + s.Addr443()), Credentials: p,
		HTTPClient: &http.Client{Transport: transport}, RetryMaxAttempts: 1,
	})
}

func everything(s *awsiottest.Server) aws.CredentialsProvider {
	return provider(awsiottest.AccessKey{ID: s.AccessKeyID(), Secret: s.SecretAccessKey()})
}

// device speaks HTTP with a certificate.
type device struct {
	t      *testing.T
	client *http.Client
	url    string
	alpn   string
}

func newDevice(t *testing.T, s *awsiottest.Server, url string, c *awsiottest.Certificate, alpn ...string) device {
	t.Helper()
	config := tlsConfig(t, s, c)
	config.NextProtos = alpn
	transport := &http.Transport{TLSClientConfig: config, TLSNextProto: map[string]func(string, *tls.Conn) http.RoundTripper{}}
	t.Cleanup(transport.CloseIdleConnections)
	return device{t: t, client: &http.Client{Transport: transport}, url: url, alpn: strings.Join(alpn, " ")}
}

func (d device) do(method, path string, body []byte, headers map[string]string) (int, map[string]any) {
	d.t.Helper()
	r, err := http.NewRequestWithContext(deadline(d.t), method, d.url+path, bytes.NewReader(body))
	if err != nil {
		d.t.Fatal(err)
	}
	for name, value := range headers {
		r.Header.Set(name, value)
	}
	response, err := d.client.Do(r)
	if err != nil {
		d.t.Fatal(err)
	}
	defer response.Body.Close()
	if response.TLS.NegotiatedProtocol != d.alpn {
		d.t.Errorf("the protocol by ALPN is %q, want %q", response.TLS.NegotiatedProtocol, d.alpn)
	}
	text, err := io.ReadAll(response.Body)
	if err != nil {
		d.t.Fatal(err)
	}
	var out map[string]any
	if err := json.Unmarshal(text, &out); err != nil {
		d.t.Fatalf("%s %s: %d %q", method, path, response.StatusCode, text)
	}
	if code := response.Header.Get("X-Amzn-Errortype"); code != "" {
		out["type"] = code
	}
	return response.StatusCode, out
}

// TestPublishPorts publishes by each of the ways that AWS has.
func TestPublishPorts(t *testing.T) {
	s := start(t, awsiottest.Options{})
	watcher := connect(t, s, dialer{id: "watcher"})
	watcher.subscribe(t, "up/+")
	cert := newCertificate(t, s, true)
	for name, d := range map[string]device{
		"8443":          newDevice(t, s, "https://"+s.Addr8443(), &cert),
		"443 with ALPN": newDevice(t, s, "https://"+s.Addr443(), &cert, "x-amzn-http-ca"),
	} {
		t.Run(name, func(t *testing.T) {
			d.t = t
			status, out := d.do("POST", "/topics/up%2F1?qos=1", []byte(name), nil)
			if status != 200 || out["message"] != "OK" || out["traceId"] == "" {
				t.Fatalf("%d %v", status, out)
			}
			if p := watcher.receive(t); string(p.Payload) != name || p.Topic != "up/1" || p.QoS != 1 {
				t.Errorf("received %+v", p)
			}
			if status, out := d.do("POST", "/topics/up/2", nil, nil); status != 200 {
				t.Errorf("plain slashes: %d %v", status, out)
			}
			if p := watcher.receive(t); p.Topic != "up/2" || p.QoS != 0 {
				t.Errorf("received %+v", p)
			}
		})
	}
	if _, err := dataSDK(t, s, everything(s)).Publish(deadline(t), &iotdataplane.PublishInput{Topic: aws.String("up/3"), Qos: 1, Payload: []byte("signed")}); err != nil {
		t.Fatal(err)
	}
	if p := watcher.receive(t); string(p.Payload) != "signed" {
		t.Errorf("received %+v", p)
	}
}

// TestPublishRefused knows who may publish.
func TestPublishRefused(t *testing.T) {
	s := start(t, awsiottest.Options{})
	cert := newCertificate(t, s, true)
	certified := newDevice(t, s, "https://"+s.Addr8443(), &cert)
	if status, _ := certified.do("POST", "/topics/a", nil, nil); status != 200 {
		t.Fatalf("active: %d", status)
	}
	s.DeactivateCertificate(cert.ID)
	if status, out := certified.do("POST", "/topics/a", nil, nil); status != 403 || out["type"] != "ForbiddenException" || out["message"] != "Forbidden" {
		t.Errorf("deactivated, on an open connection: %d %v", status, out)
	}
	certified.client.CloseIdleConnections()
	for name, d := range map[string]device{
		"deactivated":    newDevice(t, s, "https://"+s.Addr8443(), &cert),
		"no certificate": newDevice(t, s, "https://"+s.Addr8443(), nil),
		"443":            newDevice(t, s, "https://"+s.Addr443(), &cert, "x-amzn-http-ca"),
	} {
		if r, err := d.client.Post(d.url+"/topics/a", "", nil); err == nil {
			_ = r.Body.Close()
			t.Errorf("%s: published", name)
		}
	}
	unsigned := newDevice(t, s, "https://"+s.Addr443(), &cert) // without ALPN the certificate does not count
	if status, out := unsigned.do("POST", "/topics/a", nil, nil); status != 403 || out["type"] != "MissingAuthenticationTokenException" || out["traceId"] == nil {
		t.Errorf("unsigned: %d %v", status, out)
	}
	key, err := s.CreateUser("narrow", `{"Statement":[{"Effect":"Allow","Action":"iot:Publish","Resource":"arn:aws:iot:*:*:topic/up/*"}]}`)
	if err != nil {
		t.Fatal(err)
	}
	c := dataSDK(t, s, provider(key))
	for topic, want := range map[string]string{"up/1": "", "down/1": "ForbiddenException"} {
		if _, err := c.Publish(deadline(t), &iotdataplane.PublishInput{Topic: &topic}); code(err) != want {
			t.Errorf("%s: %v, want %q", topic, err, want)
		}
	}
	if _, err := c.Publish(deadline(t), &iotdataplane.PublishInput{Topic: aws.String("up/1"), Retain: true}); code(err) != "ForbiddenException" {
		t.Errorf("retained without RetainPublish: %v", err)
	}
}

// TestCertificatePolicies hold over HTTPS.
func TestCertificatePolicies(t *testing.T) {
	s := start(t, awsiottest.Options{})
	cert := newCertificate(t, s, true)
	d := newDevice(t, s, "https://"+s.Addr8443(), &cert)
	publish := func(topic string) int {
		t.Helper()
		status, _ := d.do("POST", "/topics/"+topic, nil, nil)
		return status
	}
	if status := publish("a"); status != 200 {
		t.Errorf("without a policy: %d", status)
	}
	if err := s.CreatePolicy("up", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:Publish","Resource":"arn:aws:iot:*:*:topic/up/*"}]}`, cert.ARN); err != nil {
		t.Fatal(err)
	}
	for topic, want := range map[string]int{"up/1": 200, "down/1": 403, "up/1?retain=true": 403} {
		if status := publish(topic); status != want {
			t.Errorf("%s: %d, want %d", topic, status, want)
		}
	}
	if status, _ := d.do("GET", "/things/a/shadow", nil, nil); status != 403 {
		t.Errorf("a shadow: %d", status)
	}
	group, err := sdk(t, s).CreateThingGroup(deadline(t), &iot.CreateThingGroupInput{ThingGroupName: aws.String("g")})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.CreatePolicy("all", allowEverything, *group.ThingGroupArn); err != nil {
		t.Fatal(err)
	}
	for _, call := range []func() error{
		func() error { _, err := s.CreateThing("a", "", nil); return err },
		func() error {
			_, err := sdk(t, s).AttachThingPrincipal(deadline(t), &iot.AttachThingPrincipalInput{ThingName: aws.String("a"), Principal: &cert.ARN})
			return err
		},
		func() error {
			_, err := sdk(t, s).AddThingToThingGroup(deadline(t), &iot.AddThingToThingGroupInput{ThingName: aws.String("a"), ThingGroupName: aws.String("g")})
			return err
		},
	} {
		if err := call(); err != nil {
			t.Fatal(err)
		}
	}
	if status := publish("down/1"); status != 200 {
		t.Errorf("by the policy of a group: %d", status)
	}
	made, err := sdk(t, s).CreateKeysAndCertificate(deadline(t), &iot.CreateKeysAndCertificateInput{SetAsActive: true})
	if err != nil {
		t.Fatal(err)
	}
	bare := newDevice(t, s, "https://"+s.Addr8443(), &awsiottest.Certificate{CertificatePEM: *made.CertificatePem, PrivateKeyPEM: *made.KeyPair.PrivateKey})
	if status, out := bare.do("POST", "/topics/a", nil, nil); status != 403 {
		t.Errorf("one that the API made, without a policy: %d %v", status, out)
	}
}

// TestPublishProperties sends all that MQTT 5 has.
func TestPublishProperties(t *testing.T) {
	s := start(t, awsiottest.Options{})
	watcher := connect(t, s, dialer{id: "watcher"})
	watcher.subscribe(t, "up/+")
	_, err := dataSDK(t, s, everything(s)).Publish(deadline(t), &iotdataplane.PublishInput{
		Topic: aws.String("up/1"), Qos: 1, Payload: []byte("é"), ContentType: aws.String("text/plain"), ResponseTopic: aws.String("re/1"), MessageExpiry: 60,
		CorrelationData:        aws.String(base64.StdEncoding.EncodeToString([]byte{0, 1})),
		PayloadFormatIndicator: types.PayloadFormatIndicatorUtf8Data, UserProperties: aws.String(`[{"k":"v"},{"k":"w"}]`),
	})
	if err != nil {
		t.Fatal(err)
	}
	p := watcher.receive(t).Properties
	if p.ContentType != "text/plain" || p.ResponseTopic != "re/1" || string(p.CorrelationData) != "\x00\x01" || p.MessageExpiry == nil || *p.MessageExpiry > 60 ||
		p.PayloadFormat == nil || *p.PayloadFormat != 1 || len(p.User) != 2 || p.User[1] != (paho.UserProperty{Key: "k", Value: "w"}) {
		t.Errorf("properties %+v", p)
	}
}

func TestPublishLimits(t *testing.T) {
	s := start(t, awsiottest.Options{})
	cert := newCertificate(t, s, true)
	d := newDevice(t, s, "https://"+s.Addr8443(), &cert)
	for what, test := range map[string]struct {
		method, path string
		body         int
		headers      map[string]string
		status       int
		code         string
	}{
		"128 KiB":       {"POST", "/topics/a", 128 << 10, nil, 200, ""},
		"more":          {"POST", "/topics/a", 128<<10 + 1, nil, 413, "RequestEntityTooLargeException"},
		"7 slashes":     {"POST", "/topics/1/2/3/4/5/6/7/8", 0, nil, 200, ""},
		"8 slashes":     {"POST", "/topics/1/2/3/4/5/6/7/8/9", 0, nil, 400, "InvalidRequestException"},
		"a wildcard":    {"POST", "/topics/a%2F%2B", 0, nil, 400, "InvalidRequestException"},
		"$":             {"POST", "/topics/$x", 0, nil, 400, "InvalidRequestException"},
		"basic ingest":  {"POST", "/topics/$aws%2Frules%2Fr%2Fa", 0, nil, 200, ""},
		"QoS 2":         {"POST", "/topics/a?qos=2", 0, nil, 400, "InvalidRequestException"},
		"expiry":        {"POST", "/topics/a?messageExpiry=x", 0, nil, 400, "InvalidRequestException"},
		"response":      {"POST", "/topics/a?responseTopic=%2B", 0, nil, 400, "InvalidRequestException"},
		"format":        {"POST", "/topics/a", 0, map[string]string{"x-amz-mqtt5-payload-format-indicator": "x"}, 400, "InvalidRequestException"},
		"correlation":   {"POST", "/topics/a", 0, map[string]string{"x-amz-mqtt5-correlation-data": "?"}, 400, "InvalidRequestException"},
		"properties":    {"POST", "/topics/a", 0, map[string]string{"x-amz-mqtt5-user-properties": "e30="}, 400, "InvalidRequestException"},
		"GET":           {"GET", "/topics/a", 0, nil, 405, "MethodNotAllowedException"},
		"no topic":      {"POST", "/topics/", 0, nil, 400, "InvalidRequestException"},
		"somewhere":     {"POST", "/other", 0, nil, 404, "ResourceNotFoundException"},
		"retained on $": {"POST", "/topics/$aws%2Frules%2Fr%2Fa?retain=true", 0, nil, 400, "InvalidRequestException"},
	} {
		status, out := d.do(test.method, test.path, bytes.Repeat([]byte("x"), test.body), test.headers)
		if code, _ := out["type"].(string); status != test.status || code != test.code {
			t.Errorf("%s: %d %v, want %d %s", what, status, out, test.status, test.code)
		}
	}
	s.Fail(awsiottest.Fault{Action: "Publish", Status: 500, Code: "InternalFailureException", Times: 1})
	if status, out := d.do("POST", "/topics/a", nil, nil); status != 500 || out["type"] != "InternalFailureException" {
		t.Errorf("a fault: %d %v", status, out)
	}
}

func TestRetainedOverHTTP(t *testing.T) {
	s := start(t, awsiottest.Options{})
	c, ctx := dataSDK(t, s, everything(s)), deadline(t)
	for _, topic := range []string{"r/1", "r/2", "r/3"} {
		if _, err := c.Publish(ctx, &iotdataplane.PublishInput{Topic: &topic, Qos: 1, Retain: true, Payload: []byte("kept"), UserProperties: aws.String(`[{"k":"v"}]`)}); err != nil {
			t.Fatal(err)
		}
	}
	got, err := c.GetRetainedMessage(ctx, &iotdataplane.GetRetainedMessageInput{Topic: aws.String("r/1")})
	if err != nil || string(got.Payload) != "kept" || got.Qos != 1 || got.LastModifiedTime == 0 || string(got.UserProperties) != `[{"k":"v"}]` {
		t.Errorf("%+v %v", got, err)
	}
	if _, err := c.GetRetainedMessage(ctx, &iotdataplane.GetRetainedMessageInput{Topic: aws.String("r/4")}); code(err) != "ResourceNotFoundException" {
		t.Errorf("none: %v", err)
	}
	var topics []string
	for p := iotdataplane.NewListRetainedMessagesPaginator(c, &iotdataplane.ListRetainedMessagesInput{MaxResults: aws.Int32(2)}); p.HasMorePages(); {
		page, err := p.NextPage(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range page.RetainedTopics {
			topics = append(topics, *r.Topic)
			if r.PayloadSize != 4 {
				t.Errorf("%+v", r)
			}
		}
	}
	if strings.Join(topics, " ") != "r/1 r/2 r/3" {
		t.Errorf("topics %v", topics)
	}
	// A subscriber gets it, and an empty one removes it.
	watcher := connect(t, s, dialer{id: "watcher"})
	watcher.subscribe(t, "r/1")
	if p := watcher.receive(t); string(p.Payload) != "kept" || !p.Retain {
		t.Errorf("received %+v", p)
	}
	if _, err := c.Publish(ctx, &iotdataplane.PublishInput{Topic: aws.String("r/1"), Retain: true}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.GetRetainedMessage(ctx, &iotdataplane.GetRetainedMessageInput{Topic: aws.String("r/1")}); code(err) != "ResourceNotFoundException" {
		t.Errorf("removed: %v", err)
	}
}
