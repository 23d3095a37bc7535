package awsiottest

import (
	"strconv"
)

// The operations of the registry API: JSON in and out. Shapes and names are
// those of the API's service model (2015-05-28).

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
	t, billingGroup, err := r.describeThing(c.name)
	if err != nil {
		return nil, err
	}
	return describedThingJSON{thingJSON: toJSON(t), DefaultClientID: t.Name, ThingID: t.ID, BillingGroupName: billingGroup}, nil
}

func createThing(r *registry, c *call) (any, *apiError) {
	var in struct {
		ThingTypeName    string `json:"thingTypeName"`
		BillingGroupName string `json:"billingGroupName"`
		AttributePayload struct {
			Attributes map[string]string `json:"attributes"`
		} `json:"attributePayload"`
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

func deleteThing(r *registry, c *call) (any, *apiError) {
	if err := c.thingName(); err != nil {
		return nil, err
	}
	version, _ := strconv.ParseInt(c.query.Get("expectedVersion"), 10, 64)
	return struct{}{}, r.deleteThing(c.name, version)
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
		return nil, notFound("Thing %s cannot be found.", c.name)
	}
	principals, next := page(t.principals, after, limit, func(string) bool { return true })
	return map[string]any{"principals": append([]string{}, principals...), "nextToken": token(next)}, nil
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
	if r.certificateOf(c.principal) == "" {
		return nil, invalidRequest("Invalid principal: '%s' is no ARN of a certificate of this account and region", c.principal)
	}
	return struct{}{}, r.attach(c.name, c.principal, attach)
}

func (c *call) thingName() *apiError {
	var check checker
	check.name("thingName", c.name)
	return check.err()
}

type thingTypeJSON struct {
	ThingTypeName       string         `json:"thingTypeName"`
	ThingTypeARN        string         `json:"thingTypeArn"`
	ThingTypeID         string         `json:"thingTypeId,omitempty"`
	ThingTypeProperties map[string]any `json:"thingTypeProperties"`
	ThingTypeMetadata   map[string]any `json:"thingTypeMetadata"`
}

func typeToJSON(t thingType) thingTypeJSON {
	return thingTypeJSON{
		ThingTypeName: t.name, ThingTypeARN: t.arn,
		ThingTypeProperties: map[string]any{"thingTypeDescription": t.description, "searchableAttributes": append([]string{}, t.searchable...)},
		ThingTypeMetadata:   map[string]any{"deprecated": t.deprecated, "creationDate": seconds(t.created)},
	}
}

func listThingTypes(r *registry, c *call) (any, *apiError) {
	after, limit, err := c.page()
	if err != nil {
		return nil, err
	}
	types, next := r.listTypes(after, limit)
	out := []thingTypeJSON{}
	for _, t := range types {
		if name := c.query.Get("thingTypeName"); name == "" || name == t.name {
			out = append(out, typeToJSON(t))
		}
	}
	return map[string]any{"thingTypes": out, "nextToken": token(next)}, nil
}

func (c *call) typeName() *apiError {
	var check checker
	check.name("thingTypeName", c.name)
	return check.err()
}

func describeThingType(r *registry, c *call) (any, *apiError) {
	if err := c.typeName(); err != nil {
		return nil, err
	}
	t, err := r.describeType(c.name)
	if err != nil {
		return nil, err
	}
	out := typeToJSON(t)
	out.ThingTypeID = t.id
	return out, nil
}

func createThingType(r *registry, c *call) (any, *apiError) {
	var in struct {
		ThingTypeProperties struct {
			Description string   `json:"thingTypeDescription"`
			Searchable  []string `json:"searchableAttributes"`
		} `json:"thingTypeProperties"`
	}
	if err := c.typeName(); err != nil {
		return nil, err
	}
	if err := c.read(&in); err != nil {
		return nil, err
	}
	if len(in.ThingTypeProperties.Searchable) > 3 {
		return nil, invalidRequest("a thing type has at most 3 searchable attributes")
	}
	t, err := r.createType(c.name, in.ThingTypeProperties.Description, in.ThingTypeProperties.Searchable)
	if err != nil {
		return nil, err
	}
	return map[string]string{"thingTypeName": t.name, "thingTypeArn": t.arn, "thingTypeId": t.id}, nil
}

func createKeysAndCertificate(r *registry, c *call) (any, *apiError) {
	created, public, err := r.createCertificate(c.query.Get("setAsActive") == "true")
	if err != nil {
		return nil, internalFailure(err)
	}
	return map[string]any{
		"certificateArn": created.ARN, "certificateId": created.ID, "certificatePem": created.CertificatePEM,
		"keyPair": map[string]string{"PublicKey": public, "PrivateKey": created.PrivateKeyPEM},
	}, nil
}

func describeCertificate(r *registry, c *call) (any, *apiError) {
	var check checker
	check.certificateID(c.name)
	if err := check.err(); err != nil {
		return nil, err
	}
	found, err := r.describeCertificate(c.name)
	if err != nil {
		return nil, err
	}
	notBefore, notAfter := validity()
	return map[string]any{"certificateDescription": map[string]any{
		"certificateArn": found.arn, "certificateId": found.id, "certificatePem": found.pem, "status": found.status,
		"ownedBy": r.options.AccountID, "customerVersion": 1, "certificateMode": "DEFAULT",
		"creationDate": seconds(found.created), "lastModifiedDate": seconds(found.modified),
		"validity": map[string]any{"notBefore": seconds(notBefore), "notAfter": seconds(notAfter)},
	}}, nil
}

func updateCertificate(r *registry, c *call) (any, *apiError) {
	var check checker
	check.certificateID(c.name)
	check.oneOf("newStatus", c.query.Get("newStatus"), active, inactive, revoked)
	if err := check.err(); err != nil {
		return nil, err
	}
	return struct{}{}, r.updateCertificate(c.name, c.query.Get("newStatus"))
}

// describeEndpoint answers the emulator's MQTT address, with its port: AWS
// answers a host name alone, its ports being fixed.
func describeEndpoint(r *registry, c *call) (any, *apiError) {
	if kind := c.query.Get("endpointType"); kind != "" {
		var check checker
		check.oneOf("endpointType", kind, "iot:Data", "iot:Data-ATS")
		if err := check.err(); err != nil {
			return nil, err
		}
	}
	return map[string]string{"endpointAddress": r.dataEndpoint}, nil
}
