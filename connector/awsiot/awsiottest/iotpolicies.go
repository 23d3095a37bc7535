package awsiottest

import (
	"net/http"
	"strings"
	"time"

	rules "sluice/connector/awsiot/awsiottest/policy"
)

// IoT policies: documents that are attached to certificates and thing groups.
// Sources: the service model; AWS General Reference, "Security and identity"
// quotas. Sentences are as users quote them where noted, else inferred.

const (
	policiesOfOne   = 10  // policies attached to one target
	policyVersionID = "1" // versions are not emulated
)

type iotPolicy struct {
	name, arn, document string
	created             time.Time
	targets             map[string]bool // ARNs
}

func noPolicy(name string) *apiError { return notFound("Policy not found (name=%s)", name) }

func malformedPolicy(format string, args ...any) *apiError {
	return newError(http.StatusBadRequest, "MalformedPolicyException", format, args...)
}

// checkPolicy checks the form of a document.
func checkPolicy(document string) *apiError {
	if _, err := rules.Parse(document); err != nil {
		return malformedPolicy("Policy document is Malformed: %v", err)
	}
	if size := rules.Size(document); size > rules.SizeMax {
		return malformedPolicy("Policy document is Malformed: %d characters, the limit is %d", size, rules.SizeMax)
	}
	return nil
}

func (r *registry) createPolicy(name, document string) (iotPolicy, *apiError) {
	if err := checkPolicy(document); err != nil {
		return iotPolicy{}, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if old, ok := r.policies[name]; ok {
		return iotPolicy{}, alreadyExists(name, old.arn, "Policy cannot be created - name already exists (name=%s)", name)
	}
	p := &iotPolicy{name: name, arn: r.options.arn("policy/" + name), document: document, created: r.options.Clock(), targets: map[string]bool{}}
	r.policies[name] = p
	r.tags[p.arn] = map[string]string{}
	return *p, nil
}

// deletePolicy removes a policy that is attached to nothing. The sentence is
// as users quote it (aws-nuke issue 374).
func (r *registry) deletePolicy(name string) *apiError {
	r.mu.Lock()
	defer r.mu.Unlock()
	p, ok := r.policies[name]
	switch {
	case !ok:
		return noPolicy(name)
	case len(p.targets) > 0:
		return deleteConflict("The policy cannot be deleted as the policy is attached to one or more principals (name=%s)", name)
	}
	delete(r.policies, name)
	delete(r.tags, p.arn)
	return nil
}

// attachPolicy attaches a policy to a certificate or a group. Again changes
// nothing.
func (r *registry) attachPolicy(name, target string) *apiError {
	defer r.changed(target) // after the lock is free
	r.mu.Lock()
	defer r.mu.Unlock()
	p, ok := r.policies[name]
	if !ok {
		return noPolicy(name)
	}
	if err := r.checkTarget(target); err != nil {
		return err
	}
	if !p.targets[target] && len(r.policiesOf(target)) >= policiesOfOne {
		return limitExceeded("The maximum number of policies per principal is %d", policiesOfOne)
	}
	p.targets[target] = true
	if c, err := r.certificateAt(target); err == nil {
		c.strict = true
	}
	return nil
}

// checkTarget is called with the lock held.
func (r *registry) checkTarget(target string) *apiError {
	if group, ok := strings.CutPrefix(target, r.options.arn("thinggroup/")); ok {
		if r.groups[group] == nil {
			return noGroup(group)
		}
		return nil
	}
	_, err := r.certificateAt(target)
	return err
}

// detachPolicy succeeds where nothing was attached (inferred).
func (r *registry) detachPolicy(name, target string) *apiError {
	defer r.changed(target)
	r.mu.Lock()
	defer r.mu.Unlock()
	p, ok := r.policies[name]
	if !ok {
		return noPolicy(name)
	}
	delete(p.targets, target)
	return nil
}

// policiesOf are the names of the policies attached to a target itself, sorted.
// Called with the lock held.
func (r *registry) policiesOf(target string) []string {
	var names []string
	for _, name := range sortedKeys(r.policies) {
		if r.policies[name].targets[target] {
			names = append(names, name)
		}
	}
	return names
}

// inherited are the policies of a group and of all above it.
func (r *registry) inherited(group string) map[string]bool {
	all := map[string]bool{}
	targets := []string{r.options.arn("thinggroup/" + group)}
	for _, g := range r.ancestors(group) {
		targets = append(targets, g.arn)
	}
	for _, target := range targets {
		for _, name := range r.policiesOf(target) {
			all[name] = true
		}
	}
	return all
}

// documentsFor are the policy documents that hold for a certificate: its own,
// and those of the groups that the things it is attached to are in.
func (r *registry) documentsFor(certificateARN string) []string {
	r.mu.RLock()
	defer r.mu.RUnlock()
	names := map[string]bool{}
	for _, name := range r.policiesOf(certificateARN) {
		names[name] = true
	}
	for _, t := range r.things {
		if !t.principals[certificateARN] {
			continue
		}
		for group := range t.groups {
			for name := range r.inherited(group) {
				names[name] = true
			}
		}
	}
	var documents []string
	for _, name := range sortedKeys(names) {
		documents = append(documents, r.policies[name].document)
	}
	return documents
}

// refresh tells the broker what holds for a certificate, after a change. It is
// called without the lock.
func (r *registry) refresh(certificateARN string) {
	documents := r.documentsFor(certificateARN)
	r.mu.RLock()
	c, err := r.certificateAt(certificateARN)
	r.mu.RUnlock()
	switch {
	case err != nil:
		return
	case c.strict && documents == nil:
		documents = []string{}
	}
	r.policiesChanged(c.id, documents)
}

// changed tells the broker after the policies of a target have changed.
func (r *registry) changed(target string) {
	if strings.HasPrefix(target, r.options.arn("thinggroup/")) {
		r.mu.RLock()
		arns := []string{}
		for _, c := range r.certificates {
			arns = append(arns, c.arn)
		}
		r.mu.RUnlock()
		for _, arn := range arns {
			r.refresh(arn)
		}
		return
	}
	r.refresh(target)
}

// refreshAll does so for every certificate, after a change of groups. It does
// nothing while no policy is attached to a group.
func (r *registry) refreshAll() {
	r.mu.RLock()
	arns := []string{}
	if r.groupsHavePolicies() {
		for _, c := range r.certificates {
			arns = append(arns, c.arn)
		}
	}
	r.mu.RUnlock()
	for _, arn := range arns {
		r.refresh(arn)
	}
}

func (r *registry) groupsHavePolicies() bool {
	for _, p := range r.policies {
		for target := range p.targets {
			if r.groupAt(target) != "" {
				return true
			}
		}
	}
	return false
}

// CreatePolicy makes an IoT policy and attaches it to targets, ARNs of
// certificates or thing groups.
func (s *Server) CreatePolicy(name, document string, targets ...string) error {
	if _, err := s.registry.createPolicy(name, document); err != nil {
		return err
	}
	for _, target := range targets {
		if err := s.registry.attachPolicy(name, target); err != nil {
			return err
		}
	}
	return nil
}
