package awsiot

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"

	"sluice"
)

// AWS's limits of a client. Source: AWS IoT Core endpoints and quotas,
// "Message broker and protocol limits and quotas".
const (
	maxPayload  = 128 << 10 // bytes
	maxInFlight = 100       // unacknowledged publishes with QoS 1, each way
)

// maxReceived is the largest packet we take: a command at AWS's limit, with
// topic and properties.
const maxReceived = 256 << 10

// session is one MQTT client of the pool.
type session struct {
	id     string // the MQTT client id
	d      *dialer
	link   *link
	client *paho.Client
	pings  *pinger
	pace   *pacer

	persistent bool              // the server keeps the session for sessionExpiry
	resumed    bool              // it had kept it
	will       *paho.WillMessage // nil: none
	turns      *turns            // of uplinks and shadows; nil: there are no shadows

	qos       byte
	maxPacket int // what the server takes, 0 for no limit of its own

	slots    chan struct{} // one for each publish under way
	spare    chan *inFlight
	closing  chan struct{}
	closeOne sync.Once

	endOne sync.Once
	done   chan struct{}
	err    error       // set before done is closed
	life   *time.Timer // ends it before the server does; nil: it may live for ever

	received chan *packets.Publish // QoS 1 and 0, until the subscriber takes them
}

var _ sluice.Session = (*session)(nil)

// inFlight is what a publish waits with; it is used again and again.
type inFlight struct {
	ack   chan puback
	timer *time.Timer
}

func newSession(d *dialer, id string) *session {
	return &session{
		id:      id,
		d:       d,
		pace:    newPacer(d.o.PublishRate),
		qos:     byte(d.cfg.UplinkQoS),
		closing: make(chan struct{}),
		done:    make(chan struct{}),
		// Twice what the server may send unacknowledged: it never overflows
		// by QoS 1, and the rest is for QoS 0.
		received: make(chan *packets.Publish, 2*maxInFlight),
	}
}

// connect sends the CONNECT over an established TLS connection.
func (s *session) connect(ctx context.Context, l *link) error {
	s.link, s.pings = l, newPinger(s.d.o.PubackTimeout, l.failed)
	s.client = paho.NewClient(paho.ClientConfig{
		Conn:          l,
		Session:       l,
		PingHandler:   s.pings,
		PacketTimeout: s.d.o.ConnectTimeout,
		OnPublishReceived: []func(paho.PublishReceived) (bool, error){func(p paho.PublishReceived) (bool, error) {
			s.receiveUnacknowledged(p.Packet)
			return true, nil
		}},
		OnServerDisconnect: func(*paho.Disconnect) { s.end(nil) },
		OnClientError:      s.end,
	})
	receiveMaximum, maxPacket, expiry := uint16(maxInFlight), uint32(maxReceived), uint32(0)
	if s.persistent {
		expiry = uint32(sessionExpiry / time.Second)
	}
	ack, err := s.client.Connect(ctx, &paho.Connect{
		ClientID:    s.id,
		CleanStart:  !s.persistent,
		KeepAlive:   uint16(s.d.o.KeepAlive / time.Second),
		WillMessage: s.will,
		Properties: &paho.ConnectProperties{
			ReceiveMaximum:        &receiveMaximum,
			MaximumPacketSize:     &maxPacket,
			SessionExpiryInterval: &expiry,
		},
	})
	if err != nil {
		_ = l.Close()
		if ack != nil && ack.ReasonCode >= 0x80 {
			reason := ""
			if ack.Properties != nil {
				reason = ack.Properties.ReasonString
			}
			return s.d.connectFailure(err, ack.ReasonCode, reason, s.id)
		}
		return s.d.connectFailure(err, 0, "", s.id)
	}
	return s.accept(ack)
}

// accept takes the server's limits over.
func (s *session) accept(ack *paho.Connack) error {
	slots := maxInFlight
	s.resumed = ack.SessionPresent
	if p := ack.Properties; p != nil {
		if p.ReceiveMaximum != nil {
			slots = min(slots, int(*p.ReceiveMaximum))
		}
		if p.MaximumPacketSize != nil {
			s.maxPacket = int(*p.MaximumPacketSize)
		}
		if p.MaximumQoS != nil && *p.MaximumQoS < s.qos {
			_ = s.client.Disconnect(&paho.Disconnect{})
			return notConnected(sluice.ReasonConfiguration, nil, s.d.host+" takes publishes with QoS 0 only.", "Set uplinkQos to 0.")
		}
	}
	s.slots = make(chan struct{}, slots)
	s.spare = make(chan *inFlight, slots)
	return nil
}

// ID is the MQTT client id.
func (s *session) ID() string { return s.id }

// Done is closed when the link is lost or closed.
func (s *session) Done() <-chan struct{} { return s.done }

// Err tells why the link is lost.
func (s *session) Err() error {
	select {
	case <-s.done:
		return s.err
	default:
		return nil
	}
}

// end notes that the link has ended. paho calls it once the link is down.
func (s *session) end(err error) {
	s.endOne.Do(func() {
		select {
		case <-s.closing:
		default:
			s.err = s.why(err)
		}
		close(s.done)
	})
}

// fail ends the session for a reason other than its own link. Publishes that
// are under way finish until Close; there are no new ones.
func (s *session) fail(err error) {
	s.endOne.Do(func() {
		s.err = err
		close(s.done)
	})
}

// endBefore ends the session in order after a time: publishes that are under
// way finish, and another session takes its place.
func (s *session) endBefore(d time.Duration) {
	s.life = time.AfterFunc(d, func() {
		s.fail(notConnected(sluice.ReasonDisconnected, nil, "It is opened anew, because AWS closes a WebSocket after 24 hours.", ""))
	})
}

// why is the failure of a lost link.
func (s *session) why(err error) *sluice.Failure {
	dis, first := s.link.cause()
	if first == nil {
		first = err
	}
	return s.d.lostFailure(dis, first, s.id)
}

// Handle publishes a message and waits for its acknowledgement.
func (s *session) Handle(ctx context.Context, m *sluice.Message) error {
	topic, err := s.topic(m)
	if err != nil {
		return err
	}
	select {
	case <-s.done:
		return s.lostBefore()
	default:
	}
	select {
	case s.slots <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	case <-s.link.lost:
		return s.lostBefore()
	case <-s.closing:
		return s.lostBefore()
	}
	held := false
	defer func() {
		if !held {
			<-s.slots
		}
	}()
	if s.qos == 0 {
		err = s.write(ctx, 0, topic, m)
	} else {
		held, err = s.publish(ctx, topic, m)
	}
	if err == nil {
		s.d.shadows.delivered(m)
	}
	return err
}

// topic makes the topic of a message.
func (s *session) topic(m *sluice.Message) (string, error) { return s.d.topic(m, s.maxPacket) }

// topic makes the topic, and refuses what AWS would cut the connection for.
// maxPacket is what the server takes, 0 for no limit of its own.
func (d *dialer) topic(m *sluice.Message, maxPacket int) (string, error) {
	topic, err := d.uplink.Resolve(m.Document, string(m.Kind), m.DevEUI)
	if err != nil {
		return "", &sluice.Failure{
			Verdict: sluice.Permanent, Reason: sluice.ReasonPattern,
			Message: fmt.Sprintf("The topic cannot be made: %v.", err),
			Hint:    "Add a fallback to the uplink topic pattern, such as {CustomerData.name|DevEUI}.",
		}
	}
	if d.uplink.tooLong(topic) {
		return "", &sluice.Failure{
			Verdict: sluice.Permanent, Reason: sluice.ReasonTopic,
			Message: fmt.Sprintf("The topic has %d bytes; AWS takes at most %d.", len(topic)-d.uplink.exempt, maxTopicBytes),
		}
	}
	body := m.Body()
	if len(body) > maxPayload || maxPacket > 0 && packetSize(topic, m) > maxPacket {
		limit := maxPayload
		if maxPacket > 0 {
			limit = min(limit, maxPacket)
		}
		return "", &sluice.Failure{
			Verdict: sluice.Permanent, Reason: sluice.ReasonTooLarge,
			Message: fmt.Sprintf("The message has %d bytes; %s takes at most %d.", len(body), d.host, limit),
		}
	}
	return topic, nil
}

// lostBefore is the failure of a publish that was not written.
func (s *session) lostBefore() *sluice.Failure {
	return notConnected(sluice.ReasonDisconnected, nil, "The session is closed.", "")
}

// write writes the packet, in its turn.
func (s *session) write(ctx context.Context, id uint16, topic string, m *sluice.Message) error {
	if m.Kind != kindShadow {
		s.turns.enter()
		defer s.turns.leave()
	}
	if !s.pace.begin(ctx, packetSize(topic, m), s.link.lost, s.closing) {
		if err := ctx.Err(); err != nil {
			return err
		}
		return s.lostBefore()
	}
	err := s.link.publish(id, topic, m, s.pace != nil)
	s.pace.end()
	if err != nil {
		return notConnected(sluice.ReasonDisconnected, err, "The connection to "+s.d.host+" broke.", "")
	}
	m.Way.Write(topic, s.d.spec.Clock())
	return nil
}

// publish writes with QoS 1 and waits for the acknowledgement. It is not
// written again on the same link, which MQTT 5 forbids (section 4.4): after
// the time-out it is the caller's to try again, under another packet id. held
// says that the place in flight is not free yet: see hold.
func (s *session) publish(ctx context.Context, topic string, m *sluice.Message) (held bool, failure error) {
	f := s.inFlight()
	id, err := s.link.expect(f.ack)
	if err != nil {
		s.release(f)
		return false, s.lostBefore()
	}
	if err := s.write(ctx, id, topic, m); err != nil {
		s.link.forget(id)
		s.release(f)
		return false, err
	}
	f.timer.Reset(s.d.o.PubackTimeout)
	select {
	case a := <-f.ack:
		s.release(f)
		return false, s.judge(a, topic)
	case <-ctx.Done():
		failure = ctx.Err()
	case <-s.link.lost:
		failure = publishLost(s.why(nil), len(s.slots) <= 1)
	case <-f.timer.C:
		s.pings.probe()
		held = s.hold(id)
		failure = &sluice.Failure{
			Verdict: sluice.Retry, Reason: sluice.ReasonTimeout,
			Message: fmt.Sprintf("%s did not acknowledge the publish within %s.", s.d.host, s.d.o.PubackTimeout),
		}
	}
	if !held {
		s.link.forget(id)
	}
	select {
	case a := <-f.ack: // it came meanwhile, and counts
		failure = s.judge(a, topic)
	default:
	}
	s.release(f)
	return held, failure
}

// hold keeps the place in flight of a publish whose acknowledgement is late,
// until it comes, or for as long again: the server counts it among those that
// are unacknowledged, of which there must not be too many. One that the server
// has discarded, which is never acknowledged, gives its place back so.
func (s *session) hold(id uint16) bool {
	if !s.link.hold(id, s.d.o.PubackTimeout, func() { <-s.slots }) {
		return false
	}
	select {
	case <-s.closing:
		s.link.letGo()
	default:
	}
	return true
}

// judge makes an acknowledgement into the error of Handle.
func (s *session) judge(a puback, topic string) error {
	f := s.d.pubackFailure(a, topic)
	if f == nil {
		return nil
	}
	if isShadowTopic(topic) {
		return f // told by the shadows
	}
	if f.Reason == sluice.ReasonNotAuthorized || f.Reason == sluice.ReasonThrottled {
		s.d.tell(sluice.LevelWarning, sluice.EventUplinkFailed, "Uplinks refused", string(f.Reason), "", f)
	}
	return f
}

func (s *session) inFlight() *inFlight {
	select {
	case f := <-s.spare:
		return f
	default:
		t := time.NewTimer(time.Hour)
		t.Stop()
		return &inFlight{ack: make(chan puback, 1), timer: t}
	}
}

func (s *session) release(f *inFlight) {
	f.timer.Stop()
	s.spare <- f // there is room for one a slot
}

// Close lets the publishes that are under way finish, then disconnects.
func (s *session) Close(ctx context.Context) error { return s.close(ctx, &paho.Disconnect{}) }

func (s *session) close(ctx context.Context, goodbye *paho.Disconnect) error {
	s.closeOne.Do(func() { close(s.closing) })
	s.link.letGo()                // of those nobody waits any more
	for n := range cap(s.slots) { // with all slots taken nothing is under way
		select {
		case s.slots <- struct{}{}:
			continue
		case <-s.link.lost:
		case <-ctx.Done():
		}
		defer func() {
			for range n {
				<-s.slots
			}
		}()
		break
	}
	return s.disconnect(ctx, goodbye)
}

// disconnect says goodbye and waits until the link's goroutines have ended.
func (s *session) disconnect(ctx context.Context, goodbye *paho.Disconnect) error {
	if s.life != nil {
		s.life.Stop()
	}
	defer context.AfterFunc(ctx, s.link.abort)()
	select {
	case <-s.link.lost:
		<-s.client.Done()
	default:
		if s.persistent && s.leave(goodbye) {
			break
		}
		_ = s.client.Disconnect(goodbye) // the link may be lost meanwhile, which is as good
	}
	s.end(nil)
	return nil
}

// leave says goodbye and waits until the server has closed the link, and so
// has seen all that was written to it: whoever opens this session next would
// else be sent again what was acknowledged just now. It is false where the
// server does not close in time. MQTT 5.0, section 3.14.4, has it close.
func (s *session) leave(goodbye *paho.Disconnect) bool {
	if _, err := goodbye.Packet().WriteTo(s.link); err != nil {
		return false
	}
	timer := time.NewTimer(lastWordTimeout / 2)
	defer timer.Stop()
	select {
	case <-s.link.lost:
		<-s.client.Done()
		return true
	case <-timer.C:
		return false
	}
}
