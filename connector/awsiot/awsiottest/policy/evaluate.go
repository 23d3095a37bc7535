package policy

import "strings"

// Values are what is known of a request: condition keys and policy variables,
// such as "iot:ClientId", with their values. A key without values is absent.
type Values map[string][]string

// of finds a key; as in IAM its case does not matter.
func (v Values) of(key string) []string {
	if values, ok := v[key]; ok {
		return values
	}
	for k, values := range v {
		if strings.EqualFold(k, key) {
			return values
		}
	}
	return nil
}

// Request is what somebody wants to do.
type Request struct {
	// Action is service:action, such as "iot:Publish".
	Action string
	// Resource is the whole ARN.
	Resource string
	Values   Values
}

// Decision is what came of a request.
type Decision int

// The decisions: nothing allowed it, something allowed it, something denied it.
const (
	NotAllowed Decision = iota
	Allowed
	Denied
)

// Evaluate decides a request by all documents together: one Deny that matches
// denies it, otherwise one Allow allows it.
func Evaluate(documents []*Document, r Request) Decision {
	action := strings.ToLower(r.Action)
	decision := NotAllowed
	for _, d := range documents {
		for i := range d.statements {
			s := &d.statements[i]
			if decision == Allowed && !s.deny || !s.matches(action, r) {
				continue
			}
			if s.deny {
				return Denied
			}
			decision = Allowed
		}
	}
	return decision
}

// Allows reports whether a request is allowed.
func Allows(documents []*Document, r Request) bool { return Evaluate(documents, r) == Allowed }

func (s *statement) matches(action string, r Request) bool {
	if s.actions.match(action, nil) == s.notActions || s.resources.match(r.Resource, r.Values) == s.notResources {
		return false
	}
	for _, c := range s.conditions {
		if !c.holds(r.Values) {
			return false
		}
	}
	return true
}

// MentionsKey reports whether a condition of an Allow that matches the action
// and resource is about a key, whether or not it holds.
func MentionsKey(documents []*Document, r Request, key string) bool {
	action := strings.ToLower(r.Action)
	for _, d := range documents {
		for _, s := range d.statements {
			if s.deny || !s.actions.match(action, nil) || !s.resources.match(r.Resource, r.Values) {
				continue
			}
			for _, c := range s.conditions {
				if strings.EqualFold(c.key, key) {
					return true
				}
			}
		}
	}
	return false
}
