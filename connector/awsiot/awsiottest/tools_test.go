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
	dir, c := t.TempDir(), newCertificate(t, s, true)
	files := map[string]string{"ca.pem": s.CAPEM(), "cert.pem": c.CertificatePEM, "key.pem": c.PrivateKeyPEM}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	_, port, _ := net.SplitHostPort(s.MQTTAddr())
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
