// Package policy decides, from policy documents of AWS, whether an action on a
// resource is allowed: the IoT policies that are attached to certificates, and
// as much of IAM's language as policies for AWS IoT use. It is part of the
// emulator.
//
// Sources: AWS IoT Core Developer Guide, "AWS IoT Core policies" with "Policy
// actions", "Policy variables", "Connect policy examples" and
// "Publish/Subscribe policy examples" (the wildcards + and # of MQTT are plain
// characters in a policy); IAM User Guide, "Policy evaluation logic" (a Deny
// wins, nothing is allowed that no Allow matches) and "Condition operators"
// with "Conditions with multiple context keys or values".
//
// It does Effect, Action, NotAction, Resource, NotResource and Condition with
// the String, Arn, Bool, Null and IpAddress operators, ForAllValues,
// ForAnyValue and IfExists; variables, with ${*}, ${?} and ${$}. It does not do
// Principal, the Numeric, Date and Binary operators, defaults of variables, and
// permission boundaries; a document with any of the operators it does not know
// is refused rather than misread.
package policy

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// SizeMax is the size of an IoT policy without white space. Source: AWS IoT
// Core endpoints and quotas, "Maximum policy document size".
const SizeMax = 2048

// Document is a policy, ready to be evaluated. It never changes.
type Document struct {
	statements []statement
}

type statement struct {
	deny         bool
	actions      patterns
	notActions   bool // actions are those that it is not about
	resources    patterns
	notResources bool
	conditions   []condition
}

// text is how a document is written.
type text struct {
	Version   string    `json:"Version"`
	ID        string    `json:"Id"`
	Statement oneOrMany `json:"Statement"`
}

type rawClause struct {
	Sid         string                     `json:"Sid"`
	Effect      string                     `json:"Effect"`
	Action      list                       `json:"Action"`
	NotAction   list                       `json:"NotAction"`
	Resource    list                       `json:"Resource"`
	NotResource list                       `json:"NotResource"`
	Condition   map[string]map[string]list `json:"Condition"`
}

// oneOrMany is a JSON object, or an array of them.
type oneOrMany []json.RawMessage

func (o *oneOrMany) UnmarshalJSON(raw []byte) error {
	if len(raw) > 0 && raw[0] == '[' {
		return json.Unmarshal(raw, (*[]json.RawMessage)(o))
	}
	*o = oneOrMany{raw}
	return nil
}

// list is a JSON string, or an array of them; true and false are written
// without quotes sometimes.
type list []string

func (l *list) UnmarshalJSON(raw []byte) error {
	if len(raw) > 0 && raw[0] == '[' {
		return json.Unmarshal(raw, (*[]string)(l))
	}
	if s := string(raw); s == "true" || s == "false" {
		*l = list{s}
		return nil
	}
	var one string
	if err := json.Unmarshal(raw, &one); err != nil {
		return err
	}
	*l = list{one}
	return nil
}

// Parse reads a document. The error names everything that is wrong with it.
func Parse(document string) (*Document, error) {
	var t text
	if err := strict(document, &t); err != nil {
		return nil, fmt.Errorf("the policy is no JSON of the right form: %w", err)
	}
	var problems []error
	if t.Version != "2012-10-17" && t.Version != "2008-10-17" {
		problems = append(problems, fmt.Errorf("version %q: it must be 2012-10-17", t.Version))
	}
	if len(t.Statement) == 0 {
		problems = append(problems, errors.New("the policy has no statement"))
	}
	d := &Document{}
	for i, raw := range t.Statement {
		var c rawClause
		if err := strict(string(raw), &c); err != nil {
			problems = append(problems, fmt.Errorf("statement %d: %w", i+1, err))
			continue
		}
		s, wrong := c.compile()
		for _, problem := range wrong {
			problems = append(problems, fmt.Errorf("statement %d: %w", i+1, problem))
		}
		d.statements = append(d.statements, s)
	}
	return d, errors.Join(problems...)
}

// strict decodes JSON that may have no member that is unknown.
func strict(document string, into any) error {
	d := json.NewDecoder(strings.NewReader(document))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return err
	}
	if d.More() {
		return errors.New("there is something behind its end")
	}
	return nil
}

func (c *rawClause) compile() (s statement, problems []error) {
	switch c.Effect {
	case "Allow":
	case "Deny":
		s.deny = true
	default:
		problems = append(problems, fmt.Errorf("effect %q: it must be Allow or Deny", c.Effect))
	}
	actions, notActions, err := either("Action", c.Action, c.NotAction)
	problems = append(problems, err...)
	resources, notResources, err := either("Resource", c.Resource, c.NotResource)
	problems = append(problems, err...)
	for i, a := range actions {
		if a != "*" && !strings.Contains(a, ":") {
			problems = append(problems, fmt.Errorf("action %q: it must be service:action", a))
		}
		actions[i] = strings.ToLower(a)
	}
	s.actions, s.notActions = compile(actions), notActions
	s.resources, s.notResources = compile(resources), notResources
	for operator, keys := range c.Condition {
		for key, values := range keys {
			made, err := newCondition(operator, key, values)
			if err != nil {
				problems = append(problems, err)
				continue
			}
			s.conditions = append(s.conditions, made)
		}
	}
	return s, problems
}

// either is what a statement is about, or, with not, is not about.
func either(name string, these, others list) (out []string, not bool, problems []error) {
	switch {
	case len(these) > 0 && len(others) > 0:
		return nil, false, []error{fmt.Errorf("%s and Not%s exclude each other", name, name)}
	case len(others) > 0:
		return others, true, nil
	case len(these) == 0:
		return nil, false, []error{fmt.Errorf("%s is missing", name)}
	}
	return these, false, nil
}

// Size is the size of a document without white space outside of strings, as
// AWS counts it.
func Size(document string) int {
	var compact strings.Builder
	inString, escaped := false, false
	for _, r := range document {
		switch {
		case escaped:
			escaped = false
		case inString && r == '\\':
			escaped = true
		case r == '"':
			inString = !inString
		case !inString && strings.ContainsRune(" \t\r\n", r):
			continue
		}
		compact.WriteRune(r)
	}
	return len(compact.String())
}
