// Package policy decides, from policy documents of AWS, whether an action on a
// resource is allowed: the IoT policies that are attached to certificates, and
// the IAM policies of users and roles, which are of the same language. It is
// part of the emulator.
//
// Sources: AWS IoT Core Developer Guide, "AWS IoT Core policies" with "Policy
// actions", "Policy variables", "Connect policy examples" and
// "Publish/Subscribe policy examples" (the wildcards + and # of MQTT are plain
// characters in a policy); IAM User Guide, "Policy evaluation logic" (a Deny
// wins, nothing is allowed that no Allow matches) and "Condition operators"
// with "Conditions with multiple context keys or values", "Version" (left out
// in an IAM policy it is 2008-10-17, under which variables are plain text).
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
	"maps"
	"slices"
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

// The versions of the language: under the old one variables are plain text.
const (
	version    = "2012-10-17"
	oldVersion = "2008-10-17"
)

// Parse reads an IoT policy. The error names everything that is wrong with it.
func Parse(document string) (*Document, error) { return parse(document, "") }

// ParseIdentity reads an IAM policy of a user or a role, which may leave its
// version out.
func ParseIdentity(document string) (*Document, error) { return parse(document, oldVersion) }

func parse(document, without string) (*Document, error) {
	t := text{Version: without}
	if err := strict(document, &t); err != nil {
		return nil, fmt.Errorf("the policy is no JSON of the right form: %w", err)
	}
	var problems []error
	if t.Version != version && t.Version != oldVersion {
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
		s, wrong := c.compile(t.Version == version)
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

func (c *rawClause) compile(variables bool) (s statement, problems []error) {
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
	s.actions, s.notActions = compile(actions, false), notActions
	s.resources, s.notResources = compile(resources, variables), notResources
	for operator, keys := range c.Condition {
		for key, values := range keys {
			made, err := newCondition(operator, key, values, variables)
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

// AllowActions is a document that allows actions, such as "iot:*", on all
// resources.
func AllowActions(actions ...string) *Document {
	folded := make([]string, len(actions))
	for i, a := range actions {
		folded[i] = strings.ToLower(a)
	}
	return &Document{statements: []statement{{actions: compile(folded, false), resources: compile([]string{"*"}, false)}}}
}

// Keys are the condition keys and variables that a document names, sorted.
// Where the values of one are not known, what it says cannot be honoured.
func (d *Document) Keys() []string {
	named := map[string]bool{}
	add := func(ps patterns) {
		for _, p := range ps {
			for _, part := range p.parts {
				if part.variable != "" {
					named[part.variable] = true
				}
			}
		}
	}
	for _, s := range d.statements {
		add(s.resources)
		for _, c := range s.conditions {
			named[c.key] = true
			add(c.values)
		}
	}
	return slices.Sorted(maps.Keys(named))
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
