package awsiot_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluice"
	"sluice/connector/awsiot"
)

var now = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// pair is a certificate with its key in several forms.
type pair struct {
	certificate string
	keys        map[string]string
}

func newPair(tb testing.TB, kind string, notBefore, notAfter time.Time) pair {
	tb.Helper()
	p := pair{keys: map[string]string{}}
	check := func(err error) {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
	}
	encode := func(kind string, der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "AWS IoT Certificate"}, NotBefore: notBefore, NotAfter: notAfter,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	var public, private any
	if kind == "rsa" {
		k, err := rsa.GenerateKey(rand.Reader, 2048)
		check(err)
		public, private = &k.PublicKey, k
		p.keys["PKCS#1"] = encode("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(k))
	} else {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		check(err)
		public, private = &k.PublicKey, k
		der, err := x509.MarshalECPrivateKey(k)
		check(err)
		p.keys["EC"] = encode("EC PRIVATE KEY", der)
		p.keys["EC with parameters"] = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n" + p.keys["EC"]
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	check(err)
	p.keys["PKCS#8"] = encode("PRIVATE KEY", der)
	der, err = x509.CreateCertificate(rand.Reader, template, template, public, private)
	check(err)
	p.certificate = encode("CERTIFICATE", der)
	return p
}

func goodPair(tb testing.TB) pair {
	return newPair(tb, "ec", now.Add(-time.Hour), now.Add(365*24*time.Hour))
}

// seed is the example of the documentation with real PEMs in it.
func seed(p pair) map[string]any {
	key := ""
	for _, k := range p.keys {
		key = k
	}
	return map[string]any{
		"description":          "AWS Europe Datacenter",
		"uplinkTopicPattern":   "tpx/things/{DevEUI}/uplink",
		"downlinkTopicPattern": "tpx/things/{DevEUI}/downlink",
		"deviceType":           "actilitytestsensor",
		"region":               "eu-central-1",
		"accountPrefix":        "a2shubactigr-ats",
		"secretAccessKey":      "lymHcNdzddzerrZHnV5Q5YN/GTMFNiARtAj/7dz4358",
		"accessKeyId":          "AKIAJUJWTO76B3XZGHYA",
		"certificateId":        "arn:aws:iot:eu-central-1:101513775872:cert/8be79f58542e4f2345t45fgjb08424657ee1fea4554fa974",
		"certificate":          p.certificate,
		"privateKey":           key,
	}
}

func check(tb testing.TB, conf map[string]any) (warnings, problems []sluice.Problem) {
	tb.Helper()
	raw, err := json.Marshal(conf)
	if err != nil {
		tb.Fatal(err)
	}
	return awsiot.New(awsiot.Options{Clock: func() time.Time { return now }}).Check(raw)
}

func paths(ps []sluice.Problem) []string {
	list := []string{}
	for _, p := range ps {
		list = append(list, p.Path)
	}
	return list
}

// The seed's example is accepted; its odd certificate id is a warning.
func TestCheckSeed(t *testing.T) {
	warnings, problems := check(t, seed(goodPair(t)))
	if len(problems) > 0 {
		t.Errorf("problems: %v", problems)
	}
	if diff := cmp.Diff([]string{"certificateId"}, paths(warnings)); diff != "" {
		t.Errorf("warnings: %v", warnings)
	}
}

// PEMs come on several lines or on one, in all forms of keys.
func TestCheckPEMForms(t *testing.T) {
	shapes := map[string]func(string) string{
		"lines":            func(s string) string { return s },
		"CRLF":             func(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") },
		"one line":         func(s string) string { return strings.ReplaceAll(s, "\n", "") },
		"blanks":           func(s string) string { return strings.ReplaceAll(s, "\n", " ") },
		"written escapes":  func(s string) string { return strings.ReplaceAll(s, "\n", `\n`) },
		"escaped CRLF":     func(s string) string { return strings.ReplaceAll(s, "\n", `\r\n`) },
		"text before":      func(s string) string { return "Bag Attributes\n  friendlyName: x\n" + s },
		"blanks all round": func(s string) string { return "\n\t " + s + "\n\n" },
	}
	for _, kind := range []string{"rsa", "ec"} {
		p := newPair(t, kind, now.Add(-time.Hour), now.Add(365*24*time.Hour))
		for form, key := range p.keys {
			for name, shape := range shapes {
				conf := seed(p)
				conf["certificate"], conf["privateKey"] = shape(p.certificate), shape(key)
				if _, problems := check(t, conf); len(problems) > 0 {
					t.Errorf("%s, %s, %s: %v", kind, form, name, problems)
				}
			}
		}
	}
	chain, other := goodPair(t), goodPair(t)
	conf := seed(chain)
	conf["certificate"] = chain.certificate + other.certificate
	if _, problems := check(t, conf); len(problems) > 0 {
		t.Errorf("a chain: %v", problems)
	}
}

// checkCase is a change of the seed's example, and what Check finds in it.
type checkCase struct {
	name     string
	change   map[string]any
	problems []string
	warnings []string // besides certificateId
	says     string
}

func (tc checkCase) run(t *testing.T, good pair) {
	conf := seed(good)
	conf["certificateId"] = "arn:aws:iot:eu-central-1:101513775872:cert/" + strings.Repeat("8b", 32)
	conf["region"] = "eu-central-1"
	for k, v := range tc.change {
		if v == nil {
			delete(conf, k)
		} else {
			conf[k] = v
		}
	}
	warnings, problems := check(t, conf)
	if tc.change["region"] == "eu-south-17" {
		warnings = nil // the certificate is of another region, then
	}
	if diff := cmp.Diff(append([]string{}, tc.problems...), paths(problems)); diff != "" {
		t.Errorf("problems (-want +got): %s %v", diff, problems)
	}
	if diff := cmp.Diff(append([]string{}, tc.warnings...), paths(warnings)); len(tc.problems) == 0 && diff != "" {
		t.Errorf("warnings (-want +got): %s %v", diff, warnings)
	}
	all := ""
	for _, p := range append(problems, warnings...) {
		all += p.Message + "\n"
	}
	if !strings.Contains(all, tc.says) {
		t.Errorf("it does not say %q: %s", tc.says, all)
	}
}

func TestCheckProblems(t *testing.T) {
	good, other := goodPair(t), goodPair(t)
	expired := newPair(t, "ec", now.Add(-48*time.Hour), now.Add(-time.Hour))
	early := newPair(t, "ec", now.Add(time.Hour), now.Add(48*time.Hour))
	late := newPair(t, "ec", now.Add(-time.Hour), now.Add(3*24*time.Hour))
	for _, tc := range []checkCase{
		{"seven slashes are fine", map[string]any{"uplinkTopicPattern": "1/2/3/4/5/6/7/{DevEUI}"}, nil, nil, ""},
		{"eight slashes", map[string]any{"uplinkTopicPattern": "1/2/3/4/5/6/7/8/{DevEUI}"}, []string{"uplinkTopicPattern"}, nil, "8 slashes"},
		{"256 bytes are fine", map[string]any{"uplinkTopicPattern": strings.Repeat("é", 127) + "/{DevEUI}"}, nil, nil, ""},
		{"257 bytes", map[string]any{"uplinkTopicPattern": strings.Repeat("é", 127) + "x/{DevEUI}"}, []string{"uplinkTopicPattern"}, nil, "257 bytes"},
		{"plus", map[string]any{"uplinkTopicPattern": "a/+/{DevEUI}"}, []string{"uplinkTopicPattern"}, nil, "'+'"},
		{"hash", map[string]any{"downlinkTopicPattern": "a/#"}, []string{"downlinkTopicPattern"}, nil, "'#'"},
		{"reserved", map[string]any{"uplinkTopicPattern": "$SYS/{DevEUI}"}, []string{"uplinkTopicPattern"}, nil, "reserved"},
		{"Basic Ingest", map[string]any{"uplinkTopicPattern": "$aws/rules/my_rule/1/2/3/4/5/6/7/{DevEUI}"}, nil, nil, ""},
		{"Basic Ingest, too deep", map[string]any{"uplinkTopicPattern": "$aws/rules/my_rule/1/2/3/4/5/6/7/8/{DevEUI}"}, []string{"uplinkTopicPattern"}, nil, "slashes"},
		{"Basic Ingest without topic", map[string]any{"uplinkTopicPattern": "$aws/rules/{DevEUI}"}, []string{"uplinkTopicPattern"}, nil, "Basic Ingest"},
		{"Basic Ingest down", map[string]any{"downlinkTopicPattern": "$aws/rules/r/{DevEUI}"}, []string{"downlinkTopicPattern"}, nil, "reserved"},
		{"does not parse", map[string]any{"uplinkTopicPattern": "a/{DevEUI"}, []string{"uplinkTopicPattern"}, nil, "character 3"},
		{
			"several faults in one pattern",
			map[string]any{"uplinkTopicPattern": "$x/+/{a..b}/}/1/2/3/4/5/{DevEUI/#"},
			[]string{
				"uplinkTopicPattern", "uplinkTopicPattern", "uplinkTopicPattern", "uplinkTopicPattern", "uplinkTopicPattern",
				"uplinkTopicPattern", "uplinkTopicPattern",
			},
			nil, "'#'",
		},
		{"empty uplink topic", map[string]any{"uplinkTopicPattern": ""}, []string{"uplinkTopicPattern"}, nil, "empty"},
		{"empty downlink topic", map[string]any{"downlinkTopicPattern": ""}, nil, nil, ""},
		{"a region of the future", map[string]any{"region": "eu-south-17"}, nil, nil, ""},
		{"region in capitals", map[string]any{"region": "EU-Central-1"}, []string{"region"}, nil, "eu-central-1"},
		{"region as a name", map[string]any{"region": "Frankfurt"}, []string{"region"}, nil, ""},
		{"prefix without ats", map[string]any{"accountPrefix": "a2shubactigr"}, nil, []string{"accountPrefix"}, "-ats"},
		{"whole host name", map[string]any{"accountPrefix": "a2shubactigr-ats.iot.eu-central-1.amazonaws.com"}, nil, nil, ""},
		{"host name of another region", map[string]any{"accountPrefix": "a2shubactigr-ats.iot.us-east-1.amazonaws.com"}, nil, []string{"accountPrefix"}, "eu-central-1"},
		{"whole host name in China", map[string]any{"accountPrefix": "a2.ats.iot.cn-north-1.amazonaws.com.cn"}, nil, []string{"accountPrefix"}, "eu-central-1"},
		{"data endpoint of another region", map[string]any{"dataEndpoint": "vpce-1.iot.data.us-east-1.vpce.amazonaws.com:8883"}, nil, []string{"dataEndpoint"}, "eu-central-1"},
		{"prefix as URL", map[string]any{"accountPrefix": "https://a2-ats.iot.eu-central-1.amazonaws.com"}, []string{"accountPrefix"}, nil, "Settings"},
		{"empty prefix", map[string]any{"accountPrefix": ""}, []string{"accountPrefix"}, nil, ""},
		{"no PEM", map[string]any{"certificate": "xxx", "privateKey": "yyy"}, []string{"certificate", "privateKey"}, nil, "BEGIN"},
		{"the documentation's xxx", map[string]any{"certificate": "-----BEGIN CERTIFICATE-----xxx-----END CERTIFICATE-----"}, []string{"certificate"}, nil, "base64"},
		{"swapped", map[string]any{"certificate": anyKey(good), "privateKey": good.certificate}, []string{"certificate", "privateKey"}, nil, "private key"},
		{"key of another", map[string]any{"privateKey": anyKey(other)}, []string{"privateKey"}, nil, "belong"},
		{"encrypted key", map[string]any{"privateKey": "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n-----END RSA PRIVATE KEY-----"}, []string{"privateKey"}, nil, "passphrase"},
		{"encrypted PKCS#8", map[string]any{"privateKey": "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----"}, []string{"privateKey"}, nil, "passphrase"},
		{"cut off", map[string]any{"certificate": good.certificate[:200]}, []string{"certificate"}, nil, "END"},
		{"expired", map[string]any{"certificate": expired.certificate, "privateKey": anyKey(expired)}, []string{"certificate"}, nil, "expired"},
		{"not yet valid", map[string]any{"certificate": early.certificate, "privateKey": anyKey(early)}, []string{"certificate"}, nil, "before"},
		{"expires soon", map[string]any{"certificate": late.certificate, "privateKey": anyKey(late)}, nil, []string{"certificate"}, "expires"},
		{"secrets lost with their key", map[string]any{"certificate": nil, "privateKey": nil}, []string{"certificate", "privateKey"}, nil, "missing"},
		{
			"nothing there",
			map[string]any{"certificate": nil, "privateKey": nil, "uplinkTopicPattern": nil, "region": nil, "accountPrefix": nil},
			[]string{"uplinkTopicPattern", "region", "accountPrefix", "certificate", "privateKey"},
			nil, "missing",
		},
		{"a prefix of our own", map[string]any{"clientIdPrefix": "gateway:7_a.b-c"}, nil, nil, ""},
		{"no prefix", map[string]any{"clientIdPrefix": ""}, []string{"clientIdPrefix"}, nil, "policy"},
		{"prefix with $", map[string]any{"clientIdPrefix": "$x"}, []string{"clientIdPrefix"}, nil, "letters"},
		{"prefix for all", map[string]any{"clientIdPrefix": "a/+"}, []string{"clientIdPrefix"}, nil, "letters"},
		{"more without load than with", map[string]any{"poolSize": 3, "poolMin": 4}, nil, []string{"poolMin"}, "poolSize, 3"},
		{"more for commands than there are", map[string]any{"poolSize": 3, "downlinkSessions": 4}, nil, []string{"downlinkSessions"}, "poolSize, 3"},
		{"presence", map[string]any{"presenceTopic": "sluice/1/presence"}, nil, nil, ""},
		{"presence of a device", map[string]any{"presenceTopic": "a/{DevEUI}"}, []string{"presenceTopic"}, nil, "expressions"},
		{"presence with a wildcard", map[string]any{"presenceTopic": "a/+"}, []string{"presenceTopic"}, nil, "'+'"},
		{"presence that is not kept", map[string]any{"presenceTopic": "$aws/rules/r/a"}, []string{"presenceTopic"}, nil, "keeps no message"},
		{"half a key", map[string]any{"secretAccessKey": nil}, []string{"secretAccessKey"}, nil, "both"},
		{"the other half", map[string]any{"accessKeyId": ""}, []string{"accessKeyId"}, nil, "both"},
		{"no key, but things wanted", map[string]any{"accessKeyId": nil, "secretAccessKey": nil}, nil, []string{"createDevices"}, "access key"},
		{"no key, no things", map[string]any{"accessKeyId": nil, "secretAccessKey": nil, "createDevices": false}, nil, nil, ""},
		{"no type", map[string]any{"deviceType": nil}, nil, []string{"deviceType"}, "type"},
		{"bad type", map[string]any{"deviceType": "my type"}, []string{"deviceType"}, nil, ""},
		{"bad duration", map[string]any{"provisioningTimeout": "soon"}, []string{"provisioningTimeout"}, nil, "30s"},
		{"endpoints", map[string]any{"dataEndpoint": "localhost:8883", "controlEndpoint": "http://localhost:8443", "accountPrefix": "x"}, nil, nil, ""},
		{"bad endpoints", map[string]any{"dataEndpoint": "localhost", "controlEndpoint": "localhost:8443"}, []string{"dataEndpoint", "controlEndpoint"}, nil, ""},
		{"bad port", map[string]any{"dataEndpoint": "localhost:88833"}, []string{"dataEndpoint"}, nil, "65535"},
		{"bad CA", map[string]any{"caCertificate": anyKey(good)}, []string{"caCertificate"}, nil, ""},
		{"good CA", map[string]any{"caCertificate": other.certificate}, nil, nil, ""},
		{
			"all at once",
			map[string]any{"region": "x", "uplinkTopicPattern": "#", "privateKey": "y", "deviceType": " x y", "secretAccessKey": nil},
			[]string{"uplinkTopicPattern", "region", "privateKey", "secretAccessKey", "deviceType"},
			nil, "",
		},
	} {
		t.Run(tc.name, func(t *testing.T) { tc.run(t, good) })
	}
}

func anyKey(p pair) string { return p.keys["EC"] }

func TestCheckCertificateID(t *testing.T) {
	p := goodPair(t)
	hex := strings.Repeat("8b", 32)
	for id, warned := range map[string]bool{
		"arn:aws:iot:eu-central-1:101513775872:cert/" + hex:    false,
		"arn:aws-cn:iot:eu-central-1:101513775872:cert/" + hex: false,
		"arn:aws:iot:us-east-1:101513775872:cert/" + hex:       true,
		hex: true,
		"arn:aws:iot:eu-central-1:101513775872:policy/x": true,
	} {
		conf := seed(p)
		conf["certificateId"] = id
		warnings, problems := check(t, conf)
		if len(problems) > 0 || (len(warnings) > 0) != warned {
			t.Errorf("%s: %v, %v", id, warnings, problems)
		}
	}
}

func TestSchema(t *testing.T) {
	var schema struct {
		Required   []string
		Properties map[string]struct {
			Format  string
			Default any
		}
	}
	if err := json.Unmarshal(awsiot.New(awsiot.Options{}).Info().Schema, &schema); err != nil {
		t.Fatal(err)
	}
	for name := range seed(goodPair(t)) {
		if _, ok := schema.Properties[name]; !ok && name != "description" { // a common one
			t.Errorf("the schema lacks %s", name)
		}
	}
	// What is required has no default; topics that are not given are not taken.
	for _, name := range append(schema.Required, "downlinkTopicPattern") {
		if schema.Properties[name].Default != nil {
			t.Errorf("%s has a default", name)
		}
	}
	var secret []string
	for _, name := range []string{"accessKeyId", "secretAccessKey", "certificate", "certificateId", "privateKey"} {
		if schema.Properties[name].Format == "password" {
			secret = append(secret, name)
		}
	}
	// Source: ThingPark X IoT Flow documentation: these come back as "*****".
	if diff := cmp.Diff([]string{"accessKeyId", "secretAccessKey", "certificate", "privateKey"}, secret); diff != "" {
		t.Error(diff)
	}
}

func TestExpires(t *testing.T) {
	end := now.Add(9 * 24 * time.Hour)
	configuration, err := json.Marshal(seed(newPair(t, "ec", now, end)))
	if err != nil {
		t.Fatal(err)
	}
	c := awsiot.New(awsiot.Options{})
	if at, ok := c.Expires(configuration); !ok || !at.Equal(end) {
		t.Errorf("%v, %v", at, ok)
	}
	if _, ok := c.Expires(json.RawMessage(`{"certificate":"none"}`)); ok {
		t.Error("what is no certificate expires")
	}
}
