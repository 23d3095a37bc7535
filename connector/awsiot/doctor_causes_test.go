package awsiot_test

import (
	"maps"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"sluice"
	"sluice/connector/awsiot"
	"sluice/connector/awsiot/awsiottest"
)

// fails makes the calls of an action fail.
func fails(action string, status int, code string) func(*testing.T, *cloud) {
	return func(_ *testing.T, c *cloud) { c.Fail(awsiottest.Fault{Action: action, Status: status, Code: code}) }
}

// webSocket is the protocol without a certificate, and what else is changed.
func webSocket(more map[string]any) map[string]any {
	return merged(map[string]any{"protocol": "WSS", "certificate": nil, "privateKey": nil}, more)
}

const (
	throttling = "ThrottlingException"
	internal   = "InternalFailureException"
)

// wrongValues is what is malformed, or about to be wrong.
func wrongValues() map[string]wrongness {
	return map[string]wrongness{
		"no region of AWS": {want: "region: region_unknown", says: "eu-central-1", change: map[string]any{"region": "Mars"}, behind: true},
		"not an ARN":       {want: "region: certificate_arn", says: "Copy the ARN", change: map[string]any{"certificateId": "mine"}},
		"an endpoint without a name": {
			want: "name: name_missing", says: "no host name", change: map[string]any{"dataEndpoint": ":8883"}, behind: true,
		},
		"a certificate in its last days": {
			want: "certificate: certificate_expires_soon", says: "2049-12-31", behind: true, // the clock is wrong, too
			spec: func(s *sluice.DialerSpec, _ *awsiot.Options) {
				s.Clock = func() time.Time { return time.Date(2049, 12, 20, 0, 0, 0, 0, time.UTC) }
			},
		},
		"a proxy that is away": {
			want: "tls: port_unreachable", says: "proxy",
			make: func(t *testing.T, c *cloud) { c.conf["proxy"] = "http://" + closedPort(t) },
		},
		"a topic to try that AWS refuses": {
			want: "publish: publish_topic", says: "at most 7 slashes", x: sluice.Examination{Topic: "1/2/3/4/5/6/7/8/9"},
		},
		"a signature with a wrong secret": {
			want: "accepted: signature_refused", says: "does not match", change: webSocket(map[string]any{"secretAccessKey": "wrong"}),
		},
		"a version that the server does not speak": {
			want: "accepted: connect_failed", says: "MQTT 5", make: func(_ *testing.T, c *cloud) { c.RefuseConnects(0x84) },
		},
		"a link that breaks": {want: "publish: publish_failed", says: "AWSIotLogsV2", make: func(_ *testing.T, c *cloud) { c.CutInPubacks(1) }},
	}
}

// wrongAtAPI is what the AWS IoT API refuses.
func wrongAtAPI() map[string]wrongness {
	create := sluice.Examination{Create: true}
	return map[string]wrongness{
		"a temporary key of yesterday": {
			want: "key: key_expired", says: "do not last", make: fails("DescribeThing", http.StatusForbidden, "ExpiredTokenException"),
		},
		"a token that is none": {
			want: "key: key_refused", says: "InvalidTokenException", make: fails("DescribeThing", http.StatusForbidden, "InvalidTokenException"),
		},
		"a role that is not there": {
			want: "key: credentials_failed", says: "role",
			make: func(_ *testing.T, c *cloud) {
				c.conf["roleArn"], c.conf["stsEndpoint"] = "arn:aws:iam::123456789012:role/none", c.ControlURL()
			},
		},
		"DescribeEndpoint in pain": {want: "endpoint: api_failed", says: "iot:DescribeEndpoint", make: fails("DescribeEndpoint", http.StatusInternalServerError, internal)},
		"DescribeThing in pain":    {want: "describe: describe_failed", says: internal, make: fails("DescribeThing", http.StatusInternalServerError, internal)},
		"DescribeThing throttled":  {want: "describe: describe_throttled", says: "in a minute", make: fails("DescribeThing", http.StatusBadRequest, throttling)},
		"CreateThing in pain":      {want: "create: create_failed", says: internal, make: fails("CreateThing", http.StatusInternalServerError, internal), x: create},
		"CreateThing throttled":    {want: "create: create_throttled", says: "in a minute", make: fails("CreateThing", http.StatusBadRequest, throttling), x: create},
		"AttachThingPrincipal in pain": {
			want: "attach: attach_failed", says: internal, make: fails("AttachThingPrincipal", http.StatusInternalServerError, internal), x: create,
		},
		"AttachThingPrincipal throttled": {
			want: "attach: attach_throttled", says: "in a minute", make: fails("AttachThingPrincipal", http.StatusBadRequest, throttling), x: create,
		},
		"the ARN of no certificate": {
			// by WebSocket, as a certificate that is given is compared with it
			want: "attach: certificate_arn_unknown", says: "into certificateId", x: create,
			change: webSocket(map[string]any{"certificateId": "arn:aws:iot:eu-central-1:123456789012:cert/" + strings.Repeat("a", 64)}),
		},
		"a thing that stays": { // DeleteThing is tried first, and works again at the end
			want: "attach: thing_left", says: "aws iot delete-thing --thing-name sluice-test-", x: create,
			make: func(_ *testing.T, c *cloud) {
				c.Fail(awsiottest.Fault{Action: "DeleteThing", Times: 1})
				c.Fail(awsiottest.Fault{Action: "DeleteThing", Times: 1, Status: http.StatusForbidden, Code: "AccessDeniedException"})
			},
		},
	}
}

// allWrong are all ways to be wrong.
func allWrong() map[string]wrongness {
	all := map[string]wrongness{}
	for _, some := range []map[string]wrongness{wrongHere(), wrongValues(), wrongAtAWS(), wrongAtAPI(), wrongState()} {
		maps.Copy(all, some)
	}
	return all
}

// unmade are the causes that no row makes, and why, or where else they are
// tried.
func unmade() map[string]string {
	const (
		wires    = "TestDoctorNamesWhoOpensTLS makes it of an error"
		between  = "the link would have to break between two steps, or a quota to be reached there"
		patience = "the time of a whole step would have to pass"
	)
	return map[string]string{
		"tls_closed": wires, "tls_dates": wires, "tls_failed": wires, "tls_intercepted": wires, "tls_refused": wires,
		"name_server":        "the name server of this machine would have to fail",
		"port_filtered":      "a firewall would have to drop what is sent; and " + patience,
		"connect_unanswered": patience,
		"publish_throttled":  "TestDoctorNamesUnsent makes it of a failure: the row would have to exceed a rate",
		"presence_left":      "TestDoctorLeavesAMessage takes the permission away in between",
		"persistent_failed":  between, "subscribe_failed": between, "receive_failed": between, "presence_failed": between,
		"shadow_subscribe_failed": between,
	}
}

// Every cause that the documentation names is made by a row, or stands among
// those that are not, and no other is.
func TestDoctorCausesAreTried(t *testing.T) {
	page, err := os.ReadFile("../../docs/aws.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(page), "| step | causes that it tells apart |")
	table, _, _ = strings.Cut(table, "\n\n")
	documented := map[string]bool{}
	for _, name := range regexp.MustCompile("`([a-z_]+)`").FindAllStringSubmatch(table, -1) {
		documented[name[1]] = true
	}
	tried := map[string]bool{}
	for _, w := range allWrong() {
		_, cause, _ := strings.Cut(w.want, ": ")
		tried[cause] = true
	}
	others := unmade()
	if len(documented) < 60 {
		t.Errorf("only %d causes were found on the page", len(documented))
	}
	for _, cause := range slices.Sorted(maps.Keys(documented)) {
		if _, told := others[cause]; tried[cause] == told {
			t.Errorf("%s: a row makes it: %t, it stands among those that are not made: %t", cause, tried[cause], told)
		}
	}
	for _, cause := range slices.Sorted(maps.Keys(merge(tried, others))) {
		if !documented[cause] {
			t.Errorf("%s is not on the page", cause)
		}
	}
}

// merge is the union of the names.
func merge(tried map[string]bool, others map[string]string) map[string]bool {
	all := maps.Clone(tried)
	for name := range others {
		all[name] = true
	}
	return all
}
