package awsiot_test

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sluice"
	"sluice/connector/awsiot"
	"sluice/connector/awsiot/awsiottest"
)

// iotDocument is a policy, as far as the tests read it.
type iotDocument struct {
	Version   string
	Statement []map[string]any
}

func (d iotDocument) String() string {
	text, _ := json.Marshal(map[string]any{"Version": d.Version, "Statement": d.Statement})
	return string(text)
}

// without is the policy without one statement, by its Sid.
func (d iotDocument) without(sid string) iotDocument {
	d.Statement = slices.DeleteFunc(slices.Clone(d.Statement), func(s map[string]any) bool { return s["Sid"] == sid })
	return d
}

func (d iotDocument) sids() []string {
	var sids []string
	for _, s := range d.Statement {
		sids = append(sids, s["Sid"].(string))
	}
	return sids
}

func adviceSpec(configuration json.RawMessage) sluice.DialerSpec {
	return sluice.DialerSpec{
		Connection: sluice.Connection{ID: "8", Configuration: configuration},
		Common:     sluice.Common{CreateDevices: true, DownlinkEnabled: true},
		Instance:   "a1b2c3d4",
	}
}

func advise(t *testing.T, spec sluice.DialerSpec, w sluice.Wish) (documents map[string]iotDocument, raw map[string]json.RawMessage, notes []string) {
	t.Helper()
	a, err := awsiot.New(awsiot.Options{}).Advise(spec, w)
	if err != nil {
		t.Fatal(err)
	}
	documents, raw = map[string]iotDocument{}, map[string]json.RawMessage{}
	for _, d := range a.Documents {
		raw[d.Name] = d.JSON
		if d.Name == "cloudFormation" {
			continue
		}
		var p iotDocument
		if err := json.Unmarshal(d.JSON, &p); err != nil {
			t.Fatal(err)
		}
		documents[d.Name] = p
	}
	return documents, raw, a.Notes
}

// strictCloud is an account in which persistent sessions need a condition.
func strictCloud(t *testing.T) *cloud {
	return newCloud(t, awsiottest.Options{Rate: -1, Inferred: awsiottest.Inferred{AttributesNeedCondition: true}})
}

// A connection works with exactly the policy that is written for it: reports
// go, commands come, and its second generation may connect, too.
func TestPolicyIsEnough(t *testing.T) {
	c := strictCloud(t)
	documents, _, _ := advise(t, adviceSpec(c.with(t, nil)), sluice.Wish{})
	attached(documents["iotPolicy"].String())(t, c)
	w := c.watch(t, "tpx/things/+/uplink")
	d := newRig().dial(t, awsiot.Options{}, c.with(t, nil))
	s := open(t, d, 1)
	commands := make(chan sluice.Command, 1)
	if err := s.(sluice.Subscriber).Subscribe(within(t), func(_ context.Context, m sluice.Command) error {
		commands <- m
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := s.Handle(within(t), plainUplink("20635F0108000496")); err != nil {
		t.Fatal(err)
	}
	await(t, "the report", func() bool { return len(w.all()) == 1 })
	w.publish(t, "tpx/things/20635F0108000496/downlink", 1, []byte(`{}`))
	<-commands
	steps := examine(t, c.with(t, nil), sluice.Examination{})
	if verdict(steps) != "ok" || stepOf(t, steps, "persistent").State != sluice.StepOK || stepOf(t, steps, "receive").State != sluice.StepSkipped {
		t.Errorf("%+v", steps)
	}
}

func plainUplink(devEUI string) *sluice.Message {
	return &sluice.Message{
		ID: "01ARZ3NDEKTSV4RRFFQ69G5FAV", Kind: sluice.KindUplink, DevEUI: devEUI,
		Document: []byte(`{"DevEUI_uplink":{"DevEUI":"` + devEUI + `"}}`),
	}
}

// Taken any one statement away, something is refused, and the doctor says
// what.
func TestPolicyIsNoMoreThanEnough(t *testing.T) {
	for sid, want := range map[string]string{
		"":          "ok",
		"Connect":   "connect: connect_denied",
		"Publish":   "publish: publish_denied",
		"Subscribe": "subscribe: subscribe_denied",
		"Receive":   "receive: receive_denied",
		"Examine":   "ok",
	} {
		t.Run(sid, func(t *testing.T) {
			t.Parallel()
			c := strictCloud(t)
			documents, _, _ := advise(t, adviceSpec(c.with(t, nil)), sluice.Wish{Examine: true})
			p := documents["iotPolicy"]
			if len(p.Statement) != 5 {
				t.Errorf("statements %v", p.sids())
			}
			attached(p.without(sid).String())(t, c)
			steps := examine(t, c.with(t, nil), sluice.Examination{})
			if got := verdict(steps); got != want {
				t.Errorf("%s, want %s", got, want)
			}
			received := stepOf(t, steps, "receive").State
			if came := sid == "" || sid == "Publish"; came != (received == sluice.StepOK) {
				t.Errorf("receive is %s", received)
			}
		})
	}
}

// The access key needs each statement of its policy, and no other. What the
// doctor needs besides is not missed where it is not there.
func TestPolicyOfTheKey(t *testing.T) {
	for sid, want := range map[string]string{
		"":                   "ok",
		"LookUpThings":       "describe: describe_denied",
		"MakeThings":         "create: create_denied",
		"AttachCertificate":  "attach: attach_denied",
		"ExamineAccount":     "ok",
		"ExamineCertificate": "ok",
		"ExamineThings":      "ok",
		"ExamineType":        "ok",
	} {
		t.Run(sid, func(t *testing.T) {
			t.Parallel()
			c := newCloud(t, awsiottest.Options{})
			documents, _, _ := advise(t, adviceSpec(c.with(t, nil)), sluice.Wish{Examine: true})
			p := documents["iamPolicy"]
			if len(p.Statement) != 7 {
				t.Errorf("statements %v", p.sids())
			}
			key, err := c.CreateUser("sluice", p.without(sid).String())
			if err != nil {
				t.Fatal(err)
			}
			configuration := c.with(t, map[string]any{"accessKeyId": key.ID, "secretAccessKey": key.Secret})
			steps := examine(t, configuration, sluice.Examination{Create: true})
			if got := verdict(steps); got != want {
				t.Errorf("%s, want %s: %+v", got, want, steps)
			}
			for _, s := range steps {
				if sid == "" && s.State != sluice.StepOK {
					t.Errorf("%+v", s)
				}
			}
			if things := c.Things(); len(things) > 0 {
				t.Errorf("left behind: %v", things)
			}
		})
	}
}

// A connection registers its devices with the key's policy, which has nothing
// for the doctor.
func TestPolicyOfTheKeyIsEnough(t *testing.T) {
	c := newCloud(t, awsiottest.Options{Rate: -1})
	documents, _, _ := advise(t, adviceSpec(c.with(t, nil)), sluice.Wish{})
	key, err := c.CreateUser("sluice", documents["iamPolicy"].String())
	if err != nil {
		t.Fatal(err)
	}
	d := newRig().dial(t, awsiot.Options{}, c.with(t, map[string]any{"accessKeyId": key.ID, "secretAccessKey": key.Secret}))
	if err := d.(sluice.Preparer).Prepare(within(t), plainUplink("20635F0108000496")); err != nil {
		t.Fatal(err)
	}
	thing, ok := c.Thing("20635F0108000496")
	if !ok || thing.TypeName != "LoRaWAN" || len(thing.Principals) != 1 {
		t.Errorf("%+v", thing)
	}
}

// The resources follow the configuration.
func TestPolicyResources(t *testing.T) {
	const arn = "arn:aws:iot:eu-central-1:123456789012:cert/"
	base := map[string]any{
		"uplinkTopicPattern": "a-{DevEUI}/{CustomerData.name|DevEUI}/up", "downlinkTopicPattern": "a-{DevEUI}/down", "region": "eu-central-1",
		"accountPrefix": "abc-ats", "certificateId": arn + strings.Repeat("0", 64), "accessKeyId": "AKIA", "secretAccessKey": "x", "deviceType": "LoRaWAN",
	}
	resources := func(change map[string]any, spec func(*sluice.DialerSpec)) map[string][]string {
		m := map[string]any{}
		for k, v := range base {
			m[k] = v
		}
		for k, v := range change {
			m[k] = v
		}
		raw, _ := json.Marshal(m)
		s := adviceSpec(raw)
		if spec != nil {
			spec(&s)
		}
		documents, _, _ := advise(t, s, sluice.Wish{})
		out := map[string][]string{}
		for name, d := range documents {
			for _, st := range d.Statement {
				for i, r := range st["Resource"].([]any) {
					out[name] = append(out[name], strings.TrimPrefix(st["Action"].([]any)[i].(string), "iot:")+" "+r.(string))
				}
			}
		}
		return out
	}
	const at = "arn:aws:iot:eu-central-1:123456789012:"
	check := func(name string, got, want any) {
		t.Helper()
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s (-want +got)\n%s", name, d)
		}
	}
	check("all", resources(nil, nil), map[string][]string{
		"iotPolicy": {
			"Connect " + at + "client/sluice-a1b2c3d4-8-*", "Publish " + at + "topic/a-*/*/up",
			"Subscribe " + at + "topicfilter/+/down", "Receive " + at + "topic/a-*/down",
		},
		"iamPolicy": {"DescribeThing " + at + "thing/*", "CreateThing " + at + "thing/*", "AttachThingPrincipal *"},
	})
	check("no commands, nothing made", resources(nil, func(s *sluice.DialerSpec) { s.Common = sluice.Common{} }), map[string][]string{
		"iotPolicy": {"Connect " + at + "client/sluice-a1b2c3d4-8-*", "Publish " + at + "topic/a-*/*/up"},
		"iamPolicy": {"DescribeThing " + at + "thing/*"},
	})
	check("no key, Basic Ingest, a star, China", resources(map[string]any{
		"accessKeyId": "", "secretAccessKey": "", "uplinkTopicPattern": "$aws/rules/all/x*{DevEUI}", "downlinkTopicPattern": "", "region": "cn-north-1",
		"certificateId": "",
	}, func(s *sluice.DialerSpec) { s.Connection.ID = "" }), map[string][]string{"iotPolicy": {
		"Connect arn:aws-cn:iot:cn-north-1:<account id>:client/sluice-*",
		"Publish arn:aws-cn:iot:cn-north-1:<account id>:topic/$aws/rules/all/x${*}*",
	}})
}

// The template makes the same policies, once its functions are evaluated.
func TestPolicyTemplate(t *testing.T) {
	c := newCloud(t, awsiottest.Options{})
	documents, raw, notes := advise(t, adviceSpec(c.with(t, map[string]any{"uplinkTopicPattern": "x*/{DevEUI}"})), sluice.Wish{})
	if len(notes) != 0 {
		t.Errorf("notes %q", notes)
	}
	text := regexp.MustCompile(`\{"Fn::Sub":("[^"]*")\}`).ReplaceAllString(string(raw["cloudFormation"]), "$1")
	text = strings.NewReplacer("${AWS::Partition}", "aws", "${AWS::Region}", c.Region(), "${AWS::AccountId}", "123456789012", "${!", "${").Replace(text)
	var template struct {
		Parameters map[string]struct{ Default string }
		Resources  map[string]struct {
			Type       string
			Properties struct {
				PolicyDocument iotDocument
				ThingTypeName  string
				Principal      map[string]string
				Policies       []struct{ PolicyDocument iotDocument }
			}
		}
	}
	if err := json.Unmarshal([]byte(text), &template); err != nil {
		t.Fatal(err)
	}
	r := template.Resources
	if d := cmp.Diff(documents["iotPolicy"], r["IoTPolicy"].Properties.PolicyDocument); d != "" {
		t.Errorf("IoT policy (-alone +template)\n%s", d)
	}
	if d := cmp.Diff(documents["iamPolicy"], r["User"].Properties.Policies[0].PolicyDocument); d != "" {
		t.Errorf("IAM policy (-alone +template)\n%s", d)
	}
	if template.Parameters["CertificateArn"].Default != c.conf["certificateId"] || r["ThingType"].Properties.ThingTypeName != "LoRaWAN" {
		t.Errorf("%+v", template)
	}
	if strings.Contains(text, c.SecretAccessKey()) || strings.Contains(text, c.AccessKeyID()) {
		t.Error("a secret is in the template")
	}
}

// What cannot be written is an error that names all that is wrong.
func TestPolicyNotWritten(t *testing.T) {
	spec := adviceSpec(json.RawMessage(`{"uplinkTopicPattern":"","region":"Europe"}`))
	_, err := awsiot.New(awsiot.Options{}).Advise(spec, sluice.Wish{Account: "12"})
	var paths []string
	if e, ok := err.(*sluice.Error); ok {
		for _, f := range e.Fields {
			paths = append(paths, f.Path)
		}
	}
	if fmt.Sprint(paths) != "[uplinkTopicPattern region account]" {
		t.Errorf("%v: %v", err, paths)
	}
}

// Over WebSocket the access key needs what the certificate would need, and the
// doctor finds it enough; without one of the statements it does not.
func TestPolicyWithoutCertificate(t *testing.T) {
	for sid, want := range map[string]string{
		"": "ok", "Connect": "connect: connect_denied", "Publish": "publish: publish_denied", "Subscribe": "subscribe: subscribe_denied",
	} {
		t.Run(sid, func(t *testing.T) {
			t.Parallel()
			c := newCloud(t, awsiottest.Options{})
			changes := c.protocols()["WSS"]
			documents, raw, _ := advise(t, adviceSpec(c.with(t, changes)), sluice.Wish{})
			if _, there := documents["iotPolicy"]; there || strings.Contains(string(raw["cloudFormation"]), "AWS::IoT::Policy") {
				t.Error("an IoT policy without a certificate")
			}
			key, err := c.CreateUser("sluice", documents["iamPolicy"].without(sid).String())
			if err != nil {
				t.Fatal(err)
			}
			changes["accessKeyId"], changes["secretAccessKey"] = key.ID, key.Secret
			steps := examine(t, c.with(t, changes), sluice.Examination{})
			if got := verdict(steps); got != want {
				t.Errorf("%s, want %s: %+v", got, want, steps)
			}
		})
	}
}

// Attributes and groups add what they need.
func TestPolicyOfGroups(t *testing.T) {
	c := newCloud(t, awsiottest.Options{})
	documents, _, _ := advise(t, adviceSpec(c.with(t, map[string]any{
		"thingAttributes": map[string]string{"name": "{DevEUI}"}, "thingGroups": []string{"plant"}, "billingGroup": "water",
	})), sluice.Wish{})
	text := documents["iamPolicy"].String()
	for _, want := range []string{"iot:UpdateThing", "iot:AddThingToThingGroup", ":thinggroup/plant", "iot:AddThingToBillingGroup", ":billinggroup/water"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in %s", want, text)
		}
	}
}
