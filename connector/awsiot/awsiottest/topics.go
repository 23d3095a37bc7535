package awsiottest

import (
	"strings"
	"time"
	"unicode/utf8"
)

// The quotas of the message broker. Source: AWS General Reference, "AWS IoT
// Core message broker and protocol limits and quotas", and the Developer
// Guide, "MQTT".
const (
	publishRate      = 100     // publishes a second on one connection, each way
	inflightMax      = 100     // unacknowledged publishes of QoS 1, each way: Receive Maximum
	payloadSize      = 131_072 // bytes of a payload
	topicSize        = 256     // bytes of a topic or filter
	topicSlashes     = 7
	shareNameSize    = 128
	filtersAtOnce    = 8 // filters in one SUBSCRIBE
	filtersMax       = 50
	clientIDSize     = 128
	topicAliasMax    = 8
	keepAliveMin     = 30
	keepAliveMax     = 1200
	sessionExpiry    = time.Hour // the default of an account; up to 7 days on request
	throughput       = 512 << 10 // bytes a second of a connection
	retainedMax      = 500_000
	messageExpiryMax = 604_800 // seconds
	// packetSize is the Maximum Packet Size of CONNACK. Inferred: a payload
	// of 128 KiB and room for the rest; the guide says "128 KB".
	packetSize = payloadSize + 18*1024
)

// basicIngest is the prefix of topics that go to a rule; it counts for
// neither size nor slashes. Source: Developer Guide, "Basic Ingest".
const (
	basicIngest = "$aws/rules/"
	sharePrefix = "$share/"
)

// checkTopic reports whether AWS takes a publish on a topic.
func checkTopic(topic string) bool {
	if topic == "" || !utf8.ValidString(topic) || strings.ContainsAny(topic, "+#\x00") {
		return false
	}
	if rest, ok := strings.CutPrefix(topic, basicIngest); ok {
		rule, rest, _ := strings.Cut(rest, "/")
		return rule != "" && len(rest) <= topicSize && strings.Count(rest, "/") <= topicSlashes
	}
	if topic[0] == '$' && !strings.HasPrefix(topic, "$aws/") {
		return false
	}
	return len(topic) <= topicSize && strings.Count(topic, "/") <= topicSlashes
}

// checkFilter reports whether AWS takes a subscription to a filter.
func checkFilter(filter string) bool {
	if rest, ok := strings.CutPrefix(filter, sharePrefix); ok {
		share, inner, ok := strings.Cut(rest, "/")
		if !ok || share == "" || utf8.RuneCountInString(share) > shareNameSize || strings.ContainsAny(share, "+#") {
			return false
		}
		filter = inner
	}
	if filter == "" || len(filter) > topicSize || strings.Count(filter, "/") > topicSlashes || !utf8.ValidString(filter) {
		return false
	}
	if filter[0] == '$' && (!strings.HasPrefix(filter, "$aws/") || strings.HasPrefix(filter, basicIngest)) {
		return false
	}
	levels := strings.Split(filter, "/")
	for i, level := range levels {
		if strings.Contains(level, "#") && (level != "#" || i != len(levels)-1) || strings.Contains(level, "+") && level != "+" {
			return false
		}
	}
	return true
}

// matchesTopic reports whether a filter without $share matches a topic as AWS
// does: "a/#" does not match "a", unlike in the standard. Source: Developer
// Guide, "AWS IoT differences from MQTT specifications".
func matchesTopic(filter, topic string) bool {
	if topic[0] == '$' && filter[0] != '$' {
		return false
	}
	for {
		f, fRest, fMore := strings.Cut(filter, "/")
		if f == "#" {
			return true
		}
		t, tRest, tMore := strings.Cut(topic, "/")
		if f != "+" && f != t || fMore != tMore {
			return false
		}
		if !fMore {
			return true
		}
		filter, topic = fRest, tRest
	}
}

// unshared is the filter within a shared subscription's.
func unshared(filter string) string {
	parts := strings.SplitN(filter, "/", 3)
	return parts[len(parts)-1]
}
