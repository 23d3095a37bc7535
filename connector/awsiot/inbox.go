package awsiot

import (
	"context"
	"errors"
	"time"

	"github.com/eclipse/paho.golang/paho"

	"sluice"
)

// sessionExpiry is how long the server keeps commands for us while we are not
// connected: the longest that AWS allows without asking for more.
// Source: AWS IoT Core endpoints and quotas, "Persistent session expiry
// period", 3600 seconds.
const sessionExpiry = time.Hour

// giveWayPatience is how long a command may still be offered to a taker that
// does not take it, when another wants the session.
const giveWayPatience = 5 * time.Second

// openInbox opens the persistent session of commands and subscribes it. What
// it has kept may come before the subscription is granted; it waits in
// received. refused is true where the server takes no such session at all.
func (d *dialer) openInbox(ctx context.Context, lane int) (in *session, refused bool, err error) {
	in = newSession(d, d.inboxID(lane))
	in.persistent = true
	if err := d.connect(ctx, in, nil); err != nil {
		return nil, isRefusal(err), err
	}
	if err := in.subscribe(ctx, d.filter()); err != nil {
		d.closeInbox(in, false)
		return nil, false, err
	}
	return in, false, nil
}

// isRefusal reports whether a CONNECT failed for what it asked, not for the
// state of the server. The lane's own has just been accepted, so it was the
// client id or the persistence.
func isRefusal(err error) bool {
	f, ok := errors.AsType[*sluice.Failure](err)
	if !ok {
		return false
	}
	return f.Reason == sluice.ReasonNotAuthorized || f.Reason == sluice.ReasonAuthentication || f.Reason == sluice.ReasonRejected
}

// subscribe subscribes a session to commands.
func (s *session) subscribe(ctx context.Context, filter string) error {
	ack, err := s.client.Subscribe(ctx, &paho.Subscribe{
		Subscriptions: []paho.SubscribeOptions{{Topic: filter, QoS: 1}},
	})
	if err == nil {
		return nil
	}
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

// unsubscribe ends the subscription. Where it cannot be ended, the end of the
// session ends it.
func (s *session) unsubscribe(ctx context.Context) {
	_, err := s.client.Unsubscribe(ctx, &paho.Unsubscribe{Topics: []string{s.d.filter()}})
	if err != nil {
		s.d.spec.Log.Debug("unsubscribing failed", "session", s.id, "err", err)
	}
}

// closeInbox ends the link to a persistent session, which the server keeps, or
// with forget ends as well. It is bounded: there is nothing under way.
func (d *dialer) closeInbox(in *session, forget bool) {
	ctx, cancel := context.WithTimeout(context.Background(), lastWordTimeout)
	defer cancel()
	goodbye := &paho.Disconnect{}
	if forget {
		expiry := uint32(0)
		goodbye.Properties = &paho.DisconnectProperties{SessionExpiryInterval: &expiry}
	}
	_ = in.close(ctx, goodbye)
}

// tellNotKept tells that commands are not kept while we are not connected.
func (d *dialer) tellNotKept(lane int, cause error) {
	d.tell(sluice.LevelWarning, sluice.EventConfigurationOdd, "Commands not kept", "persistent", "", &sluice.Failure{
		Reason: sluice.ReasonNotAuthorized,
		Message: d.host + " does not allow a persistent session, so commands that are published while this connection is interrupted are lost. " +
			message(cause),
		Hint: "Allow iot:Connect on " + d.arn("client/"+d.inboxID(lane)) + " in " + d.policy() + "; where it has a condition on " +
			"iot:ConnectAttributes, that condition must allow PersistentConnect.",
	})
}
