package awsiottest

import (
	"maps"
	"slices"
	"strconv"
)

// The operations about things and their principals: JSON in and out.

type thingJSON struct {
	ThingName     string            `json:"thingName"`
	ThingTypeName string            `json:"thingTypeName,omitempty"`
	ThingARN      string            `json:"thingArn"`
	Attributes    map[string]string `json:"attributes"`
	Version       int64             `json:"version"`
}

type describedThingJSON struct {
	thingJSON
	DefaultClientID  string `json:"defaultClientId"`
	ThingID          string `json:"thingId"`
	BillingGroupName string `json:"billingGroupName,omitempty"`
}

func toJSON(t Thing) thingJSON {
	return thingJSON{ThingName: t.Name, ThingTypeName: t.TypeName, ThingARN: t.ARN, Attributes: t.Attributes, Version: t.Version}
}

func listThings(r *registry, c *call) (any, *apiError) {
	after, limit, err := c.page()
	if err != nil {
		return nil, err
	}
	q := thingQuery{
		typeName:  c.query.Get("thingTypeName"),
		attribute: c.query.Get("attributeName"), value: c.query.Get("attributeValue"),
		prefix: c.query.Get("usePrefixAttributeValue") == "true", withAttribute: c.query.Has("attributeName"),
	}
	var check checker
	check.optionalName("thingTypeName", q.typeName)
	if err := check.err(); err != nil {
		return nil, err
	}
	if q.withAttribute != c.query.Has("attributeValue") {
		return nil, invalidRequest("attributeName and attributeValue go together")
	}
	things, next := r.listThings(q, after, limit)
	out := struct {
		Things    []thingJSON `json:"things"`
		NextToken *string     `json:"nextToken"`
	}{[]thingJSON{}, token(next)}
	for _, t := range things {
		out.Things = append(out.Things, toJSON(t))
	}
	return out, nil
}

func describeThing(r *registry, c *call) (any, *apiError) {
	if err := c.thingName(); err != nil {
		return nil, err
	}
	t, err := r.describeThing(c.name)
	if err != nil {
		return nil, err
	}
	return describedThingJSON{thingJSON: toJSON(t), DefaultClientID: t.Name, ThingID: t.ID, BillingGroupName: t.BillingGroup}, nil
}

type attributePayload struct {
	Attributes map[string]string `json:"attributes"`
	Merge      bool              `json:"merge"`
}

func createThing(r *registry, c *call) (any, *apiError) {
	var in struct {
		ThingTypeName    string           `json:"thingTypeName"`
		BillingGroupName string           `json:"billingGroupName"`
		AttributePayload attributePayload `json:"attributePayload"`
	}
	if err := c.read(&in); err != nil {
		return nil, err
	}
	var check checker
	check.name("thingName", c.name)
	check.optionalName("thingTypeName", in.ThingTypeName)
	check.optionalName("billingGroupName", in.BillingGroupName)
	check.attributes(in.AttributePayload.Attributes)
	if err := check.err(); err != nil {
		return nil, err
	}
	t, err := r.createThing(c.name, thingConfig{
		typeName: in.ThingTypeName, attributes: in.AttributePayload.Attributes, billingGroup: in.BillingGroupName,
	})
	if err != nil {
		return nil, err
	}
	return map[string]string{"thingName": t.Name, "thingArn": t.ARN, "thingId": t.ID}, nil
}

func updateThing(r *registry, c *call) (any, *apiError) {
	var in struct {
		ThingTypeName    string            `json:"thingTypeName"`
		AttributePayload *attributePayload `json:"attributePayload"`
		ExpectedVersion  int64             `json:"expectedVersion"`
		RemoveThingType  bool              `json:"removeThingType"`
	}
	if err := c.read(&in); err != nil {
		return nil, err
	}
	var check checker
	check.name("thingName", c.name)
	check.optionalName("thingTypeName", in.ThingTypeName)
	if in.AttributePayload != nil {
		check.attributes(in.AttributePayload.Attributes)
	}
	if err := check.err(); err != nil {
		return nil, err
	}
	return struct{}{}, r.updateThing(c.name, thingUpdate{
		typeName: in.ThingTypeName, removeType: in.RemoveThingType, attributes: in.AttributePayload, expected: in.ExpectedVersion,
	})
}

func deleteThing(r *registry, c *call) (any, *apiError) {
	if err := c.thingName(); err != nil {
		return nil, err
	}
	return struct{}{}, r.deleteThing(c.name, c.expectedVersion())
}

// expectedVersion is 0 where any will do.
func (c *call) expectedVersion() int64 {
	version, _ := strconv.ParseInt(c.query.Get("expectedVersion"), 10, 64)
	return version
}

func listThingPrincipals(r *registry, c *call) (any, *apiError) {
	if err := c.thingName(); err != nil {
		return nil, err
	}
	after, limit, err := c.page()
	if err != nil {
		return nil, err
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	t, ok := r.things[c.name]
	if !ok {
		return nil, noThing(c.name)
	}
	principals, next := page(t.principals, after, limit, func(string) bool { return true })
	return map[string]any{"principals": append([]string{}, principals...), "nextToken": token(next)}, nil
}

func listPrincipalThings(r *registry, c *call) (any, *apiError) {
	after, limit, err := c.page()
	if err != nil {
		return nil, err
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	if _, err := r.certificateAt(c.principal); err != nil {
		return nil, err
	}
	names, next := page(r.things, after, limit, func(name string) bool { return r.things[name].principals[c.principal] })
	return map[string]any{"things": append([]string{}, names...), "nextToken": token(next)}, nil
}

func attachThingPrincipal(r *registry, c *call) (any, *apiError) {
	var check checker
	check.name("thingName", c.name)
	if c.query.Has("thingPrincipalType") {
		check.oneOf("thingPrincipalType", c.query.Get("thingPrincipalType"), "EXCLUSIVE_THING", "NON_EXCLUSIVE_THING")
	}
	if err := check.err(); err != nil {
		return nil, err
	}
	return changePrincipal(r, c, true)
}

func detachThingPrincipal(r *registry, c *call) (any, *apiError) {
	if err := c.thingName(); err != nil {
		return nil, err
	}
	return changePrincipal(r, c, false)
}

func changePrincipal(r *registry, c *call, attach bool) (any, *apiError) {
	return struct{}{}, r.attach(c.name, c.principal, attach)
}

func (c *call) thingName() *apiError { return c.checkName("thingName") }

func (c *call) checkName(field string) *apiError {
	var check checker
	check.name(field, c.name)
	return check.err()
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
