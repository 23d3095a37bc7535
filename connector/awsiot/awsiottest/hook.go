package awsiottest

import (
	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// hook is where the broker does what AWS IoT Core does and a standard broker
// does not; connect, publish and subscribe have its larger parts. Sources are
// named there and in the package comment.
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

// The certificate was checked in the TLS handshake, and the policy before.
func (h *hook) OnConnectAuthenticate(*mqtt.Client, packets.Packet) bool { return true }

// ignored is a packet that mochi does nothing about: the acknowledgement of
// nothing. It stands in for what AWS leaves unanswered.
func ignored(pk packets.Packet) packets.Packet {
	return packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Puback}, ProtocolVersion: pk.ProtocolVersion}
}

// OnPacketRead refuses what AWS refuses. An error ends the connection.
func (h *hook) OnPacketRead(cl *mqtt.Client, pk packets.Packet) (packets.Packet, error) {
	var code packets.Code
	var quota Quota
	switch pk.FixedHeader.Type {
	case packets.Publish:
		code, quota = h.checkPublish(pk)
	case packets.Subscribe:
		code, quota = h.checkSubscribe(cl, pk)
	case packets.Puback:
		if s := h.broker.session(cl.ID); s != nil {
			s.acknowledge(pk.PacketID)
		}
	case packets.Pubrec, packets.Pubrel, packets.Pubcomp, packets.Auth:
		code = packets.ErrProtocolViolation
	}
	if quota != "" {
		h.broker.exceeded.add(quota)
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

// OnPacketEncode completes the CONNACK and SUBACK of MQTT 5.
func (h *hook) OnPacketEncode(_ *mqtt.Client, pk packets.Packet) packets.Packet {
	if pk.ProtocolVersion != 5 {
		return pk
	}
	switch {
	case pk.FixedHeader.Type == packets.Connack && pk.ReasonCode == 0:
		p := &pk.Properties
		p.MaximumPacketSize = packetSize
		p.TopicAliasMaximum = topicAliasMax
		p.RetainAvailable, p.RetainAvailableFlag = 1, true
		p.WildcardSubAvailable, p.WildcardSubAvailableFlag = 1, true
		p.SharedSubAvailable, p.SharedSubAvailableFlag = 1, true
		p.SubIDAvailable, p.SubIDAvailableFlag = 0, true
	case pk.FixedHeader.Type == packets.Suback:
		for _, code := range pk.ReasonCodes {
			if code == packets.ErrNotAuthorized.Code {
				pk.Properties.ReasonString = explained("SUBACK", packets.ErrNotAuthorized).Reason
			}
		}
	}
	return pk
}
