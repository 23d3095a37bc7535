package awsiot

import (
	"slices"
	"strings"
)

// What is told of properties that are not there.

// setupHint is the next step where something is not there at all.
const setupHint = "docs/aws-setup.md leads from a new account to a whole configuration."

// lacks are the properties without which a step cannot be tried, and that are
// not there. That they are missing is told by the first step, once.
func (e *doctor) lacks(id string) []string {
	c := &e.cfg
	switch id {
	case "region":
		return c.without("region " + e.hostNeeds())
	case "certificate":
		if c.certified() {
			return c.without("certificate privateKey")
		}
	case "name":
		return c.without(e.hostNeeds())
	case "clock":
		if c.ControlEndpoint == "" {
			return c.without("region")
		}
	case "api":
		if e.api != nil {
			return c.without("region")
		}
	case "accepted", "shadow":
		if !e.able {
			return c.missing
		}
	}
	return nil
}

// hostNeeds are the properties of which the server's name is made.
func (e *doctor) hostNeeds() string {
	if c := &e.cfg; c.DataEndpoint != "" || c.webSocket() && c.WebSocketEndpoint != "" {
		return ""
	}
	return "accountPrefix region"
}

// without are those of some properties that are not given, each once.
func (c *config) without(names string) []string {
	var list []string
	for name := range strings.FieldsSeq(names) {
		if !c.given[name] && !slices.Contains(list, name) {
			list = append(list, name)
		}
	}
	return list
}

// missingText says that a property is missing, in the words of the schema, so
// that whoever hears both says it once.
func missingText(name string) string { return "missing property '" + name + "'" }
