package awsiottest

import (
	"bytes"
	"strings"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// OnPublish does all of a publish itself, delivery and acknowledgement, and
// has mochi forget the packet.
func (h *hook) OnPublish(cl *mqtt.Client, pk packets.Packet) (packets.Packet, error) {
	b, now := h.broker, h.broker.options.Clock()
	s := b.session(cl.ID)
	s.stats.publish(now)
	qos1 := pk.FixedHeader.Qos > 0
	switch {
	case !s.inbound.take(now):
		b.throttle(cl, s, pk, QuotaPublishRate)
	case !b.accountPublishes.take(now):
		b.throttle(cl, s, pk, QuotaAccountPublishRate)
	case pk.TopicName == "": // an alias that stands for nothing
		b.disconnect(cl, packets.ErrProtocolViolationNoTopic)
	case !s.guard.mayPublish(pk.TopicName, pk.FixedHeader.Retain):
		b.deny(cl, s, pk)
	case qos1 && s.unacknowledged() >= inflightMax:
		b.tooMany(cl, s)
	case pk.FixedHeader.Retain && len(pk.Payload) > 0 && !b.roomToRetain(pk.TopicName):
		b.throttle(cl, s, pk, QuotaRetained)
	default:
		b.publish(newMessage(cl.ID, pk))
		if qos1 && !b.dropsPuback(cl.ID) {
			s.answer(cl, pk.PacketID, packets.CodeSuccess)
		}
	}
	return pk, packets.ErrRejectPacket
}

// throttle discards a publish for a limit; the connection stays. Sources: AWS
// General Reference ("Publish requests that exceed that quota are discarded");
// aws-iot-device-sdk-python-v2 issue 257 (no PUBACK); reason code 0x97 of
// PUBACK as in "MQTT reason codes".
func (b *broker) throttle(cl *mqtt.Client, s *session, pk packets.Packet, q Quota) {
	s.stats.discard()
	b.exceeded.add(q)
	if pk.FixedHeader.Qos > 0 && cl.Properties.ProtocolVersion == 5 && !b.options.Inferred.SilentThrottle {
		b.puback(cl, pk.PacketID, packets.ErrQuotaExceeded)
	}
}

// deny refuses a publish that the policy does not allow. Sources:
// aws-iot-device-sdk-python-v2 issue 260 (MQTT 3.1.1: the connection is closed);
// reason codes 0x87 of PUBACK and DISCONNECT as in "MQTT reason codes".
func (b *broker) deny(cl *mqtt.Client, s *session, pk packets.Packet) {
	s.stats.deny()
	if pk.FixedHeader.Qos > 0 && cl.Properties.ProtocolVersion == 5 && !b.options.Inferred.DeniedCloses {
		b.puback(cl, pk.PacketID, packets.ErrNotAuthorized)
		return
	}
	b.disconnect(cl, packets.ErrNotAuthorized)
}

// tooMany refuses a publish of a client that has too many unacknowledged:
// MQTT 5 is told, MQTT 3.1.1 finds it not taken. Sources: AWS General
// Reference ("no new messages are accepted until"); reason code 0x93 of
// DISCONNECT as in "MQTT reason codes".
func (b *broker) tooMany(cl *mqtt.Client, s *session) {
	s.stats.discard()
	b.exceeded.add(QuotaInboundUnacked)
	if cl.Properties.ProtocolVersion == 5 {
		b.disconnect(cl, packets.ErrReceiveMaximum)
	}
}

// puback writes a PUBACK, or cuts the connection in the middle of it where a
// test asked for that.
func (b *broker) puback(cl *mqtt.Client, id uint16, code packets.Code) {
	pk := packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Puback}, ProtocolVersion: cl.Properties.ProtocolVersion,
		PacketID: id, ReasonCode: code.Code,
	}
	if code.Code >= packets.ErrUnspecifiedError.Code {
		pk.Properties.ReasonString = explained("PUBACK", code).Reason
	}
	if b.cutsPuback(cl.ID) {
		var buf bytes.Buffer
		_ = pk.PubackEncode(&buf) // cannot fail: it has a packet id
		_ = writeRaw(cl, buf.Bytes()[:buf.Len()/2])
		cl.Net.Conn.(*peer).raw.cut()
		return
	}
	_ = cl.WritePacket(pk) // a broken connection is found by the reader
}

func (h *hook) checkPublish(pk packets.Packet) (packets.Code, Quota) {
	switch {
	case pk.FixedHeader.Qos > 1:
		return packets.ErrQosNotSupported, QuotaQoS
	case len(pk.Payload) > payloadSize:
		return packets.ErrPacketTooLarge, QuotaPayload
	case pk.TopicName != "" && !h.broker.mayPublish(pk.TopicName), // "" goes by its alias
		pk.FixedHeader.Retain && strings.HasPrefix(pk.TopicName, "$"):
		return packets.ErrTopicNameInvalid, QuotaTopic
	}
	return packets.Code{}, ""
}

// newMessage makes a message of a PUBLISH, with the properties that travel
// on to subscribers.
func newMessage(origin string, pk packets.Packet) *message {
	m := &message{
		topic: pk.TopicName, payload: pk.Payload, qos: min(pk.FixedHeader.Qos, 1), retain: pk.FixedHeader.Retain, origin: origin,
		properties: packets.Properties{
			PayloadFormat: pk.Properties.PayloadFormat, PayloadFormatFlag: pk.Properties.PayloadFormatFlag,
			ContentType: pk.Properties.ContentType, ResponseTopic: pk.Properties.ResponseTopic,
			CorrelationData: pk.Properties.CorrelationData, User: pk.Properties.User,
		},
	}
	if life := lifeOf(pk.Properties); life > 0 {
		m.expires = time.Now().Add(life)
	}
	return m
}

func lifeOf(p packets.Properties) time.Duration {
	return time.Duration(min(p.MessageExpiryInterval, messageExpiryMax)) * time.Second
}

// publish delivers a message, and keeps it where it is to be retained. It is
// the way in for what comes over HTTPS, too.
func (b *broker) publish(m *message) {
	if strings.HasPrefix(m.topic, basicIngest) {
		return // it is for a rule, and no client sees it
	}
	if m.retain {
		b.retain(m)
	}
	b.route(m)
	if m.topic[0] == '$' {
		b.handOver(m)
	}
}

// publishWill publishes a will, if its client may publish it (inferred: that
// this is asked when it is published).
func (b *broker) publishWill(m *message, g *guard) {
	if g != nil && !g.mayPublish(m.topic, m.retain) || m.retain && !b.roomToRetain(m.topic) {
		return
	}
	if m.life > 0 {
		m.expires = time.Now().Add(m.life)
	}
	b.publish(m)
}

// retain keeps the last message of a topic; an empty one removes it.
func (b *broker) retain(m *message) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(m.payload) == 0 {
		delete(b.retained, m.topic)
		return
	}
	m.retainedAt = b.options.Clock()
	b.retained[m.topic] = m
}

// roomToRetain reports whether a message of a topic can be retained. Source:
// Developer Guide, "Retained message limits": when there are too many,
// publishes are throttled until some are deleted.
func (b *broker) roomToRetain(topic string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.retained[topic] != nil || len(b.retained) < b.options.Quotas.Retained
}

// retainedOn is the message that a topic retains, unless it has expired.
func (b *broker) retainedOn(topic string) *message {
	b.mu.Lock()
	defer b.mu.Unlock()
	m := b.retained[topic]
	if m != nil && m.expired(time.Now()) {
		delete(b.retained, topic)
		return nil
	}
	return m
}
