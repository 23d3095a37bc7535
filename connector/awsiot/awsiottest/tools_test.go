package awsiottest_test

import (
	"context"
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/eclipse/paho.golang/paho"
	"github.com/google/go-cmp/cmp"

	"sluice/connector/awsiot/awsiottest"
)

// tool finds a program, or skips the test so that it is seen.
func tool(t *testing.T, name, debianPackage string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("SKIPPED: %s is not installed (Debian: %s), so the emulator is not tried with it", name, debianPackage)
	}
	return path
}

// cli is the AWS command line with the emulator's key.
type cli struct {
	t       *testing.T
	server  *awsiottest.Server
	program string
	bundle  string // a file with the emulator's authority
	key     awsiottest.AccessKey
}

func newCLI(t *testing.T, s *awsiottest.Server) cli {
	t.Helper()
	c := cli{t: t, server: s, program: tool(t, "aws", "awscli"), key: awsiottest.AccessKey{ID: s.AccessKeyID(), Secret: s.SecretAccessKey()}}
	c.bundle = c.file("ca.pem", s.CAPEM())
	return c
}

// file writes a file and returns its path.
func (c cli) file(name, content string) string {
	c.t.Helper()
	path := filepath.Join(c.t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		c.t.Fatal(err)
	}
	return path
}

// run runs "aws iot …", or another service's command where args begin with
// "iot-data" or "sts".
func (c cli) run(args ...string) (out map[string]any, failure string) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	url := c.server.ControlURL()
	switch args[0] {
	case "iot-data":
		url = "https://" + c.server.Addr443()
	case "sts", "iam":
	default:
		args = append([]string{"iot"}, args...)
	}
	args = append([]string{"--endpoint-url", url, "--ca-bundle", c.bundle, "--region", c.server.Region(), "--output", "json"}, args...)
	cmd := exec.CommandContext(ctx, c.program, args...)
	cmd.Env = append(os.Environ(),
		"AWS_ACCESS_KEY_ID="+c.key.ID, "AWS_SECRET_ACCESS_KEY="+c.key.Secret, "AWS_SESSION_TOKEN="+c.key.Token,
		"AWS_EC2_METADATA_DISABLED=true", "AWS_MAX_ATTEMPTS=2", "AWS_PAGER=", "NO_PROXY=127.0.0.1,localhost", "no_proxy=127.0.0.1,localhost",
		"AWS_CONFIG_FILE="+os.DevNull, "AWS_SHARED_CREDENTIALS_FILE="+os.DevNull)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	stdout, err := cmd.Output()
	if err != nil {
		return nil, stderr.String() + err.Error()
	}
	if len(stdout) > 0 {
		if err := json.Unmarshal(stdout, &out); err != nil {
			c.t.Fatalf("%v: %v in %q", args, err, stdout)
		}
	}
	return out, ""
}

func (c cli) must(args ...string) map[string]any {
	c.t.Helper()
	out, failure := c.run(args...)
	if failure != "" {
		c.t.Fatalf("aws %s: %s", strings.Join(args, " "), failure)
	}
	return out
}

// refused runs a command that must fail with an exception.
func (c cli) refused(exception string, args ...string) {
	c.t.Helper()
	if _, failure := c.run(args...); !strings.Contains(failure, exception) {
		c.t.Errorf("aws %s: %s, want %s", strings.Join(args, " "), failure, exception)
	}
}

// TestCommandLine drives the registry with the AWS command line.
func TestCommandLine(t *testing.T) {
	t.Parallel() // each command takes its time
	s := start(t, awsiottest.Options{KeyType: awsiottest.RSA, ControlTLS: true})
	aws := newCLI(t, s)
	aws.must("create-thing-type", "--thing-type-name", "LoRaWAN", "--tags", "Key=made,Value=by hand")
	keys := aws.must("create-keys-and-certificate", "--set-as-active")
	arn, _ := keys["certificateArn"].(string)
	if endpoint := aws.must("describe-endpoint", "--endpoint-type", "iot:Data-ATS"); endpoint["endpointAddress"] != s.MQTTAddr() {
		t.Errorf("endpoint %v", endpoint)
	}
	aws.must("create-policy", "--policy-name", "bridge", "--policy-document", allowEverything)
	aws.must("attach-policy", "--policy-name", "bridge", "--target", arn)
	aws.refused("DeleteConflictException", "delete-policy", "--policy-name", "bridge")
	aws.must("create-thing", "--thing-name", "a:b", "--thing-type-name", "LoRaWAN", "--attribute-payload", `{"attributes":{"model":"x"}}`)
	aws.must("attach-thing-principal", "--thing-name", "a:b", "--principal", arn)
	if thing := aws.must("describe-thing", "--thing-name", "a:b"); thing["thingTypeName"] != "LoRaWAN" || thing["defaultClientId"] != "a:b" {
		t.Errorf("thing %v", thing)
	}
	if things, _ := aws.must("list-things", "--thing-type-name", "LoRaWAN")["things"].([]any); len(things) != 1 {
		t.Errorf("things %v", things)
	}
	if thing, ok := s.Thing("a:b"); !ok || len(thing.Principals) != 1 || thing.Principals[0] != arn {
		t.Errorf("thing %+v", thing)
	}
	aws.refused("ResourceAlreadyExistsException", "create-thing", "--thing-name", "a:b")
	pair, _ := keys["keyPair"].(map[string]any)
	pem, _ := keys["certificatePem"].(string)
	private, _ := pair["PrivateKey"].(string)
	if _, err := dial(t, s, awsiottest.Certificate{CertificatePEM: pem, PrivateKeyPEM: private}, dialer{id: "c"}); err != nil {
		t.Errorf("the new certificate: %v", err)
	}
	aws.must("create-thing-group", "--thing-group-name", "plant")
	aws.must("add-thing-to-thing-group", "--thing-name", "a:b", "--thing-group-name", "plant")
	if in := aws.must("list-things-in-thing-group", "--thing-group-name", "plant"); !cmp.Equal(in["things"], []any{"a:b"}) {
		t.Errorf("in the group: %v", in)
	}
	aws.must("update-thing", "--thing-name", "a:b", "--expected-version", "1", "--attribute-payload", `{"attributes":{"model":"y"},"merge":true}`)
	aws.refused("VersionConflictException", "update-thing", "--thing-name", "a:b", "--expected-version", "1")
	if list, _ := aws.must("list-attached-policies", "--target", arn)["policies"].([]any); len(list) != 1 {
		t.Errorf("policies %v", list)
	}
	aws.refused("CertificateStateException", "delete-certificate", "--certificate-id", keys["certificateId"].(string))
	aws.must("deprecate-thing-type", "--thing-type-name", "LoRaWAN")
	aws.refused("Can not create new thing with deprecated thing type", "create-thing", "--thing-name", "c", "--thing-type-name", "LoRaWAN")
}

// TestCommandLineData publishes and changes shadows with the AWS command line,
// and asks who it is.
func TestCommandLineData(t *testing.T) {
	t.Parallel()
	s := start(t, awsiottest.Options{ControlTLS: true})
	aws := newCLI(t, s)
	watcher := connect(t, s, dialer{id: "watcher"})
	watcher.subscribe(t, "up/1", "$aws/things/lamp/shadow/update/delta")
	aws.must("iot-data", "publish", "--topic", "up/1", "--qos", "1", "--retain", "--payload", "fileb://"+aws.file("payload", "from the shell"))
	if p := watcher.receive(t); string(p.Payload) != "from the shell" {
		t.Errorf("received %+v", p)
	}
	if kept := aws.must("iot-data", "get-retained-message", "--topic", "up/1"); kept["qos"] != 1.0 {
		t.Errorf("retained %v", kept)
	}
	request, answer := aws.file("request", `{"state":{"desired":{"on":true}}}`), aws.file("answer", "")
	aws.must("iot-data", "update-thing-shadow", "--thing-name", "lamp", "--payload", "fileb://"+request, answer)
	if p := watcher.receive(t); !strings.Contains(string(p.Payload), `"on":true`) {
		t.Errorf("received %s", p.Payload)
	}
	aws.must("iot-data", "get-thing-shadow", "--thing-name", "lamp", answer)
	if document, _ := os.ReadFile(answer); state(t, document).State["delta"]["on"] != true {
		t.Errorf("document %s", document)
	}
	aws.must("iot-data", "delete-thing-shadow", "--thing-name", "lamp", answer)
	aws.refused("ResourceNotFoundException", "iot-data", "get-thing-shadow", "--thing-name", "lamp", answer)
	if who := aws.must("sts", "get-caller-identity"); who["Arn"] != "arn:aws:iam::123456789012:user/emulator" {
		t.Errorf("who %v", who)
	}
	role, err := s.CreateRole(awsiottest.Role{Name: "r", ExternalID: "xyz", Policy: `{"Statement":{"Effect":"Allow","Action":"iot:ListThings","Resource":"*"}}`})
	if err != nil {
		t.Fatal(err)
	}
	aws.refused("AccessDenied", "sts", "assume-role", "--role-arn", role, "--role-session-name", "shell")
	held, _ := aws.must("sts", "assume-role", "--role-arn", role, "--role-session-name", "shell", "--external-id", "xyz")["Credentials"].(map[string]any)
	aws.key = awsiottest.AccessKey{ID: held["AccessKeyId"].(string), Secret: held["SecretAccessKey"].(string), Token: held["SessionToken"].(string)}
	aws.must("list-things")
	aws.refused("arn:aws:sts::123456789012:assumed-role/r/shell is not authorized to perform: iot:CreateThing on resource: arn:aws:iot:eu-central-1:123456789012:thing/x",
		"create-thing", "--thing-name", "x")
}

// mosquitto is one of mosquitto's clients, with a certificate.
func mosquitto(ctx context.Context, t *testing.T, s *awsiottest.Server, program string, args ...string) *exec.Cmd {
	t.Helper()
	return mosquittoAs(ctx, t, s, newCertificate(t, s, true), s.MQTTAddr(), program, args...)
}

func mosquittoAs(ctx context.Context, t *testing.T, s *awsiottest.Server, c awsiottest.Certificate, addr, program string, args ...string) *exec.Cmd {
	t.Helper()
	dir := t.TempDir()
	files := map[string]string{"ca.pem": s.CAPEM(), "cert.pem": c.CertificatePEM, "key.pem": c.PrivateKeyPEM}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	_, port, _ := net.SplitHostPort(addr)
	args = append([]string{
		"-h", "localhost", "-p", port, "-q", "1", "--cafile", filepath.Join(dir, "ca.pem"),
		"--cert", filepath.Join(dir, "cert.pem"), "--key", filepath.Join(dir, "key.pem"),
	}, args...)
	return exec.CommandContext(ctx, program, args...)
}

// TestMosquittoClients publishes and subscribes with mosquitto's clients, in
// both versions of MQTT.
func TestMosquittoClients(t *testing.T) {
	pub, sub := tool(t, "mosquitto_pub", "mosquitto-clients"), tool(t, "mosquitto_sub", "mosquitto-clients")
	for _, version := range []string{"mqttv311", "mqttv5"} {
		t.Run(version, func(t *testing.T) {
			s := start(t, awsiottest.Options{KeyType: awsiottest.RSA})
			ctx := deadline(t)
			watcher := connect(t, s, dialer{id: "watcher"})
			watcher.subscribe(t, "from/mosquitto")
			if out, err := mosquitto(ctx, t, s, pub, "-V", version, "-i", "pub", "-t", "from/mosquitto", "-m", "hello").CombinedOutput(); err != nil {
				t.Fatalf("mosquitto_pub: %v %s", err, out)
			}
			if got := string(watcher.receive(t).Payload); got != "hello" {
				t.Errorf("received %q", got)
			}
			// A retained message is there whenever the subscriber comes.
			if _, err := watcher.Publish(ctx, &paho.Publish{Topic: "to/mosquitto", QoS: 1, Retain: true, Payload: []byte("hello back")}); err != nil {
				t.Fatal(err)
			}
			out, err := mosquitto(ctx, t, s, sub, "-V", version, "-i", "sub", "-t", "to/mosquitto", "-C", "1", "-W", "20").CombinedOutput()
			if err != nil || string(out) != "hello back\n" {
				t.Errorf("mosquitto_sub: %v %q", err, out)
			}
		})
	}
}

// TestMosquittoPolicies wants mosquitto's clients to find out what a policy
// does not allow: with a reason in MQTT 5, by the end of the connection in
// MQTT 3.1.1.
func TestMosquittoPolicies(t *testing.T) {
	pub, sub := tool(t, "mosquitto_pub", "mosquitto-clients"), tool(t, "mosquitto_sub", "mosquitto-clients")
	s := start(t, awsiottest.Options{})
	cert := withPolicies(t, s, allow("Connect client/good", "Publish topic/mine"))
	run := func(program string, args ...string) (string, error) {
		out, err := mosquittoAs(deadline(t), t, s, cert, s.MQTTAddr(), program, args...).CombinedOutput()
		return string(out), err
	}
	for _, version := range []string{"mqttv311", "mqttv5"} {
		if out, err := run(pub, "-V", version, "-i", "good", "-t", "mine", "-m", "x"); err != nil {
			t.Errorf("%s, allowed: %v %s", version, err, out)
		}
		if out, err := run(sub, "-V", version, "-i", "bad", "-t", "mine", "-E", "-W", "1"); err == nil {
			t.Errorf("%s, a client id that is not allowed: %s", version, out)
		}
	}
	if out, _ := run(pub, "-V", "mqttv5", "-i", "good", "-t", "theirs", "-m", "x"); !strings.Contains(out, "Not authorized") {
		t.Errorf("publish: %s", out)
	}
	if out, _ := run(sub, "-V", "mqttv5", "-i", "good", "-t", "theirs", "-W", "10"); !strings.Contains(out, "denied") {
		t.Errorf("subscribe: %s", out)
	}
}

// TestMosquittoSessions wants what came meanwhile when mosquitto_sub resumes
// its session, in both versions, and a shared subscription to work.
func TestMosquittoSessions(t *testing.T) {
	sub := tool(t, "mosquitto_sub", "mosquitto-clients")
	for _, version := range []string{"mqttv311", "mqttv5"} {
		s := start(t, awsiottest.Options{})
		cert := newCertificate(t, s, true)
		args := []string{"-V", version, "-i", "sub", "-c", "-t", "$share/g/t", "-t", "u"}
		if version == "mqttv5" {
			args = append(args, "-x", "600")
		}
		if out, err := mosquittoAs(deadline(t), t, s, cert, s.MQTTAddr(), sub, append(args, "-E")...).CombinedOutput(); err != nil {
			t.Fatalf("%s: subscribe: %v %s", version, err, out)
		}
		sender := connect(t, s, dialer{id: "sender"})
		_, _ = sender.publish(t, "u", []byte("own"))
		_, _ = sender.publish(t, "t", []byte("shared"))
		out, err := mosquittoAs(deadline(t), t, s, cert, s.MQTTAddr(), sub, append(args, "-C", "2", "-W", "20")...).CombinedOutput()
		if err != nil || string(out) != "own\nshared\n" {
			t.Errorf("%s: %v %q", version, err, out)
		}
	}
}

// TestMosquittoALPN wants mosquitto_pub to get through port 443.
func TestMosquittoALPN(t *testing.T) {
	pub := tool(t, "mosquitto_pub", "mosquitto-clients")
	s := start(t, awsiottest.Options{})
	watcher := connect(t, s, dialer{id: "watcher"})
	watcher.subscribe(t, "t")
	cmd := mosquittoAs(deadline(t), t, s, newCertificate(t, s, true), s.Addr443(), pub, "--tls-alpn", "x-amzn-mqtt-ca", "-t", "t", "-m", "by 443")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	if got := string(watcher.receive(t).Payload); got != "by 443" {
		t.Errorf("received %q", got)
	}
}

// TestCommandLineUsers makes a user with a policy and a key by the AWS command
// line: the key may do what the policy says, also where that comes later.
func TestCommandLineUsers(t *testing.T) {
	t.Parallel()
	s := start(t, awsiottest.Options{ControlTLS: true})
	aws := newCLI(t, s)
	if u, _ := aws.must("iam", "create-user", "--user-name", "bridge")["User"].(map[string]any); u["Arn"] != "arn:aws:iam::123456789012:user/bridge" {
		t.Errorf("user %v", u)
	}
	aws.refused("EntityAlreadyExists", "iam", "create-user", "--user-name", "bridge")
	aws.refused("NoSuchEntity", "iam", "create-access-key", "--user-name", "nobody")
	key, _ := aws.must("iam", "create-access-key", "--user-name", "bridge")["AccessKey"].(map[string]any)
	user := aws
	user.key = awsiottest.AccessKey{ID: key["AccessKeyId"].(string), Secret: key["SecretAccessKey"].(string)}
	user.refused("AccessDenied", "list-things")
	user.refused("AccessDenied", "iam", "create-user", "--user-name", "other")
	aws.refused("MalformedPolicyDocument", "iam", "put-user-policy", "--user-name", "bridge", "--policy-name", "p", "--policy-document", "{}")
	aws.must("iam", "put-user-policy", "--user-name", "bridge", "--policy-name", "p", "--policy-document",
		`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:ListThings","Resource":"*"}]}`)
	user.must("list-things")
}
