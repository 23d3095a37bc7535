package awsiot

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"

	"github.com/eclipse/paho.golang/packets"

	"sluice"
)

func testDialer(t *testing.T) *dialer {
	t.Helper()
	up, problems := compileTopic("tpx/things/{DevEUI}/uplink", true)
	down, more := compileTopic("tpx/things/{DevEUI}/downlink", false)
	if len(problems)+len(more) > 0 {
		t.Fatal(problems, more)
	}
	return &dialer{
		host: "a2-ats.iot.eu-central-1.amazonaws.com", port: "8883", uplink: up, downlink: down,
		cfg: config{Region: "eu-central-1", CertificateID: "arn:aws:iot:eu-central-1:101513775872:cert/" + strings.Repeat("8b", 32)},
	}
}

// Each way of not getting through has its reason, a sentence that names the
// host, and the next thing to do where there is one.
func TestFailures(t *testing.T) {
	d := testDialer(t)
	remote := func(alert string) error {
		return fmt.Errorf("x: %w", &net.OpError{Op: "remote error", Err: errors.New("tls: " + alert)})
	}
	for _, tc := range []struct {
		name   string
		got    *sluice.Failure
		reason sluice.Reason
		says   string // in message or hint
	}{
		{"no such name", d.dialFailure(&net.DNSError{IsNotFound: true}), sluice.ReasonUnreachable, "accountPrefix"},
		{"DNS broken", d.dialFailure(&net.DNSError{IsTemporary: true}), sluice.ReasonUnreachable, "cannot be reached"},
		{"dropped", d.dialFailure(context.DeadlineExceeded), sluice.ReasonUnreachable, "firewall"},
		{"refused", d.dialFailure(&net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}), sluice.ReasonUnreachable, "port 8883"},
		{"unknown authority", d.tlsFailure(x509.UnknownAuthorityError{}), sluice.ReasonTLS, "caCertificate"},
		{"other name", d.tlsFailure(x509.HostnameError{}), sluice.ReasonTLS, "not for the name"},
		{"server expired", d.tlsFailure(x509.CertificateInvalidError{Reason: x509.Expired}), sluice.ReasonTLS, "clock"},
		{"server invalid", d.tlsFailure(x509.CertificateInvalidError{Reason: x509.TooManyConstraints}), sluice.ReasonTLS, "not valid"},
		{"no TLS", d.tlsFailure(tls.RecordHeaderError{}), sluice.ReasonTLS, "8883"},
		{"TLS too slow", d.tlsFailure(context.DeadlineExceeded), sluice.ReasonTLS, "in time"},
		{"TLS hung up", d.tlsFailure(io.EOF), sluice.ReasonTLS, "proxy"},
		{"TLS otherwise", d.tlsFailure(errors.New("x")), sluice.ReasonTLS, "failed"},
		{"alert, TLS 1.2", d.tlsFailure(remote("bad certificate")), sluice.ReasonAuthentication, "active"},
		{"alert, protocol", d.tlsFailure(remote("protocol version not supported")), sluice.ReasonTLS, "protocol version"},
		{"alert, TLS 1.3", d.connectFailure(remote("unknown certificate"), 0, "", "c"), sluice.ReasonAuthentication, "active"},
		{"hung up", d.connectFailure(io.EOF, 0, "", "c"), sluice.ReasonAuthentication, "arn:aws:iot:eu-central-1:101513775872:client/c"},
		{"reset", d.connectFailure(syscall.ECONNRESET, 0, "", "c"), sluice.ReasonAuthentication, "iot:Connect"},
		{"silent", d.connectFailure(context.DeadlineExceeded, 0, "", "c"), sluice.ReasonTimeout, "did not answer"},
		{"called off", d.connectFailure(context.Canceled, 0, "", "c"), sluice.ReasonDisconnected, ""},
		{"otherwise", d.connectFailure(errors.New("x"), 0, "", "c"), sluice.ReasonUnreachable, ""},
		{"CONNACK 87", d.connectFailure(errors.New("x"), 0x87, "no", "c"), sluice.ReasonNotAuthorized, "It says: no"},
		{"CONNACK 84", d.connectFailure(errors.New("x"), 0x84, "", "c"), sluice.ReasonRejected, "MQTT 5"},
		{"CONNACK 8A", d.connectFailure(errors.New("x"), 0x8A, "", "c"), sluice.ReasonAuthentication, "registered"},
		{"CONNACK 9F", d.connectFailure(errors.New("x"), 0x9F, "", "c"), sluice.ReasonThrottled, "tried again"},
		{"CONNACK 82", d.connectFailure(errors.New("x"), 0x82, "", "c"), sluice.ReasonRejected, "0x82"},
		{"SUBACK 87", d.subscribeFailure(errors.New("x"), 0x87, d.downlink.Filter()), sluice.ReasonNotAuthorized, "topicfilter/tpx/things/+/downlink"},
		{"SUBACK 80", d.subscribeFailure(errors.New("x"), 0x80, "f"), sluice.ReasonNotAuthorized, "iot:Receive on arn:aws:iot:eu-central-1:101513775872:topic/tpx/things/*/downlink"},
		{"SUBACK 97", d.subscribeFailure(errors.New("x"), 0x97, "f"), sluice.ReasonThrottled, "f"},
		{"no SUBACK", d.subscribeFailure(errors.New("x"), 0, "f"), sluice.ReasonDisconnected, "close"},
		{"lost silently", d.lostFailure(nil, io.EOF, "c"), sluice.ReasonDisconnected, "without a reason"},
		{"lost by alert", d.lostFailure(nil, remote("internal error"), "c"), sluice.ReasonDisconnected, "internal error"},
		{"dead", d.lostFailure(nil, errPing, "c"), sluice.ReasonTimeout, "dead"},
		{"DISCONNECT 8E", lost(d, 0x8E), sluice.ReasonTakenOver, "client id c"},
		{"DISCONNECT 87", lost(d, 0x87), sluice.ReasonNotAuthorized, "topic/tpx/things/+/uplink"},
		{"DISCONNECT 97", lost(d, 0x97), sluice.ReasonThrottled, "CloudWatch"},
		{"DISCONNECT 93", lost(d, 0x93), sluice.ReasonThrottled, "quota"},
		{"DISCONNECT 95", lost(d, 0x95), sluice.ReasonTooLarge, "too large"},
		{"DISCONNECT 90", lost(d, 0x90), sluice.ReasonTopic, "topic"},
		{"DISCONNECT 8D", lost(d, 0x8D), sluice.ReasonTimeout, "heard nothing"},
		{"DISCONNECT 8B", lost(d, 0x8B), sluice.ReasonDisconnected, "balance"},
		{"DISCONNECT 98", lost(d, 0x98), sluice.ReasonDisconnected, "0x98"},
	} {
		f := tc.got
		if f.Verdict != sluice.NotConnected || f.Reason != tc.reason || f.Message == "" || !strings.Contains(f.Message+" "+f.Hint, tc.says) {
			t.Errorf("%s: %d %s: %s (%s)", tc.name, f.Verdict, f.Reason, f.Message, f.Hint)
		}
	}
}

func lost(d *dialer, code byte) *sluice.Failure {
	return d.lostFailure(&packets.Disconnect{ReasonCode: code}, io.EOF, "c")
}

func TestPubackFailures(t *testing.T) {
	d := testDialer(t)
	for code, want := range map[byte]struct {
		verdict sluice.Verdict
		reason  sluice.Reason
	}{
		0x80: {sluice.Retry, sluice.ReasonRejected},
		0x83: {sluice.Retry, sluice.ReasonRejected},
		0x87: {sluice.RetryAfter, sluice.ReasonNotAuthorized},
		0x90: {sluice.Permanent, sluice.ReasonTopic},
		0x91: {sluice.Retry, sluice.ReasonRejected},
		0x97: {sluice.RetryAfter, sluice.ReasonThrottled},
		0x99: {sluice.Permanent, sluice.ReasonRejected},
	} {
		f := d.pubackFailure(puback{code: code, reason: "why"}, "t")
		if f.Verdict != want.verdict || f.Reason != want.reason || f.Status != int(code) || !strings.HasSuffix(f.Message, "It says: why") {
			t.Errorf("0x%02X: %+v", code, f)
		}
	}
	for _, code := range []byte{0x00, 0x10} {
		if f := d.pubackFailure(puback{code: code}, "t"); f != nil {
			t.Errorf("0x%02X: %+v", code, f)
		}
	}
}

func TestPublishLost(t *testing.T) {
	for _, tc := range []struct {
		reason sluice.Reason
		alone  bool
		want   sluice.Verdict
	}{
		{sluice.ReasonDisconnected, true, sluice.NotConnected},
		{sluice.ReasonTakenOver, true, sluice.NotConnected},
		{sluice.ReasonNotAuthorized, false, sluice.RetryAfter},
		{sluice.ReasonTooLarge, true, sluice.Permanent},
		{sluice.ReasonTooLarge, false, sluice.Retry},
		{sluice.ReasonTopic, false, sluice.Retry},
	} {
		if f := publishLost(&sluice.Failure{Reason: tc.reason}, tc.alone); f.Verdict != tc.want {
			t.Errorf("%s, alone %v: %d", tc.reason, tc.alone, f.Verdict)
		}
	}
}
