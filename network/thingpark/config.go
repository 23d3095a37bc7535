package thingpark

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"time"

	"sluice"
)

// schema says what a network's configuration may hold; readConfig checks what
// it cannot say.
const schema = `{
  "$schema": "http://json-schema.org/draft-04/schema#",
  "title": "ThingPark network configuration",
  "type": "object",
  "additionalProperties": false,
  "properties": {
    "asId": {
      "title": "Application server ID (AS_ID)",
      "description": "The AS_ID of the application server in ThingPark, such as TWA_100002167.1111.AS. Reports must carry it, and downlinks do. Needed together with asKey.",
      "type": "string",
      "maxLength": 256
    },
    "asKey": {
      "title": "Application server key (LRC-AS key, TIAK)",
      "description": "The key that signs reports and downlinks: 32 hexadecimal digits. Without a key, unsigned reports are taken: whoever knows the address can then send some.",
      "type": "string",
      "format": "password"
    },
    "downlinkUrl": {
      "title": "Downlink address",
      "description": "Where downlinks are posted, such as https://thingpark.example.com/thingpark/lrc/rest/downlink. Without it the network takes no downlinks.",
      "type": "string",
      "maxLength": 2048
    },
    "maxTimeDeviation": {
      "title": "Largest time deviation",
      "description": "How far the time of a signed report may lie from our clock, as a duration: 60s, 5m. 0 means that it is not checked.",
      "type": "string",
      "default": "60s"
    }
  }
}`

const defaultTimeDeviation = 60 * time.Second

// config is a network's configuration, read.
type config struct {
	asID         string
	asKeys       []string // what may have signed: the key as given and, if that differs, in lower case
	downlinkURL  string   // "" where downlinks are not taken
	maxDeviation time.Duration
}

// asKey is the key that signs downlinks, "" for none.
func (c *config) asKey() string {
	if len(c.asKeys) == 0 {
		return ""
	}
	return c.asKeys[0]
}

// readConfig reads a configuration and finds everything that is wrong in it.
func readConfig(raw json.RawMessage) (config, []sluice.Problem) {
	var in struct {
		ASID             *string `json:"asId"`
		ASKey            *string `json:"asKey"`
		DownlinkURL      *string `json:"downlinkUrl"`
		MaxTimeDeviation *string `json:"maxTimeDeviation"`
	}
	if len(raw) == 0 {
		raw = json.RawMessage("{}")
	}
	if err := json.Unmarshal(raw, &in); err != nil {
		return config{}, []sluice.Problem{{Message: "The configuration must be an object whose properties are texts."}}
	}
	c := config{maxDeviation: defaultTimeDeviation}
	var problems []sluice.Problem
	problem := func(path, format string, args ...any) {
		problems = append(problems, sluice.Problem{Path: path, Message: fmt.Sprintf(format, args...)})
	}
	c.asID = deref(in.ASID)
	if c.asID != strings.TrimSpace(c.asID) || strings.ContainsAny(c.asID, "&\r\n\t") {
		problem("asId", "An AS_ID has no spaces around it and no '&' or line breaks in it.")
	}
	if key := deref(in.ASKey); key != "" {
		if !isKey(key) {
			problem("asKey", "The key must be 32 hexadecimal digits; this has %d characters. Copy it from the application server in ThingPark.", len(key))
		}
		if c.asID == "" {
			problem("asId", "A key is given, so the AS_ID is needed too: both sign together.")
		}
		c.asKeys = []string{key}
		if lower := strings.ToLower(key); lower != key {
			c.asKeys = append(c.asKeys, lower)
		}
	} else if c.asID != "" {
		problem("asKey", "An AS_ID is given, so the key is needed too: both sign together.")
	}
	if c.downlinkURL = deref(in.DownlinkURL); c.downlinkURL != "" {
		if message := checkURL(c.downlinkURL); message != "" {
			problem("downlinkUrl", "%s", message)
		}
	}
	if text := deref(in.MaxTimeDeviation); text != "" {
		d, err := time.ParseDuration(text)
		if err != nil || d < 0 {
			problem("maxTimeDeviation", "This is no duration. Write 60s, 5m, 1h, or 0 for no check.")
		}
		c.maxDeviation = d
	}
	return c, problems
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// isKey reports whether a text is an application server's key.
// Source: ThingPark X IoT Flow documentation, Connector/HTTP, "TIAK".
func isKey(key string) bool {
	if len(key) != 32 {
		return false
	}
	for _, c := range key {
		if !strings.ContainsRune("0123456789abcdefABCDEF", c) {
			return false
		}
	}
	return true
}

// checkURL returns what is wrong with a downlink address, "" for nothing.
func checkURL(text string) string {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return "This is no URL. Write it as https://host/thingpark/lrc/rest/downlink."
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.Hostname() == "":
		return "The address must begin with https:// or http:// and a host name."
	case u.User != nil:
		return "The address must not contain a user name or password: it is shown in clear."
	case u.Fragment != "":
		return "The address must not contain '#'."
	}
	for name := range u.Query() {
		switch strings.ToLower(name) {
		case "deveui", "fport", "payload", "fcntdn", "afcntdn", "confirmed", "flushdownlinkqueue", "validitytime",
			"retryineligiblegateways", "as_id", "time", "correlationid", "token":
			return fmt.Sprintf("The address must not contain the parameter %s: it is added to each downlink.", name)
		}
	}
	return ""
}
