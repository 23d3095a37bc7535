package awsiottest

import "strings"

// reservedService is a service of AWS IoT that clients talk to by publishing
// to reserved topics, as the shadow service is behind
// $aws/things/<thing>/shadow/.
type reservedService interface {
	// accepts reports whether clients may publish to a topic. A publish to
	// one that is not accepted ends the connection.
	accepts(topic string) bool
	// handle takes a publish to a topic that was accepted, in the goroutine of
	// the client that sent it. It may answer with [broker.publishReserved].
	handle(p reservedPublish)
}

// reservedPublish is a publish to a reserved topic. clientID is "" where it
// came over HTTPS.
type reservedPublish struct {
	topic    string
	payload  []byte
	clientID string
}

// serveReserved registers a service for the topics that start with prefix, such
// as "$aws/things/". It is called before the broker starts; the longest prefix
// wins.
func (b *broker) serveReserved(prefix string, s reservedService) { b.reserved[prefix] = s }

// publishReserved publishes for a service: whoever is subscribed to the topic
// gets it, with QoS 1 at most. It counts for no client's quota, and for the
// quota of messages that a subscriber is sent.
func (b *broker) publishReserved(topic string, payload []byte) {
	b.route(&message{topic: topic, payload: payload, qos: 1})
}

func (b *broker) serviceOf(topic string) reservedService {
	var found reservedService
	longest := 0
	for prefix, s := range b.reserved {
		if strings.HasPrefix(topic, prefix) && len(prefix) > longest {
			found, longest = s, len(prefix)
		}
	}
	return found
}

// mayPublish reports whether there is a topic for clients to publish to.
// Source: Developer Guide, "Reserved topics": unsupported operations on
// reserved topics can end the connection.
func (b *broker) mayPublish(topic string) bool {
	if !checkTopic(topic) {
		return false
	}
	if topic[0] != '$' || strings.HasPrefix(topic, basicIngest) {
		return true
	}
	if s := b.serviceOf(topic); s != nil && s.accepts(topic) {
		return true
	}
	return takesPublishes(topic)
}

// takesPublishes reports whether clients publish to a reserved topic of a
// service that is not emulated: what they send goes nowhere. Source: the same,
// column "Client operations allowed".
func takesPublishes(topic string) bool {
	levels := strings.Split(topic, "/")
	if len(levels) < 4 || levels[0] != "$aws" {
		return false
	}
	last := levels[len(levels)-1]
	switch levels[1] {
	case "things":
		switch levels[3] {
		case "shadow":
			named := len(levels) == 7 && levels[4] == "name"
			return (len(levels) == 5 || named) && (last == "get" || last == "update" || last == "delete")
		case "jobs", "streams", "defender":
			return last != "accepted" && last != "rejected" && !strings.HasPrefix(last, "notify")
		}
	case "certificates", "provisioning-templates", "device_location":
		return last != "accepted" && last != "rejected"
	}
	return false
}

// handOver gives a publish to the service that its topic belongs to, if any.
func (b *broker) handOver(m *message) {
	if s := b.serviceOf(m.topic); s != nil && s.accepts(m.topic) {
		s.handle(reservedPublish{topic: m.topic, payload: m.payload, clientID: m.origin})
	}
}
