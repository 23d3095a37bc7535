package api

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"sluice"
)

// checkFlow finds what the schema cannot say of a flow, and returns the flow.
func (s *server) checkFlow(d *draft) sluice.Flow {
	f := sluice.Flow{
		Name: d.text("name"), Description: d.text("description"),
		Matchers: []sluice.Matcher{}, Connectors: []sluice.FlowConnector{},
	}
	// Parts that are of the wrong type have failed the schema: they are left
	// empty here, and the flow is refused.
	_ = json.Unmarshal(d.fields["driver"], &f.Driver)
	_ = json.Unmarshal(d.fields["matchers"], &f.Matchers)
	_ = json.Unmarshal(d.fields["connectors"], &f.Connectors)
	if active, given := d.doc["active"].(bool); given && !active {
		d.problem("active", "a flow cannot be inactive yet; delete it, or take its connectors out")
	}
	for i, m := range f.Matchers {
		checkMatcher(d, fmt.Sprintf("matchers[%d]", i), m)
	}
	first := map[string]int{}
	for i := range f.Connectors {
		path := fmt.Sprintf("connectors[%d]", i)
		s.checkFlowConnector(d, path, &f.Connectors[i])
		if at, twice := first[f.Connectors[i].ConnectionID]; twice {
			d.problem(path+".connectionId", "is the same connection as connectors[%d]", at)
		}
		first[f.Connectors[i].ConnectionID] = i
	}
	return f
}

func checkMatcher(d *draft, path string, m sluice.Matcher) {
	switch m.Type {
	case sluice.MatcherThing:
		if len(m.Tags) == 0 {
			d.problem(path+".tags", "a matcher of type thing needs at least one tag")
		}
		if m.Key != "" {
			d.problem(path+".key", "belongs to matchers of type key")
		}
	case sluice.MatcherKey:
		if !isKey(m.Key) {
			d.problem(path+".key", "must be 'lora:' and the 16 hexadecimal digits of a DevEUI, such as lora:0018b20000000b20")
		}
		if len(m.Tags) > 0 {
			d.problem(path+".tags", "belong to matchers of type thing")
		}
	}
}

func (s *server) checkFlowConnector(d *draft, path string, fc *sluice.FlowConnector) {
	if err := checkDuration(fc.UplinkTimeValidity); err != nil {
		d.problem(path+".uplinkTimeValidity", "%s", err.Error())
	}
	if fc.ConnectionID == "" {
		return // the schema has told
	}
	c, err := s.Connections.Connection(fc.ConnectionID)
	switch {
	case err != nil:
		d.problem(path+".connectionId", "there is no connection with this id")
	case fc.ID == "":
		fc.ID = c.ConnectorID
	case fc.ID != c.ConnectorID:
		d.problem(path+".id", "connection %s is of another connector: %s", c.ID, c.ConnectorID)
	}
}

// isKey reports whether a key names a device: "lora:" and a DevEUI in any case.
func isKey(key string) bool {
	devEUI, ok := strings.CutPrefix(key, "lora:")
	raw, err := hex.DecodeString(devEUI)
	return ok && err == nil && len(raw) == 8
}

// checkDuration finds what is wrong with a duration; none is fine.
func checkDuration(text string) error {
	if text == "" {
		return nil
	}
	if d, err := time.ParseDuration(text); err != nil || d <= 0 {
		return errDuration
	}
	return nil
}

var errDuration = errors.New("must be a duration above zero, such as 10m, 24h or 2h30m")
