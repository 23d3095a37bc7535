package awsiot

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/aws/smithy-go"
	"golang.org/x/time/rate"

	"sluice"
)

// The pace of registry calls: four fifths of what AWS takes from an account,
// so that others of the account get some.
// Source: AWS IoT Core endpoints and quotas, "AWS IoT Core API throttling
// limits": DescribeThing 350 a second, CreateThing and AttachThingPrincipal
// 100.
const (
	describeRate = 280
	createRate   = 80
	attachRate   = 80
)

// callTimeout bounds one registry call with the SDK's own retries.
const callTimeout = 15 * time.Second

// callers is how many registry calls are made at once: enough for
// describeRate at a tenth of a second a call.
const callers = 32

// things is the part of the AWS IoT API that is used, one call a method, paced.
type things struct {
	client               *iot.Client
	http                 *http.Client
	describing, creating *rate.Limiter
	attaching            *rate.Limiter
	who, region, where   string // for people
}

func newThings(cfg *config, client *http.Client, identity aws.CredentialsProvider, who string) *things {
	t := &things{
		http:       client,
		describing: rate.NewLimiter(describeRate, callers),
		creating:   rate.NewLimiter(createRate, 10),
		attaching:  rate.NewLimiter(attachRate, 10),
		who:        who,
		region:     cfg.Region,
		where:      cfg.controlAddress(),
	}
	o := iot.Options{
		Region:           cfg.Region,
		Credentials:      identity,
		HTTPClient:       t.http,
		RetryMode:        aws.RetryModeStandard,
		RetryMaxAttempts: 3,
		AppID:            "sluice",
	}
	if cfg.ControlEndpoint != "" {
		o.BaseEndpoint = aws.String(cfg.ControlEndpoint)
	}
	t.client = iot.New(o)
	return t
}

// shortKey names an access key without telling it.
func shortKey(id string) string {
	if len(id) < 12 {
		return "given"
	}
	return id[:4] + "…" + id[len(id)-4:]
}

func (t *things) close() { t.http.CloseIdleConnections() }

// describe returns the type of a thing, and whether there is such a thing.
func (t *things) describe(ctx context.Context, name string) (thingType string, found bool, err error) {
	var out *iot.DescribeThingOutput
	err = t.call(ctx, t.describing, func(ctx context.Context) (err error) {
		out, err = t.client.DescribeThing(ctx, &iot.DescribeThingInput{ThingName: &name})
		return err
	})
	if _, ok := errors.AsType[*types.ResourceNotFoundException](err); ok {
		return "", false, nil
	}
	if err != nil {
		return "", false, t.refusal("iot:DescribeThing", err)
	}
	return aws.ToString(out.ThingTypeName), true, nil
}

// create makes a thing; existed is true where there is one already that was
// made otherwise.
func (t *things) create(ctx context.Context, name, thingType string) (existed bool, err error) {
	in := &iot.CreateThingInput{ThingName: &name}
	if thingType != "" {
		in.ThingTypeName = &thingType
	}
	err = t.call(ctx, t.creating, func(ctx context.Context) error {
		_, err := t.client.CreateThing(ctx, in)
		return err
	})
	if _, ok := errors.AsType[*types.ResourceAlreadyExistsException](err); ok {
		return true, nil
	}
	if _, ok := errors.AsType[*types.ResourceNotFoundException](err); ok {
		return false, &refusal{kind: "thing type", final: true, Failure: sluice.Failure{
			Reason:  sluice.ReasonConfiguration,
			Message: fmt.Sprintf("There is no thing type %q in %s.", thingType, t.region),
			Hint:    "Create it: aws iot create-thing-type --thing-type-name " + thingType + " --region " + t.region,
			Err:     err,
		}}
	}
	if err != nil {
		return false, t.refusal("iot:CreateThing", err)
	}
	return false, nil
}

// attach attaches the certificate to a thing.
func (t *things) attach(ctx context.Context, name, principal string) error {
	err := t.call(ctx, t.attaching, func(ctx context.Context) error {
		_, err := t.client.AttachThingPrincipal(ctx, &iot.AttachThingPrincipalInput{ThingName: &name, Principal: &principal})
		return err
	})
	if _, ok := errors.AsType[*types.ResourceNotFoundException](err); ok {
		return &refusal{kind: "certificate", final: true, Failure: sluice.Failure{
			Reason:  sluice.ReasonConfiguration,
			Message: fmt.Sprintf("There is no certificate %s, so it cannot be attached to things.", principal),
			Hint:    "Copy the certificate's ARN from the AWS IoT console into certificateId.",
			Err:     err,
		}}
	}
	if err != nil {
		return t.refusal("iot:AttachThingPrincipal", err)
	}
	return nil
}

// call makes one call at the pace of l.
func (t *things) call(ctx context.Context, l *rate.Limiter, f func(context.Context) error) error {
	if err := l.Wait(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return f(ctx)
}

// refusal is why a registry call failed.
type refusal struct {
	sluice.Failure
	kind  string // equal for refusals that are one event
	final bool   // the same call will fail again until somebody changes something
	all   bool   // and so will the calls for all other things
}

func (r *refusal) Error() string { return r.Failure.Error() }

func (t *things) refusal(permission string, err error) *refusal {
	r := &refusal{Failure: sluice.Failure{Err: err}}
	if f, ok := errors.AsType[*sluice.Failure](err); ok { // there are no credentials to ask with
		r.Failure, r.kind, r.all = *f, "credentials", f.Reason != sluice.ReasonUnreachable
		r.final = r.all
		return r
	}
	api, ok := errors.AsType[smithy.APIError](err)
	if !ok {
		r.kind, r.Reason = "unreachable", sluice.ReasonUnreachable
		r.Message = t.where + " cannot be reached."
		if isTimeout(err) {
			r.Message = t.where + " does not answer in time."
		}
		return r
	}
	code := api.ErrorCode()
	r.kind = permission + " " + code
	has := func(words ...string) bool {
		return slices.ContainsFunc(words, func(w string) bool { return strings.Contains(code, w) })
	}
	switch {
	case has("UnrecognizedClient", "InvalidClientTokenId", "InvalidAccessKeyId", "Signature", "ExpiredToken", "InvalidToken", "MissingAuthentication"):
		r.kind, r.final, r.all = "credentials", true, true
		r.Reason = sluice.ReasonAuthentication
		r.Message = fmt.Sprintf("AWS does not accept %s (%s).", t.who, code)
		r.Hint = "Check accessKeyId, secretAccessKey and region, that the key is active, and the clock of this machine."
	case has("AccessDenied", "Unauthorized", "Forbidden", "NotAuthorized"):
		r.final, r.all = true, true
		r.Reason = sluice.ReasonNotAuthorized
		r.Message = fmt.Sprintf("%s is not allowed for %s.", permission, t.who)
		r.Hint = "Allow iot:DescribeThing, iot:CreateThing and iot:AttachThingPrincipal in the IAM policy of the key's user, or of the role."
	case has("Throttl", "TooManyRequests", "RequestLimit"):
		r.Reason = sluice.ReasonThrottled
		r.Message = "AWS takes no more calls of " + permission + " at the moment."
	case has("ServiceUnavailable", "InternalFailure", "InternalError") || api.ErrorFault() == smithy.FaultServer:
		r.Reason = sluice.ReasonUnreachable
		r.Message = fmt.Sprintf("%s failed at AWS (%s).", permission, code)
	default:
		r.final, r.Reason = true, sluice.ReasonRejected
		r.Message = fmt.Sprintf("AWS refused %s (%s): %s", permission, code, api.ErrorMessage())
	}
	return r
}
