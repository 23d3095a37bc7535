package awsiottest

import (
	"math/rand/v2"
	"sync"
)

// groups are the shared subscriptions. Source: Developer Guide, "Shared
// subscriptions" and "Shared subscriptions message queuing": a member that is
// online gets the message, chosen at random; where none is, or all get more
// than a connection may, a message of QoS 1 waits for the group if a member has
// a persistent session, and one of QoS 0 is dropped.
type groups struct {
	mu       sync.Mutex
	byFilter map[string]*group
}

type group struct {
	members map[*session]byte // with the QoS they subscribed with
	queue   []*delivery
}

func (g *groups) join(filter string, s *session, qos byte) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.byFilter[filter] == nil {
		g.byFilter[filter] = &group{members: map[*session]byte{}}
	}
	g.byFilter[filter].members[s] = qos
}

// leave ends a membership. What waits for a group without members is gone.
func (g *groups) leave(filter string, s *session) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if in := g.byFilter[filter]; in != nil {
		delete(in.members, s)
		if len(in.members) == 0 {
			delete(g.byFilter, filter)
		}
	}
}

// of returns the members of a group in random order.
func (g *groups) of(filter string) (members []*session, qos map[*session]byte) {
	g.mu.Lock()
	defer g.mu.Unlock()
	in := g.byFilter[filter]
	if in == nil {
		return nil, nil
	}
	qos = make(map[*session]byte, len(in.members))
	for s, q := range in.members {
		members = append(members, s)
		qos[s] = q
	}
	rand.Shuffle(len(members), func(i, j int) { members[i], members[j] = members[j], members[i] })
	return members, qos
}

// store keeps messages for a group, in front of those that wait or behind
// them; false when there is no room or no group.
func (g *groups) store(filter string, front bool, all ...*delivery) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	in := g.byFilter[filter]
	if in == nil || len(in.queue)+len(all) > queueMax {
		return false
	}
	if front {
		in.queue = append(append([]*delivery(nil), all...), in.queue...)
	} else {
		in.queue = append(in.queue, all...)
	}
	return true
}

// waiting reports whether a group of one of the filters has messages.
func (g *groups) waiting(filters []string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, filter := range filters {
		if in := g.byFilter[filter]; in != nil && len(in.queue) > 0 {
			return true
		}
	}
	return false
}

// take takes the first message that waits in a group of one of the filters.
func (g *groups) take(filters []string, s *session) *delivery {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, filter := range filters {
		in := g.byFilter[filter]
		if in == nil || len(in.queue) == 0 {
			continue
		}
		d := in.queue[0]
		in.queue[0] = nil
		in.queue = in.queue[1:]
		return &delivery{message: d.message, qos: min(d.message.qos, in.members[s], 1), retain: d.retain, group: filter}
	}
	return nil
}

// share gives a message to one member of a group.
func (b *broker) share(filter string, m *message) {
	members, qos := b.groups.of(filter)
	persistent := false
	for _, s := range members {
		online, kept := s.state()
		persistent = persistent || kept
		d := &delivery{message: m, qos: min(m.qos, qos[s], 1), group: filter}
		if online && s.offer(d) {
			return
		}
	}
	if m.qos == 0 || !persistent {
		b.unshared.Add(1)
		return
	}
	if !b.queued.take(b.options.Clock()) {
		b.exceeded.add(QuotaQueueRate)
		b.unshared.Add(1)
		return
	}
	if !b.groups.store(filter, false, &delivery{message: m, qos: 1, group: filter}) {
		b.exceeded.add(QuotaQueueSize)
		b.unshared.Add(1)
		return
	}
	for _, s := range members {
		s.signal() // one may have come online meanwhile
	}
}

// giveBack returns what a member had not acknowledged to its groups.
func (b *broker) giveBack(s *session, all []*delivery) {
	byFilter := map[string][]*delivery{}
	for _, d := range all {
		byFilter[d.group] = append(byFilter[d.group], d)
	}
	for filter, back := range byFilter {
		members, _ := b.groups.of(filter)
		if !b.groups.store(filter, true, back...) {
			b.unshared.Add(uint64(len(back)))
		}
		for _, other := range members {
			if other != s {
				other.signal()
			}
		}
	}
}

// Unshared is how many messages no member of a shared subscription got: of
// QoS 0, or without a persistent session in the group, or over a limit.
func (s *Server) Unshared() uint64 { return s.broker.unshared.Load() }
