package awsiot_test

import (
	"encoding/pem"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluice"
	"sluice/connector/awsiot"
	"sluice/connector/awsiot/awsiottest"
	"sluice/connector/connectortest"
)

// What is published over HTTPS is what is published over MQTT.
func TestPublisherMessage(t *testing.T) {
	c := newCloud(t, awsiottest.Options{})
	w := c.watch(t, "tpx/things/+/uplink")
	m := connectortest.Uplink("20635F0108000496", 1)
	m.Replayed = true
	for _, name := range []string{"SSL", "HTTPS", "HTTPS by access"} {
		s := open(t, newRig().dial(t, awsiot.Options{}, c.with(t, c.protocols()[name])), 0)
		if err := s.Handle(within(t), m); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	await(t, "all three", func() bool { return len(w.all()) == 3 })
	for _, p := range w.all() {
		if p.Topic != "tpx/things/20635F0108000496/uplink" || string(p.Payload) != string(m.Document) || p.QoS != 1 {
			t.Errorf("%s QoS %d: %s", p.Topic, p.QoS, p.Payload)
		}
		if p.Properties.ContentType != "application/json" || p.Properties.User.Get("sluice-id") != m.ID || p.Properties.User.Get("sluice-replayed") != "true" {
			t.Errorf("properties: %+v", p.Properties)
		}
	}
}

// Each answer of AWS has its verdict, and is no end of the session.
func TestPublisherAnswers(t *testing.T) {
	c := newCloud(t, awsiottest.Options{})
	s := open(t, newRig().dial(t, awsiot.Options{}, c.with(t, c.protocols()["HTTPS"])), 0)
	type outcome struct {
		Verdict sluice.Verdict
		After   time.Duration
		Reason  sluice.Reason
	}
	for _, tc := range []struct {
		status int
		code   string
		want   outcome
	}{
		{http.StatusBadRequest, "InvalidRequestException", outcome{sluice.Permanent, 0, sluice.ReasonRejected}},
		{http.StatusUnauthorized, "UnauthorizedException", outcome{sluice.RetryAfter, 30 * time.Second, sluice.ReasonNotAuthorized}},
		{http.StatusForbidden, "ForbiddenException", outcome{sluice.RetryAfter, 30 * time.Second, sluice.ReasonNotAuthorized}},
		{http.StatusForbidden, "ExpiredTokenException", outcome{sluice.RetryAfter, 30 * time.Second, sluice.ReasonAuthentication}},
		{http.StatusMethodNotAllowed, "MethodNotAllowedException", outcome{sluice.RetryAfter, 30 * time.Second, sluice.ReasonConfiguration}},
		{http.StatusRequestEntityTooLarge, "RequestEntityTooLargeException", outcome{sluice.Permanent, 0, sluice.ReasonTooLarge}},
		{http.StatusTooManyRequests, "ThrottlingException", outcome{sluice.RetryAfter, time.Second, sluice.ReasonThrottled}},
		{http.StatusInternalServerError, "InternalFailureException", outcome{sluice.Retry, 0, sluice.ReasonUnreachable}},
		{http.StatusServiceUnavailable, "ServiceUnavailableException", outcome{sluice.Retry, 0, sluice.ReasonUnreachable}},
	} {
		c.Fail(awsiottest.Fault{Action: "Publish", Status: tc.status, Code: tc.code, Message: "because", Times: 1})
		f, ok := errors.AsType[*sluice.Failure](s.Handle(within(t), connectortest.Uplink("20635F0108000496", 1)))
		if !ok {
			t.Fatalf("%d: no failure", tc.status)
		}
		if diff := cmp.Diff(tc.want, outcome{f.Verdict, f.After, f.Reason}); diff != "" || f.Status != tc.status {
			t.Errorf("%d %s (-want +got): %s%v", tc.status, tc.code, diff, f)
		}
	}
	select {
	case <-s.Done():
		t.Errorf("the session has ended: %v", s.Err())
	default:
	}
	if err := s.Handle(within(t), connectortest.Uplink("20635F0108000496", 2)); err != nil {
		t.Errorf("after all: %v", err)
	}
}

// An answer that does not come is a time-out; where no other came meanwhile the
// session ends, so that the endpoint is looked for anew.
func TestPublisherTimeout(t *testing.T) {
	c := newCloud(t, awsiottest.Options{})
	d := newRig().dial(t, awsiot.Options{PubackTimeout: 200 * time.Millisecond}, c.with(t, c.protocols()["HTTPS"]))
	s := open(t, d, 0)
	c.Fail(awsiottest.Fault{Action: "Publish", Delay: time.Minute, Times: 1})
	f, ok := errors.AsType[*sluice.Failure](s.Handle(within(t), connectortest.Uplink("20635F0108000496", 1)))
	if !ok || f.Verdict != sluice.NotConnected || f.Reason != sluice.ReasonTimeout {
		t.Errorf("%+v", f)
	}
	select {
	case <-s.Done():
	default:
		t.Error("the session goes on")
	}
	if err := open(t, d, 1).Handle(within(t), connectortest.Uplink("20635F0108000496", 1)); err != nil {
		t.Error(err)
	}
}

// A certificate that is deactivated ends what goes over it, with the reason.
func TestPublisherCertificateRevoked(t *testing.T) {
	c := newCloud(t, awsiottest.Options{})
	own, err := c.CreateKeysAndCertificate(true)
	if err != nil {
		t.Fatal(err)
	}
	changes := c.protocols()["HTTPS"]
	changes["certificate"], changes["privateKey"] = own.CertificatePEM, own.PrivateKeyPEM
	s := open(t, newRig().dial(t, awsiot.Options{}, c.with(t, changes)), 0)
	c.DeactivateCertificate(own.ID)
	f, ok := errors.AsType[*sluice.Failure](s.Handle(within(t), connectortest.Uplink("20635F0108000496", 1)))
	if !ok || f.Verdict == sluice.Permanent || f.Reason != sluice.ReasonNotAuthorized && f.Reason != sluice.ReasonAuthentication || f.Hint == "" {
		t.Errorf("%+v", f)
	}
}

// A kept connection that is closed just when it is used again costs nothing, and
// Retry-After is heeded.
func TestPublisherKeptConnections(t *testing.T) {
	var publishes atomic.Int64
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		switch publishes.Add(1) {
		case 1:
			conn, _, _ := http.NewResponseController(w).Hijack()
			_ = conn.Close()
		case 2:
			_, _ = io.WriteString(w, `{"message":"OK"}`)
		default:
			w.Header().Set("Retry-After", "7")
			w.WriteHeader(http.StatusTooManyRequests)
		}
	}))
	defer s.Close()
	c := newCloud(t, awsiottest.Options{})
	changes := c.protocols()["HTTPS by access"]
	changes["publishEndpoint"] = s.Listener.Addr().String()
	changes["caCertificate"] = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}))
	session := open(t, newRig().dial(t, awsiot.Options{}, c.with(t, changes)), 0)
	if err := session.Handle(within(t), connectortest.Uplink("20635F0108000496", 1)); err != nil {
		t.Errorf("after the connection was closed: %v", err)
	}
	err := session.Handle(within(t), connectortest.Uplink("20635F0108000496", 2))
	if v, after := sluice.VerdictOf(err); v != sluice.RetryAfter || after != 7*time.Second {
		t.Errorf("verdict %d after %s: %v", v, after, err)
	}
	if n := publishes.Load(); n != 3 {
		t.Errorf("%d requests", n)
	}
}

// BenchmarkProtocols publishes eight messages at a time on one lane.
func BenchmarkProtocols(b *testing.B) {
	for _, name := range []string{"SSL", "WSS", "HTTPS", "HTTPS by access"} {
		b.Run(name, func(b *testing.B) {
			c := newCloud(b, awsiottest.Options{Rate: -1})
			s := open(b, newRig().dial(b, awsiot.Options{PublishRate: -1}, c.with(b, c.protocols()[name])), 0)
			m := connectortest.Uplink("20635F0108000496", 1)
			m.Payload = make([]byte, 1200)
			b.ReportAllocs()
			b.ResetTimer()
			var left atomic.Int64
			left.Store(int64(b.N))
			var wait sync.WaitGroup
			for range 8 {
				wait.Go(func() {
					for left.Add(-1) >= 0 {
						if err := s.Handle(b.Context(), m); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wait.Wait()
		})
	}
}
