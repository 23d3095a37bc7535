package awsiottest

import (
	"encoding/base64"
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

// Publishing over HTTP, and reading what is retained.

// publishHTTP publishes. Retaining needs a permission of its own. Which errors
// topics give is inferred: the model has InvalidRequestException alone.
func publishHTTP(p *dataPlane, c *dataCall) (any, *apiError) {
	m, bad := p.message(c)
	if bad != nil {
		return nil, bad
	}
	if m.retain && !p.allows(c, "RetainPublish", c.resource) {
		return nil, dataForbidden()
	}
	p.broker.publish(m)
	return map[string]string{"message": "OK", "traceId": newUUID()}, nil
}

func (p *dataPlane) message(c *dataCall) (*message, *apiError) {
	query := c.URL.Query()
	m := &message{topic: c.topic, payload: c.body, retain: query.Get("retain") == "true"}
	switch query.Get("qos") {
	case "", "0":
	case "1":
		m.qos = 1
	default:
		return nil, invalidRequest("Invalid QoS")
	}
	if !p.broker.mayPublish(c.topic) || m.retain && strings.HasPrefix(c.topic, "$") {
		return nil, invalidRequest("Invalid topic")
	}
	if s := query.Get("messageExpiry"); s != "" {
		seconds, err := strconv.ParseInt(s, 10, 64)
		if err != nil || seconds < 0 {
			return nil, invalidRequest("Invalid message expiry")
		}
		// 0 counts as 1. Source: Developer Guide, "MQTT 5 supported features".
		m.expires = time.Now().Add(time.Duration(min(max(seconds, 1), messageExpiryMax)) * time.Second)
	}
	bad := c.properties(&m.properties)
	return m, bad
}

// properties reads those of MQTT 5.
func (c *dataCall) properties(into *packets.Properties) *apiError {
	query := c.URL.Query()
	into.ContentType = query.Get("contentType")
	into.ResponseTopic = query.Get("responseTopic")
	if into.ResponseTopic != "" && !checkTopic(into.ResponseTopic) {
		return invalidRequest("Invalid response topic")
	}
	switch format := c.Header.Get("X-Amz-Mqtt5-Payload-Format-Indicator"); format {
	case "":
	case "UNSPECIFIED_BYTES", "UTF8_DATA":
		into.PayloadFormatFlag = true
		if format == "UTF8_DATA" {
			into.PayloadFormat = 1
		}
	default:
		return invalidRequest("Invalid payload format indicator")
	}
	if s := c.Header.Get("X-Amz-Mqtt5-Correlation-Data"); s != "" {
		data, err := base64.StdEncoding.DecodeString(s)
		if err != nil {
			return invalidRequest("Invalid correlation data")
		}
		into.CorrelationData = data
	}
	if s := c.Header.Get("X-Amz-Mqtt5-User-Properties"); s != "" {
		user, ok := userProperties(s)
		if !ok {
			return invalidRequest("Invalid user properties")
		}
		into.User = user
	}
	return nil
}

// userProperties reads base64 of [{"key":"value"}, …].
func userProperties(encoded string) ([]packets.UserProperty, bool) {
	text, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return nil, false
	}
	var list []map[string]string
	if err := json.Unmarshal(text, &list); err != nil {
		return nil, false
	}
	var out []packets.UserProperty
	for _, one := range list {
		for _, key := range sortedKeys(one) {
			out = append(out, packets.UserProperty{Key: key, Val: one[key]})
		}
	}
	return out, true
}

func getRetained(p *dataPlane, c *dataCall) (any, *apiError) {
	m := p.broker.retainedOn(c.topic)
	if m == nil {
		return nil, notFound("Retained message not found") // the sentence is inferred
	}
	out := map[string]any{"topic": m.topic, "payload": m.payload, "qos": m.qos, "lastModifiedTime": m.retainedAt.UnixMilli()}
	if len(m.properties.User) > 0 {
		list := []map[string]string{}
		for _, u := range m.properties.User {
			list = append(list, map[string]string{u.Key: u.Val})
		}
		text, _ := json.Marshal(list) // strings alone
		out["userProperties"] = text
	}
	return out, nil
}

func listRetained(p *dataPlane, c *dataCall) (any, *apiError) {
	query := call{query: c.URL.Query()}
	after, limit, err := query.pageBy("maxResults", "nextToken", 200)
	if err != nil {
		return nil, err
	}
	p.broker.mu.Lock()
	defer p.broker.mu.Unlock()
	topics, next := page(p.broker.retained, after, limit, func(string) bool { return true })
	list := []map[string]any{}
	for _, topic := range topics {
		m := p.broker.retained[topic]
		list = append(list, map[string]any{"topic": topic, "payloadSize": len(m.payload), "qos": m.qos, "lastModifiedTime": m.retainedAt.UnixMilli()})
	}
	out := map[string]any{"retainedTopics": list}
	if next != "" {
		out["nextToken"] = token(next)
	}
	return out, nil
}
