package awsiottest

import (
	"strings"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// hook is where the broker does what AWS IoT Core does and a standard broker
// does not. Sources are named in the package comment.
type hook struct {
	mqtt.HookBase
	broker *broker
}

var _ mqtt.Hook = (*hook)(nil)

func (h *hook) ID() string { return "awsiot" }

func (h *hook) Provides(b byte) bool {
	switch b {
	case mqtt.OnConnectAuthenticate, mqtt.OnACLCheck, mqtt.OnConnect, mqtt.OnSessionEstablish, mqtt.OnSessionEstablished,
		mqtt.OnDisconnect, mqtt.OnPacketRead, mqtt.OnPacketEncode, mqtt.OnPacketProcessed, mqtt.OnSubscribe,
		mqtt.OnUnsubscribed, mqtt.OnPublish, mqtt.OnClientExpired:
		return true
	}
	return false
}

// The certificate was checked in the TLS handshake; policies are not done.
func (h *hook) OnConnectAuthenticate(*mqtt.Client, packets.Packet) bool { return true }
func (h *hook) OnACLCheck(*mqtt.Client, string, bool) bool              { return true }

// OnConnect checks a CONNECT and sets what mochi is to go by. An error ends
// the connection.
func (h *hook) OnConnect(cl *mqtt.Client, pk packets.Packet) error {
	if code := h.checkConnect(pk); code.Code != 0 {
		_ = h.broker.mqtt.SendConnack(cl, connackCode(cl, code), false, nil)
		return code
	}
	keepAlive := cl.State.Keepalive
	if keepAlive == 0 {
		keepAlive = keepAliveMax
	}
	cl.State.Keepalive = min(max(keepAlive, keepAliveMin), keepAliveMax)
	cl.State.ServerKeepalive = true
	// A window of 0 keeps mochi from counting: session does. The will is ours.
	cl.State.Inflight.ResetSendQuota(0)
	cl.Properties.Props.ReceiveMaximum = 0
	cl.Properties.Will = mqtt.Will{}
	return nil
}

func (h *hook) checkConnect(pk packets.Packet) packets.Code {
	id := pk.Connect.ClientIdentifier
	switch code := byte(h.broker.refuse.Load()); {
	case code != 0:
		return packets.Code{Code: code, Reason: "asked for by the test"}
	case h.broker.refusePersistent.Load() && (!pk.Connect.Clean || pk.Properties.SessionExpiryInterval > 0):
		return packets.ErrNotAuthorized
	case len(id) > clientIDSize || strings.HasPrefix(id, "$"):
		return packets.ErrClientIdentifierNotValid
	case pk.Connect.WillFlag && !checkTopic(pk.Connect.WillTopic):
		return packets.ErrTopicNameInvalid
	case len(pk.Connect.WillPayload) > payloadSize:
		return packets.ErrQuotaExceeded
	}
	return packets.Code{}
}

// connackCode is a reason code in the words of the client's protocol.
func connackCode(cl *mqtt.Client, code packets.Code) packets.Code {
	if cl.Properties.ProtocolVersion == 5 {
		return code
	}
	switch code.Code {
	case packets.ErrNotAuthorized.Code, packets.ErrBadUsernameOrPassword.Code:
		return packets.Err3NotAuthorized
	case packets.ErrClientIdentifierNotValid.Code:
		return packets.Err3ClientIdentifierNotValid
	}
	return packets.Err3ServerUnavailable
}

// OnSessionEstablish comes before mochi looks for an earlier session. A
// session of the other version of MQTT cannot be resumed.
func (h *hook) OnSessionEstablish(cl *mqtt.Client, _ packets.Packet) {
	h.broker.claim(cl)
	old, ok := h.broker.mqtt.Clients.Get(cl.ID)
	if ok && (old.Properties.ProtocolVersion == 5) != (cl.Properties.ProtocolVersion == 5) {
		h.OnClientExpired(old)
		h.broker.mqtt.Clients.Delete(cl.ID)
	}
}

// OnSessionEstablished comes after the CONNACK.
func (h *hook) OnSessionEstablished(cl *mqtt.Client, pk packets.Packet) {
	window := inflightMax
	if cl.Properties.ProtocolVersion == 5 && pk.Properties.ReceiveMaximum > 0 {
		window = min(window, int(pk.Properties.ReceiveMaximum))
	}
	h.broker.options.Log.Debug("client connected", "client", cl.ID, "version", cl.Properties.ProtocolVersion)
	h.broker.open(cl, pk.Connect.Clean, window)
	if pk.Connect.WillFlag {
		h.broker.session(cl.ID).setWill(willOf(cl, pk))
	}
}

func willOf(cl *mqtt.Client, pk packets.Packet) *message {
	return newMessage(cl.ID, packets.Packet{
		FixedHeader: packets.FixedHeader{Qos: pk.Connect.WillQos, Retain: pk.Connect.WillRetain},
		TopicName:   pk.Connect.WillTopic,
		Payload:     pk.Connect.WillPayload,
		Properties:  pk.Connect.WillProperties,
	})
}

// OnDisconnect comes when the connection is closed; err is nil when the
// client said goodbye.
func (h *hook) OnDisconnect(cl *mqtt.Client, err error, expire bool) {
	s := h.broker.session(cl.ID)
	if s == nil || !s.detach(cl) {
		return
	}
	if expire {
		h.broker.forget(s)
	}
	if will := s.setWill(nil); will != nil && err != nil {
		h.broker.publish(will)
	}
}

// OnClientExpired ends a session that nobody resumed. mochi would leave its
// subscriptions behind.
func (h *hook) OnClientExpired(cl *mqtt.Client) {
	h.broker.mqtt.UnsubscribeClient(cl)
	if s := h.broker.session(cl.ID); s != nil && !s.online() {
		h.broker.forget(s)
	}
}

// ignored is a packet that mochi does nothing about: the acknowledgement of
// nothing. It stands in for what AWS leaves unanswered.
func ignored(pk packets.Packet) packets.Packet {
	return packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Puback}, ProtocolVersion: pk.ProtocolVersion}
}

// OnPacketRead refuses what AWS refuses. An error ends the connection.
func (h *hook) OnPacketRead(cl *mqtt.Client, pk packets.Packet) (packets.Packet, error) {
	var code packets.Code
	switch pk.FixedHeader.Type {
	case packets.Publish:
		code = checkPublish(pk)
	case packets.Subscribe:
		code = h.checkSubscribe(cl, pk)
	case packets.Puback:
		if s := h.broker.session(cl.ID); s != nil {
			s.acknowledge(pk.PacketID)
		}
	case packets.Pubrec, packets.Pubrel, packets.Pubcomp, packets.Auth:
		code = packets.ErrProtocolViolation
	}
	switch {
	case code.Code == 0:
		return pk, nil
	case code == packets.ErrQosNotSupported && cl.Properties.ProtocolVersion < 5:
		return ignored(pk), nil
	}
	h.broker.disconnect(cl, code)
	return pk, packets.ErrRejectPacket
}

func checkPublish(pk packets.Packet) packets.Code {
	switch {
	case pk.FixedHeader.Qos > 1:
		return packets.ErrQosNotSupported
	case len(pk.Payload) > payloadSize:
		return packets.ErrPacketTooLarge
	case pk.TopicName != "" && !checkTopic(pk.TopicName), // "" goes by its alias
		pk.FixedHeader.Retain && strings.HasPrefix(pk.TopicName, "$"):
		return packets.ErrTopicNameInvalid
	}
	return packets.Code{}
}

func (h *hook) checkSubscribe(cl *mqtt.Client, pk packets.Packet) packets.Code {
	if len(pk.Filters) > filtersAtOnce {
		return packets.ErrQuotaExceeded
	}
	s, added := h.broker.session(cl.ID), 0
	for _, sub := range pk.Filters {
		switch {
		case sub.Identifier > 0:
			return packets.ErrSubscriptionIdentifiersNotSupported
		case sub.Qos > 1 && cl.Properties.ProtocolVersion < 5:
			return packets.ErrQosNotSupported
		case s != nil && !s.subscribed(sub.Filter):
			added++
		}
	}
	if s != nil && s.count()+added > filtersMax {
		return packets.ErrQuotaExceeded
	}
	return packets.Code{}
}

// OnSubscribe makes mochi refuse the filters that AWS refuses, and notes the
// retained messages that are due. mochi finds none itself: on AWS only a
// filter without wildcards gets any.
func (h *hook) OnSubscribe(cl *mqtt.Client, pk packets.Packet) packets.Packet {
	s := h.broker.session(cl.ID)
	for i := range pk.Filters {
		sub := &pk.Filters[i]
		if !checkFilter(sub.Filter) {
			sub.Filter = "" // SUBACK 0x8F, with MQTT 3.1.1 0x80
			continue
		}
		isNew := s.subscribe(sub.Filter)
		if sub.RetainHandling == 0 || sub.RetainHandling == 1 && isNew {
			if m := h.broker.retainedOn(sub.Filter); m != nil {
				s.keepRetained(&delivery{message: m, qos: min(m.qos, sub.Qos), retain: true})
			}
		}
		sub.RetainHandling = 2
	}
	return pk
}

// OnPacketProcessed sends retained messages, after the SUBACK.
func (h *hook) OnPacketProcessed(cl *mqtt.Client, pk packets.Packet, _ error) {
	if pk.FixedHeader.Type != packets.Subscribe {
		return
	}
	if s := h.broker.session(cl.ID); s != nil {
		for _, d := range s.takeRetained() {
			s.enqueue(d)
		}
	}
}

func (h *hook) OnUnsubscribed(cl *mqtt.Client, pk packets.Packet) {
	if s := h.broker.session(cl.ID); s != nil {
		for _, sub := range pk.Filters {
			s.unsubscribe(sub.Filter)
		}
	}
}

// OnPublish does all of a publish itself, delivery and acknowledgement, and
// has mochi forget the packet.
func (h *hook) OnPublish(cl *mqtt.Client, pk packets.Packet) (packets.Packet, error) {
	now := h.broker.options.Clock()
	s := h.broker.session(cl.ID)
	s.stats.publish(now)
	if !s.inbound.take(now) {
		s.stats.discard()
		if pk.FixedHeader.Qos > 0 && cl.Properties.ProtocolVersion == 5 {
			h.puback(cl, pk.PacketID, packets.ErrQuotaExceeded)
		}
		return pk, packets.ErrRejectPacket
	}
	if pk.TopicName == "" { // an alias that stands for nothing
		h.broker.disconnect(cl, packets.ErrProtocolViolationNoTopic)
		return pk, packets.ErrRejectPacket
	}
	h.broker.publish(newMessage(cl.ID, pk))
	if pk.FixedHeader.Qos > 0 && !h.dropsPuback() && !h.broker.wire.fails(cl, pk.PacketID) {
		h.puback(cl, pk.PacketID, packets.CodeSuccess)
	}
	return pk, packets.ErrRejectPacket
}

func (h *hook) dropsPuback() bool {
	for {
		n := h.broker.dropPubacks.Load()
		if n <= 0 {
			return false
		}
		if h.broker.dropPubacks.CompareAndSwap(n, n-1) {
			return true
		}
	}
}

func (h *hook) puback(cl *mqtt.Client, id uint16, code packets.Code) {
	pk := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Puback}, PacketID: id, ReasonCode: code.Code}
	if code.Code >= packets.ErrUnspecifiedError.Code {
		pk.Properties.ReasonString = code.Reason
	}
	_ = cl.WritePacket(pk) // a broken connection is found by the reader
}

// OnPacketEncode completes the CONNACK of MQTT 5.
func (h *hook) OnPacketEncode(_ *mqtt.Client, pk packets.Packet) packets.Packet {
	if pk.FixedHeader.Type != packets.Connack || pk.ProtocolVersion != 5 || pk.ReasonCode != 0 {
		return pk
	}
	p := &pk.Properties
	p.MaximumPacketSize = packetSize
	p.TopicAliasMaximum = topicAliasMax
	p.RetainAvailable, p.RetainAvailableFlag = 1, true
	p.WildcardSubAvailable, p.WildcardSubAvailableFlag = 1, true
	p.SharedSubAvailable, p.SharedSubAvailableFlag = 1, true
	p.SubIDAvailable, p.SubIDAvailableFlag = 0, true
	return pk
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
	if s := min(pk.Properties.MessageExpiryInterval, messageExpiryMax); s > 0 {
		m.expires = time.Now().Add(time.Duration(s) * time.Second)
	}
	return m
}

// publish delivers a message, and keeps it where it is to be retained.
func (b *broker) publish(m *message) {
	if strings.HasPrefix(m.topic, basicIngest) {
		return // it is for a rule, and no client sees it
	}
	if m.retain {
		b.retain(m)
	}
	b.route(m)
}
