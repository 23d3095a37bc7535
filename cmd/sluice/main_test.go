package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"sluice"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// command runs a command line to its end.
func command(t *testing.T, args ...string) (exit int, out, errOut string) {
	t.Helper()
	var o, e bytes.Buffer
	exit = run(t.Context(), args, &o, &e)
	return exit, o.String(), e.String()
}

func TestWrongFlags(t *testing.T) {
	const publicURL = "--public-url must be an http(s) URL such as https://sluice.example.com"
	const listen = "--listen must be host:port, such as 127.0.0.1:8080"
	for line, want := range map[string]string{
		"nonsense":                                  "unexpected argument nonsense",
		"serve":                                     "missing flags: --data=DIR",
		"serve --data d --color":                    "unknown flag --color",
		"serve --data d --public-url nix":           publicURL,
		"serve --data d --public-url //h":           publicURL,
		"serve --data d --public-url ftp://h":       publicURL,
		"serve --data d --public-url https://":      publicURL,
		"serve --data d --public-url http://:80":    publicURL,
		"serve --data d --public-url https://u:p@h": publicURL,
		"serve --data d --public-url https://h?a=b": publicURL,
		"serve --data d --public-url https://h/#x":  publicURL,
		"serve --data d --listen foo":               listen,
		"serve --data d --listen 8080":              listen,
		"serve --data d --listen foo:http":          listen,
		"serve --data d --listen :70000":            listen,
		"serve --data d --retention 1s":             "--retention must be at least 1m",
		"serve --data d --history=-1h":              "--history must not be below 0",
		"serve --data d --share=-1GiB":              "--share must not be below 0",
		"serve --data d --reserve 1MiB":             "--reserve must be at least 16MiB",
		"demo --listen foo":                         listen,
		"demo --rate 0":                             "--rate must be at least 1",
		"demo --rate=-5":                            "--rate must be at least 1",
		"demo --devices 0":                          "--devices must be at least 1",
		"demo --for=-1s":                            "--for must not be below 0",
		"backup --data d":                           "missing flags: --out=FILE",
		"backup --out f":                            "name the data directory with --data, or the token with --token-file",
		"backup --out - --data d --with-key":        "--with-key needs a file: --out - is not one",
		"backup --out f --token-file t --with-key":  "--with-key needs the key: name the data directory with --data, or the key with --key-file",
		"backup --out f --data d --url ftp://h":     "--url must be an http(s) URL such as http://127.0.0.1:8080",
		"doctor":                                    "name a connection by its id, or a file with --file",
		"doctor 1 --file f":                         "name a connection by its id, or a file with --file",
		"doctor 1":                                  "name the data directory with --data, or the token with --token-file",
		"doctor 1 --data d --url ftp://h":           "--url must be an http(s) URL such as http://127.0.0.1:8080",
		"restore f":                                 "missing flags: --data=DIR",
		"restore --data d":                          "expected \"<file>\"",
		"aws-local --listen foo":                    "--listen must be host:port, such as 127.0.0.1:8883",
		"aws-local --control foo":                   "--control must be host:port, such as 127.0.0.1:8884",
	} {
		exit, out, errOut := command(t, strings.Fields(line)...)
		if exit != 2 || out != "" || errOut != "sluice: "+want+"\nTry: sluice --help\n" {
			t.Errorf("%s: exit %d\n%s%s", line, exit, out, errOut)
		}
	}
}

func TestPublicURL(t *testing.T) {
	for text, want := range map[string]string{
		"":                              "",
		"https://sluice.example.com":    "https://sluice.example.com",
		"https://sluice.example.com/":   "https://sluice.example.com",
		"http://10.0.0.1:8080/sluice//": "http://10.0.0.1:8080/sluice",
		"HTTPS://[::1]:8443":            "HTTPS://[::1]:8443",
	} {
		if got, err := publicURL(text); got != want || err != nil {
			t.Errorf("%s: %q, %v", text, got, err)
		}
	}
}

func TestListenAddresses(t *testing.T) {
	for _, addr := range []string{"127.0.0.1:8080", ":8080", "0.0.0.0:0", "[::1]:8080", "localhost:65535"} {
		if err := checkAddr("--listen", addr, ""); err != nil {
			t.Errorf("%s: %v", addr, err)
		}
	}
}

func TestVersion(t *testing.T) {
	want := "sluice " + versionText() + "\n"
	for _, line := range []string{"version", "--version", "serve --version"} {
		if exit, out, errOut := command(t, strings.Fields(line)...); exit != 0 || out != want || errOut != "" {
			t.Errorf("%s: exit %d\n%s%s", line, exit, out, errOut)
		}
	}
}

func TestHelp(t *testing.T) {
	for _, args := range [][]string{nil, {"--help"}} {
		exit, out, errOut := command(t, args...)
		if exit != 0 || errOut != "" {
			t.Errorf("%v: exit %d\n%s", args, exit, errOut)
		}
		for _, name := range []string{"demo", "serve", "backup", "restore", "aws-local", "version"} {
			if !strings.Contains(out, "\n  "+name+" ") {
				t.Errorf("%v: %s is not in:\n%s", args, name, out)
			}
		}
	}
}

// awsLocal runs aws-local on free ports until stop is called, which returns
// what was not read of its output, and the exit code.
func awsLocal(t *testing.T, args ...string) (out *bufio.Reader, stop func() (rest string, exit int)) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	reader, writer := io.Pipe()
	var errOut bytes.Buffer
	exit := make(chan int, 1)
	go func() {
		exit <- run(ctx, append([]string{"aws-local", "--listen", "127.0.0.1:0", "--control", "127.0.0.1:0"}, args...), writer, &errOut)
		_ = writer.Close()
	}()
	out = bufio.NewReader(reader)
	return out, func() (string, int) {
		cancel()
		rest, _ := io.ReadAll(out)
		code := <-exit
		if errOut.Len() > 0 {
			t.Errorf("aws-local: %s", errOut.String())
		}
		return string(rest), code
	}
}

func TestAWSLocalJSON(t *testing.T) {
	out, stop := awsLocal(t, "--json")
	line, err := out.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	var configuration map[string]string
	if err := json.Unmarshal([]byte(line), &configuration); err != nil {
		t.Fatalf("%v in %s", err, line)
	}
	want := []string{
		"accessKeyId", "accountPrefix", "caCertificate", "certificate", "certificateId", "controlEndpoint", "dataEndpoint",
		"description", "deviceType", "downlinkTopicPattern", "privateKey", "publishEndpoint", "region", "secretAccessKey", "stsEndpoint",
		"uplinkTopicPattern", "webSocketEndpoint",
	}
	if d := cmp.Diff(want, slices.Sorted(maps.Keys(configuration))); d != "" {
		t.Errorf("properties (-want +got):\n%s", d)
	}
	for name, value := range configuration {
		if value == "" {
			t.Errorf("%s is empty", name)
		}
	}
	// It does run while the line stands there.
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", configuration["dataEndpoint"])
	if err != nil {
		t.Error(err)
	} else {
		_ = conn.Close()
	}
	if rest, exit := stop(); exit != 0 || rest != "" {
		t.Errorf("exit %d, and more than a line: %q", exit, rest)
	}
	if conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", configuration["dataEndpoint"]); err == nil {
		_ = conn.Close()
		t.Error("it still listens")
	}
}

func TestAWSLocalText(t *testing.T) {
	out, stop := awsLocal(t)
	var text strings.Builder
	for {
		line, err := out.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		text.WriteString(line)
		if strings.Contains(line, "Ctrl-C") {
			break
		}
	}
	if _, exit := stop(); exit != 0 {
		t.Errorf("exit %d", exit)
	}
	if !strings.Contains(text.String(), "HTTPS (publish and shadows): with a certificate on localhost:") {
		t.Errorf("no line about HTTPS in %s", text.String())
	}
	_, body, _ := strings.Cut(text.String(), "POST /connections with:\n")
	body, _, _ = strings.Cut(body, "It keeps nothing")
	var connection struct {
		ConnectorID   string
		Name          string
		Configuration map[string]any
	}
	if err := json.Unmarshal([]byte(body), &connection); err != nil {
		t.Fatalf("%v in %s", err, body)
	}
	if connection.ConnectorID != "actility-aws-iot" || connection.Name == "" || len(connection.Configuration) != 17 {
		t.Errorf("%+v", connection)
	}
}

func TestAWSLocalOnBusyPorts(t *testing.T) {
	busy, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = busy.Close() }()
	addr := busy.Addr().String()
	for _, args := range [][]string{
		{"aws-local", "--listen", addr, "--control", "127.0.0.1:0"},
		{"aws-local", "--listen", "127.0.0.1:0", "--control", addr},
	} {
		exit, out, errOut := command(t, args...)
		if exit != 1 || out != "" || !strings.Contains(errOut, "cannot listen on "+addr) ||
			!strings.Contains(errOut, "\n→ ") || !strings.Contains(errOut, "Choose others with --listen and --control.") {
			t.Errorf("%v: exit %d\n%s%s", args, exit, out, errOut)
		}
	}
}

func TestPrintError(t *testing.T) {
	full := &sluice.Error{
		Code: sluice.CodeInternal, Message: "These cannot be read:", Hint: "Enter them again.",
		Fields: []sluice.Problem{{Path: "connection 1 (AWS)", Message: "privateKey"}, {Path: "network Europe", Message: "asKey"}},
	}
	for name, test := range map[string]struct {
		err  error
		want string
	}{
		"any error":      {io.ErrUnexpectedEOF, "sluice: unexpected EOF\n"},
		"a sentence":     {sluice.Errorf(sluice.CodeInternal, "It is broken"), "sluice: It is broken\n"},
		"with its cause": {&sluice.Error{Message: "cannot listen", Err: errors.New("in use"), Hint: "Choose another."}, "sluice: cannot listen: in use\n→ Choose another.\n"},
		"with fields":    {full, "sluice: These cannot be read:\n  connection 1 (AWS): privateKey\n  network Europe: asKey\n→ Enter them again.\n"},
		"wrapped":        {fmt.Errorf("start: %w", full), "sluice: These cannot be read:\n  connection 1 (AWS): privateKey\n  network Europe: asKey\n→ Enter them again.\n"},
	} {
		var out bytes.Buffer
		printError(&out, test.err)
		if out.String() != test.want {
			t.Errorf("%s: %q", name, out.String())
		}
	}
}

// TestServeFails: what keeps serve from starting is told with what to do.
func TestServeFails(t *testing.T) {
	exit, out, errOut := command(t, "serve", "--data", "main.go", "--listen", "127.0.0.1:0")
	if exit != 1 || out != "" || !strings.HasPrefix(errOut, "sluice: ") {
		t.Errorf("exit %d\n%s%s", exit, out, errOut)
	}
}
