package test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sluice/app/demo"
	"sluice/connector/awsiot/awsiottest"
)

// binary is the program under test, built by TestMain: a path that is set
// once and read after.
var binary string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "sluice-test-")
	if err != nil {
		panic(err)
	}
	binary = filepath.Join(dir, "sluice")
	build := exec.Command("go", "build", "-race", "-o", binary, "sluice/cmd/sluice")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		panic("build the program: " + err.Error())
	}
	code := m.Run()
	_ = os.RemoveAll(dir)
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// process is a running `sluice serve`.
type process struct {
	t            *testing.T
	cmd          *exec.Cmd
	api          demo.REST
	exit         chan error
	data, listen string

	mu     sync.Mutex
	stderr strings.Builder
}

// freePort returns an address that nobody listens on.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// serve starts `sluice serve` and waits until it is ready. It is killed at the
// end of the test where the test does not stop it.
func serve(t *testing.T, data, listen string, more ...string) *process {
	t.Helper()
	args := append([]string{"serve", "--data", data, "--listen", listen, "--drain", "10s"}, more...)
	p := &process{t: t, cmd: exec.Command(binary, args...), exit: make(chan error, 1), data: data, listen: listen}
	p.api.Base = "http://" + listen
	pipe, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go p.run(pipe)
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill() // often it has ended
		<-p.exit
		if t.Failed() {
			t.Logf("what sluice wrote:\n%s", p.output())
		}
	})
	wait(t, "sluice to be ready", func() bool {
		select {
		case err := <-p.exit:
			p.exit <- err
			t.Fatalf("sluice ended at its start: %v\n%s", err, p.output())
		default:
		}
		status, _, err := p.api.Raw(t.Context(), "GET", "/readyz", nil)
		return err == nil && status == 200
	})
	token, err := os.ReadFile(filepath.Join(data, "admin.token"))
	if err != nil {
		t.Fatal(err)
	}
	p.api.Token = strings.TrimSpace(string(token))
	return p
}

// opened starts the world and a Sluice in it, with an open connection; change
// alters its configuration.
func opened(t *testing.T, devices int, change func(map[string]any)) (*demo.World, *process) {
	t.Helper()
	w := world(t, devices)
	p := serve(t, t.TempDir(), freePort(t))
	if err := w.Configure(t.Context(), p.api, change); err != nil {
		t.Fatal(err)
	}
	p.opened(w.ConnectionID)
	return w, p
}

// again starts a process that has ended another time, with more flags.
func (p *process) again(more ...string) *process {
	p.t.Helper()
	return serve(p.t, p.data, p.listen, more...)
}

func (p *process) run(stderr io.Reader) {
	lines := bufio.NewScanner(stderr)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		p.mu.Lock()
		fmt.Fprintln(&p.stderr, lines.Text())
		p.mu.Unlock()
	}
	p.exit <- p.cmd.Wait()
}

func (p *process) output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stderr.String()
}

// terminate asks the process to stop and wants it to exit with 0.
func (p *process) terminate() {
	p.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		p.t.Fatal(err)
	}
	p.await(nil)
}

// kill ends the process as a power cut ends a program: with kill -9.
func (p *process) kill() {
	p.t.Helper()
	if err := p.cmd.Process.Kill(); err != nil {
		p.t.Fatal(err)
	}
	var exit *exec.ExitError
	select {
	case err := <-p.exit:
		p.exit <- err
		if !errors.As(err, &exit) {
			p.t.Fatalf("killed, and yet it ended with %v", err)
		}
	case <-time.After(time.Minute):
		p.t.Fatal("killed, and still there")
	}
}

func (p *process) await(want error) {
	p.t.Helper()
	select {
	case err := <-p.exit:
		p.exit <- err
		if !errors.Is(err, want) {
			p.t.Fatalf("sluice ended with %v\n%s", err, p.output())
		}
	case <-time.After(time.Minute):
		p.t.Fatalf("sluice did not end\n%s", p.output())
	}
}

// wait waits until done, for a minute at most.
func wait(t *testing.T, what string, done func() bool) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for !done() {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
		select {
		case <-t.Context().Done():
			t.Fatal(t.Context().Err())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// world starts the world around a Sluice.
func world(t *testing.T, devices int) *demo.World {
	t.Helper()
	w, err := demo.NewWorld(t.Context(), demo.WorldOptions{Devices: devices, AWS: awsiottest.Options{KeyType: awsiottest.EC}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	return w
}

// settled waits until everything accepted and sent has arrived, and wants the
// world to be content.
func settled(t *testing.T, w *demo.World, duplicatesMayBe bool) {
	t.Helper()
	// At the deadline Verdict says what is missing.
	deadline := time.After(time.Minute)
	for tick := time.Tick(10 * time.Millisecond); !w.Settled() && deadline != nil; {
		select {
		case <-tick:
		case <-deadline:
			deadline = nil
		}
	}
	if err := w.Verdict(duplicatesMayBe); err != nil {
		t.Fatalf("%v\n%+v", err, w.Totals())
	}
}

// connectionView is what GET /connections/{id} tells.
type connectionView struct {
	State         string
	Active        bool
	Applied       bool
	Reason        string
	Configuration map[string]any
}

func (p *process) connection(id string) connectionView {
	p.t.Helper()
	var v connectionView
	if err := p.api.Do(p.t.Context(), "GET", "/connections/"+id, nil, &v); err != nil {
		p.t.Fatal(err)
	}
	return v
}

type counters struct{ Received, Delivered, Pending, Expired, Failed, Filtered int }

func (c counters) holds() bool {
	return c.Received == c.Delivered+c.Pending+c.Expired+c.Failed+c.Filtered
}

func (p *process) counters(id string) counters {
	p.t.Helper()
	var v struct{ Total counters }
	if err := p.api.Do(p.t.Context(), "GET", "/connections/"+id+"/metrics", nil, &v); err != nil {
		p.t.Fatal(err)
	}
	return v.Total
}

func (p *process) opened(id string) {
	p.t.Helper()
	wait(p.t, "the connection to open", func() bool { return p.connection(id).State == "OPENED" })
}

func background(t *testing.T, f func(ctx context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
	t.Cleanup(stop)
	return stop
}
