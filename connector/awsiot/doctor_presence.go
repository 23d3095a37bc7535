package awsiot

import (
	"context"
	"strings"

	"github.com/eclipse/paho.golang/paho"

	"sluice"
)

// presenceTestTopic is where retaining is tried, below the topic of the
// presence: on that itself a test would overwrite what it says. "" where AWS
// would not take it.
func presenceTestTopic(presence string) string {
	topic := presence + "/" + testDevice
	if len(topic) > maxTopicBytes || strings.Count(topic, "/") > maxTopicSlashes {
		return ""
	}
	return topic
}

// presence tries what the presence needs: a last will, messages on its topic,
// and retained ones. What is retained there stays as it is.
func (e *doctor) presence(ctx context.Context) finding {
	if e.x.Silent {
		return skipped("Nothing was to be published.")
	}
	topic := e.cfg.PresenceTopic
	s := newSession(e.d, e.clientID())
	s.will = &paho.WillMessage{QoS: 1, Topic: topic, Payload: e.testDocument()} // sent only where AWS closes the link
	if err := e.d.connect(ctx, s, nil); err != nil {
		f := failureOf(err)
		if isRefusal(err) {
			return odd("presence_will_denied", "The policy allows no last will, so nothing would say that the connection is offline when its link is lost, nor is it online.",
				"Allow LastWill in the condition on iot:ConnectAttributes of the statement that allows iot:Connect.")
		}
		return odd("presence_failed", f.Message, f.Hint)
	}
	defer e.hangUp(s, false)
	if err := e.sendBy(ctx, s, topic); err != nil {
		return e.presenceFailure(err, "presence_denied", "The policy does not allow to publish to "+topic+".")
	}
	return e.retained(ctx, s, topic)
}

// retained retains a test message and removes it again. Where the policy allows
// no topic of the doctor's own, it is not known whether messages may be retained
// on that of the presence.
func (e *doctor) retained(ctx context.Context, s *session, topic string) finding {
	own := presenceTestTopic(topic)
	untried := well("AWS takes the last will, and messages on " + topic + ". Whether it may keep them (iot:RetainPublish) was not tried: there is no topic of the test's own to try it on.")
	if own == "" {
		return untried
	}
	if err := e.sendBy(ctx, s, own); err != nil {
		if failureOf(err).Reason == sluice.ReasonNotAuthorized {
			return untried
		}
		return e.presenceFailure(err, "presence_failed", "")
	}
	if err := s.retain(ctx, own, e.testDocument()); err != nil {
		return e.presenceFailure(err, "presence_retain_denied", "The policy allows to publish to "+own+", but not to have AWS keep what is published.")
	}
	if err := s.retain(ctx, own, nil); err != nil {
		return odd("presence_left", "A test message was retained on "+own+" and could not be removed again. "+failureOf(err).Message,
			"Publish an empty retained message to "+own+".")
	}
	return well("AWS takes the last will and messages on " + topic + ", and keeps what is retained (tried on " + own + ", and removed).")
}

func (e *doctor) presenceFailure(err error, cause, denied string) finding {
	f := failureOf(err)
	if f.Reason != sluice.ReasonNotAuthorized {
		return odd("presence_failed", f.Message, f.Hint)
	}
	return odd(cause, denied, "Allow iot:Publish and iot:RetainPublish on "+e.d.arn("topic/"+e.cfg.PresenceTopic)+" in "+e.d.policy()+".")
}
