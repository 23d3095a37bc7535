package iam

import (
	"encoding/json"
	"fmt"
	"strings"
)

// Policy is what an identity may do. The zero value allows nothing.
type Policy struct{ Statements []Statement }

// Statement allows or denies actions on resources. "*" stands for any
// characters and "?" for one; actions are compared without regard to case.
type Statement struct {
	Deny      bool
	Actions   []string // such as "iot:CreateThing"
	Resources []string // whole ARNs, or "*"
}

// AllowAll is the policy of an administrator.
func AllowAll() Policy { return AllowActions("*") }

// AllowActions allows actions on every resource.
func AllowActions(actions ...string) Policy {
	return Policy{Statements: []Statement{{Actions: actions, Resources: []string{"*"}}}}
}

// list is one string or several, as policies write it.
type list []string

func (l *list) UnmarshalJSON(raw []byte) error {
	var one string
	if json.Unmarshal(raw, &one) == nil {
		*l = list{one}
		return nil
	}
	return json.Unmarshal(raw, (*[]string)(l))
}

type statementJSON struct {
	Sid                                          string
	Effect                                       string
	Action, Resource                             list
	NotAction, NotResource, Principal, Condition json.RawMessage
}

// ParsePolicy reads a policy document. What Decide could not honour is an
// error, so that no test goes by a permission that AWS would not give.
func ParsePolicy(document string) (Policy, error) {
	var in struct{ Statement json.RawMessage }
	if err := json.Unmarshal([]byte(document), &in); err != nil {
		return Policy{}, fmt.Errorf("read the policy: %w", err)
	}
	var statements []statementJSON
	if err := json.Unmarshal(in.Statement, &statements); err != nil {
		statements = make([]statementJSON, 1)
		if err := json.Unmarshal(in.Statement, &statements[0]); err != nil {
			return Policy{}, fmt.Errorf("read the policy's statements: %w", err)
		}
	}
	var p Policy
	for i, s := range statements {
		switch {
		case s.Effect != "Allow" && s.Effect != "Deny":
			return Policy{}, fmt.Errorf("statement %d: Effect is %q, want Allow or Deny", i, s.Effect)
		case len(s.Action) == 0 || len(s.Resource) == 0:
			return Policy{}, fmt.Errorf("statement %d: needs Action and Resource", i)
		case s.NotAction != nil || s.NotResource != nil || s.Principal != nil || s.Condition != nil:
			return Policy{}, fmt.Errorf("statement %d: only Action and Resource are emulated", i)
		}
		p.Statements = append(p.Statements, Statement{Deny: s.Effect == "Deny", Actions: s.Action, Resources: s.Resource})
	}
	return p, nil
}

// Decision is what a policy says.
type Decision int

// The decisions. An explicit deny wins over everything.
const (
	ImplicitDeny Decision = iota
	Allow
	ExplicitDeny
)

// Decide evaluates the policy.
func (p Policy) Decide(action, resource string) Decision {
	decision := ImplicitDeny
	for _, s := range p.Statements {
		if !s.applies(action, resource) {
			continue
		}
		if s.Deny {
			return ExplicitDeny
		}
		decision = Allow
	}
	return decision
}

func (s Statement) applies(action, resource string) bool {
	return anyMatches(s.Actions, strings.ToLower(action), strings.ToLower) &&
		anyMatches(s.Resources, resource, func(p string) string { return p })
}

func anyMatches(patterns []string, s string, fold func(string) string) bool {
	for _, p := range patterns {
		if Match(fold(p), s) {
			return true
		}
	}
	return false
}

// Match compares a string with a pattern of "*" and "?". It takes no more
// than len(pattern)*len(s) steps.
func Match(pattern, s string) bool {
	p, i := 0, 0
	star, mark := -1, 0
	for i < len(s) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, mark = p, i
			p++
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == s[i]):
			p, i = p+1, i+1
		case star >= 0:
			mark++
			p, i = star+1, mark
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}

// denied is AWS's sentence. Source: IAM User Guide, "Troubleshoot access
// denied error messages".
func denied(who, action, resource string, explicit bool) string {
	why := " because no identity-based policy allows the " + action + " action"
	if explicit {
		why = " with an explicit deny in an identity-based policy"
	}
	return "User: " + who + " is not authorized to perform: " + action + " on resource: " + resource + why
}
