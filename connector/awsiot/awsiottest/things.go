package awsiottest

import (
	"maps"
	"math"
	"slices"
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
	// Principals are the ARNs of the certificates attached to it, sorted.
	Principals []string
}

type thing struct {
	Thing
	billingGroup string
	principals   map[string]bool
}

func (t *thing) export() Thing {
	out := t.Thing
	out.Attributes = maps.Clone(t.Attributes)
	out.Principals = slices.Sorted(maps.Keys(t.principals))
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
	limit := attributesUntyped
	if c.typeName != "" {
		typ, ok := r.types[c.typeName]
		if !ok {
			return Thing{}, notFound("Thing type %s does not exist", c.typeName)
		}
		if typ.deprecated {
			return Thing{}, invalidRequest("Can not create new thing with deprecated thing type:%s", c.typeName)
		}
		limit = attributesTyped
	}
	if len(c.attributes) > limit {
		return Thing{}, invalidRequest("Thing %s has %d attributes, the limit is %d", name, len(c.attributes), limit)
	}
	t := &thing{
		Thing: Thing{
			Name: name, ID: newUUID(), ARN: r.options.arn("thing/" + name),
			TypeName: c.typeName, Attributes: map[string]string{}, Version: 1,
		},
		billingGroup: c.billingGroup, principals: map[string]bool{},
	}
	maps.Copy(t.Attributes, c.attributes)
	r.things[name] = t
	return t.export(), nil
}

// sameThing answers CreateThing for a thing that exists. The sentence about
// attributes is AWS's, as users quote it; the other is formed like it.
func (r *registry) sameThing(t *thing, c thingConfig) (Thing, *apiError) {
	switch {
	case t.TypeName != c.typeName:
		return Thing{}, alreadyExists(t.Name, t.ARN, "Thing %s already exists in account with different thing type", t.Name)
	case !maps.Equal(t.Attributes, c.attributes) || t.billingGroup != c.billingGroup:
		return Thing{}, alreadyExists(t.Name, t.ARN, "Thing %s already exists in account with different attributes", t.Name)
	}
	return t.export(), nil
}

func (r *registry) describeThing(name string) (Thing, string, *apiError) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	t, ok := r.things[name]
	if !ok {
		return Thing{}, "", notFound("Thing %s cannot be found.", name)
	}
	return t.export(), t.billingGroup, nil
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
		return versionConflict("The version for Thing %s does not match the expected version.", name)
	case len(t.principals) > 0:
		return invalidRequest("Cannot delete. Thing %s is still attached to one or more principals", name)
	}
	delete(r.things, name)
	return nil
}

func (r *registry) attach(name, principal string, attach bool) *apiError {
	r.mu.Lock()
	defer r.mu.Unlock()
	t, ok := r.things[name]
	if !ok {
		return notFound("Thing %s cannot be found.", name)
	}
	if _, ok := r.certificates[r.certificateOf(principal)]; !ok {
		return notFound("Principal %s cannot be found.", principal)
	}
	if attach {
		t.principals[principal] = true
	} else {
		delete(t.principals, principal)
	}
	return nil
}

// certificateOf returns the id of the certificate that a principal's ARN
// names, "" for any other ARN.
func (r *registry) certificateOf(principal string) string {
	id, ok := strings.CutPrefix(principal, r.options.arn("cert/"))
	if !ok {
		return ""
	}
	return id
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
	for _, key := range slices.Sorted(maps.Keys(m)) {
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
	t, _, err := s.registry.describeThing(name)
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
