package awsiottest

import (
	"maps"
	"math"
	"strings"
)

// Thing is a device in the registry.
type Thing struct {
	Name       string
	ID         string // a UUID
	ARN        string
	TypeName   string // "" for none
	Attributes map[string]string
	Version    int64
	// BillingGroup is "" for none.
	BillingGroup string
	// Groups are the thing groups that it is in itself, sorted.
	Groups []string
	// Principals are the ARNs of the certificates attached to it, sorted.
	Principals []string
}

type thing struct {
	Thing
	principals map[string]bool
	groups     map[string]bool
}

func (t *thing) export() Thing {
	out := t.Thing
	out.Attributes = maps.Clone(t.Attributes)
	out.Principals, out.Groups = sortedKeys(t.principals), sortedKeys(t.groups)
	return out
}

// thingConfig is what CreateThing compares: the same again succeeds, another
// one conflicts. Source: the API reference, CreateThing.
type thingConfig struct {
	typeName     string
	attributes   map[string]string
	billingGroup string
}

func (r *registry) createThing(name string, c thingConfig) (Thing, *apiError) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if t, ok := r.things[name]; ok {
		return r.sameThing(t, c)
	}
	if err := r.usableType(c.typeName); err != nil {
		return Thing{}, err
	}
	if c.billingGroup != "" && r.billing[c.billingGroup] == nil {
		return Thing{}, notFound("Billing group %s cannot be found.", c.billingGroup)
	}
	if err := checkCount(name, c.typeName, c.attributes); err != nil {
		return Thing{}, err
	}
	t := &thing{
		Thing: Thing{
			Name: name, ID: newUUID(), ARN: r.options.arn("thing/" + name),
			TypeName: c.typeName, Attributes: map[string]string{}, Version: 1, BillingGroup: c.billingGroup,
		},
		principals: map[string]bool{}, groups: map[string]bool{},
	}
	maps.Copy(t.Attributes, c.attributes)
	r.things[name] = t
	return t.export(), nil
}

// usableType reports why a thing cannot have a type; "" is none.
func (r *registry) usableType(name string) *apiError {
	typ, ok := r.types[name]
	switch {
	case name == "":
		return nil
	case !ok:
		return notFound("Thing type %s does not exist", name)
	case typ.deprecated():
		return invalidRequest("Can not create new thing with deprecated thing type:%s", name)
	}
	return nil
}

// checkCount checks how many attributes a thing has, and how large they are
// together. Sources: Developer Guide, "Managing things"; the sentences are
// inferred.
func checkCount(name, typeName string, attributes map[string]string) *apiError {
	limit, size := attributesTyped, 0
	if typeName == "" {
		limit = attributesUntyped
	}
	if len(attributes) > limit {
		return invalidRequest("Thing %s has %d attributes, the limit is %d", name, len(attributes), limit)
	}
	for key, value := range attributes {
		size += len(key) + len(value)
	}
	if size > attributesSize {
		return invalidRequest("The attributes of thing %s have %d bytes, the limit is %d", name, size, attributesSize)
	}
	return nil
}

// sameThing answers CreateThing for a thing that exists. The sentence about
// attributes is AWS's, as users quote it; the other is formed like it.
func (r *registry) sameThing(t *thing, c thingConfig) (Thing, *apiError) {
	switch {
	case t.TypeName != c.typeName:
		return Thing{}, alreadyExists(t.Name, t.ARN, "Thing %s already exists in account with different thing type", t.Name)
	case !maps.Equal(t.Attributes, c.attributes) || t.BillingGroup != c.billingGroup:
		return Thing{}, alreadyExists(t.Name, t.ARN, "Thing %s already exists in account with different attributes", t.Name)
	}
	return t.export(), nil
}

func noThing(name string) *apiError { return notFound("Thing %s cannot be found.", name) }

func (r *registry) describeThing(name string) (Thing, *apiError) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	t, ok := r.things[name]
	if !ok {
		return Thing{}, noThing(name)
	}
	return t.export(), nil
}

// thingUpdate is what UpdateThing changes.
type thingUpdate struct {
	typeName   string
	removeType bool
	attributes *attributePayload // nil: they stay
	expected   int64             // 0: any version
}

func (r *registry) updateThing(name string, u thingUpdate) *apiError {
	r.mu.Lock()
	defer r.mu.Unlock()
	t, ok := r.things[name]
	switch {
	case !ok:
		return noThing(name)
	case u.expected != 0 && u.expected != t.Version:
		return thingConflict(name)
	case u.removeType && u.typeName != "":
		return invalidRequest("Thing type cannot be both set and removed")
	}
	typeName := t.TypeName
	if u.typeName != "" {
		typeName = u.typeName
	} else if u.removeType {
		typeName = ""
	}
	if typeName != t.TypeName {
		if err := r.usableType(typeName); err != nil {
			return err
		}
	}
	attributes := u.attributes.applyTo(t.Attributes)
	if err := checkCount(name, typeName, attributes); err != nil {
		return err
	}
	t.TypeName, t.Attributes = typeName, attributes
	t.Version++
	return nil
}

// applyTo makes the attributes that an update leads to. An empty value removes
// an attribute. Source: API reference, AttributePayload.
func (a *attributePayload) applyTo(before map[string]string) map[string]string {
	if a == nil {
		return before
	}
	out := map[string]string{}
	if a.Merge {
		maps.Copy(out, before)
	}
	maps.Copy(out, a.Attributes)
	maps.DeleteFunc(out, func(_, value string) bool { return value == "" })
	return out
}

func thingConflict(name string) *apiError {
	return versionConflict("The version for Thing %s does not match the expected version.", name)
}

// deleteThing succeeds for a thing that does not exist. Source: the API
// reference, DeleteThing; the sentence about principals as users quote it.
func (r *registry) deleteThing(name string, expectedVersion int64) *apiError {
	r.mu.Lock()
	defer r.mu.Unlock()
	t, ok := r.things[name]
	switch {
	case !ok:
		return nil
	case expectedVersion != 0 && expectedVersion != t.Version:
		return thingConflict(name)
	case len(t.principals) > 0:
		return invalidRequest("Cannot delete. Thing %s is still attached to one or more principals", name)
	}
	delete(r.things, name)
	return nil
}

func (r *registry) attach(name, principal string, attach bool) *apiError {
	defer r.refreshAll() // after the lock is free
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, err := r.certificateAt(principal); err != nil {
		return err
	}
	t, ok := r.things[name]
	if !ok {
		return noThing(name)
	}
	if attach {
		t.principals[principal] = true
	} else {
		delete(t.principals, principal)
	}
	return nil
}

// certificateAt finds the certificate that a principal's ARN names; it is
// called with the lock held. No other principals are emulated.
func (r *registry) certificateAt(principal string) (*certificate, *apiError) {
	id, ok := strings.CutPrefix(principal, r.options.arn("cert/"))
	if !ok {
		return nil, invalidRequest("Invalid principal: '%s' is no ARN of a certificate of this account and region", principal)
	}
	c, ok := r.certificates[id]
	if !ok {
		return nil, notFound("Principal %s cannot be found.", principal)
	}
	return c, nil
}

// thingQuery are the filters of ListThings.
type thingQuery struct {
	typeName              string
	attribute, value      string
	prefix, withAttribute bool
}

func (q thingQuery) matches(t *thing) bool {
	if q.typeName != "" && t.TypeName != q.typeName {
		return false
	}
	if !q.withAttribute {
		return true
	}
	value, ok := t.Attributes[q.attribute]
	if !ok {
		return false
	}
	return value == q.value || q.prefix && strings.HasPrefix(value, q.value)
}

// listThings returns at most limit things, by name, after the one named.
// next is the name to go on after, "" at the end.
func (r *registry) listThings(q thingQuery, after string, limit int) (things []Thing, next string) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	names, next := page(r.things, after, limit, func(name string) bool { return q.matches(r.things[name]) })
	for _, name := range names {
		things = append(things, r.things[name].export())
	}
	return things, next
}

// page returns the next limit keys of m, sorted, that wanted accepts.
func page[V any](m map[string]V, after string, limit int, wanted func(string) bool) (keys []string, next string) {
	for _, key := range sortedKeys(m) {
		if key <= after || !wanted(key) {
			continue
		}
		if len(keys) == limit {
			return keys, keys[limit-1]
		}
		keys = append(keys, key)
	}
	return keys, ""
}

// Things returns every thing, sorted by name.
func (s *Server) Things() []Thing {
	things, _ := s.registry.listThings(thingQuery{}, "", math.MaxInt)
	return things
}

// Thing returns a thing by its name.
func (s *Server) Thing(name string) (Thing, bool) {
	t, err := s.registry.describeThing(name)
	return t, err == nil
}

// CreateThing makes a thing, of a type that exists ("" for none).
func (s *Server) CreateThing(name, typeName string, attributes map[string]string) (Thing, error) {
	t, err := s.registry.createThing(name, thingConfig{typeName: typeName, attributes: attributes})
	if err != nil {
		return Thing{}, err
	}
	return t, nil
}

// DeleteThing removes a thing, with what is attached to it, and reports
// whether it existed.
func (s *Server) DeleteThing(name string) bool {
	s.registry.mu.Lock()
	defer s.registry.mu.Unlock()
	_, ok := s.registry.things[name]
	delete(s.registry.things, name)
	return ok
}
