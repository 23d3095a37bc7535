package awsiot

import (
	"context"
	"encoding/hex"
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

// lastStolenPause is the longest pause before commands are taken again from a
// session that a stranger has taken.
const lastStolenPause = 5 * time.Minute

// taker takes commands, as Subscribe says.
type taker func(ctx context.Context, c sluice.Command) error

// subscriber is a session of a connection that takes commands. A session
// without a downlink topic is none, and so no Subscriber.
//
// The commands come over a link of their own, to a persistent session that
// belongs to the connection and not to this lane; see inboxID. It ends with
// the lane, and the lane with it. Where the server refuses such a session the
// lane's own link is subscribed instead.
type subscriber struct {
	*session
	lane    int
	run     context.Context //nolint:containedctx // of the taking, which outlives Subscribe
	cancel  func()          // ends the taking at once
	leaving context.Context //nolint:containedctx // ends when the taking is to end in order
	drain   func()          // ends leaving
	taken   sync.WaitGroup

	mu     sync.Mutex
	closed bool
	forget bool // the server is not to keep commands
}

func newSubscriber(s *session, lane int) *subscriber {
	run, cancel := context.WithCancel(context.Background())
	leaving, drain := context.WithCancel(run)
	return &subscriber{session: s, lane: lane, run: run, cancel: cancel, leaving: leaving, drain: drain}
}

var (
	_ sluice.Session    = (*subscriber)(nil)
	_ sluice.Subscriber = (*subscriber)(nil)
	_ sluice.Ender      = (*subscriber)(nil)
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
// another, in the order of the server: first those that it kept for us.
func (s *subscriber) Subscribe(ctx context.Context, take func(ctx context.Context, c sluice.Command) error) error {
	// Not longer than the lane lives.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.leaving, cancel)()
	seat := s.d.desks.join(s.d.seatKey(s.d.inboxID(s.lane)))
	if err := seat.turn(ctx); err != nil {
		seat.quit()
		return err
	}
	in, refused, err := s.d.openInbox(ctx, s.lane)
	if err == nil {
		return s.start(func() { s.serve(in, seat, take) }, func() { s.d.closeInbox(in, false); seat.quit() })
	}
	seat.quit()
	if !refused {
		return err
	}
	if err := s.subscribe(ctx, s.d.filter()); err != nil {
		return err
	}
	s.d.tellNotKept(s.lane, err)
	return s.start(func() { s.takeAll(s.run, s.session, take, s.leaving) }, func() {})
}

// start starts the taking, unless the session is closed meanwhile.
func (s *subscriber) start(serve, undo func()) error {
	s.mu.Lock()
	closed := s.closed
	if !closed {
		s.taken.Go(serve)
	}
	s.mu.Unlock()
	if closed {
		undo()
		return s.lostBefore()
	}
	return nil
}

// serve takes commands from the persistent session until the lane closes, and
// lets another of this process have the session meanwhile who wants it.
func (s *subscriber) serve(in *session, seat *seat, take taker) {
	defer seat.quit()
	for stolen := 0; ; {
		opened := time.Now()
		s.takeInTurn(in, seat, take)
		switch {
		case s.leaving.Err() != nil:
			s.leave(in, seat.alone(), take)
			return
		case seat.giveWay().Err() == nil: // so it is lost
			s.d.closeInbox(in, false)
			why := in.why(nil)
			if why.Reason != sluice.ReasonTakenOver {
				s.fail(why)
				return
			}
			if time.Since(opened) > lastStolenPause {
				stolen = 0
			}
			seat.free()
			if !s.letGo(why, stolen) {
				return
			}
			stolen++
		default:
			s.d.closeInbox(in, false)
			seat.free()
		}
		if seat.turn(s.leaving) != nil {
			return
		}
		var err error
		if in, _, err = s.d.openInbox(s.leaving, s.lane); err != nil {
			s.fail(err)
			return
		}
	}
}

// letGo waits before the persistent session is opened again that a stranger has
// taken: ever longer, so that the two do not throw each other out without end,
// each losing what it was about to take. The lane goes on with uplinks. It is
// false where the lane closes.
func (s *subscriber) letGo(why *sluice.Failure, times int) bool {
	s.d.tell(sluice.LevelError, sluice.EventSessionLost, "Another client uses our id", "stolen inbox", "", why)
	pause := min(s.d.o.RetryStolen<<min(times, 10), lastStolenPause)
	pause = pause/2 + time.Duration(s.d.o.Rand()*float64(pause/2))
	return sleep(s.leaving, pause, s.link.lost, nil)
}

// takeInTurn takes commands until the link is lost, the lane closes or another
// wants the session.
func (s *subscriber) takeInTurn(in *session, seat *seat, take taker) {
	stop, cancel := context.WithCancel(seat.giveWay())
	defer cancel()
	defer context.AfterFunc(s.leaving, cancel)()
	ctx, end := context.WithCancel(s.run)
	defer end()
	defer context.AfterFunc(seat.giveWay(), func() {
		t := time.AfterFunc(giveWayPatience, end)
		context.AfterFunc(ctx, func() { t.Stop() })
	})()
	s.takeAll(ctx, in, take, stop)
}

// leave ends the link to the persistent session, and the session too where
// that is wanted and nobody else goes on with it.
func (s *subscriber) leave(in *session, alone bool, take taker) {
	s.mu.Lock()
	forget := s.forget && alone
	s.mu.Unlock()
	if forget && s.run.Err() == nil {
		in.unsubscribe(s.run)
		s.takeRest(s.run, in, take, 2)
	}
	s.d.closeInbox(in, forget)
}

// takeAll hands over what is received until the link is lost or stop ends.
// What the server would not send again is then handed over to the end: all that
// it sent with QoS 0, and all that came without a persistent session.
func (s *subscriber) takeAll(ctx context.Context, in *session, take taker, stop context.Context) {
	for ctx.Err() == nil && stop.Err() == nil && !in.link.gone() {
		select {
		case p := <-in.received:
			s.takeOne(ctx, in, p, take, stop)
		case <-in.link.lost:
		case <-ctx.Done():
		case <-stop.Done():
		}
	}
	below := byte(2)
	if in.persistent {
		below = 1
	}
	s.takeRest(ctx, in, take, below)
}

// takeRest hands over what was received so far with a QoS below the given one.
func (s *subscriber) takeRest(ctx context.Context, in *session, take taker, below byte) {
	stop, cancel := context.WithCancel(ctx)
	cancel() // each is offered once
	for ctx.Err() == nil {
		select {
		case p := <-in.received:
			if p.QoS < below {
				s.takeOne(ctx, in, p, take, stop)
			}
		default:
			return
		}
	}
}

// takeOne hands a command over until it is taken, and then acknowledges it. A
// command that is not taken stays unacknowledged: the server keeps those of a
// persistent session, and sends them again.
func (s *subscriber) takeOne(ctx context.Context, in *session, p *packets.Publish, take taker, stop context.Context) {
	if isTest(p) {
		if p.QoS > 0 {
			_ = in.link.acknowledge(p)
		}
		return
	}
	s.d.countCommand(s.lane)
	c := sluice.Command{Source: p.Topic, Document: p.Payload, ID: commandID(p)}
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
		if !sleep(ctx, pause, in.link.lost, stop.Done()) {
			return
		}
	}
	if p.QoS > 0 {
		_ = in.link.acknowledge(p) // on a broken link it comes again
	}
}

// commandID is the id that the publisher gave a message: the user property of
// that name that Sluice's own messages carry, or else the correlation data of a
// request.
func commandID(p *packets.Publish) string {
	if p.Properties == nil {
		return ""
	}
	for _, u := range p.Properties.User {
		if u.Key == messageIDProperty && u.Value != "" {
			return u.Value
		}
	}
	return hex.EncodeToString(p.Properties.CorrelationData)
}

// sleep returns false where something ends before.
func sleep(ctx context.Context, d time.Duration, lost, stop <-chan struct{}) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
	case <-lost:
	case <-stop:
	}
	return false
}

// Close lets the command that is being taken and the publishes that are under
// way finish, and disconnects. The server keeps for sessionExpiry what was not
// taken and what comes.
func (s *subscriber) Close(ctx context.Context) error {
	s.mu.Lock()
	if !s.closed {
		s.closed = true
		s.drain()
	}
	s.mu.Unlock()
	stop := context.AfterFunc(ctx, s.cancel)
	s.taken.Wait()
	stop()
	s.cancel()
	return s.session.Close(ctx)
}

// End is Close, after which the server keeps no commands: nobody will come for
// them. Where another session of this process goes on with them, it is Close.
func (s *subscriber) End(ctx context.Context) error {
	s.mu.Lock()
	s.forget = true
	s.mu.Unlock()
	return s.Close(ctx)
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
func packetSize(topic string, m *sluice.Message) int {
	n := len(topic) + len(m.ID) + len(messageIDProperty) + len(m.Body()) + 64
	if m.Replayed {
		n += len(replayedProperty) + 16
	}
	return n
}
