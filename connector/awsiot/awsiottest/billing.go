package awsiottest

import (
	"strings"
	"time"
)

// Billing groups. Sources: the service model; Developer Guide, "Tagging your
// AWS IoT resources": a thing is in at most one. What the second one gives is
// inferred, as sentences are.

type billingGroup struct {
	name, id, arn string
	description   string
	created       time.Time
	version       int64
}

func noBillingGroup(name string) *apiError {
	return notFound("Billing group %s cannot be found.", name)
}

func createBillingGroup(r *registry, c *call) (any, *apiError) {
	var in struct {
		Properties struct {
			Description string `json:"billingGroupDescription"`
		} `json:"billingGroupProperties"`
		Tags []tag `json:"tags"`
	}
	if err := c.read(&in); err != nil {
		return nil, err
	}
	var check checker
	check.name("billingGroupName", c.name)
	check.description("billingGroupProperties.billingGroupDescription", in.Properties.Description)
	check.tags(in.Tags)
	if err := check.err(); err != nil {
		return nil, err
	}
	g, err := r.createBilling(c.name, in.Properties.Description)
	if err != nil {
		return nil, err
	}
	if err := r.tag(g.arn, in.Tags); err != nil {
		return nil, err
	}
	return map[string]string{"billingGroupName": g.name, "billingGroupArn": g.arn, "billingGroupId": g.id}, nil
}

func (r *registry) createBilling(name, description string) (*billingGroup, *apiError) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if g, ok := r.billing[name]; ok {
		if g.description != description {
			return nil, alreadyExists(name, g.arn, "Billing Group %s already exists in current account with different properties", name)
		}
		return g, nil
	}
	g := &billingGroup{
		name: name, id: newUUID(), arn: r.options.arn("billinggroup/" + name),
		description: description, created: r.options.Clock(), version: 1,
	}
	r.billing[name] = g
	r.tags[g.arn] = map[string]string{}
	return g, nil
}

func describeBillingGroup(r *registry, c *call) (any, *apiError) {
	if err := c.checkName("billingGroupName"); err != nil {
		return nil, err
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	g, ok := r.billing[c.name]
	if !ok {
		return nil, noBillingGroup(c.name)
	}
	return map[string]any{
		"billingGroupName": g.name, "billingGroupId": g.id, "billingGroupArn": g.arn, "version": g.version,
		"billingGroupProperties": map[string]string{"billingGroupDescription": g.description},
		"billingGroupMetadata":   map[string]any{"creationDate": seconds(g.created)},
	}, nil
}

func deleteBillingGroup(r *registry, c *call) (any, *apiError) {
	if err := c.checkName("billingGroupName"); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	g, ok := r.billing[c.name]
	switch expected := c.expectedVersion(); {
	case !ok:
		return struct{}{}, nil
	case expected != 0 && expected != g.version:
		return nil, versionConflict("The version for Billing group %s does not match the expected version.", c.name)
	}
	for _, t := range r.things {
		if t.BillingGroup == c.name {
			t.BillingGroup = ""
		}
	}
	delete(r.billing, c.name)
	delete(r.tags, g.arn)
	return struct{}{}, nil
}

func listBillingGroups(r *registry, c *call) (any, *apiError) {
	after, limit, err := c.page()
	if err != nil {
		return nil, err
	}
	prefix := c.query.Get("namePrefixFilter")
	r.mu.RLock()
	defer r.mu.RUnlock()
	names, next := page(r.billing, after, limit, func(name string) bool { return strings.HasPrefix(name, prefix) })
	out := []groupNameJSON{}
	for _, name := range names {
		out = append(out, groupNameJSON{name, r.billing[name].arn})
	}
	return map[string]any{"billingGroups": out, "nextToken": token(next)}, nil
}

func listThingsInBillingGroup(r *registry, c *call) (any, *apiError) {
	if err := c.checkName("billingGroupName"); err != nil {
		return nil, err
	}
	after, limit, err := c.page()
	if err != nil {
		return nil, err
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.billing[c.name] == nil {
		return nil, noBillingGroup(c.name)
	}
	names, next := page(r.things, after, limit, func(name string) bool { return r.things[name].BillingGroup == c.name })
	return map[string]any{"things": append([]string{}, names...), "nextToken": token(next)}, nil
}

func addThingToBillingGroup(r *registry, c *call) (any, *apiError) {
	return struct{}{}, r.bill(c, func(t *thing, group string) *apiError {
		if t.BillingGroup != "" && t.BillingGroup != group {
			return invalidRequest("Thing %s is in billing group %s already", t.Name, t.BillingGroup)
		}
		t.BillingGroup = group
		return nil
	})
}

func removeThingFromBillingGroup(r *registry, c *call) (any, *apiError) {
	return struct{}{}, r.bill(c, func(t *thing, group string) *apiError {
		if t.BillingGroup == group {
			t.BillingGroup = ""
		}
		return nil
	})
}

// bill finds the thing and the billing group of a call and changes the thing.
func (r *registry) bill(c *call, change func(t *thing, group string) *apiError) *apiError {
	in, err := c.groupCall()
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	thingName, err := r.nameOf(in.ThingName, in.ThingARN, "thing/")
	if err != nil {
		return err
	}
	groupName, err := r.nameOf(in.BillingGroupName, in.BillingGroupARN, "billinggroup/")
	if err != nil {
		return err
	}
	t := r.things[thingName]
	switch {
	case t == nil:
		return noThing(thingName)
	case r.billing[groupName] == nil:
		return noBillingGroup(groupName)
	}
	return change(t, groupName)
}
