package awsiot_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"sluice"
	"sluice/connector/awsiot"
	"sluice/connector/awsiot/awsiottest"
)

// examine lets the doctor look at a configuration.
func examine(t *testing.T, configuration json.RawMessage, x sluice.Examination, change ...func(*sluice.DialerSpec, *awsiot.Options)) []sluice.Step {
	t.Helper()
	o := awsiot.Options{PubackTimeout: 2 * time.Second}
	spec := sluice.DialerSpec{
		Connection: sluice.Connection{ID: "8", Configuration: configuration},
		Common:     sluice.Common{CreateDevices: true, DownlinkEnabled: true},
		Instance:   "a1b2c3d4",
	}
	for _, f := range change {
		f(&spec, &o)
	}
	var steps []sluice.Step
	awsiot.New(o).Examine(within(t), spec, x, func(s sluice.Step) { steps = append(steps, s) })
	return steps
}

// verdict is "step: cause" of the first step that failed, else of the first
// that has a cause; "ok".
func verdict(steps []sluice.Step) string {
	for _, state := range []sluice.StepState{sluice.StepFailed, sluice.StepWarning} {
		for _, s := range steps {
			if s.State == state {
				return s.ID + ": " + s.Cause
			}
		}
	}
	return "ok"
}

func stepOf(t *testing.T, steps []sluice.Step, id string) sluice.Step {
	t.Helper()
	i := slices.IndexFunc(steps, func(s sluice.Step) bool { return s.ID == id })
	if i < 0 {
		t.Fatalf("no step %s", id)
	}
	return steps[i]
}

// keepsSecrets looks for secrets of the configuration in what the doctor says.
func (c *cloud) keepsSecrets(t *testing.T, steps []sluice.Step) {
	t.Helper()
	text, err := json.Marshal(steps)
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{c.SecretAccessKey(), c.AccessKeyID(), strings.Split(c.conf["privateKey"].(string), "\n")[1]} {
		if strings.Contains(string(text), secret) {
			t.Errorf("a secret is told: %s", text)
		}
	}
}

func (c *cloud) certificateID() string {
	arn := c.conf["certificateId"].(string)
	return arn[strings.LastIndex(arn, "/")+1:]
}

// All is well: every step is taken, nothing is left behind, no session is
// thrown out, and no command is made of the test message.
func TestDoctorFindsNothing(t *testing.T) {
	c := newCloud(t, awsiottest.Options{Rate: -1})
	commands := make(chan sluice.Command, 10)
	d := newRig().dial(t, awsiot.Options{}, c.with(t, nil))
	s := open(t, d, 0)
	if err := s.(sluice.Subscriber).Subscribe(within(t), func(_ context.Context, m sluice.Command) error {
		commands <- m
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	w := c.watch(t, "#")
	steps := examine(t, c.with(t, nil), sluice.Examination{Create: true})
	for _, step := range steps {
		if step.State != sluice.StepOK || step.Cause != "" || step.Detail == "" {
			t.Errorf("%+v", step)
		}
	}
	if len(steps) != 20 {
		t.Errorf("%d steps", len(steps))
	}
	if things := c.Things(); len(things) != 0 {
		t.Errorf("left behind: %v", things)
	}
	c.keepsSecrets(t, steps)
	topics := map[string]bool{}
	for _, p := range w.all() {
		if !strings.HasPrefix(p.Topic, "$aws/") {
			topics[p.Topic] = true
		}
	}
	if len(topics) != 2 || !topics["tpx/things/sluice-test/uplink"] || !topics["tpx/things/sluice-test/downlink"] {
		t.Errorf("published to %v", topics)
	}
	// A real command that comes after the test message is the first to arrive.
	w.publish(t, "tpx/things/20635F0108000496/downlink", 1, []byte(`{"DevEUI_downlink":{}}`))
	if m := <-commands; m.DevEUI != "20635F0108000496" {
		t.Errorf("the test message was taken for a command: %+v", m)
	}
	if s.Err() != nil {
		t.Errorf("the session was lost: %v", s.Err())
	}
}

// A doctor that is to be silent publishes nothing, and makes no thing unasked.
func TestDoctorSilent(t *testing.T) {
	c := newCloud(t, awsiottest.Options{})
	w := c.watch(t, "#")
	steps := examine(t, c.with(t, nil), sluice.Examination{Silent: true})
	for _, id := range []string{"publish", "receive", "create", "attach"} {
		if s := stepOf(t, steps, id); s.State != sluice.StepSkipped || s.Detail == "" {
			t.Errorf("%+v", s)
		}
	}
	if verdict(steps) != "ok" || c.Calls("CreateThing") != 0 || len(w.all()) != 0 {
		t.Errorf("%s, %d things made, %d messages", verdict(steps), c.Calls("CreateThing"), len(w.all()))
	}
}

const (
	connectAny  = `{"Effect":"Allow","Action":"iot:Connect","Resource":"*","Condition":{"ForAllValues:StringEquals":{"iot:ConnectAttributes":["PersistentConnect"]}}}`
	connectOnly = `{"Effect":"Allow","Action":"iot:Connect","Resource":"*"}`
)

func allow(actions ...string) string {
	text, _ := json.Marshal(map[string]any{"Effect": "Allow", "Action": actions, "Resource": "*"})
	return string(text)
}

func document(statements ...string) string {
	return `{"Version":"2012-10-17","Statement":[` + strings.Join(statements, ",") + `]}`
}

// Nothing is wrong whichever way is taken to AWS.
func TestDoctorOfEveryProtocol(t *testing.T) {
	c := newCloud(t, awsiottest.Options{})
	for name, changes := range c.protocols() {
		if steps := examine(t, c.with(t, changes), sluice.Examination{}); verdict(steps) != "ok" || stepOf(t, steps, "receive").State != sluice.StepOK {
			t.Errorf("%s: %+v", name, steps)
		}
	}
}

// An examination that is broken off leaves nothing behind either.
func TestDoctorBrokenOff(t *testing.T) {
	c := newCloud(t, awsiottest.Options{})
	ctx, cancel := context.WithCancel(within(t))
	var last string
	awsiot.New(awsiot.Options{}).Examine(ctx, adviceSpec(c.with(t, nil)), sluice.Examination{Create: true}, func(s sluice.Step) {
		if last = s.ID; s.ID == "create" {
			if len(c.Things()) != 1 {
				t.Error("no thing was made")
			}
			cancel()
		}
	})
	if last != "create" || len(c.Things()) != 0 {
		t.Errorf("after %s: %v", last, c.Things())
	}
}

// wrongness is a way to be wrong, and what the doctor is to say of it.
type wrongness struct {
	want   string // step: cause
	says   string // part of the detail or the hint of that step
	change map[string]any
	make   func(t *testing.T, c *cloud)
	x      sluice.Examination
	spec   func(*sluice.DialerSpec, *awsiot.Options)
	behind bool // a step before tells of it, too
}

func deny(action string) func(*testing.T, *cloud) {
	return func(_ *testing.T, c *cloud) { c.Deny(action) }
}

// wrongHere is what is wrong on this side of the TLS connection.
func wrongHere() map[string]wrongness {
	return map[string]wrongness{
		"a property is missing": {want: "configuration: configuration", says: "region: missing property 'region'.", change: map[string]any{"region": nil}},
		"a topic that AWS refuses": {
			want: "configuration: topic_refused", says: "has 8 slashes",
			change: map[string]any{"uplinkTopicPattern": "a/b/c/d/e/f/g/h/{DevEUI}"},
		},
		"a reserved topic":           {want: "configuration: topic_refused", says: "reserved by AWS", change: map[string]any{"uplinkTopicPattern": "$aws/things/{DevEUI}"}},
		"the old endpoint":           {want: "region: endpoint_legacy", says: "abc-ats", change: map[string]any{"accountPrefix": "abc", "dataEndpoint": nil}},
		"the endpoint elsewhere":     {want: "region: region_mismatch", says: "us-east-1", change: map[string]any{"accountPrefix": "abc-ats.iot.us-east-1.amazonaws.com", "dataEndpoint": nil}},
		"the certificate elsewhere":  {want: "region: certificate_region", says: "us-east-1", change: map[string]any{"certificateId": "arn:aws:iot:us-east-1:123456789012:cert/" + strings.Repeat("a", 64)}},
		"another certificate's ARN":  {want: "region: certificate_other", says: "ends in cert/", change: map[string]any{"certificateId": "arn:aws:iot:eu-central-1:123456789012:cert/" + strings.Repeat("a", 64)}},
		"half a certificate":         {want: "certificate: certificate_unreadable", says: "whole file", change: map[string]any{"certificate": "-----BEGIN CERTIFICATE-----\nMII"}},
		"a certificate for a key":    {want: "certificate: key_unreadable", says: "whole file", change: map[string]any{"privateKey": "-----BEGIN CERTIFICATE-----\nMIIC\n-----END CERTIFICATE-----"}},
		"the key of another":         {want: "certificate: key_mismatch", says: "not the one of this certificate", make: otherKey},
		"an expired certificate":     {want: "certificate: certificate_expired", says: "expired on", spec: clockAt(100 * 365 * 24 * time.Hour)},
		"a certificate of tomorrow":  {want: "certificate: certificate_not_yet_valid", says: "clock", spec: clockAt(-10 * 365 * 24 * time.Hour)},
		"a name that does not exist": {want: "name: name_unknown", says: "describe-endpoint", change: map[string]any{"dataEndpoint": "no-such-account-ats.invalid:8883"}},
		"a port that is closed":      {want: "port: port_refused", says: "refuses connections", make: nobody},
		"a clock that is slow":       {want: "clock: clock_skew", says: "NTP", spec: clockAt(-20 * time.Minute)},
		"another authority":          {want: "tls: tls_untrusted", says: "Sluice AWS IoT emulator root", change: map[string]any{"caCertificate": nil}},
		"another name":               {want: "tls: tls_name", says: "not for the name", make: otherName},
		"no TLS":                     {want: "tls: tls_not_spoken", says: "does not speak TLS", make: plainHTTP},
	}
}

// wrongAtAWS is what AWS refuses.
func wrongAtAWS() map[string]wrongness {
	return map[string]wrongness{
		"an inactive certificate": {want: "accepted: certificate_inactive", says: "update-certificate --new-status ACTIVE", make: func(_ *testing.T, c *cloud) {
			c.DeactivateCertificate(c.certificateID())
		}},
		"a revoked certificate":  {want: "accepted: certificate_revoked", says: "revoked", make: revoke},
		"an unknown certificate": {want: "accepted: certificate_unknown", says: "another account or region", make: foreignCertificate},
		"inactive, and no key to ask": {
			want: "accepted: certificate_refused", says: "aws iot describe-certificate --certificate-id",
			change: map[string]any{"accessKeyId": nil, "secretAccessKey": nil},
			make:   func(_ *testing.T, c *cloud) { c.DeactivateCertificate(c.certificateID()) },
		},
		"too many connections": {want: "accepted: connect_throttled", says: "Wait a minute", make: func(_ *testing.T, c *cloud) { c.RefuseConnects(0x97) }},
		"no policy": {want: "connect: no_policy", says: "attach-policy", make: func(t *testing.T, c *cloud) {
			if err := c.SetPolicies(c.certificateID()); err != nil {
				t.Fatal(err)
			}
		}},
		"a policy without connect": {want: "connect: connect_denied", says: "client/sluice-a1b2c3d4-8-*", make: attached(document(allow("iot:Publish", "iot:Subscribe", "iot:Receive")))},
		"clean sessions only": {
			want: "persistent: persistent_denied", says: "PersistentConnect",
			make: attached(document(connectOnly, allow("iot:Publish", "iot:Subscribe", "iot:Receive"),
				`{"Effect":"Deny","Action":"iot:Connect","Resource":"*","Condition":{"ForAnyValue:StringEquals":{"iot:ConnectAttributes":["PersistentConnect"]}}}`)),
		},
		"a policy without subscribe": {
			want: "subscribe: subscribe_denied", says: "iot:Subscribe on arn:aws:iot:eu-central-1:123456789012:topicfilter/tpx/things/+/downlink",
			make: attached(document(connectAny, allow("iot:Publish", "iot:Receive"))),
		},
		"a policy without publish": {
			want: "publish: publish_denied", says: "iot:Publish on arn:aws:iot:eu-central-1:123456789012:topic/tpx/things/*/uplink",
			make: attached(document(connectAny, allow("iot:Subscribe", "iot:Receive"))),
		},
		"a policy without receive": {
			want: "receive: receive_denied", says: "iot:Receive on",
			make: attached(document(connectAny, allow("iot:Subscribe", "iot:Publish"))),
		},
		"no acknowledgements":     {want: "publish: publish_unanswered", says: "quota", make: func(_ *testing.T, c *cloud) { c.DropPubacks(1) }},
		"no API":                  {want: "api: api_unreachable", says: "port 443", make: closedAPI},
		"an unknown access key":   {want: "key: key_unknown", says: "does not know", change: map[string]any{"accessKeyId": "AKIAAAAAAAAAAAAAAAAA"}},
		"a wrong secret":          {want: "key: secret_wrong", says: "secretAccessKey", change: map[string]any{"secretAccessKey": "wrong"}},
		"DescribeThing forbidden": {want: "describe: describe_denied", says: "iot:DescribeThing on arn:aws:iot:eu-central-1:123456789012:thing/*", make: deny("DescribeThing")},
		"no thing type":           {want: "type: type_missing", says: "create-thing-type --thing-type-name nix", change: map[string]any{"deviceType": "nix"}},
		"a deprecated thing type": {want: "type: type_deprecated", says: "--undo-deprecate", make: func(_ *testing.T, c *cloud) { c.DeprecateThingType("LoRaWAN") }},
		"CreateThing forbidden":   {want: "create: create_denied", says: "iot:CreateThing on", make: deny("CreateThing"), x: sluice.Examination{Create: true}},
		"AttachThingPrincipal forbidden": {
			want: "attach: attach_denied", says: "iot:AttachThingPrincipal on", make: deny("AttachThingPrincipal"), x: sluice.Examination{Create: true},
		},
		"the prefix of another account": {
			want: "endpoint: endpoint_other", says: `Write "localhost" as accountPrefix`,
			change: map[string]any{"dataEndpoint": nil, "accountPrefix": "other-ats"}, x: sluice.Examination{Silent: true}, behind: true,
		},
	}
}

// Each way to be wrong is named: the first step that fails, and its cause.
func TestDoctorNames(t *testing.T) {
	for name, w := range allWrong() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCloud(t, awsiottest.Options{})
			if w.make != nil {
				w.make(t, c)
			}
			var changes []func(*sluice.DialerSpec, *awsiot.Options)
			if w.spec != nil {
				changes = append(changes, w.spec)
			}
			steps := examine(t, c.with(t, w.change), w.x, changes...)
			id, cause, _ := strings.Cut(w.want, ": ")
			s := stepOf(t, steps, id)
			if s.Cause != cause || !strings.Contains(s.Detail+" "+s.Hint, w.says) || s.Hint == "" {
				t.Errorf("%+v", s)
			}
			if first := verdict(steps); first != w.want && !w.behind {
				t.Errorf("the first that is wrong is %s, want %s", first, w.want)
			}
			c.keepsSecrets(t, steps)
			if len(c.Things()) > 0 {
				t.Errorf("left behind: %v", c.Things())
			}
		})
	}
}

func clockAt(off time.Duration) func(*sluice.DialerSpec, *awsiot.Options) {
	return func(s *sluice.DialerSpec, o *awsiot.Options) {
		s.Clock = func() time.Time { return time.Now().Add(off) }
	}
}

// otherKey puts the key of another certificate into the configuration.
func otherKey(t *testing.T, c *cloud) {
	other, err := c.CreateKeysAndCertificate(true)
	if err != nil {
		t.Fatal(err)
	}
	c.conf["privateKey"] = other.PrivateKeyPEM
}

// foreignCertificate puts the certificate of another account into it.
func foreignCertificate(t *testing.T, c *cloud) {
	other, err := newCloud(t, awsiottest.Options{}).CreateKeysAndCertificate(true)
	if err != nil {
		t.Fatal(err)
	}
	c.conf["certificate"], c.conf["privateKey"], c.conf["certificateId"] = other.CertificatePEM, other.PrivateKeyPEM, other.ARN
}

func nobody(t *testing.T, c *cloud) { c.conf["dataEndpoint"] = closedPort(t) }

func closedAPI(t *testing.T, c *cloud) { c.conf["controlEndpoint"] = "http://" + closedPort(t) }

func plainHTTP(t *testing.T, c *cloud) {
	s := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(s.Close)
	c.conf["dataEndpoint"] = s.Listener.Addr().String()
}

// otherName is a server whose certificate is trusted, but of another name.
func otherName(t *testing.T, c *cloud) {
	s := httptest.NewUnstartedServer(http.NotFoundHandler())
	s.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	s.StartTLS()
	t.Cleanup(s.Close)
	c.conf["caCertificate"] = pemOf(s.Certificate())
	_, port, _ := net.SplitHostPort(s.Listener.Addr().String())
	c.conf["dataEndpoint"] = "localhost:" + port
}
