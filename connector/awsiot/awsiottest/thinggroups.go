package awsiottest

import (
	"maps"
	"strings"
	"time"
)

// Thing groups. Sources: Developer Guide, "Static thing groups"; API
// reference, CreateThingGroup (the same again succeeds); AWS General
// Reference for the limits. Sentences are inferred.

const (
	groupsOfThing  = 10
	groupDepth     = 7
	groupChildren  = 100
	groupAttribute = 50
)

type thingGroup struct {
	name, id, arn string
	parent        string // "" for none
	description   string
	attributes    map[string]string
	created       time.Time
	version       int64
}

func noGroup(name string) *apiError { return notFound("Thing group %s cannot be found.", name) }

func (r *registry) createGroup(g thingGroup) (thingGroup, *apiError) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if old, ok := r.groups[g.name]; ok {
		if old.parent != g.parent || old.description != g.description || !maps.Equal(old.attributes, g.attributes) {
			return thingGroup{}, alreadyExists(g.name, old.arn, "Thing Group %s already exists in current account with different properties", g.name)
		}
		return *old, nil
	}
	if g.parent != "" {
		switch {
		case r.groups[g.parent] == nil:
			return thingGroup{}, noGroup(g.parent)
		case len(r.ancestors(g.parent))+2 > groupDepth:
			return thingGroup{}, invalidRequest("A hierarchy of thing groups has at most %d levels", groupDepth)
		case len(r.children(g.parent)) >= groupChildren:
			return thingGroup{}, invalidRequest("A thing group has at most %d direct child groups", groupChildren)
		}
	}
	g.id, g.arn, g.created, g.version = newUUID(), r.options.arn("thinggroup/"+g.name), r.options.Clock(), 1
	r.groups[g.name] = &g
	r.tags[g.arn] = map[string]string{}
	return g, nil
}

// ancestors are the parents of a group, the root first. Called with the lock
// held, as children and within are.
func (r *registry) ancestors(name string) []*thingGroup {
	var up []*thingGroup
	for g := r.groups[name]; g != nil && g.parent != ""; {
		g = r.groups[g.parent]
		up = append([]*thingGroup{g}, up...)
	}
	return up
}

func (r *registry) children(name string) []string {
	var names []string
	for _, child := range sortedKeys(r.groups) {
		if r.groups[child].parent == name {
			names = append(names, child)
		}
	}
	return names
}

// within reports whether a group is another one or below it.
func (r *registry) within(name, top string) bool {
	if name == top {
		return true
	}
	for _, g := range r.ancestors(name) {
		if g.name == top {
			return true
		}
	}
	return false
}

func (r *registry) root(name string) string {
	if up := r.ancestors(name); len(up) > 0 {
		return up[0].name
	}
	return name
}

// deleteGroup succeeds for a group that does not exist (inferred, as things
// do).
func (r *registry) deleteGroup(name string, expected int64) *apiError {
	r.mu.Lock()
	defer r.mu.Unlock()
	g, ok := r.groups[name]
	switch {
	case !ok:
		return nil
	case expected != 0 && expected != g.version:
		return versionConflict("The version for Thing group %s does not match the expected version.", name)
	case len(r.children(name)) > 0:
		return invalidRequest("Cannot delete thing group : %s when there are still child groups attached to it", name)
	}
	for _, t := range r.things {
		delete(t.groups, name)
	}
	for _, p := range r.policies {
		delete(p.targets, g.arn)
	}
	delete(r.groups, name)
	delete(r.tags, g.arn)
	return nil
}

// group changes what group a thing is in.
func (r *registry) group(in groupCall, add bool) *apiError {
	defer r.refreshAll() // after the lock is free
	r.mu.Lock()
	defer r.mu.Unlock()
	t, g, err := r.thingAndGroup(in)
	if err != nil {
		return err
	}
	if !add {
		delete(t.groups, g.name)
		return nil
	}
	if t.groups[g.name] {
		return nil
	}
	if len(t.groups) >= groupsOfThing {
		return invalidRequest("Thing %s is in %d thing groups already, the limit", t.Name, groupsOfThing)
	}
	for name := range t.groups {
		if r.root(name) == r.root(g.name) {
			return invalidRequest("Thing %s is in thing group %s of the same hierarchy already", t.Name, name)
		}
	}
	t.groups[g.name] = true
	return nil
}

func (r *registry) thingAndGroup(in groupCall) (*thing, *thingGroup, *apiError) {
	thingName, err := r.nameOf(in.ThingName, in.ThingARN, "thing/")
	if err != nil {
		return nil, nil, err
	}
	groupName, err := r.nameOf(in.ThingGroupName, in.ThingGroupARN, "thinggroup/")
	if err != nil {
		return nil, nil, err
	}
	t, g := r.things[thingName], r.groups[groupName]
	switch {
	case t == nil:
		return nil, nil, noThing(thingName)
	case g == nil:
		return nil, nil, noGroup(groupName)
	}
	return t, g, nil
}

// nameOf is the name that a request gives as itself or within an ARN.
func (r *registry) nameOf(name, arn, kind string) (string, *apiError) {
	if name != "" || arn == "" {
		if name == "" {
			return "", invalidRequest("Either the name or the ARN of the %s must be given", strings.TrimSuffix(kind, "/"))
		}
		return name, nil
	}
	short, ok := strings.CutPrefix(arn, r.options.arn(kind))
	if !ok {
		return "", invalidRequest("Invalid ARN: %s", arn)
	}
	return short, nil
}
