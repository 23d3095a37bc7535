package test

import (
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// TestDemo runs the demo as a user does, for three seconds.
func TestDemo(t *testing.T) {
	out, err := exec.Command(binary, "demo", "--for", "3s", "--rate", "200", "--devices", "30", "--listen", "127.0.0.1:0").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("%s", out)
	for _, want := range []string{
		`Sluice +http://127\.0\.0\.1:\d+ `, `token +\S{40,}`, `AWS IoT emulator +localhost:\d+ MQTT`,
		`Connection opened: `,
		`time +received +journalled +delivered +pending +lost +twice +downlinks +p50 +p99`,
		`\n +\d+s +\d+ +\d+ +\d+ +\d+ +0 +0 +\d+ +[0-9.]+ ms +[0-9.]+ ms\n`,
		`Reports +\d+ accepted, 0 refused; \d+ arrived, 0 lost, 0 twice, 0 out of order`,
		`Commands +(\d+) sent, (\d+) reached ThingPark`,
		`: holds\n`, `AWS +10 clients, `,
	} {
		if !regexp.MustCompile(want).Match(out) {
			t.Errorf("the demo does not print %q", want)
		}
	}
	if strings.Contains(string(out), "DATA RACE") {
		t.Error("a data race")
	}
}
