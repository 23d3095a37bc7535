package awsiottest

import (
	"strings"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// checkSubscribe returns why a SUBSCRIBE ends the connection.
func (h *hook) checkSubscribe(cl *mqtt.Client, pk packets.Packet) (packets.Code, Quota) {
	if len(pk.Filters) > filtersAtOnce {
		return packets.ErrQuotaExceeded, QuotaFiltersAtOnce
	}
	s, added := h.broker.session(cl.ID), 0
	closes := cl.Properties.ProtocolVersion < 5 || h.broker.options.Inferred.DeniedCloses
	for _, sub := range pk.Filters {
		switch {
		case sub.Identifier > 0:
			return packets.ErrSubscriptionIdentifiersNotSupported, ""
		case sub.Qos > 1 && cl.Properties.ProtocolVersion < 5:
			return packets.ErrQosNotSupported, QuotaQoS
		case closes && !s.guard.maySubscribe(sub.Filter):
			s.stats.deny()
			return packets.ErrNotAuthorized, ""
		case !s.subscribed(sub.Filter):
			added++
		}
	}
	if s.count()+added > filtersMax {
		return packets.ErrQuotaExceeded, QuotaSubscriptions
	}
	return packets.Code{}, ""
}

// OnACLCheck is asked for each filter of a SUBSCRIBE (write is false): one that
// is not allowed has 0x87 in the SUBACK. Publishes are checked elsewhere.
func (h *hook) OnACLCheck(cl *mqtt.Client, filter string, write bool) bool {
	return write || h.broker.guard(cl).maySubscribe(filter)
}

// OnSubscribe makes mochi refuse the filters that AWS refuses, and notes the
// retained messages that are due. mochi finds none itself: on AWS only a
// filter without wildcards gets any, and no shared subscription.
func (h *hook) OnSubscribe(cl *mqtt.Client, pk packets.Packet) packets.Packet {
	s := h.broker.session(cl.ID)
	for i := range pk.Filters {
		sub := &pk.Filters[i]
		if !checkFilter(sub.Filter) {
			h.broker.exceeded.add(QuotaFilter)
			sub.Filter = "" // SUBACK 0x8F, with MQTT 3.1.1 0x80
			continue
		}
		if !s.guard.maySubscribe(sub.Filter) {
			s.stats.deny()
			continue
		}
		isNew := s.subscribe(sub.Filter, min(sub.Qos, 1))
		if (sub.RetainHandling == 0 || sub.RetainHandling == 1 && isNew) && !strings.HasPrefix(sub.Filter, sharePrefix) {
			if m := h.broker.retainedOn(sub.Filter); m != nil {
				s.keepRetained(&delivery{message: m, qos: min(m.qos, sub.Qos), retain: true})
			}
		}
		sub.RetainHandling = 2
	}
	return pk
}

// OnPacketProcessed sends what is due after the SUBACK: retained messages, and
// what waits for a group that the client has joined.
func (h *hook) OnPacketProcessed(cl *mqtt.Client, pk packets.Packet, _ error) {
	if pk.FixedHeader.Type != packets.Subscribe {
		return
	}
	if s := h.broker.session(cl.ID); s != nil {
		for _, d := range s.takeRetained() {
			s.enqueue(d)
		}
		s.signal()
	}
}

func (h *hook) OnUnsubscribed(cl *mqtt.Client, pk packets.Packet) {
	if s := h.broker.session(cl.ID); s != nil {
		for _, sub := range pk.Filters {
			s.unsubscribe(sub.Filter)
		}
	}
}
