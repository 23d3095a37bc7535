package awsiottest

import (
	"regexp"
	"strconv"
	"strings"
	"unicode"
)

// The patterns and sizes of names. Source: the API's service model.
var (
	thingPattern          = regexp.MustCompile(`^[a-zA-Z0-9:_-]+$`)
	attributeNamePattern  = regexp.MustCompile(`^[a-zA-Z0-9_.,@/:#-]+$`)
	attributeValuePattern = regexp.MustCompile(`^[a-zA-Z0-9_.,@/:#=\[\]-]*$`)
	certificatePattern    = regexp.MustCompile(`^(0x)?[a-fA-F0-9]+$`)
	policyPattern         = regexp.MustCompile(`^[\w+=,.@-]+$`)
	tagPattern            = regexp.MustCompile(`^([\p{L}\p{Z}\p{N}_.:/=+\-@]*)$`)
)

const (
	nameSize           = 128
	attributeValueSize = 800
	attributesTyped    = 50 // attributes of a thing that has a type
	attributesUntyped  = 3  // of one that has none
	attributesSize     = 47 << 10
	descriptionSize    = 2028
	certificateIDSize  = 64
)

// checker collects what is wrong with a request, in the words of AWS's
// validation (wording as in reports of users, such as aws-sdk-java issue 666).
type checker struct{ problems []string }

func (c *checker) fail(value, field, constraint string) {
	c.problems = append(c.problems, "Value '"+value+"' at '"+field+"' failed to satisfy constraint: "+constraint)
}

// name checks a thing name, a thing type name or a billing group name.
func (c *checker) name(field, value string) {
	if len(value) > nameSize {
		c.fail(value, field, "Member must have length less than or equal to "+strconv.Itoa(nameSize))
	}
	if !thingPattern.MatchString(value) {
		c.fail(value, field, "Member must satisfy regular expression pattern: [a-zA-Z0-9:_-]+")
	}
}

// shadowName checks the name of a named shadow.
func (c *checker) shadowName(value string) {
	if len(value) < 1 || len(value) > shadowNameSize {
		c.fail(value, "shadowName", "Member must have length between 1 and "+strconv.Itoa(shadowNameSize))
	}
	if !shadowPattern.MatchString(value) {
		c.fail(value, "shadowName", "Member must satisfy regular expression pattern: [$a-zA-Z0-9:_-]+")
	}
}

// policyName checks the name of a policy.
func (c *checker) policyName(value string) {
	if len(value) > nameSize {
		c.fail(value, "policyName", "Member must have length less than or equal to "+strconv.Itoa(nameSize))
	}
	if !policyPattern.MatchString(value) {
		c.fail(value, "policyName", "Member must satisfy regular expression pattern: [\\w+=,.@-]+")
	}
}

// description checks a description of a type or a group.
func (c *checker) description(field, value string) {
	if len(value) > descriptionSize {
		c.fail(value, field, "Member must have length less than or equal to "+strconv.Itoa(descriptionSize))
	}
	if strings.ContainsFunc(value, func(r rune) bool { return r != ' ' && !unicode.IsGraphic(r) }) {
		c.fail(value, field, "Member must satisfy regular expression pattern: [\\p{Graph}\\x20]*")
	}
}

// optionalName checks a name that may be missing.
func (c *checker) optionalName(field, value string) {
	if value != "" {
		c.name(field, value)
	}
}

func (c *checker) certificateID(value string) {
	if len(value) != certificateIDSize {
		c.fail(value, "certificateId", "Member must have length equal to "+strconv.Itoa(certificateIDSize))
	}
	if !certificatePattern.MatchString(value) {
		c.fail(value, "certificateId", "Member must satisfy regular expression pattern: (0x)?[a-fA-F0-9]+")
	}
}

func (c *checker) attributes(attributes map[string]string) {
	const field = "attributePayload.attributes"
	for name, value := range attributes {
		if len(name) > nameSize || !attributeNamePattern.MatchString(name) {
			c.fail(name, field, "Map keys must satisfy constraint: [Member must have length less than or equal to 128, "+
				"Member must satisfy regular expression pattern: [a-zA-Z0-9_.,@/:#-]+]")
		}
		if len(value) > attributeValueSize || !attributeValuePattern.MatchString(value) {
			c.fail(value, field, "Map value must satisfy constraint: [Member must have length less than or equal to 800, "+
				"Member must satisfy regular expression pattern: [a-zA-Z0-9_.,@/:#=\\[\\]-]*]")
		}
	}
}

// oneOf checks a member of a closed set.
func (c *checker) oneOf(field, value string, allowed ...string) {
	for _, a := range allowed {
		if value == a {
			return
		}
	}
	c.fail(value, field, "Member must satisfy enum value set: ["+strings.Join(allowed, ", ")+"]")
}

func (c *checker) err() *apiError {
	switch n := len(c.problems); n {
	case 0:
		return nil
	case 1:
		return invalidRequest("1 validation error detected: %s", c.problems[0])
	default:
		return invalidRequest("%d validation errors detected: %s", n, strings.Join(c.problems, "; "))
	}
}
