package test

import (
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"sluice/connector/awsiot/awsiottest"
)

// TestAWSSetup runs the commands of docs/aws-setup.md against the emulator, as
// they stand, until the connection is open and a report has arrived.
func TestAWSSetup(t *testing.T) {
	for _, program := range []string{"aws", "curl"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("SKIPPED: %s is not installed, so docs/aws-setup.md is not tried", program)
		}
	}
	aws, err := awsiottest.NewServer(awsiottest.Options{KeyType: awsiottest.EC})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(aws.Close)
	p := serve(t, t.TempDir(), freePort(t))
	dir := t.TempDir()
	script := setupScript(t, adjust(t, aws))
	cmd := exec.CommandContext(t.Context(), "bash", "-euo", "pipefail", "-c", script)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(),
		"PATH="+filepath.Dir(binary)+string(os.PathListSeparator)+os.Getenv("PATH"),
		"AWS_ENDPOINT_URL="+aws.ControlURL(), "AWS_DEFAULT_REGION="+aws.Region(),
		"AWS_ACCESS_KEY_ID="+aws.AccessKeyID(), "AWS_SECRET_ACCESS_KEY="+aws.SecretAccessKey(), "AWS_SESSION_TOKEN=",
		"AWS_EC2_METADATA_DISABLED=true", "AWS_PAGER=", "AWS_CONFIG_FILE="+os.DevNull, "AWS_SHARED_CREDENTIALS_FILE="+os.DevNull,
		"NO_PROXY=127.0.0.1,localhost", "no_proxy=127.0.0.1,localhost",
		"SLUICE_URL=http://"+p.listen, "SLUICE_DATA="+p.data)
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "ALL IS WELL") || !strings.Contains(string(out), `"state":"OPENED"`) {
		t.Fatalf("%v\n%s", err, out)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*.key")); len(left) > 0 {
		t.Errorf("left %v", left)
	}
	arrives(t, aws, p)

	// The doctor looks at a connection that is open, and lets it be.
	opened := startupTime(t, p)
	exit, said := sluiceRun(t, "doctor", "1", "--url", "http://"+p.listen, "--data", p.data)
	if exit != 0 || !strings.Contains(said, "ALL IS WELL") {
		t.Errorf("exit %d\n%s", exit, said)
	}
	exit, said = sluiceRun(t, "aws", "policy", "1", "--url", "http://"+p.listen, "--data", p.data, "--only", "iot")
	if exit != 0 || !regexp.MustCompile(`client/sluice-[a-z0-9]{8}-1-\*`).MatchString(said) {
		t.Errorf("exit %d\n%s", exit, said)
	}
	if now := startupTime(t, p); now != opened {
		t.Errorf("opened at %s, and again at %s", opened, now)
	}
}

func startupTime(t *testing.T, p *process) string {
	t.Helper()
	var c struct{ State, StartupTime string }
	if err := p.api.Do(t.Context(), http.MethodGet, "/connections/1", nil, &c); err != nil || c.State != "OPENED" {
		t.Fatalf("%v, %+v", err, c)
	}
	return c.StartupTime
}

// setupScript is the document's blocks of sh, with one in between that follows
// the one which writes connection.json.
func setupScript(t *testing.T, after string) string {
	t.Helper()
	text, err := os.ReadFile("../docs/aws-setup.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(string(text), -1)
	if len(blocks) != 9 {
		t.Fatalf("%d blocks", len(blocks))
	}
	var script strings.Builder
	for _, b := range blocks {
		script.WriteString(b[1])
		if strings.Contains(b[1], "cat > connection.json") {
			script.WriteString(after)
		}
	}
	return script.String()
}

// adjust is a command that points connection.json at the emulator, which is
// not at AWS's addresses.
func adjust(t *testing.T, aws *awsiottest.Server) string {
	t.Helper()
	more, err := json.Marshal(map[string]string{
		"dataEndpoint": aws.MQTTAddr(), "controlEndpoint": aws.ControlURL(), "caCertificate": strings.ReplaceAll(aws.CAPEM(), "\n", " "),
	})
	if err != nil {
		t.Fatal(err)
	}
	properties := strings.ReplaceAll(strings.Trim(string(more), "{}"), "|", `\|`)
	return `grep -q "\"accountPrefix\": \"$ENDPOINT\"" connection.json
sed -i -e 's|"accountPrefix": "[^"]*"|"accountPrefix": "emulator-ats", ` + properties + `|' connection.json
`
}

// arrives posts a report and wants its thing, which is made before it is sent,
// and its delivery.
func arrives(t *testing.T, aws *awsiottest.Server, p *process) {
	t.Helper()
	var network struct {
		IngestPath string `json:"ingestPath"`
	}
	if err := p.api.Do(t.Context(), http.MethodPost, "/networks", map[string]any{"kind": "thingpark", "name": "ThingPark"}, &network); err != nil {
		t.Fatal(err)
	}
	report := json.RawMessage(`{"DevEUI_uplink":{"Time":"2026-03-01T12:00:00Z","DevEUI":"20635F0108000496","FPort":1,"FCntUp":1,"payload_hex":"01"}}`)
	wait(t, "the network to take it", func() bool {
		status, _, err := p.api.Raw(t.Context(), http.MethodPost, network.IngestPath, report)
		return err == nil && status == http.StatusOK
	})
	wait(t, "the report to be delivered", func() bool { return p.counters("1").Delivered == 1 })
	if _, ok := aws.Thing("20635F0108000496"); !ok {
		t.Error("no thing was made")
	}
}
