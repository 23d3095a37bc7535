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
}

func (c cli) run(args ...string) (out map[string]any, failure string) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	args = append([]string{"iot", "--endpoint-url", c.server.ControlURL(), "--region", c.server.Region(), "--output", "json"}, args...)
	cmd := exec.CommandContext(ctx, c.program, args...)
	cmd.Env = append(os.Environ(),
		"AWS_ACCESS_KEY_ID="+c.server.AccessKeyID(), "AWS_SECRET_ACCESS_KEY="+c.server.SecretAccessKey(),
		"AWS_EC2_METADATA_DISABLED=true", "AWS_MAX_ATTEMPTS=2", "AWS_PAGER=", "NO_PROXY=127.0.0.1", "no_proxy=127.0.0.1",
		"AWS_CONFIG_FILE="+os.DevNull, "AWS_SHARED_CREDENTIALS_FILE="+os.DevNull, "AWS_SESSION_TOKEN=")
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
		c.t.Fatalf("aws iot %s: %s", strings.Join(args, " "), failure)
	}
	return out
}

// TestCommandLine drives the emulator with the AWS command line.
func TestCommandLine(t *testing.T) {
	program := tool(t, "aws", "awscli")
	s := start(t, awsiottest.Options{KeyType: awsiottest.RSA})
	aws := cli{t: t, server: s, program: program}
	aws.must("create-thing-type", "--thing-type-name", "LoRaWAN")
	keys := aws.must("create-keys-and-certificate", "--set-as-active")
	arn, _ := keys["certificateArn"].(string)
	if endpoint := aws.must("describe-endpoint", "--endpoint-type", "iot:Data-ATS"); endpoint["endpointAddress"] != s.MQTTAddr() {
		t.Errorf("endpoint %v", endpoint)
	}
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
	if _, failure := aws.run("create-thing", "--thing-name", "a:b"); !strings.Contains(failure, "ResourceAlreadyExistsException") {
		t.Errorf("conflict: %s", failure)
	}
	pair, _ := keys["keyPair"].(map[string]any)
	pem, _ := keys["certificatePem"].(string)
	private, _ := pair["PrivateKey"].(string)
	if _, err := dial(t, s, awsiottest.Certificate{CertificatePEM: pem, PrivateKeyPEM: private}, dialer{id: "c"}); err != nil {
		t.Errorf("the new certificate: %v", err)
	}
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
