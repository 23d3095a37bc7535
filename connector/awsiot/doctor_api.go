package awsiot

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/aws/smithy-go"
)

// inquiry asks the AWS IoT API for the doctor: few calls, not paced, and each
// answer taken apart.
type inquiry struct {
	*iot.Client
	http *http.Client
	who  string // asks, for people: "the access key ..."
}

// newInquiry is nil where there are no credentials.
func newInquiry(e *doctor) *inquiry {
	q := &inquiry{http: newWebClient(&e.cfg, e.pool)}
	var identity aws.CredentialsProvider
	if identity, q.who = e.d.newIdentity(q.http); identity == nil {
		return nil
	}
	o := iot.Options{
		Region:           e.cfg.Region,
		Credentials:      identity,
		HTTPClient:       q.http,
		RetryMaxAttempts: 2,
		AppID:            "sluice",
	}
	if e.cfg.ControlEndpoint != "" {
		o.BaseEndpoint = aws.String(e.cfg.ControlEndpoint)
	}
	q.Client = iot.New(o)
	return q
}

func (q *inquiry) close() { q.http.CloseIdleConnections() }

// describe looks for a thing; that there is none is no error.
func (q *inquiry) describe(ctx context.Context, name string) error {
	_, err := q.DescribeThing(ctx, &iot.DescribeThingInput{ThingName: &name})
	if isMissing(err) {
		return nil
	}
	return err
}

// isMissing reports whether what was asked for does not exist.
func isMissing(err error) bool {
	_, ok := errors.AsType[*types.ResourceNotFoundException](err)
	return ok
}

// codeOf is AWS's name of an error; "" where it is none of AWS's.
func codeOf(err error) string {
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		return api.ErrorCode()
	}
	return ""
}

// hasCode reports whether AWS's name of an error holds one of the words.
func hasCode(err error, words ...string) bool {
	code := codeOf(err)
	for _, w := range words {
		if strings.Contains(code, w) {
			return true
		}
	}
	return false
}

func isDenied(err error) bool {
	return hasCode(err, "AccessDenied", "Unauthorized", "Forbidden", "NotAuthorized")
}

func isUnknownKey(err error) bool {
	return hasCode(err, "UnrecognizedClient", "InvalidClientTokenId", "InvalidAccessKeyId")
}

// isIdentity reports whether AWS does not accept who asks.
func isIdentity(err error) bool {
	return isUnknownKey(err) || hasCode(err, "Signature", "ExpiredToken", "InvalidToken", "MissingAuthentication")
}

// refusedCall is what a step says of a call that the connection needs and
// that failed.
func (e *doctor) refusedCall(id, permission, resource string, err error) finding {
	code := codeOf(err)
	switch {
	case code == "":
		return wrong(id+"_failed", permission+" had no answer.", "Try again.")
	case isDenied(err):
		return wrong(id+"_denied", fmt.Sprintf("%s is not allowed for %s.", permission, e.api.who),
			"Allow "+permission+" on "+resource+" in the IAM policy of the key's user, or of the role. `sluice aws policy` writes the right one.")
	case hasCode(err, "Throttl", "TooManyRequests", "RequestLimit"):
		return odd(id+"_throttled", "AWS takes no more calls of "+permission+" at the moment.", "Try again in a minute.")
	}
	return wrong(id+"_failed", fmt.Sprintf("AWS refused %s (%s).", permission, code), "Look at what AWS says of "+code+".")
}

// unasked is what a step says of a call that the connection does not need.
func (e *doctor) unasked(permission string, err error) finding {
	if isDenied(err) {
		return skipped("Not tried: it needs " + permission + ", which this access key has not. The connection does without it.")
	}
	return odd("api_failed", fmt.Sprintf("%s failed (%s).", permission, codeOf(err)), "Try again.")
}

// certificateState is what the account knows of the certificate. The calls for
// it are not needed by the connection, and may be forbidden.
type certificateState struct {
	unknown       bool   // the certificate is not known there
	status        string // "": not known
	policiesKnown bool
	policies      int // attached to it
}

// lookUp asks what the account knows of the certificate.
func (e *doctor) lookUp(ctx context.Context) certificateState {
	a := certificateState{}
	id := e.ownID()
	if e.api == nil || id == "" {
		return a
	}
	out, err := e.api.DescribeCertificate(ctx, &iot.DescribeCertificateInput{CertificateId: &id})
	if isMissing(err) {
		a.unknown = true
		return a
	}
	if err != nil || out.CertificateDescription == nil {
		return a
	}
	a.status = string(out.CertificateDescription.Status)
	attached, err := e.api.ListAttachedPolicies(ctx, &iot.ListAttachedPoliciesInput{Target: out.CertificateDescription.CertificateArn})
	if err == nil {
		a.policiesKnown, a.policies = true, len(attached.Policies)
	}
	return a
}

// create makes a thing, as the connection does.
func (q *inquiry) create(ctx context.Context, name, thingType string) error {
	in := &iot.CreateThingInput{ThingName: &name}
	if thingType != "" {
		in.ThingTypeName = &thingType
	}
	_, err := q.CreateThing(ctx, in)
	return err
}

// detach ends what attach has made.
func (q *inquiry) detach(ctx context.Context, name, principal string) error {
	_, err := q.DetachThingPrincipal(ctx, &iot.DetachThingPrincipalInput{ThingName: &name, Principal: &principal})
	return err
}

// erase deletes a thing; where there is none, that succeeds.
func (q *inquiry) erase(ctx context.Context, name string) error {
	_, err := q.DeleteThing(ctx, &iot.DeleteThingInput{ThingName: &name})
	return err
}
