package awsiottest

import (
	"encoding/json"
	"net/http"
	"strings"
	"time"
	"unicode"

	"sluice/connector/awsiot/awsiottest/iam"
)

// IoT policies: documents that are attached to certificates and thing groups.
// Sources: the service model; AWS General Reference, "Security and identity"
// quotas. Sentences are as users quote them where noted, else inferred.

const (
	policySize      = 2048 // characters without white space
	policiesOfOne   = 10   // policies attached to one target
	policyVersionID = "1"  // versions are not emulated
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
	var in struct {
		Version   string
		Statement json.RawMessage
	}
	if err := json.Unmarshal([]byte(document), &in); err != nil || len(in.Statement) == 0 {
		return malformedPolicy("Policy document is Malformed: no JSON with a Statement")
	}
	size := 0
	for _, c := range document {
		if !unicode.IsSpace(c) {
			size++
		}
	}
	if size > policySize {
		return malformedPolicy("Policy document is Malformed: %d characters, the limit is %d", size, policySize)
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

// allows reports whether the policies of a certificate allow an action on a
// resource. A document with conditions is refused rather than misread.
func (r *registry) allows(certificateID, action, resource string) bool {
	documents := r.documentsFor(r.options.arn("cert/" + certificateID))
	r.mu.RLock()
	c := r.certificates[certificateID]
	strict := c == nil || c.strict
	r.mu.RUnlock()
	if !strict && len(documents) == 0 {
		return true
	}
	var all iam.Policy
	for _, document := range documents {
		p, err := iam.ParsePolicy(document)
		if err != nil {
			return false
		}
		all.Statements = append(all.Statements, p.Statements...)
	}
	return all.Decide(action, resource) == iam.Allow
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
