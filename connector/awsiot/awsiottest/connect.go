package awsiottest

import (
	"strings"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// refusal is why a CONNECT is refused. A silent one closes the connection of
// MQTT 3.1.1 without a CONNACK.
type refusal struct {
	code   packets.Code
	silent bool
	quota  Quota
}

// OnConnect checks a CONNECT and sets what mochi is to go by. An error ends
// the connection.
func (h *hook) OnConnect(cl *mqtt.Client, pk packets.Packet) error {
	p := cl.Net.Conn.(*peer)
	g := h.broker.guardOf(p.principal, cl.ID)
	if r := h.checkConnect(pk, g); r.code.Code != 0 {
		if r.quota != "" {
			h.broker.exceeded.add(r.quota)
		}
		h.broker.refuseConnect(cl, r)
		return r.code
	}
	h.broker.setGuard(cl, g)
	keepAlive := cl.State.Keepalive
	if keepAlive == 0 {
		keepAlive = keepAliveMax
	}
	cl.State.Keepalive = min(max(keepAlive, h.broker.options.Quotas.KeepAliveMin), keepAliveMax)
	cl.State.ServerKeepalive = true
	// A window of 0 keeps mochi from counting: session does. The will is ours.
	cl.State.Inflight.ResetSendQuota(0)
	cl.Properties.Props.ReceiveMaximum = 0
	cl.Properties.Will = mqtt.Will{}
	return nil
}

// checkConnect decides on a CONNECT: first its form, then whether it is
// allowed, then the quotas.
func (h *hook) checkConnect(pk packets.Packet, g *guard) refusal {
	b, id := h.broker, pk.Connect.ClientIdentifier
	will := ""
	if pk.Connect.WillFlag {
		will = pk.Connect.WillTopic
	}
	persistent := isPersistent(pk)
	switch code := byte(b.refuse.Load()); {
	case code != 0:
		return refusal{code: packets.Code{Code: code, Reason: "asked for by the test"}}
	case b.refusePersistent.Load() && (!pk.Connect.Clean || persistent):
		return refusal{code: packets.ErrNotAuthorized}
	case len(id) > clientIDSize || strings.HasPrefix(id, "$"):
		return refusal{code: packets.ErrClientIdentifierNotValid, quota: QuotaClientID}
	case will != "" && (!checkTopic(will) || will[0] == '$'):
		return refusal{code: packets.ErrTopicNameInvalid, quota: QuotaTopic}
	case len(pk.Connect.WillPayload) > payloadSize:
		return refusal{code: packets.ErrQuotaExceeded, quota: QuotaPayload}
	case !g.mayConnect(persistent, will):
		return refusal{code: packets.ErrNotAuthorized, silent: true}
	}
	now := b.options.Clock()
	if !b.connects.take(id, now) {
		return refusal{code: packets.ErrQuotaExceeded, quota: QuotaConnectRate}
	}
	if !b.accountConnects.take(now) {
		return refusal{code: packets.ErrQuotaExceeded, quota: QuotaAccountConnectRate}
	}
	return refusal{}
}

// isPersistent reports whether a CONNECT asks for a session that outlives the
// connection.
func isPersistent(pk packets.Packet) bool {
	if pk.ProtocolVersion == 5 {
		return pk.Properties.SessionExpiryInterval > 0
	}
	return !pk.Connect.Clean
}

// refuseConnect answers a CONNECT that is refused. Source of the silence:
// paho.mqtt.python issue 448: where iot:Connect is not allowed, MQTT 3.1.1 is
// closed without a CONNACK.
func (b *broker) refuseConnect(cl *mqtt.Client, r refusal) {
	b.options.Log.Info("CONNECT refused", "client", cl.ID, "code", r.code.Code, "reason", r.code.Reason)
	if s := b.knownStats(cl.ID); s != nil {
		s.refuse()
	}
	if r.silent && cl.Properties.ProtocolVersion != 5 {
		return
	}
	_ = b.mqtt.SendConnack(cl, connackCode(cl, explained("CONNACK", r.code)), false, nil)
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

// explained gives a code the reason string that AWS sends, as users quote it
// (aws-greengrass-nucleus issue 1754): the packet, a sentence and a trace id.
// The sentence is known for 0x87 alone; others have the code's name.
func explained(packet string, code packets.Code) packets.Code {
	sentence := code.Reason
	if code.Code == packets.ErrNotAuthorized.Code {
		sentence = "Client is not authenticated/authorized to send the message"
	}
	return packets.Code{Code: code.Code, Reason: packet + ":" + sentence + ":" + newUUID()}
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
	h.broker.openSession(pk.Connect.Clean, link{client: cl, guard: h.broker.guard(cl), persistent: isPersistent(pk), window: window})
	if pk.Connect.WillFlag {
		h.broker.session(cl.ID).setWill(willOf(cl, pk))
	}
	h.broker.tellPresence(cl, h.broker.guard(cl), true)
}

// OnDisconnect comes when the connection is closed. The will goes out unless
// the client said goodbye. Source: Developer Guide, "MQTT Last Will and
// Testament messages".
func (h *hook) OnDisconnect(cl *mqtt.Client, _ error, expire bool) {
	s := h.broker.session(cl.ID)
	if s == nil {
		return
	}
	g := h.broker.guard(cl)
	back, ok := s.detach(cl)
	if !ok {
		return
	}
	if expire {
		h.broker.forget(s)
	}
	h.broker.giveBack(s, back)
	polite := cl.StopCause() == error(packets.CodeDisconnect)
	if will := s.setWill(nil); will != nil && !polite {
		h.broker.publishWill(will, g)
	}
	h.broker.tellPresence(cl, g, false)
}

func willOf(cl *mqtt.Client, pk packets.Packet) *message {
	m := newMessage(cl.ID, packets.Packet{
		FixedHeader: packets.FixedHeader{Qos: pk.Connect.WillQos, Retain: pk.Connect.WillRetain},
		TopicName:   pk.Connect.WillTopic,
		Payload:     pk.Connect.WillPayload,
		Properties:  pk.Connect.WillProperties,
	})
	// Its time runs from when it is published.
	m.life, m.expires = lifeOf(pk.Connect.WillProperties), time.Time{}
	return m
}

// OnClientExpired ends a session that nobody resumed. mochi would leave its
// subscriptions behind.
func (h *hook) OnClientExpired(cl *mqtt.Client) {
	h.broker.mqtt.UnsubscribeClient(cl)
	if s := h.broker.session(cl.ID); s != nil && !s.online() {
		h.broker.forget(s)
	}
}
