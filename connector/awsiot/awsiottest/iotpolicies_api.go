package awsiottest

// The operations about IoT policies.

type policyJSON struct {
	PolicyName string `json:"policyName"`
	PolicyARN  string `json:"policyArn"`
}

func (c *call) policyName() *apiError {
	var check checker
	check.policyName(c.name)
	return check.err()
}

func createPolicy(r *registry, c *call) (any, *apiError) {
	var in struct {
		Document string `json:"policyDocument"`
		Tags     []tag  `json:"tags"`
	}
	if err := c.read(&in); err != nil {
		return nil, err
	}
	var check checker
	check.policyName(c.name)
	check.tags(in.Tags)
	if err := check.err(); err != nil {
		return nil, err
	}
	p, err := r.createPolicy(c.name, in.Document)
	if err != nil {
		return nil, err
	}
	if err := r.tag(p.arn, in.Tags); err != nil {
		return nil, err
	}
	return map[string]string{"policyName": p.name, "policyArn": p.arn, "policyDocument": p.document, "policyVersionId": policyVersionID}, nil
}

func getPolicy(r *registry, c *call) (any, *apiError) {
	if err := c.policyName(); err != nil {
		return nil, err
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	p, ok := r.policies[c.name]
	if !ok {
		return nil, noPolicy(c.name)
	}
	return map[string]any{
		"policyName": p.name, "policyArn": p.arn, "policyDocument": p.document, "defaultVersionId": policyVersionID,
		"creationDate": seconds(p.created), "lastModifiedDate": seconds(p.created), "generationId": policyVersionID,
	}, nil
}

func deletePolicy(r *registry, c *call) (any, *apiError) {
	if err := c.policyName(); err != nil {
		return nil, err
	}
	return struct{}{}, r.deletePolicy(c.name)
}

func listPolicies(r *registry, c *call) (any, *apiError) {
	after, limit, err := c.markedPage()
	if err != nil {
		return nil, err
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	names, next := page(r.policies, after, limit, func(string) bool { return true })
	return r.policyList(names, next), nil
}

func (r *registry) policyList(names []string, next string) any {
	out := []policyJSON{}
	for _, name := range names {
		out = append(out, policyJSON{name, r.policies[name].arn})
	}
	return map[string]any{"policies": out, "nextMarker": token(next)}
}

func attachPolicy(r *registry, c *call) (any, *apiError) {
	if err := c.policyName(); err != nil {
		return nil, err
	}
	return struct{}{}, r.attachPolicy(c.name, bodyTarget(r.options, c))
}

func detachPolicy(r *registry, c *call) (any, *apiError) {
	if err := c.policyName(); err != nil {
		return nil, err
	}
	return struct{}{}, r.detachPolicy(c.name, bodyTarget(r.options, c))
}

func attachPrincipalPolicy(r *registry, c *call) (any, *apiError) {
	if err := c.policyName(); err != nil {
		return nil, err
	}
	return struct{}{}, r.attachPolicy(c.name, c.principal)
}

func detachPrincipalPolicy(r *registry, c *call) (any, *apiError) {
	if err := c.policyName(); err != nil {
		return nil, err
	}
	return struct{}{}, r.detachPolicy(c.name, c.principal)
}

func listAttachedPolicies(r *registry, c *call) (any, *apiError) {
	return r.attachedPolicies(c, c.name, c.query.Get("recursive") == "true")
}

func listPrincipalPolicies(r *registry, c *call) (any, *apiError) {
	return r.attachedPolicies(c, c.principal, false)
}

func (r *registry) attachedPolicies(c *call, target string, recursive bool) (any, *apiError) {
	after, limit, err := c.markedPage()
	if err != nil {
		return nil, err
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	if err := r.checkTarget(target); err != nil {
		return nil, err
	}
	wanted := map[string]bool{}
	for _, name := range r.policiesOf(target) {
		wanted[name] = true
	}
	if g := r.groupAt(target); g != "" && recursive {
		wanted = r.inherited(g)
	}
	names, next := page(r.policies, after, limit, func(name string) bool { return wanted[name] })
	return r.policyList(names, next), nil
}

// groupAt is the name of the group that an ARN names, "" for any other ARN.
func (r *registry) groupAt(arn string) string {
	for name, g := range r.groups {
		if g.arn == arn {
			return name
		}
	}
	return ""
}

func listTargetsForPolicy(r *registry, c *call) (any, *apiError) {
	if err := c.policyName(); err != nil {
		return nil, err
	}
	after, limit, err := c.markedPage()
	if err != nil {
		return nil, err
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	p, ok := r.policies[c.name]
	if !ok {
		return nil, noPolicy(c.name)
	}
	targets, next := page(p.targets, after, limit, func(string) bool { return true })
	return map[string]any{"targets": append([]string{}, targets...), "nextMarker": token(next)}, nil
}
