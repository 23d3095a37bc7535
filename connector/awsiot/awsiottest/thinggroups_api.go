package awsiottest

import "strings"

// The operations about thing groups.

// groupCall is the body of the calls that add a thing to a group of either
// kind, or take it out.
type groupCall struct {
	ThingName        string `json:"thingName"`
	ThingARN         string `json:"thingArn"`
	ThingGroupName   string `json:"thingGroupName"`
	ThingGroupARN    string `json:"thingGroupArn"`
	BillingGroupName string `json:"billingGroupName"`
	BillingGroupARN  string `json:"billingGroupArn"`
}

type groupNameJSON struct {
	GroupName string `json:"groupName"`
	GroupARN  string `json:"groupArn"`
}

func (c *call) groupCall() (groupCall, *apiError) {
	var in groupCall
	if err := c.read(&in); err != nil {
		return in, err
	}
	var check checker
	check.optionalName("thingName", in.ThingName)
	check.optionalName("thingGroupName", in.ThingGroupName)
	check.optionalName("billingGroupName", in.BillingGroupName)
	return in, check.err()
}

func createThingGroup(r *registry, c *call) (any, *apiError) {
	var in struct {
		Parent     string `json:"parentGroupName"`
		Properties struct {
			Description string           `json:"thingGroupDescription"`
			Payload     attributePayload `json:"attributePayload"`
		} `json:"thingGroupProperties"`
		Tags []tag `json:"tags"`
	}
	if err := c.read(&in); err != nil {
		return nil, err
	}
	var check checker
	check.name("thingGroupName", c.name)
	check.optionalName("parentGroupName", in.Parent)
	check.description("thingGroupProperties.thingGroupDescription", in.Properties.Description)
	check.attributes(in.Properties.Payload.Attributes)
	check.tags(in.Tags)
	if err := check.err(); err != nil {
		return nil, err
	}
	if len(in.Properties.Payload.Attributes) > groupAttribute {
		return nil, invalidRequest("A thing group has at most %d attributes", groupAttribute)
	}
	g, err := r.createGroup(thingGroup{
		name: c.name, parent: in.Parent, description: in.Properties.Description, attributes: in.Properties.Payload.Attributes,
	})
	if err != nil {
		return nil, err
	}
	if err := r.tag(g.arn, in.Tags); err != nil {
		return nil, err
	}
	return map[string]string{"thingGroupName": g.name, "thingGroupArn": g.arn, "thingGroupId": g.id}, nil
}

func describeThingGroup(r *registry, c *call) (any, *apiError) {
	if err := c.checkName("thingGroupName"); err != nil {
		return nil, err
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	g, ok := r.groups[c.name]
	if !ok {
		return nil, noGroup(c.name)
	}
	properties, metadata := map[string]any{}, map[string]any{"creationDate": seconds(g.created)}
	if g.description != "" {
		properties["thingGroupDescription"] = g.description
	}
	if len(g.attributes) > 0 {
		properties["attributePayload"] = map[string]any{"attributes": g.attributes}
	}
	if g.parent != "" {
		up := []groupNameJSON{}
		for _, a := range r.ancestors(g.name) {
			up = append(up, groupNameJSON{a.name, a.arn})
		}
		metadata["parentGroupName"], metadata["rootToParentThingGroups"] = g.parent, up
	}
	return map[string]any{
		"thingGroupName": g.name, "thingGroupId": g.id, "thingGroupArn": g.arn, "version": g.version,
		"thingGroupProperties": properties, "thingGroupMetadata": metadata,
	}, nil
}

func deleteThingGroup(r *registry, c *call) (any, *apiError) {
	if err := c.checkName("thingGroupName"); err != nil {
		return nil, err
	}
	return struct{}{}, r.deleteGroup(c.name, c.expectedVersion())
}

func listThingGroups(r *registry, c *call) (any, *apiError) {
	after, limit, err := c.page()
	if err != nil {
		return nil, err
	}
	parent, prefix := c.query.Get("parentGroup"), c.query.Get("namePrefixFilter")
	r.mu.RLock()
	defer r.mu.RUnlock()
	if parent != "" && r.groups[parent] == nil {
		return nil, noGroup(parent)
	}
	names, next := page(r.groups, after, limit, func(name string) bool {
		switch {
		case !strings.HasPrefix(name, prefix):
			return false
		case parent == "":
			return true
		case c.query.Get("recursive") == "true":
			return name != parent && r.within(name, parent)
		}
		return r.groups[name].parent == parent
	})
	return map[string]any{"thingGroups": r.groupNames(names), "nextToken": token(next)}, nil
}

func (r *registry) groupNames(names []string) []groupNameJSON {
	out := []groupNameJSON{}
	for _, name := range names {
		out = append(out, groupNameJSON{name, r.groups[name].arn})
	}
	return out
}

func listThingGroupsForThing(r *registry, c *call) (any, *apiError) {
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
	names, next := page(t.groups, after, limit, func(string) bool { return true })
	return map[string]any{"thingGroups": r.groupNames(names), "nextToken": token(next)}, nil
}

func listThingsInThingGroup(r *registry, c *call) (any, *apiError) {
	if err := c.checkName("thingGroupName"); err != nil {
		return nil, err
	}
	after, limit, err := c.page()
	if err != nil {
		return nil, err
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.groups[c.name] == nil {
		return nil, noGroup(c.name)
	}
	recursive := c.query.Get("recursive") == "true"
	names, next := page(r.things, after, limit, func(name string) bool {
		for group := range r.things[name].groups {
			if group == c.name || recursive && r.within(group, c.name) {
				return true
			}
		}
		return false
	})
	return map[string]any{"things": append([]string{}, names...), "nextToken": token(next)}, nil
}

func addThingToThingGroup(r *registry, c *call) (any, *apiError) {
	in, err := c.groupCall()
	if err != nil {
		return nil, err
	}
	return struct{}{}, r.group(in, true)
}

func removeThingFromThingGroup(r *registry, c *call) (any, *apiError) {
	in, err := c.groupCall()
	if err != nil {
		return nil, err
	}
	return struct{}{}, r.group(in, false)
}
