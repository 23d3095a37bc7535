package awsiot

import (
	"maps"
	"slices"
	"strings"
	"time"

	"sluice/internal/pattern"
)

// checkThings finds what is wrong with how things are to be made.
func (c *config) checkThings(bad *findings) {
	c.checkNamePattern(bad)
	c.checkAttributes(bad)
	seen := map[string]bool{}
	for _, group := range c.ThingGroups {
		switch {
		case !isThingName(group):
			bad.add("thingGroups", "%q is not the name of a thing group: %s.", group, thingNameCharacters)
		case seen[group]:
			bad.add("thingGroups", "%q is named twice.", group)
		}
		seen[group] = true
	}
	if n := len(c.ThingGroups); n > maxThingGroups {
		bad.add("thingGroups", "There are %d groups; AWS lets a thing be in %d.", n, maxThingGroups)
	}
	if c.BillingGroup != "" && !isThingName(c.BillingGroup) {
		bad.add("billingGroup", "%q is not the name of a billing group: %s.", c.BillingGroup, thingNameCharacters)
	}
	d, err := time.ParseDuration(c.ThingCheckInterval)
	if err != nil || d != 0 && d < time.Minute || d < 0 || d > 8760*time.Hour {
		bad.add("thingCheckInterval", "%q is not a duration from 1m to 8760h, nor 0s; write 24h.", c.ThingCheckInterval)
	}
}

func (c *config) checkNamePattern(bad *findings) {
	const path = "thingNamePattern"
	s, faults := pattern.Faults(c.ThingNamePattern)
	for _, err := range faults {
		bad.add(path, "The pattern cannot be read: %v.", err)
	}
	p, err := pattern.Compile(c.ThingNamePattern)
	if err != nil {
		return
	}
	if s.Expressions == 0 {
		bad.add(path, "%q would name all devices alike: write an expression such as {DevEUI}.", c.ThingNamePattern)
	}
	if s.MinBytes > maxThingName {
		bad.add(path, "The name has at least %d characters; AWS takes at most %d.", s.MinBytes, maxThingName)
	}
	if strings.ContainsFunc(p.Text(""), func(r rune) bool { return !isWord(r, thingNamePunctuation) }) {
		bad.add(path, "%q holds a character that AWS does not take in the name of a thing: a name is %s.", c.ThingNamePattern, thingNameCharacters)
	}
}

func (c *config) checkAttributes(bad *findings) {
	names := slices.Sorted(maps.Keys(c.ThingAttributes))
	for _, name := range names {
		path := "thingAttributes." + name
		if !isAttributeName(name) {
			bad.add(path, "%q is not the name of an attribute: %s.", name, attributeNameSentence)
		}
		_, faults := pattern.Faults(c.ThingAttributes[name])
		for _, err := range faults {
			bad.add(path, "The pattern cannot be read: %v.", err)
		}
		if c.ThingAttributes[name] == "" {
			bad.add(path, "The pattern is empty.")
		}
	}
	n := len(names)
	if tag := c.ThingTagAttribute; tag != "" {
		n++
		if !isAttributeName(tag) {
			bad.add("thingTagAttribute", "%q is not the name of an attribute: %s.", tag, attributeNameSentence)
		}
		if _, ok := c.ThingAttributes[tag]; ok {
			bad.add("thingTagAttribute", "%q is in thingAttributes too.", tag)
		}
	}
	switch {
	case n > maxAttributesTyped:
		bad.add("thingAttributes", "There are %d attributes; AWS lets a thing have %d.", n, maxAttributesTyped)
	case n > maxAttributesUntyped && c.DeviceType == "":
		bad.add("thingAttributes", "There are %d attributes; AWS lets a thing without a type have only %d: give deviceType.", n, maxAttributesUntyped)
	}
}
