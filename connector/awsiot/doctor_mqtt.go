package awsiot

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"

	"sluice"
)

// testDevice stands for a device in the topics that are tried. It is no
// DevEUI, and never one of a real device.
const testDevice = "sluice-test"

// receiveTimeout is how long a published message may take to come back.
const receiveTimeout = 5 * time.Second

// clientID is another one for each CONNECT: AWS limits those of one id.
func (e *doctor) clientID() string {
	e.tries++
	return limited(fmt.Sprintf("%sdoctor-%s-%d", e.prefix(), e.random, e.tries))
}

func (e *doctor) prefix() string {
	return clientPrefix(e.cfg.ClientIDPrefix, e.spec.Instance, e.spec.Connection.ID)
}

// filter is what the doctor subscribes to. Where the commands are shared, that
// is a share of its own, for it alone: it gets all, and takes nothing from the
// connection.
func (e *doctor) filter() string {
	if e.d.Shares() > 1 {
		return shareOf(doctorGroup(e.d.group()), e.d.downlink.Filter())
	}
	return e.d.downlink.Filter()
}

// open opens a session of the doctor's own.
func (e *doctor) open(ctx context.Context, persistent bool) (*session, error) {
	s := newSession(e.d, e.clientID())
	s.persistent = persistent
	return s, e.d.connect(ctx, s, nil)
}

// hangUp closes a session; the server is to keep nothing of it.
func (e *doctor) hangUp(s *session, forget bool) { e.d.closeInbox(s, forget) }

// connect sends a CONNECT. Its outcome is two steps: whether the certificate is
// accepted, and whether the policy allows it to connect.
func (e *doctor) connect(ctx context.Context) finding {
	if !e.able {
		return wrong("configuration", "The configuration is not complete enough to connect.", "Correct what the first step names.")
	}
	s, err := e.open(ctx, false)
	if err == nil {
		e.session = s
		return well("AWS accepts who we are.")
	}
	f := failureOf(err)
	switch f.Reason {
	case sluice.ReasonNotAuthorized:
		e.state = e.lookUp(ctx)
		return well("AWS accepts who we are.")
	case sluice.ReasonAuthentication, sluice.ReasonTLS:
		if e.cfg.webSocket() {
			return wrong("signature_refused", f.Message, f.Hint)
		}
		e.state = e.lookUp(ctx)
		return e.refusedCertificate(f)
	case sluice.ReasonTimeout:
		return wrong("connect_unanswered", f.Message, "Try again; a firewall that looks into TLS may swallow MQTT.")
	case sluice.ReasonThrottled:
		return wrong("connect_throttled", f.Message, "Wait a minute and try again: an account may open only so many connections a second.")
	}
	return wrong("connect_failed", f.Message, f.Hint)
}

// failureOf is any error of the connector as a failure.
func failureOf(err error) *sluice.Failure {
	if f, ok := errors.AsType[*sluice.Failure](err); ok {
		return f
	}
	return &sluice.Failure{Reason: sluice.ReasonInternal, Message: message(err), Err: err}
}

// refusedCertificate says why AWS does not accept the certificate, as far as
// the access key lets us know.
func (e *doctor) refusedCertificate(f *sluice.Failure) finding {
	id, a := e.ownID(), e.state
	describe := "aws iot describe-certificate --certificate-id " + id + " --region " + e.cfg.Region
	switch {
	case a.unknown:
		where := e.cfg.Region
		if arn, ok := parseCertificateARN(e.cfg.CertificateID); ok {
			where = arn.account + ", " + e.cfg.Region
		}
		return wrong("certificate_unknown", "AWS IoT in this account and region ("+where+") does not know the certificate: it is of another account or region, or was deleted.",
			"Register it here, or make one here: aws iot create-keys-and-certificate --set-as-active --region "+e.cfg.Region)
	case a.status == "REVOKED":
		return wrong("certificate_revoked", "The certificate is revoked.", "Make a new certificate; only if this one was revoked by mistake, set it ACTIVE again.")
	case a.status != "" && a.status != "ACTIVE":
		return wrong("certificate_inactive", "The certificate is "+a.status+", not ACTIVE.",
			"aws iot update-certificate --new-status ACTIVE --certificate-id "+id+" --region "+e.cfg.Region)
	case a.status == "ACTIVE" && a.policiesKnown && a.policies == 0:
		return noPolicy(e)
	}
	return wrong("certificate_refused", f.Message,
		"Look whether this account and region knows the certificate, and whether it is ACTIVE: "+describe+" --query certificateDescription.status. "+
			"If it is, no policy allows it to connect.")
}

func noPolicy(e *doctor) finding {
	return wrong("no_policy", "No policy is attached to the certificate, so it may do nothing.",
		"Attach one: aws iot attach-policy --policy-name <name> --target "+e.certificateARN()+". `sluice aws policy` writes the right one.")
}

// ownID is the id of the certificate that is given.
func (e *doctor) ownID() string {
	chain, err := readCertificates(e.cfg.Certificate)
	if err != nil {
		return ""
	}
	return certificateOf(chain[0])
}

func (e *doctor) certificateARN() string {
	if e.cfg.CertificateID != "" {
		return e.cfg.CertificateID
	}
	return e.d.arn("cert/" + e.ownID())
}

// connected tells whether the CONNECT was allowed.
func (e *doctor) connected(context.Context) finding {
	if e.session != nil {
		return well("We may connect as " + e.session.id + ".")
	}
	if e.state.policiesKnown && e.state.policies == 0 {
		return noPolicy(e)
	}
	resource := e.d.arn("client/" + e.prefix() + "*")
	return wrong("connect_denied", "The certificate's policy does not allow it to connect under Sluice's client ids.",
		"Allow iot:Connect on "+resource+" in the certificate's policy.")
}

// persist tries a persistent session.
func (e *doctor) persist(ctx context.Context) finding {
	if !e.d.takes() {
		return skipped("This connection takes no commands.")
	}
	s, err := e.open(ctx, true)
	if err != nil {
		f := failureOf(err)
		if isRefusal(err) {
			return odd("persistent_denied", "The certificate's policy allows no persistent session: commands that are published while Sluice is away are lost.",
				"Allow PersistentConnect in the condition on iot:ConnectAttributes of the statement that allows iot:Connect.")
		}
		return odd("persistent_failed", f.Message, f.Hint)
	}
	e.hangUp(s, true)
	return well("AWS keeps commands for an hour while Sluice is away.")
}

// live is the session, opened again where the server closed it over what was
// tried before.
func (e *doctor) live(ctx context.Context) (*session, error) {
	if !e.session.link.gone() {
		return e.session, nil
	}
	e.hangUp(e.session, false)
	s, err := e.open(ctx, false)
	if err == nil {
		e.session = s
	}
	return s, err
}

// subscribe subscribes to the commands, as an onlooker.
func (e *doctor) subscribe(ctx context.Context) finding {
	if e.d.downlink == nil {
		return skipped("This connection takes no commands.")
	}
	filter := e.filter()
	s, err := e.live(ctx)
	if err == nil {
		err = s.subscribe(ctx, filter)
	}
	if err == nil {
		return well("AWS grants the subscription to " + filter + ".")
	}
	f := failureOf(err)
	hint := "Allow iot:Subscribe on " + e.d.arn("topicfilter/"+filter) + " in the certificate's policy."
	switch f.Reason {
	case sluice.ReasonNotAuthorized, sluice.ReasonDisconnected, sluice.ReasonRejected:
		return wrong("subscribe_denied", "The certificate's policy does not allow the subscription to "+filter+".", hint)
	}
	return wrong("subscribe_failed", f.Message, f.Hint)
}

// testTopic is a topic of a pattern, of a device that does not exist.
func testTopic(t *topic) string { return t.Fill(testDevice) }

// publish publishes to an uplink topic.
func (e *doctor) publish(ctx context.Context) finding {
	topic := e.x.Topic
	switch {
	case e.x.Silent:
		return skipped("Nothing was to be published.")
	case topic == "" && e.d.uplink.exempt > 0:
		return skipped("A topic of Basic Ingest starts a rule at once, so nothing is published to it. Name another topic to try it.")
	case topic == "":
		topic = testTopic(e.d.uplink)
	}
	if err := e.send(ctx, topic); err != nil {
		return e.unsent(err, topic)
	}
	return well("AWS acknowledged a test message on " + topic + ".")
}

// send publishes the test message.
func (e *doctor) send(ctx context.Context, topic string) error {
	s, err := e.live(ctx)
	if err != nil {
		return err
	}
	return e.sendBy(ctx, s, topic)
}

func (e *doctor) sendBy(ctx context.Context, s *session, topic string) error {
	return e.deliver(ctx, s, topic, &sluice.Message{ID: testMark + e.random, Document: e.testDocument()})
}

// testDocument has no root that anybody could take for a report or a command.
func (e *doctor) testDocument() []byte {
	raw, _ := json.Marshal(map[string]any{"sluice_test": map[string]string{"id": e.random, "time": e.spec.Clock().UTC().Format(time.RFC3339)}})
	return raw // of strings alone: it cannot fail
}

// deliver publishes a message and waits for the acknowledgement.
func (e *doctor) deliver(ctx context.Context, s *session, topic string, m *sluice.Message) error {
	s.slots <- struct{}{} // it is alone
	held, err := s.publish(ctx, topic, m)
	if !held { // else its place is given back once the acknowledgement has come
		<-s.slots
	}
	return err
}

func (e *doctor) unsent(err error, topic string) finding {
	f := failureOf(err)
	switch f.Reason {
	case sluice.ReasonNotAuthorized:
		return wrong("publish_denied", "The certificate's policy does not allow to publish to "+topic+".",
			"Allow iot:Publish on "+e.d.arn("topic/"+policyPattern(e.d.uplink))+" in the certificate's policy.")
	case sluice.ReasonTopic:
		return wrong("publish_topic", f.Message, "Choose another uplinkTopicPattern: at most 7 slashes and 256 bytes, and none of AWS's $ topics.")
	case sluice.ReasonTimeout:
		return wrong("publish_unanswered", f.Message, "AWS acknowledges nothing that is over a quota: look at CloudWatch, AWS/IoT, PublishIn.Throttle.")
	case sluice.ReasonThrottled:
		return wrong("publish_throttled", f.Message, f.Hint)
	}
	return wrong("publish_failed", f.Message, f.Hint)
}

// receive publishes where it is subscribed: to a downlink topic, as commands
// come, or where that is not allowed to the uplink topic.
func (e *doctor) receive(ctx context.Context) finding {
	if e.x.Silent {
		return skipped("Nothing was to be published.")
	}
	var topics []string
	switch {
	case e.x.Topic != "":
		topics = []string{e.x.Topic}
	default:
		if e.d.downlink != nil && e.failed["subscribe"] == "" {
			topics = append(topics, testTopic(e.d.downlink))
		}
		if e.d.uplink.exempt == 0 && e.failed["publish"] == "" {
			topics = append(topics, testTopic(e.d.uplink))
		}
	}
	for _, topic := range topics {
		f, tried := e.roundTrip(ctx, topic)
		if tried {
			return f
		}
	}
	return skipped("The policy lets Sluice publish to no topic that it may read, which is as it should be. " +
		"To try it all the same, name a topic that may be published and read, or use the policy that allows an examination.")
}

// roundTrip is false where the policy does not allow to publish or to
// subscribe to the topic, which the connection does not need.
func (e *doctor) roundTrip(ctx context.Context, topic string) (finding, bool) {
	s, err := e.live(ctx)
	if err != nil {
		return wrong("receive_failed", failureOf(err).Message, ""), true
	}
	if e.d.downlink != nil && topic == testTopic(e.d.downlink) {
		err = s.subscribe(ctx, e.filter()) // again, as the session may be another one
	} else {
		_, err = s.client.Subscribe(ctx, &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: topic, QoS: 1}}})
	}
	if err != nil {
		return finding{}, false
	}
	if err := e.send(ctx, topic); err != nil {
		return finding{}, false
	}
	if e.await(ctx, e.session, func(p *packets.Publish) bool { return p.Topic == topic && commandID(p) == testMark+e.random }) {
		return well("A test message came back on " + topic + "."), true
	}
	return wrong("receive_denied", fmt.Sprintf("AWS took a test message on %s and granted the subscription, but sent nothing within %s.", topic, receiveTimeout),
		"Allow iot:Receive on "+e.d.arn("topic/"+topic)+" in the certificate's policy, or on all topics that commands come on."), true
}

// await waits for what is wanted. What else comes is left to those whom it is
// for.
func (e *doctor) await(ctx context.Context, s *session, wanted func(*packets.Publish) bool) bool {
	t := time.NewTimer(receiveTimeout)
	defer t.Stop()
	for {
		select {
		case p := <-s.received:
			if p.QoS > 0 {
				_ = s.link.acknowledge(p) // of our own subscription alone
			}
			if wanted(p) {
				return true
			}
		case <-t.C:
			return false
		case <-s.link.lost:
			return false
		case <-ctx.Done():
			return false
		}
	}
}

// testMark begins the message id of what an examination publishes.
const testMark = "sluice-test-"

// isTest reports whether a message is one of an examination: nobody is to take
// it for a command.
func isTest(p *packets.Publish) bool { return strings.HasPrefix(commandID(p), testMark) }
