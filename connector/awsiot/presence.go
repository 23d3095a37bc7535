package awsiot

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"

	"sluice"
)

// The pauses before the presence is told again after a failure.
const (
	firstPresencePause = time.Second
	lastPresencePause  = 5 * time.Minute
)

// presence keeps a retained message that tells whether the connection is
// online. A session of its own holds the last will, so that no loss of a lane,
// and no lane that is not needed any more, says that the bridge is gone. A
// changed configuration takes the session over in turn; only who leaves last
// says offline.
type presence struct {
	d    *dialer
	once sync.Once
	ctx  context.Context //nolint:containedctx // ends with the Dialer
	stop context.CancelFunc
	ran  sync.WaitGroup
}

func newPresence(d *dialer) *presence {
	p := &presence{d: d}
	p.ctx, p.stop = context.WithCancel(context.Background())
	return p
}

// begin tells that the connection is online: a lane is open.
func (p *presence) begin() {
	p.once.Do(func() {
		seat := p.d.desks.join(p.d.seatKey(p.d.presenceID()))
		p.ran.Go(func() { p.run(seat) })
	})
}

// close tells that it is offline, unless another goes on with it, and waits.
func (p *presence) close() {
	p.once.Do(func() {}) // begin no more
	p.stop()
	p.ran.Wait()
}

func (p *presence) run(seat *seat) {
	defer seat.quit()
	for pause := firstPresencePause; seat.turn(p.ctx) == nil; pause = min(2*pause, lastPresencePause) {
		s, err := p.open()
		if err != nil {
			p.tell(err)
		} else if p.hold(s, seat) {
			pause = firstPresencePause
		}
		gaveWay := seat.giveWay().Err() != nil
		seat.free()
		if !gaveWay && !sleep(p.ctx, pause, nil, nil) {
			return
		}
	}
}

// hold keeps the session until it is lost, another wants it or the Dialer
// closes; it is false where it was lost at once.
func (p *presence) hold(s *session, seat *seat) bool {
	since := time.Now()
	select {
	case <-s.done:
		if s.link.gone() { // else it is only old
			p.tell(s.Err())
		}
	case <-seat.giveWay().Done():
	case <-p.ctx.Done():
		if seat.alone() {
			ctx, cancel := context.WithTimeout(context.Background(), lastWordTimeout)
			defer cancel()
			if err := s.retain(ctx, p.d.cfg.PresenceTopic, p.document("offline", "closed")); err != nil {
				p.d.spec.Log.Debug("offline was not told", "session", s.id, "err", err)
			}
		}
	}
	p.d.closeInbox(s, false)
	return time.Since(since) > lastPresencePause
}

// open opens the session, with its will, and says online. Where the Dialer
// closes meanwhile that may have been heard, so that there is offline to say.
func (p *presence) open() (*session, error) {
	s := newSession(p.d, p.d.presenceID())
	s.will = &paho.WillMessage{Retain: true, QoS: 1, Topic: p.d.cfg.PresenceTopic, Payload: p.document("offline", "lost")}
	if err := p.d.connect(p.ctx, s, nil); err != nil {
		return nil, err
	}
	if p.d.cfg.webSocket() {
		s.endBefore(p.d.webSocketLife())
	}
	if err := s.retain(p.ctx, p.d.cfg.PresenceTopic, p.document("online", "")); err != nil && p.ctx.Err() == nil {
		p.d.closeInbox(s, false)
		return nil, err
	}
	return s, nil
}

// document is what is told. A will is written long before it is sent, and so
// has no time.
func (p *presence) document(state, reason string) []byte {
	document := struct {
		State      string `json:"state"`
		Connection string `json:"connection"`
		Reason     string `json:"reason,omitempty"`
		Time       string `json:"time,omitempty"`
	}{State: state, Connection: p.d.spec.Connection.ID, Reason: reason}
	if reason != "lost" {
		document.Time = p.d.spec.Clock().UTC().Format(time.RFC3339Nano)
	}
	raw, _ := json.Marshal(document) // of strings alone: it cannot fail
	return raw
}

// tell tells the operator that the presence is not, or not known.
func (p *presence) tell(err error) {
	if p.ctx.Err() != nil {
		return
	}
	f := &sluice.Failure{
		Reason:  sluice.ReasonOf(err),
		Message: "Whether this connection is online is not told on " + p.d.cfg.PresenceTopic + ". " + message(err),
	}
	if isRefusal(err) {
		f.Hint = "Allow iot:Connect on " + p.d.arn("client/"+p.d.presenceID()) + ", and iot:Publish and iot:RetainPublish on " +
			p.d.arn("topic/"+p.d.cfg.PresenceTopic) + ", in " + p.d.policy() + "; where it has a condition on iot:ConnectAttributes, " +
			"that condition must allow LastWill."
	}
	p.d.tell(sluice.LevelWarning, sluice.EventConfigurationOdd, "Presence not told", string(f.Reason), "", f)
}

// retain publishes a retained message, and waits for the acknowledgement.
func (s *session) retain(ctx context.Context, topic string, payload []byte) error {
	f := s.inFlight()
	defer s.release(f)
	id, err := s.link.expect(f.ack)
	if err != nil {
		return s.lostBefore()
	}
	defer s.link.forget(id)
	packet := packets.Publish{
		PacketID: id, QoS: 1, Retain: true, Topic: topic, Payload: payload,
		Properties: &packets.Properties{ContentType: "application/json"},
	}
	if _, err := packet.WriteTo(s.link); err != nil {
		return s.lostBefore()
	}
	f.timer.Reset(s.d.o.PubackTimeout)
	select {
	case a := <-f.ack:
		if failure := s.d.pubackFailure(a, topic); failure != nil {
			return failure
		}
		return nil
	case <-s.link.lost:
		return s.why(nil)
	case <-ctx.Done():
		return ctx.Err()
	case <-f.timer.C:
		return notConnected(sluice.ReasonTimeout, nil, s.d.host+" did not acknowledge the publish.", "")
	}
}
