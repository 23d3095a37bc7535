package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sluice"
	"sluice/connector/awsiot/awsiottest"
)

// inFile writes the emulator's configuration, changed, into a file.
func inFile(t *testing.T, s *awsiottest.Server, change func(map[string]any)) string {
	t.Helper()
	text, err := json.Marshal(s.Configuration())
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(text, &m); err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(m)
	}
	if text, err = json.Marshal(map[string]any{"name": "AWS", "connectorId": "actility-aws-iot", "configuration": m}); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "connection.json")
	if err := os.WriteFile(name, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func emulator(t *testing.T) *awsiottest.Server {
	t.Helper()
	s, err := awsiottest.NewServer(awsiottest.Options{KeyType: awsiottest.EC})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// The doctor works on a file, exits with 0 only when all is well, and says
// last what fails first.
func TestDoctorOfAFile(t *testing.T) {
	s := emulator(t)
	exit, out, errOut := command(t, "doctor", "--file", inFile(t, s, nil), "--create")
	if exit != 0 || !strings.HasSuffix(out, "\n\nALL IS WELL\n") || errOut != "" {
		t.Errorf("exit %d\n%s%s", exit, out, errOut)
	}
	if exit, out, _ := command(t, "doctor", "--file", inFile(t, s, nil)); exit != 0 || !strings.HasSuffix(out, "ALL IS WELL, but 2 not tried\n") {
		t.Errorf("exit %d\n%s", exit, out)
	}
	wrong := inFile(t, s, func(m map[string]any) { m["deviceType"], m["uplinkQos"] = "nix", 7 })
	exit, out, errOut = command(t, "doctor", "--file", wrong)
	end := out[strings.LastIndex(out, "FAILED"):]
	if exit != 1 || errOut != "" || !strings.Contains(end, "FAILED: Configuration complete (configuration)\n\n  uplinkQos: ") || !strings.Contains(end, "\nNEXT: ") {
		t.Errorf("exit %d\n%s%s", exit, out, errOut)
	}
	exit, out, _ = command(t, "doctor", "--file", wrong, "--json", "--silent")
	states := map[string]sluice.StepState{}
	for line := range strings.Lines(out) {
		var step sluice.Step
		if err := json.Unmarshal([]byte(line), &step); err != nil {
			t.Fatalf("%v in %q", err, line)
		}
		states[step.ID] = step.State
	}
	if exit != 1 || states["configuration"] != sluice.StepFailed || states["type"] != sluice.StepFailed || states["publish"] != sluice.StepSkipped || states["name"] != sluice.StepOK {
		t.Errorf("exit %d, %v", exit, states)
	}
	for _, secret := range []string{s.SecretAccessKey(), s.AccessKeyID()} {
		if strings.Contains(out, secret) {
			t.Error("a secret is told")
		}
	}
}

// A warning is no success either.
func TestDoctorWarns(t *testing.T) {
	s := emulator(t)
	s.RefusePersistent(true)
	exit, out, _ := command(t, "doctor", "--file", inFile(t, s, nil))
	if exit != 1 || !strings.Contains(out, "\nWARN  Commands kept while away ") || !strings.Contains(out, "\nWARNING: Commands kept while away (persistent_denied)\n") {
		t.Errorf("exit %d\n%s", exit, out)
	}
}

// The policies come from a file, too, each by itself for a redirection.
func TestAWSPolicyOfAFile(t *testing.T) {
	s := emulator(t)
	file := inFile(t, s, nil)
	for only, want := range map[string]string{"iot": "iot:Publish", "iam": "iot:CreateThing", "cloudformation": "AWS::IoT::Policy"} {
		exit, out, errOut := command(t, "aws", "policy", "--file", file, "--only", only)
		if exit != 0 || !json.Valid([]byte(out)) || !strings.Contains(out, want) || !strings.Contains(errOut, "client/sluice-*") {
			t.Errorf("%s: exit %d\n%s%s", only, exit, out, errOut)
		}
	}
	exit, out, errOut := command(t, "aws", "policy", "--file", file, "--doctor", "--account", "999999999999")
	if exit != 0 || strings.Count(out, "\n# ") != 2 || !strings.Contains(out, "sluice-test/downlink") || !strings.Contains(errOut, "The account is 999999999999") {
		t.Errorf("exit %d\n%s%s", exit, out, errOut)
	}
	without := inFile(t, s, func(m map[string]any) { delete(m, "accessKeyId"); delete(m, "secretAccessKey") })
	if exit, _, errOut := command(t, "aws", "policy", "--file", without, "--only", "iam"); exit != 1 || !strings.Contains(errOut, "needs no such policy") {
		t.Errorf("exit %d\n%s", exit, errOut)
	}
}

// A Sluice that runs is asked by its API.
func TestDoctorOfAConnection(t *testing.T) {
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("the-token\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var asked []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.Method+" "+r.URL.String()+" "+r.Header.Get("Authorization"))
		switch r.URL.Path {
		case "/connections/7/test":
			_, _ = w.Write([]byte(`{"ok":false,"steps":[{"id":"port","title":"Port opens","state":"failed","cause":"port_refused","detail":"It refuses.","hint":"Open it."}]}`))
		case "/connections/7/aws-policy":
			_, _ = w.Write([]byte(`{"iotPolicy":{"a":1},"cloudFormation":{},"notes":["Mind."]}`))
		default:
			w.WriteHeader(http.StatusNotFound)
			_, _ = w.Write([]byte(`{"code":"com-4004","message":"There is none.","hint":"Look."}`))
		}
	}))
	defer server.Close()
	at := []string{"--url", server.URL, "--token-file", token}
	exit, out, _ := command(t, append([]string{"doctor", "7", "--create", "--topic", "a/b"}, at...)...)
	if exit != 1 || !strings.HasSuffix(out, "\nFAILED: Port opens (port_refused)\n\n  It refuses.\n\nNEXT: Open it.\n") {
		t.Errorf("exit %d\n%s", exit, out)
	}
	exit, out, errOut := command(t, append([]string{"aws", "policy", "7", "--only", "iot", "--account", "123456789012"}, at...)...)
	if exit != 0 || out != "{\n  \"a\": 1\n}\n" || errOut != "→ Mind.\n" {
		t.Errorf("exit %d\n%s%s", exit, out, errOut)
	}
	if exit, _, errOut := command(t, append([]string{"doctor", "8"}, at...)...); exit != 1 || errOut != "sluice: There is none.\n→ Look.\n" {
		t.Errorf("exit %d\n%s", exit, errOut)
	}
	want := "POST /connections/7/test?create=true&silent=false&topic=a%2Fb Bearer the-token|GET /connections/7/aws-policy?account=123456789012&doctor=false Bearer the-token|"
	if got := strings.Join(asked, "|"); !strings.HasPrefix(got, want) {
		t.Errorf("asked %s", got)
	}
}

func TestDoctorOfNothing(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing")
	broken := filepath.Join(t.TempDir(), "broken")
	if err := os.WriteFile(broken, []byte(`{"secretAccessKey": "hush"`), 0o600); err != nil {
		t.Fatal(err)
	}
	for line, want := range map[string]string{
		"doctor --file " + missing:                 "cannot be read",
		"doctor --file " + broken:                  "is not JSON of the right form: a mistake at byte",
		"doctor 1 --data " + filepath.Dir(missing): "the administrator token cannot be read",
	} {
		exit, _, errOut := command(t, strings.Fields(line)...)
		if exit != 1 || !strings.Contains(errOut, want) || strings.Contains(errOut, "hush") {
			t.Errorf("%s: exit %d, %s", line, exit, errOut)
		}
	}
}

// What is not there is told once, in one wording, with where to find it; what
// needs it is not tried, and nobody is asked for it.
func TestDoctorOfAnEmptyFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "connection.json")
	if err := os.WriteFile(file, []byte(`{"name":"AWS","connectorId":"actility-aws-iot","configuration":{}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	exit, out, errOut := command(t, "doctor", "--file", file, "--json")
	lines := 0
	for line := range strings.Lines(out) {
		var s sluice.Step
		if err := json.Unmarshal([]byte(line), &s); err != nil {
			t.Fatalf("%v in %q", err, line)
		}
		lines++
		if s.ID == "configuration" {
			wantOnce(t, s.Detail, "accountPrefix", "region", "uplinkTopicPattern", "certificate", "privateKey")
			if s.State != sluice.StepFailed || !strings.Contains(s.Hint, "docs/aws-setup.md") {
				t.Errorf("%+v", s)
			}
			continue
		}
		if s.State != sluice.StepSkipped || !strings.HasPrefix(s.Detail, "Not tried, because ") && !strings.HasPrefix(s.Detail, "No access key is given") {
			t.Errorf("%+v", s)
		}
	}
	if exit != 1 || errOut != "" || lines != 20 || strings.Contains(out, "..") || strings.Contains(out, "is not a region") {
		t.Errorf("exit %d, %d steps\n%s%s", exit, lines, out, errOut)
	}
	exit, out, errOut = command(t, "aws", "policy", "--file", file)
	wantOnce(t, errOut, "region", "uplinkTopicPattern")
	if exit != 1 || out != "" || !strings.Contains(errOut, "\n→ Correct what is named. docs/aws-setup.md ") {
		t.Errorf("exit %d\n%s%s", exit, out, errOut)
	}
}

// wantOnce wants that a text says of each property once that it is missing.
func wantOnce(t *testing.T, text string, names ...string) {
	t.Helper()
	for _, name := range names {
		if strings.Count(text, "missing property '"+name+"'") != 1 || strings.Count(text, name+": ") != 1 {
			t.Errorf("%s: %s", name, text)
		}
	}
	if n := strings.Count(strings.ToLower(text), "missing"); n != len(names) {
		t.Errorf("%d are missing: %s", n, text)
	}
}
