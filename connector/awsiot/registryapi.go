package awsiot

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
)

// callTimeout bounds one registry call with the SDK's own retries.
const callTimeout = 15 * time.Second

// connections is how many connections to the API are kept, and callers about
// how many calls of one action are made at once: enough for its quota at a
// tenth of a second a call.
const connections = 64

func callers(action string) int { return max(2, int(quota(action)/9)) }

// things is the part of the AWS IoT API that is used, one call a method. A
// call has had its turn of the budget before.
type things struct {
	client             *iot.Client
	http               *http.Client
	account            *account
	who, region, where string // for people
}

func newThings(d *dialer, of *account) *things {
	cfg := &d.cfg
	t := &things{http: d.web, account: of, who: d.who, region: cfg.Region, where: cfg.controlAddress()}
	if d.o.Transport != nil {
		t.http = &http.Client{Transport: d.o.Transport}
	}
	o := iot.Options{
		Region:      cfg.Region,
		Credentials: d.identity,
		HTTPClient:  t.http,
		AppID:       "sluice",
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

// described is what AWS knows of a thing.
type described struct {
	thingType    string
	attributes   map[string]string
	billingGroup string
	listed       bool // found in a list, which does not tell the billing group
}

// describe returns what AWS knows of a thing; nil: there is no such thing.
func (t *things) describe(ctx context.Context, name string) (*described, error) {
	var out *iot.DescribeThingOutput
	err := t.call(ctx, actionDescribe, func(ctx context.Context, o func(*iot.Options)) (err error) {
		out, err = t.client.DescribeThing(ctx, &iot.DescribeThingInput{ThingName: &name}, o)
		return err
	})
	if isNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, t.refusal(actionDescribe, err)
	}
	return &described{
		thingType: aws.ToString(out.ThingTypeName), attributes: out.Attributes, billingGroup: aws.ToString(out.BillingGroupName),
	}, nil
}

// wanted is how a thing is to be made.
type wanted struct {
	thingType    string
	attributes   map[string]string
	billingGroup string
}

// create makes a thing. existed is true where there is one already that was
// made otherwise, missing where the type or the billing group does not exist.
func (t *things) create(ctx context.Context, name string, w wanted) (existed, missing bool, err error) {
	in := &iot.CreateThingInput{ThingName: &name}
	if w.thingType != "" {
		in.ThingTypeName = &w.thingType
	}
	if len(w.attributes) > 0 {
		in.AttributePayload = &types.AttributePayload{Attributes: w.attributes}
	}
	if w.billingGroup != "" {
		in.BillingGroupName = &w.billingGroup
	}
	err = t.call(ctx, actionCreate, func(ctx context.Context, o func(*iot.Options)) error {
		_, err := t.client.CreateThing(ctx, in, o)
		return err
	})
	if _, ok := errors.AsType[*types.ResourceAlreadyExistsException](err); ok {
		return true, false, nil
	}
	if isNotFound(err) {
		return false, true, err
	}
	if e, ok := errors.AsType[*types.InvalidRequestException](err); ok && strings.Contains(strings.ToLower(e.ErrorMessage()), "deprecated") {
		return false, false, t.deprecated(w.thingType, err)
	}
	if err != nil {
		return false, false, t.refusal(actionCreate, err)
	}
	return false, false, nil
}

// update sets attributes of a thing and leaves its others; found is false
// where there is no such thing.
func (t *things) update(ctx context.Context, name string, attributes map[string]string) (found bool, err error) {
	return t.change(ctx, actionUpdate, func(ctx context.Context, o func(*iot.Options)) error {
		_, err := t.client.UpdateThing(ctx, &iot.UpdateThingInput{
			ThingName: &name, AttributePayload: &types.AttributePayload{Attributes: attributes, Merge: true},
		}, o)
		return err
	})
}

// attach attaches the certificate to a thing; found is false where one of both
// does not exist. So it is with addToGroup and addToBilling.
func (t *things) attach(ctx context.Context, name, principal string) (found bool, err error) {
	return t.change(ctx, actionAttach, func(ctx context.Context, o func(*iot.Options)) error {
		_, err := t.client.AttachThingPrincipal(ctx, &iot.AttachThingPrincipalInput{ThingName: &name, Principal: &principal}, o)
		return err
	})
}

func (t *things) addToGroup(ctx context.Context, name, group string) (found bool, err error) {
	return t.change(ctx, actionGroup, func(ctx context.Context, o func(*iot.Options)) error {
		_, err := t.client.AddThingToThingGroup(ctx, &iot.AddThingToThingGroupInput{ThingName: &name, ThingGroupName: &group}, o)
		return err
	})
}

func (t *things) addToBilling(ctx context.Context, name, group string) (found bool, err error) {
	return t.change(ctx, actionBilling, func(ctx context.Context, o func(*iot.Options)) error {
		_, err := t.client.AddThingToBillingGroup(ctx, &iot.AddThingToBillingGroupInput{ThingName: &name, BillingGroupName: &group}, o)
		return err
	})
}

// list returns a page of the things of a type, of all for "".
func (t *things) list(ctx context.Context, thingType string, token *string) (page map[string]*described, next *string, err error) {
	in := &iot.ListThingsInput{MaxResults: aws.Int32(pageSize), NextToken: token}
	if thingType != "" {
		in.ThingTypeName = &thingType
	}
	var out *iot.ListThingsOutput
	err = t.call(ctx, actionList, func(ctx context.Context, o func(*iot.Options)) (err error) {
		out, err = t.client.ListThings(ctx, in, o)
		return err
	})
	if err != nil {
		return nil, nil, t.refusal(actionList, err)
	}
	page = map[string]*described{}
	for _, a := range out.Things {
		page[aws.ToString(a.ThingName)] = &described{thingType: aws.ToString(a.ThingTypeName), attributes: a.Attributes, listed: true}
	}
	return page, out.NextToken, nil
}

// listAttached returns a page of the names of the things that a certificate is
// attached to.
func (t *things) listAttached(ctx context.Context, principal string, token *string) (page []string, next *string, err error) {
	var out *iot.ListPrincipalThingsOutput
	err = t.call(ctx, actionListPrincipal, func(ctx context.Context, o func(*iot.Options)) (err error) {
		out, err = t.client.ListPrincipalThings(ctx, &iot.ListPrincipalThingsInput{
			Principal: &principal, MaxResults: aws.Int32(pageSize), NextToken: token,
		}, o)
		return err
	})
	if err != nil {
		return nil, nil, t.refusal(actionListPrincipal, err)
	}
	return out.Things, out.NextToken, nil
}

// pageSize is the largest page that AWS gives.
const pageSize = 250

// change makes a call that needs what it names to exist.
func (t *things) change(ctx context.Context, action string, f func(context.Context, func(*iot.Options)) error) (found bool, err error) {
	err = t.call(ctx, action, f)
	if isNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, t.refusal(action, err)
	}
	return true, nil
}

// call makes one call, which has had its turn.
func (t *things) call(ctx context.Context, action string, f func(context.Context, func(*iot.Options)) error) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	b := t.account.budget(action)
	return f(b.with(ctx), b.options)
}

func isNotFound(err error) bool {
	_, ok := errors.AsType[*types.ResourceNotFoundException](err)
	return ok
}
