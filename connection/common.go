package connection

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tidwall/gjson"

	"sluice"
)

// softKeys names the common properties of a configuration that the sessions do
// not depend on: a change of them alone needs no new sessions. createDevices
// and downlinkEnabled are not among them, since a connector's Dialer is made
// with them.
func softKeys() []string {
	return []string{
		"description", "sendMetadata", "sendRawDecodedFormat", "uplinkTimeValidity", "uplinkRateLimiter",
		"downlinkAsId", "downlinkAsKey", "downlinkPort", "downlinkReports", "downlinkRedelivery", "reconnectStrategy",
	}
}

// ParseCommon reads the common part of a configuration and fills in the
// defaults: createDevices and downlinkEnabled true, downlinkReports all,
// downlinkRedelivery 30s, reconnectStrategy FAST, all else false, zero or empty. The error is a *[sluice.Error] with
// CodeInvalid; a configuration that passes the connector's schema has none.
func ParseCommon(configuration json.RawMessage) (sluice.Common, error) {
	c := sluice.Common{
		CreateDevices: true, DownlinkEnabled: true, DownlinkReports: reportsAll, DownlinkRedelivery: defaultRedelivery.String(),
		ReconnectStrategy: strategyFast,
	}
	if len(configuration) == 0 {
		return c, nil
	}
	if err := json.Unmarshal(configuration, &c); err != nil {
		return sluice.Common{}, &sluice.Error{
			Code: sluice.CodeInvalid, Message: "The common properties of the configuration cannot be read.", Err: err,
		}
	}
	return c, nil
}

// CheckCommon finds what is wrong with the common properties, in a
// configuration that is valid JSON. Paths are relative to the configuration.
// A property of the wrong type is left to the schema.
func CheckCommon(configuration json.RawMessage) []sluice.Problem {
	root := gjson.ParseBytes(configuration)
	if !root.IsObject() {
		return nil
	}
	var problems []sluice.Problem
	add := func(path, format string, args ...any) {
		problems = append(problems, sluice.Problem{Path: path, Message: fmt.Sprintf(format, args...)})
	}
	if v := root.Get("uplinkTimeValidity"); v.Type == gjson.String && v.Str != "" {
		if _, err := parseValidity(v.Str); err != nil {
			add("uplinkTimeValidity", "%q is no duration above zero; write for example 5m, 10m, 2h30m or 24h.", v.Str)
		}
	}
	if v := root.Get("uplinkRateLimiter"); v.Type == gjson.Number && v.Num < 0 {
		add("uplinkRateLimiter", "It is a number of messages a second; 0 means no limit.")
	}
	if v := root.Get("downlinkPort"); v.Type == gjson.Number && (v.Num < 1 || v.Num > maxFPort || v.Num != float64(int(v.Num))) {
		add("downlinkPort", "A LoRaWAN port is a whole number from 1 to %d.", maxFPort)
	}
	if v := root.Get("reconnectStrategy"); v.Type == gjson.String && !slices.Contains(strategyNames(), v.Str) {
		add("reconnectStrategy", "%q is no strategy; there are %s.", v.Str, strings.Join(strategyNames(), ", "))
	}
	if v := root.Get("downlinkReports"); v.Type == gjson.String && !slices.Contains(reportNames(), v.Str) {
		add("downlinkReports", "%q is none of %s.", v.Str, strings.Join(reportNames(), ", "))
	}
	if v := root.Get("downlinkRedelivery"); v.Type == gjson.String {
		if _, err := parseRedelivery(v.Str); err != nil {
			add("downlinkRedelivery", "%q is no duration from 0s to %s; write for example 30s or 2m.", v.Str, maxRedelivery)
		}
	}
	if root.Get("downlinkAsKey").String() != "" && root.Get("downlinkAsId").String() == "" {
		add("downlinkAsId", "downlinkAsId is missing, but downlinkAsKey is given.")
	}
	return problems
}

// parseValidity reads a duration above zero; "" is 0, no limit.
func parseValidity(text string) (time.Duration, error) {
	if text == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		return 0, err
	}
	if d <= 0 {
		return 0, fmt.Errorf("%s is not above zero", text)
	}
	return d, nil
}

// essence is the part of a connection that its sessions depend on, in a form
// that two can be compared in: equal essence, same sessions.
func essence(c sluice.Connection) string {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(c.Configuration, &fields); err != nil {
		return c.ConnectorID + " " + string(c.Configuration)
	}
	for _, k := range softKeys() {
		delete(fields, k)
	}
	for k, raw := range fields {
		fields[k] = canonical(raw)
	}
	text, err := json.Marshal(fields) // sorts the keys
	if err != nil {
		return c.ConnectorID + " " + string(c.Configuration)
	}
	return c.ConnectorID + " " + string(text)
}

// canonical sorts the keys of a value and drops its white space, and leaves
// the text of numbers as it is.
func canonical(raw json.RawMessage) json.RawMessage {
	dec := json.NewDecoder(strings.NewReader(string(raw)))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return raw
	}
	out, err := json.Marshal(v)
	if err != nil {
		return raw
	}
	return out
}
