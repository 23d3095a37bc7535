package awsiot

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"sluice"
)

// The steps that AWS is not asked for, or not yet asked who we are.

// certificateOf is the certificate's id at AWS: its fingerprint.
// Source: AWS IoT API reference, "certificateId"; the emulator does the same.
func certificateOf(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return hex.EncodeToString(sum[:])
}

// checkRegion compares what must speak of one region and one account.
func (e *doctor) checkRegion(context.Context) finding {
	c := &e.cfg
	host := e.d.host
	switch {
	case !isRegion(c.Region):
		return wrong("region_unknown", fmt.Sprintf("%q is not a region.", c.Region), "Write it as in the console's address, such as eu-central-1.")
	case isElsewhere(host, c.Region):
		return wrong("region_mismatch", fmt.Sprintf("The endpoint %s is not in the region %s.", host, c.Region), "Copy both from one place: the AWS IoT console, Settings, with the right region chosen at the top.")
	case c.DataEndpoint == "" && isLegacy(c.AccountPrefix, c.Region):
		return wrong("endpoint_legacy", fmt.Sprintf("The endpoint %s is the old one, whose server certificate is not trusted any more.", host),
			fmt.Sprintf("Write %s-ats as accountPrefix.", c.AccountPrefix))
	}
	if c.CertificateID == "" {
		return well(fmt.Sprintf("%s is in %s. No certificateId is given to compare.", host, c.Region))
	}
	arn, ok := parseCertificateARN(c.CertificateID)
	switch {
	case !ok:
		return odd("certificate_arn", fmt.Sprintf("%q is not the ARN of a certificate, so it is not attached to things.", c.CertificateID),
			"Copy the ARN from the certificate's page: arn:"+partition(c.Region)+":iot:<region>:<account>:cert/<64 digits>.")
	case arn.region != c.Region:
		return wrong("certificate_region", fmt.Sprintf("The certificate is one of %s, the connection is to %s.", arn.region, c.Region),
			"A certificate is known in one region only: register it in "+c.Region+", or change the region.")
	}
	if chain, err := readCertificates(c.Certificate); err == nil {
		if id := certificateOf(chain[0]); !strings.EqualFold(id, c.CertificateID[len(c.CertificateID)-64:]) {
			return wrong("certificate_other", "certificateId names another certificate than the one given: that one has the id "+id+".",
				"Write the ARN that ends in cert/"+id+", or give the certificate that certificateId names.")
		}
	}
	return well(fmt.Sprintf("%s, certificateId and region agree: %s, account %s.", host, c.Region, arn.account))
}

// isLegacy reports whether a prefix is that of the endpoint without -ats.
func isLegacy(prefix, region string) bool {
	prefix, _, whole := strings.Cut(strings.ToLower(prefix), ".")
	if whole || region == "cn-north-1" {
		return false
	}
	return prefix != "" && !strings.HasSuffix(prefix, "-ats")
}

// checkCertificate looks at the certificate and its key.
func (e *doctor) checkCertificate(context.Context) finding {
	if !e.cfg.certified() {
		return skipped("The protocol " + e.cfg.Protocol + " uses no certificate here.")
	}
	chain, err := readCertificates(e.cfg.Certificate)
	if err != nil {
		return wrong("certificate_unreadable", fmt.Sprintf("The certificate cannot be read: %v.", err),
			"Paste the whole file, from -----BEGIN CERTIFICATE----- to -----END CERTIFICATE-----.")
	}
	key, err := readPrivateKey(e.cfg.PrivateKey)
	if err != nil {
		return wrong("key_unreadable", fmt.Sprintf("The private key cannot be read: %v.", err),
			"Paste the whole file *-private.pem.key that AWS gave with the certificate.")
	}
	own, now := chain[0], e.spec.Clock()
	switch {
	case !belongs(key, own):
		return wrong("key_mismatch", "The private key is not the one of this certificate.",
			"Give the two files that were downloaded together. A lost key cannot be had again: make a new certificate.")
	case now.After(own.NotAfter):
		return wrong("certificate_expired", "The certificate expired on "+day(own.NotAfter)+".", "Make a new certificate, attach the same policy, and PUT it into the connection.")
	case now.Before(own.NotBefore):
		return wrong("certificate_not_yet_valid", fmt.Sprintf("The certificate is valid from %s on; this machine's clock says %s.", day(own.NotBefore), day(now)),
			"Check the clock of this machine.")
	case now.Add(30 * 24 * time.Hour).After(own.NotAfter):
		return odd("certificate_expires_soon", "The certificate expires on "+day(own.NotAfter)+".", "Make a new one before that.")
	}
	return well("The key belongs to the certificate, which is valid until " + day(own.NotAfter) + "; its id is " + certificateOf(own) + ".")
}

func day(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }

// resolve looks the endpoint's name up.
func (e *doctor) resolve(ctx context.Context) finding {
	if e.cfg.Proxy != "" {
		return skipped("The proxy looks the name up.")
	}
	if e.d.host == "" {
		return wrong("name_missing", "There is no host name to look up.", "Give accountPrefix and region.")
	}
	addresses, err := net.DefaultResolver.LookupHost(ctx, e.d.host)
	if err != nil {
		if dns, ok := errors.AsType[*net.DNSError](err); ok && dns.IsNotFound {
			return wrong("name_unknown", fmt.Sprintf("The name %s does not exist.", e.d.host),
				"Compare accountPrefix and region with: aws iot describe-endpoint --endpoint-type iot:Data-ATS --region "+e.cfg.Region)
		}
		return wrong("name_server", fmt.Sprintf("The name %s could not be looked up.", e.d.host),
			"Check the name server of this machine (/etc/resolv.conf); behind a proxy, names may not resolve at all.")
	}
	return well(e.d.host + " is " + strings.Join(addresses[:min(len(addresses), 4)], ", ") + ".")
}

// openPort makes a TCP connection.
func (e *doctor) openPort(ctx context.Context) finding {
	if e.cfg.Proxy != "" {
		return skipped("The proxy opens the port.")
	}
	var nd net.Dialer
	conn, err := nd.DialContext(ctx, "tcp", net.JoinHostPort(e.d.host, e.d.port))
	if err != nil {
		f := e.d.dialFailure(err)
		cause := "port_unreachable"
		switch {
		case isTimeout(err):
			cause = "port_filtered"
		case strings.Contains(f.Message, "refuses"):
			cause = "port_refused"
		}
		return wrong(cause, f.Message, f.Hint)
	}
	_ = conn.Close() // nothing was sent
	return well(fmt.Sprintf("%s answers on port %s.", e.d.host, e.d.port))
}

// AWS takes signatures that are at most five minutes old.
// Source: IAM User Guide, "Troubleshoot signed requests".
const (
	skewWarning = time.Minute
	skewFailure = 5 * time.Minute
)

// checkClock compares this machine's clock with the date of an answer of AWS.
// The server's certificate is not verified for that: it could not be, with a
// wrong clock. Nothing is sent that is worth anything.
func (e *doctor) checkClock(ctx context.Context) finding {
	transport := &http.Transport{
		Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true,
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}, //nolint:gosec // see above
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodHead, e.cfg.controlAddress(), nil)
	if err != nil {
		return skipped("There is no address to ask for the time.")
	}
	client := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	response, err := client.Do(request)
	if err != nil {
		return skipped("Nobody could be asked for the time: " + e.cfg.controlAddress() + " does not answer.")
	}
	_ = response.Body.Close() // a HEAD has none
	theirs, err := http.ParseTime(response.Header.Get("Date"))
	if err != nil {
		return skipped(e.cfg.controlAddress() + " does not tell the time.")
	}
	off := e.spec.Clock().Sub(theirs)
	text := fmt.Sprintf("This machine's clock is %s off: it says %s, AWS says %s.", off.Abs().Round(time.Second), day(e.spec.Clock()), day(theirs))
	const hint = "Set the clock, and keep it right with NTP (timedatectl set-ntp true)."
	switch {
	case off.Abs() > skewFailure:
		return wrong("clock_skew", text, hint)
	case off.Abs() > skewWarning:
		return odd("clock_skew", text, hint)
	}
	return well("This machine's clock is right to the minute.")
}

// handshake makes a TLS connection and looks at who answers.
func (e *doctor) handshake(ctx context.Context) finding {
	tcp, err := e.d.tcp(ctx, net.JoinHostPort(e.d.host, e.d.port))
	if err != nil {
		f := failureOf(err)
		return wrong("port_unreachable", f.Message, f.Hint)
	}
	defer func() { _ = tcp.Close() }() // nothing is written that matters
	conf := &tls.Config{RootCAs: e.pool, MinVersion: tls.VersionTLS12}
	if e.d.tls != nil {
		conf = e.d.tls.Clone()
	}
	conf.ServerName, conf.NextProtos = e.d.host, e.cfg.mqttALPN()
	if e.cfg.Protocol == protocolHTTPS {
		conf.NextProtos = e.cfg.publishALPN()
	}
	var state *tls.ConnectionState
	conf.VerifyConnection = func(s tls.ConnectionState) error { state = &s; return nil }
	conn := tls.Client(tcp, conf)
	err = conn.HandshakeContext(ctx)
	if state == nil {
		return e.tlsFinding(err)
	}
	// The server has proved who it is. An error now is its opinion of our
	// certificate, which the next step is about.
	return e.serverFinding(*state)
}

// serverFinding names the server's certificate authority.
func (e *doctor) serverFinding(s tls.ConnectionState) finding {
	chain := s.VerifiedChains[0]
	root := chain[len(chain)-1]
	text := fmt.Sprintf("%s; the server's certificate is signed by %q.", tls.VersionName(s.Version), root.Subject.CommonName)
	if isAWS(e.d.host) && !isAmazon(root) {
		return odd("tls_intercepted", text+" That is not Amazon: somebody between opens the TLS, and then AWS cannot see the client certificate.",
			"Except "+e.d.host+" from TLS inspection in the proxy or firewall.")
	}
	return well(text)
}

func isAWS(host string) bool { return strings.Contains(host, ".amazonaws.") }

// isAmazon reports whether a certificate is one of Amazon's authorities.
// Source: AWS IoT Developer Guide, "Server authentication".
func isAmazon(c *x509.Certificate) bool {
	name := c.Subject.String() + " " + c.Issuer.String()
	return strings.Contains(name, "Amazon") || strings.Contains(name, "Starfield")
}

// tlsFinding tells why the server could not be trusted.
func (e *doctor) tlsFinding(err error) finding {
	f := e.d.tlsFailure(err)
	if unknown, ok := errors.AsType[x509.UnknownAuthorityError](err); ok && unknown.Cert != nil {
		issuer := unknown.Cert.Issuer.String()
		if isAWS(e.d.host) && !isAmazon(unknown.Cert) && !strings.Contains(issuer, "VeriSign") && !strings.Contains(issuer, "Symantec") {
			return wrong("tls_intercepted", fmt.Sprintf("The certificate of %s is signed by %q, not by Amazon: somebody between opens the TLS.", e.d.host, issuer),
				"Except "+e.d.host+" from TLS inspection in the proxy or firewall; AWS needs to see the client certificate.")
		}
		return wrong("tls_untrusted", f.Message, f.Hint)
	}
	cause := "tls_failed"
	if _, ok := errors.AsType[x509.HostnameError](err); ok {
		cause = "tls_name"
	}
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok && invalid.Reason == x509.Expired {
		cause = "tls_dates"
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		cause = "tls_not_spoken"
	}
	if cause == "tls_failed" && isClosed(err) {
		cause = "tls_closed"
	}
	if f.Reason == sluice.ReasonAuthentication { // an alert before the server's certificate was seen
		cause = "tls_refused"
	}
	return wrong(cause, f.Message, f.Hint)
}
