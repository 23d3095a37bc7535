package sluice

import "time"

// Flow says which devices go to which connections, decoded by which driver.
// Field names are those of ThingPark X IoT Flow.
type Flow struct {
	ID          string          `json:"id"`
	Name        string          `json:"name"`
	Description string          `json:"description,omitempty"`
	Driver      *FlowDriver     `json:"driver,omitempty"`
	Matchers    []Matcher       `json:"matchers"`
	Connectors  []FlowConnector `json:"connectors"`
}

// FlowDriver names the driver of a flow.
type FlowDriver struct {
	ID string `json:"id"`
}

// The types of matchers.
const (
	MatcherThing = "thing" // by tags: the device must hold all of them
	MatcherKey   = "key"   // by identity: "lora:<deveui>"
)

// Matcher selects devices. Several matchers of a flow are alternatives; a
// flow without matchers takes every device.
type Matcher struct {
	Type string   `json:"type"`
	Tags []string `json:"tags,omitempty"` // compared without regard to case
	Key  string   `json:"key,omitempty"`  // "lora:" and the DevEUI in any case
}

// FlowConnector is one destination of a flow.
type FlowConnector struct {
	ID                 string `json:"id"`                           // the connector's id
	ConnectionID       string `json:"connectionId"`                 //
	UplinkTimeValidity string `json:"uplinkTimeValidity,omitempty"` // "10m", "24h"
}

// Device is what Sluice remembers of a device.
type Device struct {
	DevEUI   string    `json:"devEUI"`
	Name     string    `json:"name,omitempty"`
	Tags     []string  `json:"tags,omitempty"`
	Network  string    `json:"networkId"` // where it was last seen
	LastSeen time.Time `json:"lastSeen"`
}
