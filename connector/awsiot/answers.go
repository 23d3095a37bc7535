package awsiot

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"sluice"
)

// maxRetryAfter bounds what an answer may ask for.
const maxRetryAfter = time.Minute

// kind is the name of an error of AWS, without what may follow it.
func (a answer) kind() string {
	name, _, _ := strings.Cut(a.header.Get("X-Amzn-Errortype"), ":")
	return name
}

// signatureRefused reports whether AWS did not accept who signed, or when.
func (a answer) signatureRefused() bool {
	if a.status != http.StatusForbidden && a.status != http.StatusUnauthorized {
		return false
	}
	text := strings.ToLower(a.kind() + " " + answerMessage(a.body))
	for _, word := range []string{"signature", "unrecognizedclient", "security token", "invalidclienttoken", "expiredtoken", "missingauthentication", "missing authentication"} {
		if strings.Contains(text, word) {
			return true
		}
	}
	return false
}

// signatureFailure tells that a signature was refused.
func (d *dialer) signatureFailure(a answer) *sluice.Failure {
	f := notConnected(sluice.ReasonAuthentication, nil, fmt.Sprintf("%s does not accept %s.", d.host, d.who),
		"Check that the key is active, that it is of this account, and region and accountPrefix.")
	if d.cfg.certified() {
		f.Message = d.host + " does not accept the client certificate."
		f.Hint = "Check in AWS IoT, Security, Certificates, that the certificate is registered in this account and region, and active."
	}
	f.Status = a.status
	f.Message += says(a)
	return f
}

// publishFailure tells why a publish over HTTPS was refused; nil where it was
// not. Source of the codes: AWS IoT data plane API reference, Publish, Errors.
func (d *dialer) publishFailure(a answer, topic string) *sluice.Failure {
	if a.status/100 == 2 {
		return nil
	}
	f := &sluice.Failure{Status: a.status, Reason: sluice.ReasonRejected}
	switch {
	case a.signatureRefused():
		f = d.signatureFailure(a)
		f.Verdict, f.After = sluice.RetryAfter, notAuthorizedPause
		return f
	case a.status == http.StatusUnauthorized, a.status == http.StatusForbidden:
		// Not Permanent: a mistake in a policy must not cost messages.
		f.Verdict, f.After, f.Reason = sluice.RetryAfter, notAuthorizedPause, sluice.ReasonNotAuthorized
		f.Message = fmt.Sprintf("%s does not allow us to publish to %s.", d.host, topic)
		f.Hint = "Allow iot:Publish on " + d.arn("topic/"+topic) + " in " + d.policy() + "."
		if d.cfg.certified() {
			f.Hint += " See that the certificate is active."
		}
	case a.status == http.StatusTooManyRequests:
		f.Verdict, f.After, f.Reason = sluice.RetryAfter, retryAfter(a.header), sluice.ReasonThrottled
		f.Message = d.host + " takes no more publishes at the moment."
		f.Hint = "AWS limits the publishes of an account in a second; see CloudWatch, AWS/IoT, PublishIn.Throttle."
	case a.status == http.StatusRequestEntityTooLarge:
		f.Verdict, f.Reason = sluice.Permanent, sluice.ReasonTooLarge
		f.Message = d.host + " does not take a message so large."
	case a.status == http.StatusBadRequest:
		f.Verdict = sluice.Permanent
		f.Message = fmt.Sprintf("%s does not accept the publish to %s.", d.host, topic)
	case a.status >= 500:
		f.Verdict, f.Reason = sluice.Retry, sluice.ReasonUnreachable
		f.Message = fmt.Sprintf("%s failed with HTTP %d.", d.host, a.status)
	default: // 404, 405, a redirection: it is no endpoint of AWS, which a change mends
		f.Verdict, f.After, f.Reason = sluice.RetryAfter, notAuthorizedPause, sluice.ReasonConfiguration
		f.Message = fmt.Sprintf("%s answers a publish with HTTP %d, as AWS does not.", d.host, a.status)
		f.Hint = "Compare accountPrefix, region and publishEndpoint with the endpoint that is meant."
	}
	f.Message += says(a)
	return f
}

// says is what AWS said, to be put after a sentence.
func says(a answer) string {
	if text := answerMessage(a.body); text != "" {
		return " It says: " + text
	}
	return ""
}

// retryAfter is how long an answer asks to wait.
func retryAfter(h http.Header) time.Duration {
	if seconds, err := strconv.Atoi(h.Get("Retry-After")); err == nil && seconds > 0 {
		return min(time.Duration(seconds)*time.Second, maxRetryAfter)
	}
	return throttledPause
}
