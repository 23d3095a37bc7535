package awsiot

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"

	"sluice"
)

// The steps that ask the AWS IoT API, with the access key of the connection.

// noKey is what the steps say that cannot be taken without an access key.
const noKey = "No access key is given: nothing is registered, and nothing can be asked."

// reachAPI asks for a thing that does not exist, and remembers what came back.
func (e *doctor) reachAPI(ctx context.Context) finding {
	if e.api == nil {
		e.failed["key"] = "" // the steps behind say the same, each in its place
		return skipped(noKey)
	}
	err := e.api.describe(ctx, e.thing())
	if _, ours := errors.AsType[*sluice.Failure](err); err != nil && codeOf(err) == "" && !ours {
		what := " cannot be reached."
		if isTimeout(err) {
			what = " does not answer in time."
		}
		return wrong("api_unreachable", e.cfg.controlAddress()+what, "Check that this machine may open HTTPS connections to "+e.cfg.controlAddress()+" (port 443).")
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
	err := e.api.describe(ctx, e.thing())
	if f, ok := errors.AsType[*sluice.Failure](err); ok { // there are no credentials, or the role is not to be had
		return wrong("credentials_failed", f.Message, f.Hint)
	}
	if !isIdentity(err) {
		return well("AWS accepts " + e.api.who + ".")
	}
	switch {
	case isUnknownKey(err):
		return wrong("key_unknown", fmt.Sprintf("AWS does not know %s.", e.api.who),
			"Copy accessKeyId again; look in IAM whether the key still exists and is active, and whether it is of this partition (AWS China has accounts of its own).")
	case hasCode(err, "Expired"):
		return wrong("key_expired", fmt.Sprintf("What AWS was asked with has expired: %s.", e.api.who), "Temporary keys do not last: make one for an IAM user.")
	case hasCode(err, "Signature"):
		return wrong("secret_wrong", fmt.Sprintf("AWS knows %s, but not with this secret.", e.api.who),
			"Copy secretAccessKey again, whole, and check the clock and the region. A lost secret cannot be had again: make a new key.")
	}
	return wrong("key_refused", fmt.Sprintf("AWS does not accept %s (%s).", e.api.who, codeOf(err)), "Check accessKeyId, secretAccessKey and region.")
}

// checkEndpoint compares the endpoint with that of the account. The connection
// itself does not need the permission.
func (e *doctor) checkEndpoint(ctx context.Context) finding {
	if e.api == nil {
		return skipped(noKey)
	}
	const wanted = "iot:DescribeEndpoint"
	kind := "iot:Data-ATS"
	out, err := e.api.DescribeEndpoint(ctx, &iot.DescribeEndpointInput{EndpointType: &kind})
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

// mayDescribe tells whether things may be looked up.
func (e *doctor) mayDescribe(ctx context.Context) finding {
	if e.api == nil {
		return skipped(noKey)
	}
	err := e.api.describe(ctx, e.thing())
	if err == nil {
		return well("Things may be looked up.")
	}
	return e.refusedCall("describe", "iot:DescribeThing", e.d.arn("thing/*"), err)
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
	out, err := e.api.DescribeThingType(ctx, &iot.DescribeThingTypeInput{ThingTypeName: &name})
	if isMissing(err) {
		return e.noType()
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
	if err := e.api.erase(ctx, name); err != nil {
		return e.unasked("iot:DeleteThing", err)
	}
	err := e.api.create(ctx, name, e.cfg.DeviceType)
	if err == nil {
		e.created = true
		return well("The thing " + name + " was made.")
	}
	if isMissing(err) {
		return e.noType()
	}
	return e.refusedCall("create", "iot:CreateThing", e.d.arn("thing/*"), err)
}

// mayAttach attaches the certificate to the thing that was made, and deletes
// the thing.
func (e *doctor) mayAttach(ctx context.Context) finding {
	switch {
	case e.api == nil:
		return skipped(noKey)
	case !e.cfg.CreateDevices:
		return skipped("This connection makes no things (createDevices is off).")
	case !e.created:
		return skipped("Not tried, because no thing was made to try it with.")
	}
	f := e.attach(ctx)
	if !e.removeThing(ctx) {
		return odd("thing_left", "The thing "+e.thing()+" could not be deleted again. "+f.detail, "aws iot delete-thing --thing-name "+e.thing()+" --region "+e.cfg.Region)
	}
	return f
}

// removeThing deletes the thing that was made.
func (e *doctor) removeThing(ctx context.Context) bool {
	if e.attached {
		e.attached = e.api.detach(ctx, e.thing(), e.cfg.CertificateID) != nil
	}
	e.created = e.api.erase(ctx, e.thing()) != nil
	return !e.created
}

func (e *doctor) attach(ctx context.Context) finding {
	name, principal := e.thing(), e.cfg.CertificateID
	if _, ok := parseCertificateARN(principal); !ok {
		return skipped("No certificate is attached to things, because certificateId is not the ARN of one.")
	}
	// As above: whether it can be undone.
	if err := e.api.detach(ctx, name, principal); isDenied(err) {
		return e.unasked("iot:DetachThingPrincipal", err)
	}
	_, err := e.api.AttachThingPrincipal(ctx, &iot.AttachThingPrincipalInput{ThingName: &name, Principal: &principal})
	if isMissing(err) {
		return wrong("certificate_arn_unknown", fmt.Sprintf("There is no certificate %s, so it cannot be attached to things.", principal),
			"Copy the certificate's ARN from the AWS IoT console into certificateId.")
	}
	if err != nil {
		return e.refusedCall("attach", "iot:AttachThingPrincipal", "*", err)
	}
	e.attached = true
	return well("The certificate was attached to the thing, and the thing deleted again.")
}

func (e *doctor) noType() finding {
	name := e.cfg.DeviceType
	return wrong("type_missing", fmt.Sprintf("There is no thing type %q in %s.", name, e.cfg.Region),
		"Create it: aws iot create-thing-type --thing-type-name "+name+" --region "+e.cfg.Region)
}
