package policy

import (
	"fmt"
	"net/netip"
	"strings"
)

// condition is one key of a Condition with its operator.
type condition struct {
	key      string
	values   patterns
	test     func(got string, want pattern, v Values) bool
	negated  bool
	ifExists bool
	set      string // "ForAllValues", "ForAnyValue" or "" for a key with one value
	null     bool   // the operator Null
}

func newCondition(operator, key string, values []string, variables bool) (condition, error) {
	c := condition{key: key}
	name := operator
	if set, rest, ok := strings.Cut(operator, ":"); ok {
		if set != "ForAllValues" && set != "ForAnyValue" {
			return c, fmt.Errorf("condition %q: unknown", operator)
		}
		c.set, name = set, rest
	}
	name, c.ifExists = strings.CutSuffix(name, "IfExists")
	test, negated, ok := comparison(name)
	if !ok {
		return c, fmt.Errorf("condition %q: the emulator does not know it", operator)
	}
	c.test, c.negated, c.null = test, negated, name == "Null"
	c.values = compile(values, variables)
	return c, nil
}

// comparison is the test of an operator; negated ones hold where it fails.
func comparison(name string) (test func(string, pattern, Values) bool, negated, ok bool) {
	switch name {
	case "StringEquals", "StringNotEquals":
		return equal, name == "StringNotEquals", true
	case "StringEqualsIgnoreCase", "StringNotEqualsIgnoreCase", "Bool":
		return equalFold, name == "StringNotEqualsIgnoreCase", true
	case "StringLike", "ArnEquals", "ArnLike":
		return like, false, true
	case "StringNotLike", "ArnNotEquals", "ArnNotLike":
		return like, true, true
	case "IpAddress", "NotIpAddress":
		return within, name == "NotIpAddress", true
	case "Null":
		return equalFold, false, true
	}
	return nil, false, false
}

// holds evaluates the condition. Source: IAM User Guide: without a key
// ForAllValues holds and ForAnyValue does not; negated operators hold without
// their key.
func (c condition) holds(v Values) bool {
	got := v.of(c.key)
	if c.null {
		return c.any(fmt.Sprint(len(got) == 0), v)
	}
	if len(got) == 0 {
		return c.set == "ForAllValues" || c.ifExists || c.set == "" && c.negated
	}
	for _, g := range got {
		held := c.any(g, v) != c.negated
		if c.set == "ForAnyValue" && held {
			return true
		}
		if c.set != "ForAnyValue" && !held {
			return false
		}
	}
	return c.set != "ForAnyValue"
}

func (c condition) any(got string, v Values) bool {
	for _, want := range c.values {
		if c.test(got, want, v) {
			return true
		}
	}
	return false
}

// plain is a value without wildcards: * and ? are themselves.
func plain(p pattern, v Values) (string, bool) {
	expanded, ok := p.expand(v)
	if !ok {
		return "", false
	}
	var b strings.Builder
	for _, r := range expanded {
		switch r {
		case anyText:
			r = '*'
		case anyRune:
			r = '?'
		}
		b.WriteRune(r)
	}
	return b.String(), true
}

func equal(got string, want pattern, v Values) bool {
	s, ok := plain(want, v)
	return ok && got == s
}

func equalFold(got string, want pattern, v Values) bool {
	s, ok := plain(want, v)
	return ok && strings.EqualFold(got, s)
}

func like(got string, want pattern, v Values) bool {
	return patterns{want}.match(got, v)
}

func within(got string, want pattern, v Values) bool {
	s, ok := plain(want, v)
	addr, err := netip.ParseAddr(got)
	if !ok || err != nil {
		return false
	}
	if prefix, err := netip.ParsePrefix(s); err == nil {
		return prefix.Contains(addr.Unmap())
	}
	one, err := netip.ParseAddr(s)
	return err == nil && one.Unmap() == addr.Unmap()
}
