package awsiot

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/smithy-go"

	"sluice"
)

// refusal is why a registry call failed.
type refusal struct {
	sluice.Failure
	kind  string // equal for refusals that are one event
	final bool   // the same call will fail again until somebody changes something
	all   bool   // and so will the same calls for all other things
}

func (r *refusal) Error() string { return r.Failure.Error() }

// refusal tells why a call of an action failed.
func (t *things) refusal(action string, err error) *refusal {
	permission := "iot:" + action
	r := &refusal{all: true, Failure: sluice.Failure{Err: err}}
	if f, ok := errors.AsType[*sluice.Failure](err); ok { // there are no credentials to ask with
		r.Failure, r.kind = *f, "credentials"
		r.final = f.Reason != sluice.ReasonUnreachable
		return r
	}
	api, ok := errors.AsType[smithy.APIError](err)
	if !ok {
		r.kind, r.Reason = "unreachable", sluice.ReasonUnreachable
		r.Message = t.where + " cannot be reached."
		if isTimeout(err) {
			r.Message = t.where + " does not answer in time, or takes no more calls of " + permission + "."
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
		r.kind, r.final = "credentials", true
		r.Reason = sluice.ReasonAuthentication
		r.Message = fmt.Sprintf("AWS does not accept %s (%s).", t.who, code)
		r.Hint = "Check accessKeyId, secretAccessKey and region, that the key is active, and the clock of this machine."
	case has("AccessDenied", "Unauthorized", "Forbidden", "NotAuthorized"):
		r.final = true
		r.Reason = sluice.ReasonNotAuthorized
		r.Message = fmt.Sprintf("%s is not allowed for %s.", permission, t.who)
		r.Hint = "Allow " + permission + " in the IAM policy of the key's user, or of the role."
	case has("Throttl", "TooManyRequests", "RequestLimit"):
		r.Reason = sluice.ReasonThrottled
		r.Message = "AWS takes no more calls of " + permission + " at the moment."
	case has("ServiceUnavailable", "InternalFailure", "InternalError") || api.ErrorFault() == smithy.FaultServer:
		r.Reason = sluice.ReasonUnreachable
		r.Message = fmt.Sprintf("%s failed at AWS (%s).", permission, code)
	case has("LimitExceeded"):
		r.kind, r.final = "limit of "+permission, true
		r.Reason = sluice.ReasonRejected
		r.Message = fmt.Sprintf("A limit of the AWS account is reached at %s: %s", permission, api.ErrorMessage())
		r.Hint = "Raise it in the AWS console, Service Quotas, AWS IoT Core, or remove what is not used any more."
	default:
		r.all = false
		r.final, r.Reason = true, sluice.ReasonRejected
		r.Message = fmt.Sprintf("AWS refused %s (%s): %s", permission, code, api.ErrorMessage())
	}
	return r
}

// noType tells that things cannot be made, for want of their type.
func (t *things) noType(thingType string, err error) *refusal {
	return &refusal{kind: "thing type", final: true, all: true, Failure: sluice.Failure{
		Reason:  sluice.ReasonConfiguration,
		Message: fmt.Sprintf("There is no thing type %q in %s.", thingType, t.region),
		Hint:    "Create it: aws iot create-thing-type --thing-type-name " + thingType + " --region " + t.region,
		Err:     err,
	}}
}

func (t *things) deprecated(thingType string, err error) *refusal {
	return &refusal{kind: "thing type", final: true, all: true, Failure: sluice.Failure{
		Reason:  sluice.ReasonConfiguration,
		Message: fmt.Sprintf("The thing type %q is deprecated: AWS makes no things of it.", thingType),
		Hint: "Choose another deviceType, or take it back: aws iot deprecate-thing-type --thing-type-name " + thingType +
			" --undo-deprecate --region " + t.region,
		Err: err,
	}}
}

func (t *things) noCertificate(principal string) *refusal {
	return &refusal{kind: "certificate", final: true, all: true, Failure: sluice.Failure{
		Reason:  sluice.ReasonConfiguration,
		Message: fmt.Sprintf("There is no certificate %s, so it cannot be attached to things.", principal),
		Hint:    "Copy the certificate's ARN from the AWS IoT console into certificateId.",
	}}
}

func (t *things) noGroup(group string) *refusal {
	return &refusal{kind: "thing group " + group, final: true, all: true, Failure: sluice.Failure{
		Reason:  sluice.ReasonConfiguration,
		Message: fmt.Sprintf("There is no thing group %q in %s.", group, t.region),
		Hint:    "Create it: aws iot create-thing-group --thing-group-name " + group + " --region " + t.region,
	}}
}

func (t *things) noBillingGroup(group string) *refusal {
	return &refusal{kind: "billing group", final: true, all: true, Failure: sluice.Failure{
		Reason:  sluice.ReasonConfiguration,
		Message: fmt.Sprintf("There is no billing group %q in %s.", group, t.region),
		Hint:    "Create it: aws iot create-billing-group --billing-group-name " + group + " --region " + t.region,
	}}
}
