package awsiottest

import (
	"slices"
	"time"
)

type thingType struct {
	name, id, arn string
	description   string
	searchable    []string
	created       time.Time
	deprecatedAt  time.Time // zero: it is not
}

func (t *thingType) deprecated() bool { return !t.deprecatedAt.IsZero() }

// deprecatedFor is how long a thing type must have been deprecated before it
// can be deleted. Source: Developer Guide, "Thing types".
const deprecatedFor = 5 * time.Minute

func noType(name string) *apiError { return notFound("Thing type %s does not exist", name) }

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
	r.tags[t.arn] = map[string]string{}
	return t, nil
}

func (r *registry) describeType(name string) (thingType, *apiError) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	t, ok := r.types[name]
	if !ok {
		return thingType{}, noType(name)
	}
	return *t, nil
}

func (r *registry) listTypes(only, after string, limit int) (types []thingType, next string) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	names, next := page(r.types, after, limit, func(name string) bool { return only == "" || name == only })
	for _, name := range names {
		types = append(types, *r.types[name])
	}
	return types, next
}

// deprecateType deprecates a type, or undoes it. Again changes nothing
// (inferred).
func (r *registry) deprecateType(name string, undo bool) *apiError {
	r.mu.Lock()
	defer r.mu.Unlock()
	t, ok := r.types[name]
	switch {
	case !ok:
		return noType(name)
	case undo:
		t.deprecatedAt = time.Time{}
	case !t.deprecated():
		t.deprecatedAt = r.options.Clock()
	}
	return nil
}

// deleteType removes a type that was deprecated for five minutes and that no
// thing has. The sentences are inferred.
func (r *registry) deleteType(name string) *apiError {
	r.mu.Lock()
	defer r.mu.Unlock()
	t, ok := r.types[name]
	switch {
	case !ok:
		return noType(name)
	case !t.deprecated():
		return invalidRequest("Cannot delete thing type : %s. It must be deprecated before deletion", name)
	case r.options.Clock().Sub(t.deprecatedAt) < deprecatedFor:
		return invalidRequest("Cannot delete thing type : %s. Please wait for 5 minutes after deprecation and then retry", name)
	}
	for _, thing := range r.things {
		if thing.TypeName == name {
			return invalidRequest("Cannot delete thing type : %s. It is still associated with things", name)
		}
	}
	delete(r.types, name)
	delete(r.tags, t.arn)
	return nil
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
func (s *Server) DeprecateThingType(name string) { _ = s.registry.deprecateType(name, false) }

// ThingTypes returns the names of all thing types, sorted.
func (s *Server) ThingTypes() []string {
	s.registry.mu.RLock()
	defer s.registry.mu.RUnlock()
	return sortedKeys(s.registry.types)
}
