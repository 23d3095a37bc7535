package awsiottest_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/google/go-cmp/cmp"

	"sluice/connector/awsiot/awsiottest"
)

// javaScriptFolder has the scripts that TestJavaScript runs, and AWS's SDKs
// for JavaScript once "make peers" has installed them there.
const javaScriptFolder = "testdata/javascript"

// javaScriptSteps are the steps that the scripts must report, one a line.
const javaScriptSteps = `
MQTT 5 over mutual TLS
MQTT 5 over mutual TLS at 443
MQTT 5 over WSS
MQTT 5 over WSS with a temporary key
MQTT 5 settings
MQTT 5 limits
MQTT 5 retained
MQTT 5 will
MQTT 5 persistent session
MQTT 5 unacknowledged
MQTT 5 shared subscription
MQTT 5 topic aliases
MQTT 5 takeover
MQTT 5 policy
MQTT 5 over WSS with a wrong secret
MQTT 3.1.1 over mutual TLS
MQTT 3.1.1 over mutual TLS at 443
MQTT 3.1.1 over WSS
MQTT 3.1.1 retained
MQTT 3.1.1 will
MQTT 3.1.1 persistent session
MQTT 3.1.1 policy
classic shadow over MQTT 5
named shadow over MQTT 5
classic shadow over MQTT 3.1.1
named shadow over MQTT 3.1.1
shadow by the first client
registry: things
registry: principals and policies
registry: groups
registry: exceptions
registry: throttled
registry: delete
data plane: publish
data plane: retained
data plane: classic shadow
data plane: named shadow
data plane: exceptions
`

// world is what the scripts are told.
type world struct {
	Host         string        `json:"host"`
	Port8883     int           `json:"port8883"`
	Port443      int           `json:"port443"`
	Control      string        `json:"control"`
	Region       string        `json:"region"`
	CA           string        `json:"ca"`
	Certificate  string        `json:"certificate"`
	PrivateKey   string        `json:"privateKey"`
	Key          javaScriptKey `json:"key"`
	TemporaryKey javaScriptKey `json:"temporaryKey"`
	WeakKey      javaScriptKey `json:"weakKey"` // may do nothing that is of use
}

type javaScriptKey struct {
	ID     string `json:"id"`
	Secret string `json:"secret"`
	Token  string `json:"token,omitempty"`
}

// TestJavaScript runs AWS's device SDK for JavaScript (MQTT 5 and MQTT 3.1.1,
// by mutual TLS and WebSocket, and its shadow clients), and its clients of the
// registry and of the data plane.
func TestJavaScript(t *testing.T) {
	t.Parallel()
	node := javaScript(t)
	s := start(t, awsiottest.Options{KeyType: awsiottest.RSA, ControlTLS: true, APIRates: map[string]int{"ListThingTypes": 5}})
	reports := runJavaScript(t, node, s, worldOf(t, s))
	for step := range strings.Lines(strings.TrimSpace(javaScriptSteps)) {
		step = strings.TrimSpace(step)
		t.Run(step, func(t *testing.T) {
			switch failure, ok := reports[step]; {
			case !ok:
				t.Error("not reported")
			case failure != "":
				t.Error(failure)
			}
		})
		delete(reports, step)
	}
	for step, failure := range reports {
		t.Errorf("%q is reported and not in javaScriptSteps: %s", step, failure)
	}
	// What the emulator says to it.
	if document, ok := s.Shadow("sdk-plug", ""); !ok || !strings.Contains(string(document), `"level":1`) {
		t.Errorf("shadow %s", document)
	}
	if things, types := s.Things(), s.ThingTypes(); len(things) != 0 || !cmp.Equal(types, []string{"sensor"}) {
		t.Errorf("things %v, types %v", things, types)
	}
}

// javaScript finds node, or skips the test where it or the SDKs are missing.
func javaScript(t *testing.T) (node string) {
	t.Helper()
	node = tool(t, "node", "nodejs")
	read := func(name string) []byte {
		content, err := os.ReadFile(filepath.Join(javaScriptFolder, name))
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		return content
	}
	// "make peers" leaves a copy of the lock file that it has installed from.
	if !bytes.Equal(read("package-lock.json"), read("node_modules/.installed")) {
		t.Skip("SKIPPED: AWS's SDKs for JavaScript are not installed (make peers), so the emulator is not tried with them")
	}
	// Reading the scripts has "go test" run again when they change.
	scripts, _ := filepath.Glob(filepath.Join(javaScriptFolder, "*.mjs"))
	for _, script := range scripts {
		read(filepath.Base(script))
	}
	return node
}

func worldOf(t *testing.T, s *awsiottest.Server) world {
	t.Helper()
	certificate := withPolicies(t, s, allow(
		"Connect client/sdk-*", "Publish topic/sdk/*", "RetainPublish topic/sdk/*", "Receive topic/sdk/*", "Subscribe topicfilter/sdk/*",
		"Subscribe topicfilter/$share/group/sdk/*", "Publish topic/$aws/things/sdk-*", "Receive topic/$aws/things/sdk-*",
		"Subscribe topicfilter/$aws/things/sdk-*"))
	weak, err := s.CreateUser("weak", `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"iot:ListThings","Resource":"*"}}`)
	if err != nil {
		t.Fatal(err)
	}
	return world{
		Host: "localhost", Port8883: port(t, s.MQTTAddr()), Port443: port(t, s.Addr443()), Control: s.ControlURL(), Region: s.Region(),
		CA: s.CAPEM(), Certificate: certificate.CertificatePEM, PrivateKey: certificate.PrivateKeyPEM,
		Key:          javaScriptKey{ID: s.AccessKeyID(), Secret: s.SecretAccessKey()},
		TemporaryKey: temporaryKey(t, s),
		WeakKey:      javaScriptKey{ID: weak.ID, Secret: weak.Secret},
	}
}

// temporaryKey assumes a role that may do everything.
func temporaryKey(t *testing.T, s *awsiottest.Server) javaScriptKey {
	t.Helper()
	role, err := s.CreateRole(awsiottest.Role{Name: "device", Policy: `{"Statement":{"Effect":"Allow","Action":"iot:*","Resource":"*"}}`})
	if err != nil {
		t.Fatal(err)
	}
	client := tokens(t, s, credentials.NewStaticCredentialsProvider(s.AccessKeyID(), s.SecretAccessKey(), ""))
	held, err := stscreds.NewAssumeRoleProvider(client, role).Retrieve(deadline(t))
	if err != nil {
		t.Fatal(err)
	}
	return javaScriptKey{ID: held.AccessKeyID, Secret: held.SecretAccessKey, Token: held.SessionToken}
}

func port(t *testing.T, addr string) int {
	t.Helper()
	a, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	return a.Port
}

// runJavaScript runs the scripts and returns the failure of each step that
// they reported, "" for none.
func runJavaScript(t *testing.T, node string, s *awsiottest.Server, w world) map[string]string {
	t.Helper()
	dir := t.TempDir()
	told, err := json.Marshal(w)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{"world.json": string(told), "ca.pem": s.CAPEM()} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 4*patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, node, "run.mjs", filepath.Join(dir, "world.json"))
	cmd.Dir = javaScriptFolder
	// Nothing of the environment leads elsewhere: no proxy, no profile, no key.
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "NODE_EXTRA_CA_CERTS=" + filepath.Join(dir, "ca.pem"),
		"AWS_EC2_METADATA_DISABLED=true", "AWS_CONFIG_FILE=" + os.DevNull, "AWS_SHARED_CREDENTIALS_FILE=" + os.DevNull,
	}
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Errorf("node run.mjs: %v\n%s", err, stderr.String())
	}
	return reportsIn(t, out)
}

func reportsIn(t *testing.T, out []byte) map[string]string {
	t.Helper()
	reports := map[string]string{}
	for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
		var report struct{ Step, Error string }
		if err := json.Unmarshal(lines.Bytes(), &report); err != nil {
			t.Errorf("no report: %q", lines.Text())
			continue
		}
		reports[report.Step] = report.Error
	}
	return reports
}
