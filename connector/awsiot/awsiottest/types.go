package awsiottest

import (
	"maps"
	"slices"
	"time"
)

type thingType struct {
	name, id, arn string
	description   string
	searchable    []string
	created       time.Time
	deprecated    bool
}

// createType makes a thing type. The same again succeeds, another one
// conflicts: so say those who compared it with AWS (ministack pull request
// 1349); the API reference is silent.
func (r *registry) createType(name, description string, searchable []string) (*thingType, *apiError) {
	r.mu.Lock()
	defer r.mu.Unlock()
	searchable = slices.Sorted(slices.Values(searchable))
	if t, ok := r.types[name]; ok {
		if t.description != description || !slices.Equal(t.searchable, searchable) {
			return nil, alreadyExists(name, t.arn, "Thing type %s already exists in account with different properties", name)
		}
		return t, nil
	}
	t := &thingType{
		name: name, id: newUUID(), arn: r.options.arn("thingtype/" + name),
		description: description, searchable: searchable, created: r.options.Clock(),
	}
	r.types[name] = t
	return t, nil
}

func (r *registry) describeType(name string) (thingType, *apiError) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	t, ok := r.types[name]
	if !ok {
		return thingType{}, notFound("Thing type %s does not exist", name)
	}
	return *t, nil
}

func (r *registry) listTypes(after string, limit int) (types []thingType, next string) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	names, next := page(r.types, after, limit, func(string) bool { return true })
	for _, name := range names {
		types = append(types, *r.types[name])
	}
	return types, next
}

// CreateThingType makes a thing type; one of this name that exists is left as
// it is.
func (s *Server) CreateThingType(name string) error {
	if _, err := s.registry.createType(name, "", nil); err != nil && err.code != "ResourceAlreadyExistsException" {
		return err
	}
	return nil
}

// DeprecateThingType makes a thing type refuse new things.
func (s *Server) DeprecateThingType(name string) {
	s.registry.mu.Lock()
	defer s.registry.mu.Unlock()
	if t, ok := s.registry.types[name]; ok {
		t.deprecated = true
	}
}

// ThingTypes returns the names of all thing types, sorted.
func (s *Server) ThingTypes() []string {
	s.registry.mu.RLock()
	defer s.registry.mu.RUnlock()
	return slices.Sorted(maps.Keys(s.registry.types))
}
