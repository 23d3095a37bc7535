package awsiot

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/aws/smithy-go"

	"sluice"
)

// The steps that ask the AWS IoT API, with the access key of the connection.

// account is what could be found out of the account besides: calls that the
// connection itself does not need, and that may be forbidden.
type account struct {
	unknown       bool   // the certificate is not known there
	status        string // of the certificate; "": not known
	policiesKnown bool
	policies      int // attached to it
}

// lookUp asks what the account knows of the certificate.
func (e *doctor) lookUp(ctx context.Context) *account {
	a := &account{}
	id := e.ownID()
	if e.api == nil || id == "" {
		return a
	}
	out, err := e.api.client.DescribeCertificate(ctx, &iot.DescribeCertificateInput{CertificateId: &id})
	if _, ok := errors.AsType[*types.ResourceNotFoundException](err); ok {
		a.unknown = true
		return a
	}
	if err != nil || out.CertificateDescription == nil {
		return a
	}
	a.status = string(out.CertificateDescription.Status)
	attached, err := e.api.client.ListAttachedPolicies(ctx, &iot.ListAttachedPoliciesInput{Target: out.CertificateDescription.CertificateArn})
	if err == nil {
		a.policiesKnown, a.policies = true, len(attached.Policies)
	}
	return a
}

// noKey is what the steps say that cannot be taken without an access key.
const noKey = "No access key is given: nothing is registered, and nothing can be asked."

// reachAPI asks for a thing that does not exist, and remembers what came back.
func (e *doctor) reachAPI(ctx context.Context) finding {
	if e.api == nil {
		e.failed["key"] = "" // the steps behind say the same, each in its place
		return skipped(noKey)
	}
	_, _, err := e.api.describe(ctx, e.thing())
	if r, ok := errors.AsType[*refusal](err); ok && r.kind == "unreachable" {
		return wrong("api_unreachable", r.Message, "Check that this machine may open HTTPS connections to "+e.cfg.controlAddress()+" (port 443).")
	}
	return well(e.cfg.controlAddress() + " answers.")
}

// thing is the name of a thing that does not exist.
func (e *doctor) thing() string { return testDevice + "-" + e.random }

// checkKey tells whether AWS knows the access key and its secret.
func (e *doctor) checkKey(ctx context.Context) finding {
	if e.api == nil {
		return skipped(noKey)
	}
	_, _, err := e.api.describe(ctx, e.thing())
	r, ok := errors.AsType[*refusal](err)
	if !ok || r.kind != "credentials" {
		return well("AWS accepts the access key " + e.api.accessKey + ".")
	}
	code := codeOf(r.Err)
	switch {
	case strings.Contains(code, "UnrecognizedClient"), strings.Contains(code, "InvalidClientTokenId"), strings.Contains(code, "InvalidAccessKeyId"):
		return wrong("key_unknown", fmt.Sprintf("AWS does not know the access key %s.", e.api.accessKey),
			"Copy accessKeyId again; look in IAM whether the key still exists and is active, and whether it is of this partition (AWS China has accounts of its own).")
	case strings.Contains(code, "Expired"):
		return wrong("key_expired", fmt.Sprintf("The access key %s has expired.", e.api.accessKey), "Temporary keys do not last: make one for an IAM user.")
	case strings.Contains(code, "Signature"):
		return wrong("secret_wrong", fmt.Sprintf("AWS knows the access key %s, but not with this secret.", e.api.accessKey),
			"Copy secretAccessKey again, whole, and check the clock and the region. A lost secret cannot be had again: make a new key.")
	}
	return wrong("key_refused", r.Message, r.Hint)
}

func codeOf(err error) string {
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		return api.ErrorCode()
	}
	return ""
}

// checkEndpoint compares the endpoint with that of the account. The connection
// itself does not need the permission.
func (e *doctor) checkEndpoint(ctx context.Context) finding {
	if e.api == nil {
		return skipped(noKey)
	}
	const wanted = "iot:DescribeEndpoint"
	kind := "iot:Data-ATS"
	out, err := e.api.client.DescribeEndpoint(ctx, &iot.DescribeEndpointInput{EndpointType: &kind})
	if err != nil {
		return e.unasked(wanted, err)
	}
	theirs := aws.ToString(out.EndpointAddress)
	host, _, _ := strings.Cut(theirs, ":")
	if strings.EqualFold(host, e.d.host) {
		return well(e.d.host + " is the endpoint of this account.")
	}
	if e.cfg.DataEndpoint != "" {
		return skipped("dataEndpoint names another address than the account's own, " + theirs + ".")
	}
	prefix, _, _ := strings.Cut(host, ".")
	return wrong("endpoint_other", fmt.Sprintf("The endpoint of the access key's account in %s is %s, not %s.", e.cfg.Region, theirs, e.d.host),
		fmt.Sprintf("Write %q as accountPrefix, or use an access key of the account that is meant.", prefix))
}

// unasked is a step for which the access key has no permission, which the
// connection does not need.
func (e *doctor) unasked(permission string, err error) finding {
	r := e.api.refusal(permission, err)
	if r.Reason == sluice.ReasonNotAuthorized {
		return skipped("Not tried: it needs " + permission + ", which this access key has not. The connection does without it.")
	}
	return odd("api_failed", r.Message, r.Hint)
}

// mayDescribe tells whether things may be looked up.
func (e *doctor) mayDescribe(ctx context.Context) finding {
	if e.api == nil {
		return skipped(noKey)
	}
	_, _, err := e.api.describe(ctx, e.thing())
	if err == nil {
		return well("Things may be looked up.")
	}
	return e.denied("describe", "iot:DescribeThing", e.d.arn("thing/*"), err)
}

// denied is a permission that is missing, or another error.
func (e *doctor) denied(id, permission, resource string, err error) finding {
	r, ok := errors.AsType[*refusal](err)
	switch {
	case !ok:
		return wrong(id+"_failed", permission+" had no answer.", "Try again.")
	case r.Reason == sluice.ReasonNotAuthorized:
		return wrong(id+"_denied", fmt.Sprintf("%s is not allowed for the access key %s.", permission, e.api.accessKey),
			"Allow "+permission+" on "+resource+" in the IAM policy of the key's user. `sluice aws policy` writes the right one.")
	case r.Reason == sluice.ReasonThrottled:
		return odd(id+"_throttled", r.Message, "Try again in a minute.")
	}
	return wrong(id+"_failed", r.Message, r.Hint)
}

// checkType looks for the thing type.
func (e *doctor) checkType(ctx context.Context) finding {
	name := e.cfg.DeviceType
	switch {
	case e.api == nil:
		return skipped(noKey)
	case name == "":
		return skipped("No thing type is configured.")
	}
	out, err := e.api.client.DescribeThingType(ctx, &iot.DescribeThingTypeInput{ThingTypeName: &name})
	if _, ok := errors.AsType[*types.ResourceNotFoundException](err); ok {
		return wrong("type_missing", fmt.Sprintf("There is no thing type %q in %s.", name, e.cfg.Region),
			"Create it: aws iot create-thing-type --thing-type-name "+name+" --region "+e.cfg.Region)
	}
	if err != nil {
		return e.unasked("iot:DescribeThingType", err)
	}
	if out.ThingTypeMetadata != nil && out.ThingTypeMetadata.Deprecated {
		return wrong("type_deprecated", fmt.Sprintf("The thing type %q is deprecated: AWS makes no new things of it.", name),
			"aws iot deprecate-thing-type --undo-deprecate --thing-type-name "+name+" --region "+e.cfg.Region)
	}
	return well(fmt.Sprintf("The thing type %q exists.", name))
}

// mayCreate makes a thing, where that is wanted. AWS has no way to ask for
// this permission without using it.
func (e *doctor) mayCreate(ctx context.Context) finding {
	switch {
	case e.api == nil:
		return skipped(noKey)
	case !e.cfg.CreateDevices:
		return skipped("This connection makes no things (createDevices is off).")
	case !e.x.Create:
		return skipped("Not tried, because it would make a thing. Test again with create (--create) to make one and delete it again.")
	}
	name := e.thing()
	// First of all whether it can be deleted again: deleting what does not
	// exist succeeds.
	if _, err := e.api.client.DeleteThing(ctx, &iot.DeleteThingInput{ThingName: &name}); err != nil {
		return e.unasked("iot:DeleteThing", err)
	}
	_, err := e.api.create(ctx, name, e.cfg.DeviceType)
	if err == nil {
		e.told["created"] = true
		return well("The thing " + name + " was made.")
	}
	if r, ok := errors.AsType[*refusal](err); ok && r.kind == "thing type" {
		return wrong("type_missing", r.Message, r.Hint)
	}
	return e.denied("create", "iot:CreateThing", e.d.arn("thing/*"), err)
}

// mayAttach attaches the certificate to the thing that was made, and deletes
// the thing.
func (e *doctor) mayAttach(ctx context.Context) finding {
	switch {
	case e.api == nil:
		return skipped(noKey)
	case !e.cfg.CreateDevices:
		return skipped("This connection makes no things (createDevices is off).")
	case !e.told["created"]:
		return skipped("Not tried, because no thing was made to try it with.")
	}
	f := e.attach(ctx)
	name := e.thing()
	if _, err := e.api.client.DeleteThing(ctx, &iot.DeleteThingInput{ThingName: &name}); err != nil {
		return odd("thing_left", "The thing "+name+" could not be deleted again. "+f.detail, "aws iot delete-thing --thing-name "+name+" --region "+e.cfg.Region)
	}
	return f
}

func (e *doctor) attach(ctx context.Context) finding {
	name, principal := e.thing(), e.cfg.CertificateID
	if _, ok := parseCertificateARN(principal); !ok {
		return skipped("No certificate is attached to things, because certificateId is not the ARN of one.")
	}
	// As above: whether it can be undone. Detaching what is not attached
	// succeeds or is no matter of permission.
	_, err := e.api.client.DetachThingPrincipal(ctx, &iot.DetachThingPrincipalInput{ThingName: &name, Principal: &principal})
	if err != nil && e.api.refusal("iot:DetachThingPrincipal", err).Reason == sluice.ReasonNotAuthorized {
		return e.unasked("iot:DetachThingPrincipal", err)
	}
	err = e.api.attach(ctx, name, principal)
	if r, ok := errors.AsType[*refusal](err); ok && r.kind == "certificate" {
		return wrong("certificate_arn_unknown", r.Message, r.Hint)
	}
	if err != nil {
		return e.denied("attach", "iot:AttachThingPrincipal", "*", err)
	}
	if _, err := e.api.client.DetachThingPrincipal(ctx, &iot.DetachThingPrincipalInput{ThingName: &name, Principal: &principal}); err != nil {
		return odd("thing_left", "The certificate could not be detached from the thing "+name+".", "")
	}
	return well("The certificate was attached to the thing, and the thing deleted again.")
}
