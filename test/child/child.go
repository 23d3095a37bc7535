// Package child runs the program itself as a child process, for tests that
// kill it.
package child

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"go.uber.org/goleak"

	"sluice"
	"sluice/app/demo"
)

// Build builds the program into a folder and returns its path. With race it
// is built with the race detector.
func Build(dir string, race bool) (binary string, err error) {
	binary = filepath.Join(dir, "sluice")
	args := []string{"build", "-o", binary}
	if race {
		args = append(args, "-race")
	}
	build := exec.Command("go", append(args, "sluice/cmd/sluice")...)
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		return "", fmt.Errorf("build the program: %w", err)
	}
	return binary, nil
}

// Main is the TestMain of a package whose tests run the program: it builds it,
// once, says where, and wants no goroutine to be left.
func Main(m interface{ Run() int }, race bool, binary *string) {
	dir, err := os.MkdirTemp("", "sluice-test-")
	if err == nil {
		*binary, err = Build(dir, race)
	}
	if err != nil {
		panic(err)
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

// FreePort returns an address that nobody listens on. It is below the ports
// that systems give to clients, so that no client takes it while the program
// is down.
func FreePort() (string, error) {
	for range 100 {
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 15_000+rand.IntN(15_000)))
		if err == nil {
			return l.Addr().String(), l.Close()
		}
	}
	return "", errors.New("no port is free")
}

// Process is a running `sluice serve`.
type Process struct {
	API          demo.REST
	Data, Listen string

	cmd  *exec.Cmd
	done chan struct{} // closed when the process has ended
	err  error         // how; read after done

	mu     sync.Mutex
	stderr strings.Builder
}

// Start starts `sluice serve`, under the program that wrap names where there
// is one. It does not wait until Sluice is ready.
func Start(binary, data, listen string, wrap []string, more ...string) (*Process, error) {
	args := append([]string{}, wrap...)
	args = append(args, binary, "serve", "--data", data, "--listen", listen, "--drain", "10s")
	args = append(args, more...)
	p := &Process{
		API:  demo.REST{Base: "http://" + listen},
		Data: data, Listen: listen,
		cmd: exec.Command(args[0], args[1:]...), done: make(chan struct{}),
	}
	pipe, err := p.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go p.run(pipe)
	return p, nil
}

func (p *Process) run(stderr io.Reader) {
	lines := bufio.NewScanner(stderr)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		p.mu.Lock()
		fmt.Fprintln(&p.stderr, lines.Text())
		p.mu.Unlock()
	}
	p.err = p.cmd.Wait()
	close(p.done)
}

// readyPause is how often Ready looks.
const readyPause = 10 * time.Millisecond

// Ready waits until Sluice takes reports, and reads its token.
func (p *Process) Ready(ctx context.Context) error {
	for {
		status, _, err := p.API.Raw(ctx, "GET", "/readyz", nil)
		if err == nil && status == 200 {
			break
		}
		select {
		case <-p.done:
			return fmt.Errorf("sluice ended at its start: %w\n%s", p.err, p.Output())
		case <-ctx.Done():
			return fmt.Errorf("sluice does not become ready: %w\n%s", ctx.Err(), p.Output())
		case <-time.After(readyPause):
		}
	}
	token, err := os.ReadFile(filepath.Join(p.Data, "admin.token"))
	p.API.Token = strings.TrimSpace(string(token))
	return err
}

// Output is what it has written so far.
func (p *Process) Output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.stderr.String()
}

// endLimit bounds the wait for an end.
const endLimit = time.Minute

// Kill ends the process with kill -9 and waits until it is gone. An error
// says that it had ended before.
func (p *Process) Kill() error {
	_ = p.cmd.Process.Kill() // it may have ended
	select {
	case <-p.done:
	case <-time.After(endLimit):
		return errors.New("killed, and still there")
	}
	if exit, ok := errors.AsType[*exec.ExitError](p.err); ok {
		if s, ok := exit.Sys().(syscall.WaitStatus); ok && s.Signaled() {
			return nil
		}
	}
	return fmt.Errorf("killed, and yet it ended with %w\n%s", p.err, p.Output())
}

// Terminate asks the process to stop; nil means that it exited with 0.
func (p *Process) Terminate() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-p.done:
	case <-time.After(endLimit):
		return fmt.Errorf("sluice did not end\n%s", p.Output())
	}
	if p.err != nil {
		return fmt.Errorf("sluice ended with %w\n%s", p.err, p.Output())
	}
	return nil
}

// Connection is what GET /connections/{id} tells.
type Connection struct {
	State         string
	Active        bool
	Applied       bool
	Reason        string
	Configuration map[string]any
}

// Connection reads a connection.
func (p *Process) Connection(ctx context.Context, id string) (c Connection, err error) {
	err = p.API.Do(ctx, "GET", "/connections/"+id, nil, &c)
	return c, err
}

// Counters reads the counters of a connection.
func (p *Process) Counters(ctx context.Context, id string) (sluice.Counters, error) {
	var v struct{ Total sluice.Counters }
	err := p.API.Do(ctx, "GET", "/connections/"+id+"/metrics", nil, &v)
	return v.Total, err
}

// WaitingCommands is how many commands wait for a network server.
func (p *Process) WaitingCommands(ctx context.Context, networkID string) (int, error) {
	var v struct{ DownlinksPending *int }
	err := p.API.Do(ctx, "GET", "/networks/"+networkID, nil, &v)
	if err == nil && v.DownlinksPending == nil {
		err = errors.New("the network does not tell downlinksPending")
	}
	if err != nil {
		return 0, err
	}
	return *v.DownlinksPending, nil
}

// PID is the process's id.
func (p *Process) PID() int { return p.cmd.Process.Pid }
