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
	"time"

	"github.com/eclipse/paho.golang/packets"

	"sluice"
)

// What AWS's reason codes mean here. AWS uses these.
// Source: AWS IoT Developer Guide, "MQTT", MQTT 5 reason codes.
const (
	codeNotAuthorized  = packets.ConnackNotAuthorized // 0x87
	codeTopicInvalid   = packets.ConnackTopicNameInvalid
	codeTakenOver      = packets.DisconnectSessionTakenOver
	codePacketTooLarge = packets.ConnackPacketTooLarge
	codeQuotaExceeded  = packets.ConnackQuotaExceeded
	codeBanned         = packets.ConnackBanned
	codeClientID       = packets.ConnackInvalidClientID
	codeBadUser        = packets.ConnackBadUsernameOrPassword
	codeVersion        = packets.ConnackUnsupportedProtocolVersion
	codeUnavailable    = packets.ConnackServerUnavailable
	codeBusy           = packets.ConnackServerBusy
	codeRate           = packets.ConnackConnectionRateExceeded
	codeShuttingDown   = packets.DisconnectServerShuttingDown
	codeKeepAlive      = packets.DisconnectKeepAliveTimeout
	codeMessageRate    = packets.DisconnectMessageRateTooHigh
	codeReceiveMaximum = packets.DisconnectReceiveMaximumExceeded
	codePayloadFormat  = packets.PubackPayloadFormatInvalid
)

// How long a publish that was refused so waits before it is tried again.
const (
	throttledPause     = time.Second
	notAuthorizedPause = 30 * time.Second
)

func notConnected(reason sluice.Reason, err error, message, hint string) *sluice.Failure {
	return &sluice.Failure{Verdict: sluice.NotConnected, Reason: reason, Message: message, Hint: hint, Err: err}
}

// dialFailure tells why no TCP connection could be made.
func (d *dialer) dialFailure(err error) *sluice.Failure {
	if e, ok := errors.AsType[*net.DNSError](err); ok && e.IsNotFound {
		return notConnected(sluice.ReasonUnreachable, err,
			fmt.Sprintf("The name %s does not exist.", d.host),
			"Compare accountPrefix and region with the endpoint that the AWS IoT console shows under Settings.")
	}
	hint := fmt.Sprintf("Check that this machine may open connections to %s, port %s.", d.host, d.port)
	switch {
	case isTimeout(err):
		return notConnected(sluice.ReasonUnreachable, err, d.host+" does not answer.", hint+" A firewall that drops packets looks like this.")
	case errors.Is(err, syscall.ECONNREFUSED):
		return notConnected(sluice.ReasonUnreachable, err, fmt.Sprintf("%s refuses connections on port %s.", d.host, d.port), hint)
	}
	return notConnected(sluice.ReasonUnreachable, err, d.host+" cannot be reached.", hint)
}

// tlsFailure tells why the TLS handshake failed.
func (d *dialer) tlsFailure(err error) *sluice.Failure {
	if f := d.alertFailure(err); f != nil {
		return f
	}
	fail := func(message, hint string) *sluice.Failure {
		return notConnected(sluice.ReasonTLS, err, message, hint)
	}
	if e, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		issuer := "an authority"
		if e.Cert != nil {
			issuer = fmt.Sprintf("%q", e.Cert.Issuer.String())
		}
		return fail(fmt.Sprintf("The certificate of %s is signed by %s, which is not trusted.", d.host, issuer),
			"Use the -ats endpoint of AWS; for any other broker, give its authority in caCertificate. On a small system the package ca-certificates may be missing.")
	}
	if _, ok := errors.AsType[x509.HostnameError](err); ok {
		return fail(fmt.Sprintf("The certificate of the server is not for the name %s.", d.host),
			"Compare accountPrefix, region and dataEndpoint with the endpoint that is meant.")
	}
	if e, ok := errors.AsType[x509.CertificateInvalidError](err); ok {
		if e.Reason == x509.Expired {
			return fail(fmt.Sprintf("The certificate of %s has expired or is not yet valid.", d.host), "Check the clock of this machine.")
		}
		return fail(fmt.Sprintf("The certificate of %s is not valid.", d.host), "")
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return fail(fmt.Sprintf("%s does not speak TLS on port %s.", d.host, d.port), "MQTT over TLS is on port 8883.")
	}
	switch {
	case isTimeout(err):
		return fail(d.host+" did not finish the TLS handshake in time.", "")
	case isClosed(err):
		return fail(d.host+" closed the connection during the TLS handshake.",
			"A proxy or firewall between may not let TLS with client certificates through, or the server knows no such endpoint.")
	}
	return fail("The TLS handshake with "+d.host+" failed.", "")
}

// alertFailure reads a TLS alert of the server, which with TLS 1.3 comes only
// after the handshake; nil where err is none. crypto/tls does not export the
// alerts of a peer as a type (Go 1.26): the texts are those of alert.go.
func (d *dialer) alertFailure(err error) *sluice.Failure {
	e, ok := errors.AsType[*net.OpError](err)
	if !ok || e.Op != "remote error" {
		return nil
	}
	alert := strings.TrimPrefix(e.Err.Error(), "tls: ")
	switch alert {
	case "bad certificate", "unsupported certificate", "revoked certificate", "expired certificate", "unknown certificate",
		"unknown certificate authority", "access denied", "error decrypting message", "certificate required":
		return notConnected(sluice.ReasonAuthentication, err,
			fmt.Sprintf("%s refused the client certificate: %s.", d.host, alert),
			"Check in AWS IoT, Security, Certificates, that the certificate is registered in this account and region, and active.")
	}
	return notConnected(sluice.ReasonTLS, err, fmt.Sprintf("%s refused the TLS connection: %s.", d.host, alert), "")
}

// connectFailure tells why the CONNECT was not accepted; code is the CONNACK's
// reason code, 0 where there was none.
func (d *dialer) connectFailure(err error, code byte, reason, clientID string) *sluice.Failure {
	if code == 0 {
		return d.silentFailure(err, clientID)
	}
	f := notConnected(sluice.ReasonRejected, err, "", "")
	f.Status = int(code)
	switch code {
	case codeNotAuthorized:
		f.Reason = sluice.ReasonNotAuthorized
		f.Message = fmt.Sprintf("%s does not allow us to connect as %s.", d.host, clientID)
		f.Hint = "Allow iot:Connect on " + d.arn("client/"+clientID) + " in " + d.policy() + "."
	case codeBadUser, codeBanned:
		f.Reason = sluice.ReasonAuthentication
		f.Message = d.host + " does not accept who we are."
		f.Hint = "Check that the certificate is registered in this account and region, and active."
	case codeClientID:
		f.Message = fmt.Sprintf("%s does not accept the client id %s.", d.host, clientID)
	case codeQuotaExceeded, codeRate, codeBusy, codeUnavailable:
		f.Reason = sluice.ReasonThrottled
		f.Message = d.host + " takes no more connections at the moment."
		f.Hint = "AWS limits the connections that an account opens in a second; it is tried again."
	case codeVersion:
		f.Message = d.host + " does not speak MQTT 5."
	default:
		f.Message = fmt.Sprintf("%s refused the connection with code 0x%02X.", d.host, code)
	}
	if reason != "" {
		f.Message += " It says: " + reason
	}
	return f
}

// silentFailure tells why a CONNECT had no answer.
func (d *dialer) silentFailure(err error, clientID string) *sluice.Failure {
	if f := d.alertFailure(err); f != nil {
		return f
	}
	switch {
	case errors.Is(err, context.Canceled):
		return notConnected(sluice.ReasonDisconnected, err, "The opening was called off.", "")
	case isTimeout(err):
		return notConnected(sluice.ReasonTimeout, err, d.host+" did not answer the CONNECT in time.", "")
	case isClosed(err) && !d.cfg.certified():
		return notConnected(sluice.ReasonNotAuthorized, err, d.host+" closed the connection after our CONNECT.",
			"Allow iot:Connect on "+d.arn("client/"+clientID)+" in "+d.policy()+".")
	case isClosed(err):
		return notConnected(sluice.ReasonAuthentication, err,
			d.host+" closed the connection right after the TLS handshake.",
			"The certificate is not active or not registered in this account and region, or its policy does not allow iot:Connect on "+d.arn("client/"+clientID)+".")
	}
	return notConnected(sluice.ReasonUnreachable, err, d.host+" did not accept the connection.", "")
}

// lostFailure tells why an open link ended.
func (d *dialer) lostFailure(dis *packets.Disconnect, err error, clientID string) *sluice.Failure {
	f := notConnected(sluice.ReasonDisconnected, err, "", "")
	if dis == nil {
		switch {
		case errors.Is(err, errPing), isTimeout(err):
			f.Reason = sluice.ReasonTimeout
			f.Message = "The connection to " + d.host + " is dead: nothing comes back."
		default:
			f.Message = d.host + " closed the connection without a reason."
			if a := d.alertFailure(err); a != nil {
				f.Message = a.Message
			}
		}
		return f
	}
	f.Status = int(dis.ReasonCode)
	switch dis.ReasonCode {
	case codeTakenOver:
		f.Reason = sluice.ReasonTakenOver
		f.Message = fmt.Sprintf("Another client connected to %s with our client id %s.", d.host, clientID)
		f.Hint = "Is a copy of this data directory running elsewhere? Each Sluice needs its own, or a clientIdPrefix of its own. Until then this client is connected again ever more seldom, and the others go on."
	case codeNotAuthorized:
		f.Reason = sluice.ReasonNotAuthorized
		f.Message = d.host + " closed the connection: what we did is not allowed."
		f.Hint = "Check that " + d.policy() + " allows iot:Publish on " + d.arn("topic/"+d.uplink.Filter()) + d.subscribeHint() + ", with * for +."
	case codeQuotaExceeded, codeMessageRate, codeReceiveMaximum:
		f.Reason = sluice.ReasonThrottled
		f.Message = d.host + " closed the connection: a quota is exceeded."
		f.Hint = "CloudWatch shows which under AWS/IoT, PublishIn.Throttle and Connect.Throttle."
	case codePacketTooLarge:
		f.Reason = sluice.ReasonTooLarge
		f.Message = d.host + " closed the connection: a message was too large."
	case codeTopicInvalid:
		f.Reason = sluice.ReasonTopic
		f.Message = d.host + " closed the connection: a topic was not allowed."
	case codeKeepAlive:
		f.Reason = sluice.ReasonTimeout
		f.Message = d.host + " closed the connection: it heard nothing from us."
	case codeShuttingDown, codeBusy, 0:
		f.Message = d.host + " closed the connection to balance its load."
	default:
		f.Message = fmt.Sprintf("%s closed the connection with code 0x%02X.", d.host, dis.ReasonCode)
	}
	if dis.Properties != nil && dis.Properties.ReasonString != "" {
		f.Message += " It says: " + dis.Properties.ReasonString
	}
	return f
}

// publishLost is the failure of a publish that was under way when the link
// ended. Where the server said that a publish was to blame, trying it again on
// the next link would end that link too, and so on without end: then it counts
// as a try, and where it was the only one under way it is over.
func publishLost(link *sluice.Failure, alone bool) *sluice.Failure {
	f := *link
	switch {
	case link.Reason == sluice.ReasonNotAuthorized:
		f.Verdict, f.After = sluice.RetryAfter, notAuthorizedPause
	case link.Reason == sluice.ReasonTooLarge, link.Reason == sluice.ReasonTopic:
		f.Verdict = sluice.Retry
		if alone {
			f.Verdict = sluice.Permanent
		}
	default:
		f.Verdict = sluice.NotConnected
	}
	return &f
}

// pubackFailure tells why a publish was refused; nil where it was not.
func (d *dialer) pubackFailure(a puback, topic string) *sluice.Failure {
	if a.code < 0x80 {
		return nil
	}
	f := &sluice.Failure{Status: int(a.code), Reason: sluice.ReasonRejected}
	switch a.code {
	case codeQuotaExceeded:
		f.Verdict, f.After, f.Reason = sluice.RetryAfter, throttledPause, sluice.ReasonThrottled
		f.Message = d.host + " takes no more publishes at the moment."
		f.Hint = "AWS limits the publishes of an account in a second; see CloudWatch, AWS/IoT, PublishIn.Throttle."
	case codeNotAuthorized:
		// Not Permanent: a mistake in a policy must not cost messages.
		f.Verdict, f.After, f.Reason = sluice.RetryAfter, notAuthorizedPause, sluice.ReasonNotAuthorized
		f.Message = fmt.Sprintf("%s does not allow us to publish to %s.", d.host, topic)
		f.Hint = "Allow iot:Publish on " + d.arn("topic/"+topic) + " in " + d.policy() + "."
	case codeTopicInvalid:
		f.Verdict, f.Reason = sluice.Permanent, sluice.ReasonTopic
		f.Message = fmt.Sprintf("%s does not accept the topic %s.", d.host, topic)
	case codePayloadFormat:
		f.Verdict = sluice.Permanent
		f.Message = d.host + " does not accept the payload."
	default:
		f.Message = fmt.Sprintf("%s refused the publish with code 0x%02X.", d.host, a.code)
	}
	if a.reason != "" {
		f.Message += " It says: " + a.reason
	}
	return f
}

// subscribeFailure tells why a subscription was refused.
func (d *dialer) subscribeFailure(err error, code byte, filter string) *sluice.Failure {
	f := notConnected(sluice.ReasonRejected, err, fmt.Sprintf("%s refused the subscription to %s.", d.host, filter), "")
	f.Status = int(code)
	switch code {
	case 0:
		f.Reason = sluice.ReasonDisconnected
		f.Message = fmt.Sprintf("%s did not answer the subscription to %s.", d.host, filter)
		f.Hint = "Some brokers close the connection where a subscription is not allowed."
	case codeNotAuthorized, 0x80: // 0x80 is what AWS says without a reason
		f.Reason = sluice.ReasonNotAuthorized
		f.Hint = "Allow" + strings.TrimPrefix(d.subscribeHint(), ",") + " in " + d.policy() + "."
	case codeQuotaExceeded:
		f.Reason = sluice.ReasonThrottled
	}
	return f
}

// subscribeHint names what the subscription needs.
func (d *dialer) subscribeHint() string {
	if d.downlink == nil {
		return ""
	}
	return ", iot:Subscribe on " + d.arn("topicfilter/"+d.filter()) + " and iot:Receive on " +
		d.arn("topic/"+strings.ReplaceAll(d.downlink.Filter(), "+", "*"))
}

// policy names the policy that says what we may do.
func (d *dialer) policy() string {
	if d.cfg.certified() {
		return "the certificate's policy"
	}
	return "the IAM policy of " + d.who
}

// arn is a resource of this account, with * where the account is not known.
func (d *dialer) arn(resource string) string {
	account := "*"
	if a, ok := parseCertificateARN(d.cfg.CertificateID); ok {
		account = a.account
	}
	return "arn:" + partition(d.cfg.Region) + ":iot:" + d.cfg.Region + ":" + account + ":" + resource
}

func isTimeout(err error) bool {
	e, ok := errors.AsType[net.Error](err)
	return ok && e.Timeout() || errors.Is(err, context.DeadlineExceeded)
}

// isClosed reports that the peer hung up.
func isClosed(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}
