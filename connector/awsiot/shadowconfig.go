package awsiot

import (
	"encoding/json"
	"regexp"
	"strings"
)

// AWS's limits of shadows. Source: AWS IoT Core endpoints and quotas, "Device
// Shadow service"; AWS IoT Data Plane API reference, shadowName.
const (
	maxShadow     = 8 << 10 // bytes of a document's state
	maxShadowName = 64
)

// The members of a shadow that are Sluice's where it takes commands from it.
const (
	shadowDownlink = "downlink"      // desired: a command; reported: the last one that is done with
	shadowState    = "downlinkState" // reported: what became of it
)

// shadowConfig is the property shadow of a configuration.
type shadowConfig struct {
	Enabled  bool              `json:"enabled"`
	Name     string            `json:"name"`     // "": the classic shadow
	Reported bool              `json:"reported"` // uplinks are reported
	Fields   map[string]string `json:"fields"`   // what is reported: dotted paths of the report, by member
	Desired  bool              `json:"desired"`  // commands are taken
}

// readShadow reads the property; its type is the schema's to say.
func readShadow(raw json.RawMessage) shadowConfig {
	c := shadowConfig{Reported: true}
	if len(raw) == 0 || json.Unmarshal(raw, &c) != nil {
		return shadowConfig{}
	}
	return c
}

// checkShadow finds what the schema cannot say.
func (c *config) checkShadow(warn, bad *findings) {
	s := c.Shadow
	if !s.Enabled {
		if c.given["shadow"] && (s.Desired || len(s.Fields) > 0) {
			warn.add("shadow.enabled", "Shadows are configured and not enabled.")
		}
		return
	}
	if s.Name != "" && !regexp.MustCompile(`^[$a-zA-Z0-9:_-]{1,64}$`).MatchString(s.Name) {
		bad.add("shadow.name", "%q is not the name of a shadow: letters, digits, '$', ':', '_' and '-', at most %d.", s.Name, maxShadowName)
	}
	for name, path := range s.Fields {
		switch {
		case s.Desired && reservedInShadow(name):
			bad.add("shadow.fields."+name, "Where commands are taken from the shadow, this member is Sluice's own.")
		case name == "":
			bad.add("shadow.fields", "A member has no name.")
		case strings.Trim(path, ". ") != path || path == "" || strings.Contains(path, ".."):
			bad.add("shadow.fields."+name, "%q is not a path of the report, such as LrrRSSI or payload.temperature.", path)
		}
	}
	if !s.Reported && !s.Desired {
		warn.add("shadow.enabled", "Shadows are enabled, but nothing is reported and nothing taken.")
	}
	c.checkDesired(bad)
}

// checkDesired wants the reports of what became of commands to reach the
// session, which tells the shadow.
func (c *config) checkDesired(bad *findings) {
	if !c.Shadow.Desired {
		return
	}
	if !c.DownlinkEnabled {
		bad.add("shadow.desired", "It needs downlinkEnabled, which is false.")
	}
	if c.DownlinkReports != "all" {
		bad.add("shadow.desired", "It needs downlinkReports to be all: the shadow is told what became of a command by these reports.")
	}
	if c.SendMetadata {
		bad.add("shadow.desired", "It needs sendMetadata to be false, which leaves out the reports of what became of a command.")
	}
}

func reservedInShadow(name string) bool { return name == shadowDownlink || name == shadowState }
