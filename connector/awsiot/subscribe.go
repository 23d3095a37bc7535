package awsiot

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"

	"sluice"
)

// The pauses before a command that could not be taken is offered again.
const (
	firstTakePause = 100 * time.Millisecond
	lastTakePause  = 5 * time.Second
)

// subscriber is a session of a connection that takes commands. A session
// without a downlink topic is none, and so no Subscriber.
type subscriber struct {
	*session
	run    context.Context // of the taking, which outlives Subscribe
	cancel func()          // ends the taking at once
	drain  chan struct{}   // closed: end the taking once nothing is left
	taken  sync.WaitGroup

	mu     sync.Mutex
	closed bool
}

func newSubscriber(s *session) *subscriber {
	run, cancel := context.WithCancel(context.Background())
	return &subscriber{session: s, run: run, cancel: cancel, drain: make(chan struct{})}
}

var (
	_ sluice.Session    = (*subscriber)(nil)
	_ sluice.Subscriber = (*subscriber)(nil)
)

// receiveAcknowledged takes a publish with QoS 1 from paho's reader. The
// server sends at most maxInFlight of them without our acknowledgement, so
// there is room unless it breaks the rules; then, as the rules say, the link
// is closed.
func (s *session) receiveAcknowledged(p *packets.Publish) {
	select {
	case s.received <- p:
	default:
		_ = s.link.Close()
	}
}

// receiveUnacknowledged takes a publish with QoS 0. There is no way to make
// the server wait with it but to stop reading, acknowledgements of uplinks
// included: what is too much is lost, as QoS 0 may be, and told.
func (s *session) receiveUnacknowledged(p *paho.Publish) {
	if len(s.received) < maxInFlight {
		select {
		case s.received <- p.Packet():
			return
		default:
		}
	}
	s.d.tell(sluice.LevelWarning, sluice.EventDownlinkIgnored, "Command lost", "qos0", "", &sluice.Failure{
		Reason:  sluice.ReasonThrottled,
		Message: "Commands come faster than they can be stored, and one that was published with QoS 0 was lost.",
		Hint:    "Publish commands with QoS 1.",
	})
}

// Subscribe subscribes to the commands and hands them to take, one after
// another, in the order of the server.
func (s *subscriber) Subscribe(ctx context.Context, take func(ctx context.Context, c sluice.Command) error) error {
	filter := s.d.downlink.Filter()
	ack, err := s.client.Subscribe(ctx, &paho.Subscribe{
		Subscriptions: []paho.SubscribeOptions{{Topic: filter, QoS: 1}},
	})
	if err != nil {
		if ctxErr := ctx.Err(); ctxErr != nil {
			return ctxErr
		}
		if dis, _ := s.link.cause(); dis != nil {
			return s.why(nil)
		}
		code := byte(0)
		if ack != nil && len(ack.Reasons) == 1 {
			code = ack.Reasons[0]
		}
		return s.d.subscribeFailure(err, code, filter)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return s.lostBefore()
	}
	s.taken.Go(func() { s.takeAll(s.run, take) })
	return nil
}

// takeAll hands over what is received. When the link is lost or is to be
// closed it goes on until nothing is left: AWS has forgotten the session then,
// and would not send again what we hold.
func (s *subscriber) takeAll(ctx context.Context, take func(context.Context, sluice.Command) error) {
	for ctx.Err() == nil {
		select {
		case p := <-s.received:
			s.takeOne(ctx, p, take)
			continue
		default:
		}
		select {
		case p := <-s.received:
			s.takeOne(ctx, p, take)
		case <-s.link.lost:
			return
		case <-ctx.Done():
			return
		case <-s.drain:
			return
		}
	}
}

// takeOne hands a command over until it is taken, and then acknowledges it. A
// command that is not taken stays unacknowledged: AWS keeps those of a
// persistent session, and sends them again.
func (s *subscriber) takeOne(ctx context.Context, p *packets.Publish, take func(context.Context, sluice.Command) error) {
	c := sluice.Command{Source: p.Topic, Document: p.Payload}
	c.DevEUI, _ = s.d.downlink.Match(p.Topic)
	for pause := firstTakePause; ; pause = min(2*pause, lastTakePause) {
		err := take(ctx, c)
		if err == nil {
			break
		}
		verdict, after := sluice.VerdictOf(err)
		if verdict == sluice.Permanent {
			s.d.tell(sluice.LevelError, sluice.EventDownlinkIgnored, "Command not taken", "take", c.DevEUI, &sluice.Failure{
				Reason: sluice.ReasonOf(err), Message: "A command on " + p.Topic + " cannot be taken: " + message(err),
			})
			return
		}
		if verdict == sluice.RetryAfter {
			pause = max(pause, min(after, lastTakePause))
		}
		if !s.sleep(ctx, pause) {
			return
		}
	}
	if p.QoS > 0 {
		_ = s.link.acknowledge(p) // on a broken link it comes again
	}
}

// sleep returns false where the taking ends before.
func (s *subscriber) sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
	case <-s.link.lost:
	case <-s.drain:
	}
	return false
}

// Close takes and acknowledges what was received, lets the publishes that are
// under way finish, and disconnects.
func (s *subscriber) Close(ctx context.Context) error {
	s.mu.Lock()
	if !s.closed {
		s.closed = true
		close(s.drain)
	}
	s.mu.Unlock()
	stop := context.AfterFunc(ctx, s.cancel)
	s.taken.Wait()
	stop()
	s.cancel()
	return s.session.Close(ctx)
}

// message is what an error says to the user.
func message(err error) string {
	if f, ok := errors.AsType[*sluice.Failure](err); ok {
		return f.Message
	}
	if e, ok := errors.AsType[*sluice.Error](err); ok {
		return e.Message
	}
	return strings.TrimSuffix(err.Error(), ".") + "."
}

// packetSize is the size of a PUBLISH packet on the wire, at most.
func packetSize(topic, messageID string, body []byte) int {
	return len(topic) + len(messageID) + len(messageIDProperty) + len(body) + 64
}
