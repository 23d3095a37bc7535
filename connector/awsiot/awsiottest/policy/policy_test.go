package policy_test

import (
	"strings"
	"testing"

	"sluice/connector/awsiot/awsiottest/policy"
)

const arn = "arn:aws:iot:eu-central-1:123456789012:"

func parse(t testing.TB, document string) []*policy.Document {
	t.Helper()
	d, err := policy.Parse(document)
	if err != nil {
		t.Fatal(err)
	}
	return []*policy.Document{d}
}

func allow(action, resource, condition string) string {
	if condition != "" {
		condition = `,"Condition":` + condition
	}
	return `{"Effect":"Allow","Action":` + action + `,"Resource":` + resource + condition + `}`
}

func document(statements ...string) string {
	return `{"Version":"2012-10-17","Statement":[` + strings.Join(statements, ",") + `]}`
}

// TestResources wants the wildcards of a policy, and MQTT's as plain
// characters. Source: Developer Guide, "Publish/Subscribe policy examples".
func TestResources(t *testing.T) {
	for _, test := range []struct {
		resource, asked string
		want            bool
	}{
		{"topic/a/b", "topic/a/b", true},
		{"topic/a/b", "topic/a/bc", false},
		{"topic/a/*", "topic/a/b/c", true}, // * goes over slashes
		{"topic/a/*", "topic/a", false},
		{"topic/a/*/c", "topic/a/x/y/c", true},
		{"topic/sensor???", "topic/sensor123", true},
		{"topic/sensor???", "topic/sensor12", false},
		{"topic/ä?", "topic/äö", true},
		{"topicfilter/a/+", "topicfilter/a/+", true},
		{"topicfilter/a/+", "topicfilter/a/b", false}, // + is a plus
		{"topicfilter/a/#", "topicfilter/a/#", true},
		{"topicfilter/a/#", "topicfilter/a/b/c", false}, // # is a number sign
		{"topicfilter/a/*", "topicfilter/a/+/b", true},
		{"topic/${iot:ClientId}/up", "topic/dev1/up", true},
		{"topic/${iot:ClientId}/up", "topic/dev2/up", false},
		{"topic/${IOT:clientid}/up", "topic/dev1/up", true},
		{"topic/${iot:Missing}/up", "topic//up", false},
		{"topic/${aws:Many}", "topic/a", false},
		{"topic/${iot:Wild}", "topic/*", true},
		{"topic/${iot:Wild}", "topic/anything", false}, // a value is no pattern
		{"topic/${*}${?}${$}", "topic/*?$", true},
		{"topic/${*}", "topic/a", false},
		{"topic/$aws/*", "topic/$aws/x", true},
		{"topic/${open", "topic/${open", true},
	} {
		d := parse(t, document(allow(`"iot:Publish"`, `"`+arn+test.resource+`"`, "")))
		got := policy.Allows(d, policy.Request{
			Action: "iot:Publish", Resource: arn + test.asked,
			Values: policy.Values{"iot:ClientId": {"dev1"}, "aws:Many": {"a", "b"}, "iot:Wild": {"*"}},
		})
		if got != test.want {
			t.Errorf("%s, asked for %s: %v, want %v", test.resource, test.asked, got, test.want)
		}
	}
}

func TestActions(t *testing.T) {
	for _, test := range []struct {
		actions string
		asked   string
		want    bool
	}{
		{`"iot:Publish"`, "iot:Publish", true},
		{`"iot:publish"`, "iot:Publish", true},
		{`"iot:Publish"`, "iot:RetainPublish", false},
		{`["iot:Connect","iot:Publish"]`, "iot:Publish", true},
		{`"iot:*"`, "iot:GetThingShadow", true},
		{`"iot:Get*"`, "iot:UpdateThingShadow", false},
		{`"*"`, "iot:Connect", true},
		{`"s3:*"`, "iot:Connect", false},
	} {
		d := parse(t, document(allow(test.actions, `"*"`, "")))
		if got := policy.Allows(d, policy.Request{Action: test.asked, Resource: arn + "x"}); got != test.want {
			t.Errorf("%s, asked for %s: %v", test.actions, test.asked, got)
		}
	}
	d := parse(t, `{"Version":"2012-10-17","Statement":{"Effect":"Allow","NotAction":"iot:Delete*","NotResource":"`+arn+`thing/x"}}`)
	for asked, want := range map[[2]string]bool{
		{"iot:CreateThing", "thing/y"}: true, {"iot:DeleteThing", "thing/y"}: false, {"iot:CreateThing", "thing/x"}: false,
	} {
		if got := policy.Allows(d, policy.Request{Action: asked[0], Resource: arn + asked[1]}); got != want {
			t.Errorf("%v: %v", asked, got)
		}
	}
}

// TestIdentity are IAM's policies: actions in any case, resources in theirs.
func TestIdentity(t *testing.T) {
	const thing = arn + "thing/"
	d, err := policy.ParseIdentity(`{"Version":"2012-10-17","Statement":[
		{"Effect":"Allow","Action":["iot:DescribeThing","iot:Create*"],"Resource":"` + thing + `lora-*"},
		{"Effect":"Deny","Action":"iot:CreateThing","Resource":["` + thing + `lora-0","x"]}]}`)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		action, resource string
		want             policy.Decision
	}{
		{"iot:DescribeThing", thing + "lora-1", policy.Allowed},
		{"iot:describething", thing + "lora-1", policy.Allowed},
		{"iot:DescribeThing", thing + "other", policy.NotAllowed},
		{"iot:DescribeThing", thing + "LORA-1", policy.NotAllowed},
		{"iot:DeleteThing", thing + "lora-1", policy.NotAllowed},
		{"iot:CreateThing", thing + "lora-1", policy.Allowed},
		{"iot:CreateThing", thing + "lora-0", policy.Denied},
	} {
		if got := policy.Evaluate([]*policy.Document{d}, policy.Request{Action: test.action, Resource: test.resource}); got != test.want {
			t.Errorf("%s on %s: %v, want %v", test.action, test.resource, got, test.want)
		}
	}
}

// TestVersions wants variables under the version that has them, and a policy of
// IAM to do without any version.
func TestVersions(t *testing.T) {
	statement := `"Statement":{"Effect":"Allow","Action":"*","Resource":"${aws:username}","Condition":{"StringEquals":{"a":"${b}"}}}}`
	for head, c := range map[string]struct {
		resource, a string
		iot         bool
	}{
		`{"Version":"2012-10-17",`: {"u", "B", true}, `{"Version":"2008-10-17",`: {"${aws:username}", "${b}", true}, `{`: {"${aws:username}", "${b}", false},
	} {
		d, err := policy.ParseIdentity(head + statement)
		if err != nil {
			t.Fatal(err)
		}
		for _, resource := range []string{"u", "${aws:username}"} {
			for _, a := range []string{"B", "${b}"} {
				r := policy.Request{Action: "iot:x", Resource: resource, Values: policy.Values{"aws:username": {"u"}, "a": {a}, "b": {"B"}}}
				if got := policy.Allows([]*policy.Document{d}, r); got != (resource == c.resource && a == c.a) {
					t.Errorf("%s %s, %s: %v", head, resource, a, got)
				}
			}
		}
		if _, err := policy.Parse(head + statement); (err == nil) != c.iot {
			t.Errorf("as an IoT policy, %s: %v", head, err)
		}
	}
}

func TestKeys(t *testing.T) {
	d := parse(t, document(allow(`"iot:Connect"`, `"`+arn+`client/${a}-${*}"`, `{"StringEquals":{"b":["${c}","x"]},"Bool":{"d":"true"}}`)))
	if got := strings.Join(d[0].Keys(), " "); got != "a b c d" {
		t.Errorf("keys %s", got)
	}
}

func TestAllowActions(t *testing.T) {
	d := []*policy.Document{policy.AllowActions("iot:ListThings", "sts:*")}
	for action, want := range map[string]bool{"iot:ListThings": true, "iot:listthings": true, "iot:ListThingsX": false, "sts:AssumeRole": true} {
		if got := policy.Allows(d, policy.Request{Action: action, Resource: arn + "x"}); got != want {
			t.Errorf("%s: %v", action, got)
		}
	}
}

func TestMatch(t *testing.T) {
	for _, test := range []struct {
		pattern, text string
		want          bool
	}{
		{"", "", true},
		{"", "a", false},
		{"*", "", true},
		{"*", "a:b/c", true},
		{"a*", "a", true},
		{"a*c", "abbc", true},
		{"a*c", "abb", false},
		{"?", "a", true},
		{"?", "", false},
		{"a?c", "abc", true},
		{"*b*", "abc", true},
		{"*b*", "ac", false},
		{"a*b*c", "a-b-b-c", true},
		{"iot:*Thing", "iot:CreateThing", true},
		{"iot:*Thing", "iot:CreateThingType", false},
		{"*a*a*a*b", strings.Repeat("a", 1000), false},
		{"${a}", "${a}", true}, // there are no variables
		{"${*}", "${xy}", true},
	} {
		if got := policy.Match(test.pattern, test.text); got != test.want {
			t.Errorf("Match(%q, %.20q) = %v", test.pattern, test.text, got)
		}
	}
}

func TestDenyWins(t *testing.T) {
	deny := `{"Effect":"Deny","Action":"iot:Publish","Resource":"` + arn + `topic/secret/*"}`
	for name, d := range map[string][]*policy.Document{
		"one document":  parse(t, document(deny, allow(`"*"`, `"*"`, ""))),
		"two documents": append(parse(t, document(allow(`"*"`, `"*"`, ""))), parse(t, document(deny))...),
	} {
		for topic, want := range map[string]policy.Decision{"secret/a": policy.Denied, "open": policy.Allowed} {
			if got := policy.Evaluate(d, policy.Request{Action: "iot:Publish", Resource: arn + "topic/" + topic}); got != want {
				t.Errorf("%s, %s: %v, want %v", name, topic, got, want)
			}
		}
	}
	if got := policy.Evaluate(nil, policy.Request{Action: "iot:Publish", Resource: arn + "topic/a"}); got != policy.NotAllowed {
		t.Errorf("without a policy: %v", got)
	}
}

// TestConnectAttributes are the examples of the Developer Guide, "Connect
// policy examples": which of the four kinds of CONNECT each allows.
func TestConnectAttributes(t *testing.T) {
	attributes := func(operator, values string) string {
		return `{"` + operator + `":{"iot:ConnectAttributes":[` + values + `]}}`
	}
	deny := func(condition string) string {
		return `{"Effect":"Deny","Action":["iot:Connect"],"Resource":"*","Condition":` + condition + `}`
	}
	connect := func(condition string) string { return allow(`["iot:Connect"]`, `"*"`, condition) }
	const p, w = `"PersistentConnect"`, `"LastWill"`
	all, anyOf := "ForAllValues:StringEquals", "ForAnyValue:StringEquals"
	asked := [][]string{nil, {"PersistentConnect"}, {"LastWill"}, {"PersistentConnect", "LastWill"}}
	for _, test := range []struct {
		name, document string
		want           [4]bool // plain, persistent, will, both
	}{
		{"persistent", document(connect(attributes(all, p))), [4]bool{true, true, false, false}},
		{"not persistent", document(connect(attributes("ForAllValues:StringNotEquals", p))), [4]bool{true, false, true, false}},
		{"not persistent, by Deny", document(connect(""), deny(attributes(anyOf, p))), [4]bool{true, false, true, false}},
		{"both", document(connect(attributes(all, p+","+w))), [4]bool{true, true, true, true}},
		{"will", document(connect(attributes(all, w))), [4]bool{true, false, true, false}},
		{"none", document(connect(attributes(all, ""))), [4]bool{true, false, false, false}},
		{"only persistent", document(connect(attributes(anyOf, p))), [4]bool{false, true, false, true}},
		{
			"must have both", document(connect(attributes(all, p+","+w)), deny(attributes(all, p)), deny(attributes(all, w)), deny(attributes(all, ""))),
			[4]bool{false, false, false, true},
		},
		{"may have a will", document(deny(attributes(anyOf, p)), connect(attributes(all, w))), [4]bool{true, false, true, false}},
	} {
		d := parse(t, test.document)
		for i, a := range asked {
			r := policy.Request{Action: "iot:Connect", Resource: arn + "client/c", Values: policy.Values{"iot:ConnectAttributes": a}}
			if got := policy.Allows(d, r); got != test.want[i] {
				t.Errorf("%s, CONNECT with %v: %v, want %v", test.name, a, got, test.want[i])
			}
		}
	}
}

func TestConditions(t *testing.T) {
	values := policy.Values{
		"iot:ClientId": {"dev1"}, "iot:LastWillTopic": {arn + "topic/will/dev1"}, "aws:SourceIp": {"10.1.2.3"},
		"iot:Connection.Thing.IsAttached": {"true"},
	}
	for condition, want := range map[string]bool{
		`{"StringEquals":{"iot:ClientId":"dev1"}}`:                                             true,
		`{"StringEquals":{"iot:ClientId":"Dev1"}}`:                                             false,
		`{"StringEquals":{"iot:ClientId":"dev*"}}`:                                             false,
		`{"StringEqualsIgnoreCase":{"iot:ClientId":"DEV1"}}`:                                   true,
		`{"StringLike":{"iot:ClientId":["x","dev?"]}}`:                                         true,
		`{"StringNotLike":{"iot:ClientId":"dev?"}}`:                                            false,
		`{"StringNotEquals":{"iot:ClientId":"dev2"}}`:                                          true,
		`{"StringNotEquals":{"iot:Missing":"x"}}`:                                              true,
		`{"StringEquals":{"iot:Missing":"x"}}`:                                                 false,
		`{"StringEqualsIfExists":{"iot:Missing":"x"}}`:                                         true,
		`{"StringEquals":{"iot:ClientId":"${iot:ClientId}"}}`:                                  true,
		`{"ArnEquals":{"iot:LastWillTopic":"` + arn + `topic/will/${iot:ClientId}"}}`:          true,
		`{"ArnLike":{"iot:LastWillTopic":"arn:aws:iot:*:*:topic/other/*"}}`:                    false,
		`{"Bool":{"iot:Connection.Thing.IsAttached":"true"}}`:                                  true,
		`{"Bool":{"iot:Connection.Thing.IsAttached":[false]}}`:                                 false,
		`{"Bool":{"iot:Connection.Thing.IsAttached":true}}`:                                    true,
		`{"Null":{"iot:Missing":"true"}}`:                                                      true,
		`{"Null":{"iot:ClientId":"true"}}`:                                                     false,
		`{"IpAddress":{"aws:SourceIp":"10.0.0.0/8"}}`:                                          true,
		`{"NotIpAddress":{"aws:SourceIp":"10.0.0.0/8"}}`:                                       false,
		`{"IpAddress":{"aws:SourceIp":"10.1.2.3"}}`:                                            true,
		`{"StringEquals":{"iot:ClientId":"dev1"},"IpAddress":{"aws:SourceIp":"192.0.2.0/24"}}`: false, // all must hold
	} {
		condition = strings.Replace(condition, "[false]", `["false"]`, 1)
		d := parse(t, document(allow(`"iot:Connect"`, `"*"`, condition)))
		if got := policy.Allows(d, policy.Request{Action: "iot:Connect", Resource: arn + "client/dev1", Values: values}); got != want {
			t.Errorf("%s: %v, want %v", condition, got, want)
		}
	}
}

// TestProblems wants all problems of a document at once.
func TestProblems(t *testing.T) {
	for name, test := range map[string]struct {
		document string
		want     []string
	}{
		"no JSON": {`{`, []string{"no JSON"}},
		"several": {
			`{"Version":"1","Statement":[{"Effect":"Maybe","Action":"Publish"},{"Effect":"Deny","Action":"*","NotAction":"*","Resource":"*",
			"Condition":{"NumericEquals":{"a":"1"}}}]}`,
			[]string{"version", "statement 1: effect", "statement 1: Resource is missing", `action "Publish"`, "statement 2: Action and NotAction", "NumericEquals"},
		},
		"unknown member": {`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Actions":"*","Resource":"*"}]}`, []string{"Actions"}},
		"no statement":   {`{"Version":"2012-10-17"}`, []string{"no statement"}},
		"more than one":  {document(allow(`"*"`, `"*"`, "")) + `{}`, []string{"behind"}},
		"a bad set":      {document(allow(`"*"`, `"*"`, `{"ForNoValue:StringEquals":{"a":"b"}}`)), []string{"ForNoValue"}},
	} {
		_, err := policy.Parse(test.document)
		if err == nil {
			t.Errorf("%s: no error", name)
			continue
		}
		for _, want := range test.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, want it to say %q", name, err, want)
			}
		}
	}
}

func TestSize(t *testing.T) {
	if got := policy.Size("{ \"a b\" :\n\t\"\\\" c\" }"); got != len(`{"a b":"\" c"}`) {
		t.Errorf("size %d", got)
	}
}

func TestMentionsKey(t *testing.T) {
	d := parse(t, document(allow(`"iot:Connect"`, `"`+arn+`client/a"`, `{"ForAllValues:StringEquals":{"iot:ConnectAttributes":["LastWill"]}}`)))
	for client, want := range map[string]bool{"a": true, "b": false} {
		r := policy.Request{Action: "iot:Connect", Resource: arn + "client/" + client}
		if got := policy.MentionsKey(d, r, "iot:ConnectAttributes"); got != want {
			t.Errorf("%s: %v", client, got)
		}
	}
}

func BenchmarkEvaluate(b *testing.B) {
	d := parse(b, document(allow(`"iot:Connect"`, `"*"`, ""), allow(`["iot:Publish","iot:Receive"]`, `"`+arn+`topic/tpx/things/*/uplink"`, "")))
	r := policy.Request{Action: "iot:Publish", Resource: arn + "topic/tpx/things/0018B20000000001/uplink"}
	for b.Loop() {
		if !policy.Allows(d, r) {
			b.Fatal("denied")
		}
	}
}
