package awsiot

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"sluice"
)

// theDoctor examines a configuration at AWS's own address, which tests cannot
// reach.
func theDoctor(t *testing.T, change map[string]any) *doctor {
	t.Helper()
	m := map[string]any{"region": "eu-central-1", "accountPrefix": "abc-ats"}
	for k, v := range change {
		m[k] = v
	}
	raw, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	e := &doctor{c: New(Options{}), spec: sluice.DialerSpec{Clock: time.Now, Connection: sluice.Connection{Configuration: raw}}, cfg: readConfig(raw)}
	e.prepare()
	return e
}

// A certificate of another authority at AWS's address is somebody between,
// who is named; one that is trusted all the same is a warning.
func TestDoctorNamesWhoOpensTLS(t *testing.T) {
	e := theDoctor(t, nil)
	by := func(name string) *x509.Certificate {
		return &x509.Certificate{Issuer: pkix.Name{CommonName: name}, Subject: pkix.Name{CommonName: name}}
	}
	for want, err := range map[string]error{
		"tls_intercepted": x509.UnknownAuthorityError{Cert: by("Corporate Proxy")},
		"tls_untrusted":   x509.UnknownAuthorityError{Cert: by("VeriSign Class 3")},
		"tls_dates":       x509.CertificateInvalidError{Reason: x509.Expired},
		"tls_closed":      io.EOF,
		"tls_refused":     &net.OpError{Op: "remote error", Err: errors.New("tls: access denied")},
		"tls_failed":      context.DeadlineExceeded,
	} {
		f := e.tlsFinding(err)
		if f.state != sluice.StepFailed || f.cause != want || f.detail == "" {
			t.Errorf("%s: %+v", want, f)
		}
	}
	if f := e.serverFinding(tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{by("leaf"), by("Amazon Root CA 1")}}}); f.state != sluice.StepOK {
		t.Errorf("Amazon: %+v", f)
	}
	if f := e.serverFinding(tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{by("leaf"), by("Corporate Proxy")}}}); f.cause != "tls_intercepted" {
		t.Errorf("a proxy that is trusted: %+v", f)
	}
	if f := theDoctor(t, map[string]any{"dataEndpoint": "broker:8883"}).tlsFinding(x509.UnknownAuthorityError{Cert: by("Ours")}); f.cause != "tls_untrusted" {
		t.Errorf("another broker: %+v", f)
	}
}

// Beijing's endpoint has a form of its own, and is not taken for an old one.
func TestDoctorKnowsBeijing(t *testing.T) {
	for prefix, want := range map[string]string{"abc": "", "abc-ats": "", "abc.ats.iot.cn-north-1.amazonaws.com.cn": ""} {
		if f := theDoctor(t, map[string]any{"region": "cn-north-1", "accountPrefix": prefix}).checkRegion(t.Context()); f.cause != want {
			t.Errorf("%s: %+v", prefix, f)
		}
	}
}

// What AWS refuses to take is named by the reason.
func TestDoctorNamesUnsent(t *testing.T) {
	e := theDoctor(t, map[string]any{"uplinkTopicPattern": "a/{DevEUI}"})
	e.d.uplink, _ = compileTopic(e.cfg.UplinkTopicPattern, true)
	for code, want := range map[byte]string{
		codeQuotaExceeded: "publish_throttled",
		codeTopicInvalid:  "publish_topic",
		codeNotAuthorized: "publish_denied",
		codePayloadFormat: "publish_failed",
	} {
		if f := e.unsent(e.d.pubackFailure(puback{code: code}, "a/b"), "a/b"); f.state != sluice.StepFailed || f.cause != want || f.detail == "" {
			t.Errorf("%s: %+v", want, f)
		}
	}
}
