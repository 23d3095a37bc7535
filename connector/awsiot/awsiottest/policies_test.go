package awsiottest_test

import (
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/eclipse/paho.golang/paho"
	"github.com/mochi-mqtt/server/v2/packets"

	"sluice/connector/awsiot/awsiottest"
)

const account = "arn:aws:iot:eu-central-1:123456789012:"

// allow is a policy of statements "action resource", the resource as the end
// of an ARN.
func allow(statements ...string) string {
	var all []string
	for _, s := range statements {
		action, resource, _ := strings.Cut(s, " ")
		all = append(all, `{"Effect":"Allow","Action":"iot:`+action+`","Resource":"`+account+resource+`"}`)
	}
	return `{"Version":"2012-10-17","Statement":[` + strings.Join(all, ",") + `]}`
}

func withPolicies(t testing.TB, s *awsiottest.Server, documents ...string) awsiottest.Certificate {
	t.Helper()
	c := newCertificate(t, s, true)
	if err := s.SetPolicies(c.ID, documents...); err != nil {
		t.Fatal(err)
	}
	return c
}

// TestPolicyConnect wants CONNACK 0x87 with AWS's sentence in MQTT 5, and the
// end without a CONNACK in MQTT 3.1.1, where iot:Connect is not allowed.
func TestPolicyConnect(t *testing.T) {
	s := start(t, awsiottest.Options{})
	cert := withPolicies(t, s, allow("Connect client/good-*"))
	if _, err := dial(t, s, cert, dialer{id: "good-1"}); err != nil {
		t.Errorf("an allowed client id: %v", err)
	}
	for name, c := range map[string]awsiottest.Certificate{"another client id": cert, "no policy": withPolicies(t, s)} {
		refused, err := dial(t, s, c, dialer{id: "bad"})
		if err == nil || refused.connack == nil || refused.connack.ReasonCode != 0x87 {
			t.Errorf("%s: %v, want CONNACK 0x87", name, err)
			continue
		}
		const sentence = "CONNACK:Client is not authenticated/authorized to send the message:"
		if got := refused.connack.Properties.ReasonString; !strings.HasPrefix(got, sentence) {
			t.Errorf("%s: reason %q", name, got)
		}
		old := wire311(t, s, c)
		old.send(connect311("bad", true))
		old.ended(name)
	}
	s.ResetPolicies(cert.ID)
	if _, err := dial(t, s, cert, dialer{id: "bad"}); err != nil {
		t.Errorf("without policies: %v", err)
	}
}

// TestPolicyPublish wants PUBACK 0x87 for QoS 1 and DISCONNECT 0x87 for QoS 0
// in MQTT 5, and the end in MQTT 3.1.1; nobody gets the message.
func TestPolicyPublish(t *testing.T) {
	s := start(t, awsiottest.Options{})
	watcher := connect(t, s, dialer{id: "watcher"})
	watcher.subscribe(t, "#")
	cert := withPolicies(t, s, allow("Connect client/*", "Publish topic/mine/${iot:ClientId}/*"))
	c, err := dial(t, s, cert, dialer{id: "c"})
	if err != nil {
		t.Fatal(err)
	}
	if code, _ := c.publish(t, "theirs", nil); code != 0x87 {
		t.Errorf("PUBACK 0x%02X, want 0x87", code)
	}
	if code, err := c.publish(t, "mine/c/up", []byte("1")); err != nil || code != 0 {
		t.Errorf("an allowed topic: 0x%02X %v", code, err)
	}
	ack, err := c.Publish(deadline(t), &paho.Publish{Topic: "mine/c/up", QoS: 1, Retain: true, Payload: []byte("x")})
	if ack == nil || ack.ReasonCode != 0x87 {
		t.Errorf("RETAIN without iot:RetainPublish: %+v %v", ack, err)
	}
	_ = c.publishRaw(&paho.Publish{Topic: "theirs"})
	if code := c.ended(t); code != 0x87 {
		t.Errorf("DISCONNECT 0x%02X, want 0x87", code)
	}
	old := wire311(t, s, cert)
	old.send(connect311("old", true))
	old.want(packets.Connack)
	old.send(publish311("mine/old/up", 1, 1))
	old.want(packets.Puback)
	old.send(publish311("mine/c/up", 1, 2))
	old.ended("a topic of another client")
	for _, want := range []string{"mine/c/up", "mine/old/up"} {
		if got := watcher.receive(t).Topic; got != want {
			t.Errorf("received %s, want %s", got, want)
		}
	}
	if stats := s.ClientStats()["c"]; stats.Denied != 3 {
		t.Errorf("%d denied, want 3", stats.Denied)
	}
}

// TestPolicySubscribe wants SUBACK 0x87 for the filters that are not allowed
// in MQTT 5, and the end in MQTT 3.1.1. + and # are plain characters.
func TestPolicySubscribe(t *testing.T) {
	s := start(t, awsiottest.Options{})
	cert := withPolicies(t, s, allow("Connect client/*", "Subscribe topicfilter/down/+", "Subscribe topicfilter/$share/g/*", "Receive topic/*"))
	c, err := dial(t, s, cert, dialer{id: "c"})
	if err != nil {
		t.Fatal(err)
	}
	ack := c.subscribe(t, "down/+", "down/1", "down/#", "$share/g/down/1", "$share/h/down/1")
	for i, want := range []byte{1, 0x87, 0x87, 1, 0x87} {
		if ack.Reasons[i] != want {
			t.Errorf("SUBACK % X: %d is not 0x%02X", ack.Reasons, i, want)
		}
	}
	if got := ack.Properties.ReasonString; !strings.HasPrefix(got, "SUBACK:Client is not auth") {
		t.Errorf("reason %q", got)
	}
	old := wire311(t, s, cert)
	old.send(connect311("old", true))
	old.want(packets.Connack)
	old.send(subscribe311(1, 1, "down/+"))
	old.want(packets.Suback)
	old.send(subscribe311(2, 1, "down/#"))
	old.ended("a filter that is not allowed")
}

// TestPolicyReceive wants a message not to be delivered where iot:Receive is
// not allowed, from the moment that a policy changes.
func TestPolicyReceive(t *testing.T) {
	s := start(t, awsiottest.Options{})
	base := []string{"Connect client/*", "Subscribe topicfilter/*", "Publish topic/*"}
	cert := withPolicies(t, s, allow(append(base, "Receive topic/down/open")...))
	c, err := dial(t, s, cert, dialer{id: "c"})
	if err != nil {
		t.Fatal(err)
	}
	c.subscribe(t, "down/#")
	_, _ = c.publish(t, "down/secret", []byte("1"))
	_, _ = c.publish(t, "down/open", []byte("2"))
	if got := string(c.receive(t).Payload); got != "2" {
		t.Errorf("received %q", got)
	}
	if err := s.SetPolicies(cert.ID, allow(append(base, "Receive topic/down/*")...)); err != nil {
		t.Fatal(err)
	}
	_, _ = c.publish(t, "down/secret", []byte("3"))
	if got := string(c.receive(t).Payload); got != "3" {
		t.Errorf("received %q", got)
	}
	if denied := s.ClientStats()["c"].Denied; denied != 1 {
		t.Errorf("%d denied, want 1", denied)
	}
}

// TestPolicyThing wants the variables of the thing to be those of the thing
// that is named as the client and has the certificate attached.
func TestPolicyThing(t *testing.T) {
	s := start(t, awsiottest.Options{})
	cert := withPolicies(t, s, allow("Connect client/${iot:Connection.Thing.ThingName}", "Publish topic/${iot:Connection.Thing.Attributes[site]}"))
	if _, err := dial(t, s, cert, dialer{id: "dev1"}); err == nil {
		t.Error("a client without a thing connects")
	}
	if _, err := s.CreateThing("dev1", "", map[string]string{"site": "attic"}); err != nil {
		t.Fatal(err)
	}
	if _, err := dial(t, s, cert, dialer{id: "dev1"}); err == nil {
		t.Error("a client with the thing of another certificate connects")
	}
	attachThing(t, s, "dev1", cert.ARN)
	c, err := dial(t, s, cert, dialer{id: "dev1"})
	if err != nil {
		t.Fatal(err)
	}
	for topic, want := range map[string]byte{"attic": 0, "cellar": 0x87} {
		if code, err := c.publish(t, topic, nil); err != nil || code != want {
			t.Errorf("%s: 0x%02X %v, want 0x%02X", topic, code, err, want)
		}
	}
}

// TestPolicyAttributes wants the condition on iot:ConnectAttributes to decide
// about persistent sessions and wills.
func TestPolicyAttributes(t *testing.T) {
	condition := func(attributes string) string {
		return `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:*","Resource":"*","Condition":
			{"ForAllValues:StringEquals":{"iot:ConnectAttributes":[` + attributes + `]}}}]}`
	}
	will := func(p *paho.Connect) { p.WillMessage = &paho.WillMessage{Topic: "will", Payload: []byte("x")} }
	kinds := map[string]func(*paho.Connect){"plain": nil, "persistent": persistent(true), "will": will}
	for _, test := range []struct {
		name, document string
		inferred       awsiottest.Inferred
		allowed        string
	}{
		{"none", condition(""), awsiottest.Inferred{}, "plain"},
		{"persistent", condition(`"PersistentConnect"`), awsiottest.Inferred{}, "plain persistent"},
		{"will", condition(`"LastWill"`), awsiottest.Inferred{}, "plain will"},
		{"a plain Allow", allow("* *"), awsiottest.Inferred{}, "plain persistent will"},
		{"a plain Allow, by the guide's text", allow("* *"), awsiottest.Inferred{AttributesNeedCondition: true}, "plain"},
	} {
		s := start(t, awsiottest.Options{Inferred: test.inferred})
		cert := withPolicies(t, s, test.document)
		for kind, change := range kinds {
			c, err := dial(t, s, cert, dialer{id: kind, change: change})
			if want := strings.Contains(test.allowed, kind); (err == nil) != want {
				t.Errorf("%s: %s CONNECT: %v", test.name, kind, err)
			} else if !want && c.connack.ReasonCode != 0x87 {
				t.Errorf("%s: %s CONNECT: CONNACK 0x%02X", test.name, kind, c.connack.ReasonCode)
			}
		}
	}
}

// TestDeniedCloses is the other way in which AWS may refuse MQTT 5.
func TestDeniedCloses(t *testing.T) {
	s := start(t, awsiottest.Options{Inferred: awsiottest.Inferred{DeniedCloses: true}})
	cert := withPolicies(t, s, allow("Connect client/*"))
	for name, act := range map[string]func(*client) error{
		"publish": func(c *client) error { return c.publishRaw(&paho.Publish{Topic: "t", QoS: 1}) },
		"subscribe": func(c *client) error {
			return c.subscribeRaw(&paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: "t"}}})
		},
	} {
		c, err := dial(t, s, cert, dialer{id: name})
		if err != nil {
			t.Fatal(err)
		}
		_ = act(c)
		if code := c.ended(t); code != 0x87 {
			t.Errorf("%s: DISCONNECT 0x%02X, want 0x87", name, code)
		}
	}
}

func TestSetPoliciesRefuses(t *testing.T) {
	s := start(t, awsiottest.Options{})
	for name, document := range map[string]string{
		"no JSON":   `{`,
		"too large": allow("Publish topic/" + strings.Repeat("x", 2048)),
	} {
		if err := s.SetPolicies("x", document); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// A deleted certificate is unknown; one that is revoked is refused as one that
// is not active.
func TestRevokedCertificate(t *testing.T) {
	s := start(t, awsiottest.Options{})
	cert := newCertificate(t, s, true)
	c, err := dial(t, s, cert, dialer{id: "c"})
	if err != nil {
		t.Fatal(err)
	}
	revoke(t, s, cert.ID)
	if code := c.ended(t); code != 0x87 {
		t.Errorf("DISCONNECT 0x%02X, want 0x87", code)
	}
	if _, err := dial(t, s, cert, dialer{id: "c"}); err == nil {
		t.Error("a revoked certificate connects")
	}
}

func attachThing(t *testing.T, s *awsiottest.Server, thing, principal string) {
	t.Helper()
	_, err := sdk(t, s).AttachThingPrincipal(deadline(t), &iot.AttachThingPrincipalInput{ThingName: &thing, Principal: &principal})
	if err != nil {
		t.Fatal(err)
	}
}

func revoke(t *testing.T, s *awsiottest.Server, certificateID string) {
	t.Helper()
	_, err := sdk(t, s).UpdateCertificate(deadline(t), &iot.UpdateCertificateInput{CertificateId: &certificateID, NewStatus: types.CertificateStatusRevoked})
	if err != nil {
		t.Fatal(err)
	}
}
