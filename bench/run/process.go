package run

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// process is a running child.
type process struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
	hello childHello
	ended chan struct{} // closed once it has ended
	// stranger is a program that does not end by itself when its stdin does.
	stranger bool
}

// startChild starts this program as a child and waits until it is ready. What it
// writes to stderr goes to the file log.
func startChild(spec childSpec, log string) (*process, error) {
	text, err := json.Marshal(spec)
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), childVariable+"="+string(text))
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p, err := start(cmd, log)
	if err != nil {
		return nil, err
	}
	ready := make(chan error, 1)
	go func() {
		lines := bufio.NewReader(out)
		line, err := lines.ReadBytes('\n')
		if err == nil {
			err = json.Unmarshal(line, &p.hello)
		}
		ready <- err
		_, _ = io.Copy(io.Discard, lines)
		_ = cmd.Wait() // what it returns is told by what the child did, or did not
		close(p.ended)
	}()
	select {
	case err = <-ready:
	case <-time.After(time.Minute):
		err = errors.New("it is not ready after a minute")
	}
	if err != nil {
		p.kill()
		said, _ := os.ReadFile(log)
		return nil, fmt.Errorf("start %s: %w\n%s", spec.Kind, err, bytes.TrimSpace(said))
	}
	return p, nil
}

// start starts a command. Its Wait is the caller's, and closes ended.
func start(cmd *exec.Cmd, log string) (*process, error) {
	f, err := os.OpenFile(log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer f.Close() // the child has its own
	cmd.Stderr = f
	p := &process{cmd: cmd, ended: make(chan struct{})}
	if p.stdin, err = cmd.StdinPipe(); err != nil {
		return nil, err
	}
	return p, cmd.Start()
}

// kill ends the process as kill -9 does, and waits for its end.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may have ended
	<-p.ended
}

// stop ends the process in good order, or kills it if it takes too long.
func (p *process) stop() {
	_ = p.stdin.Close()
	if p.stranger {
		_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	}
	select {
	case <-p.ended:
	case <-time.After(20 * time.Second):
		p.kill()
	}
}

// alive is an error once the process has ended.
func (p *process) alive() error {
	select {
	case <-p.ended:
		return fmt.Errorf("the process has ended: %v", p.cmd.ProcessState)
	default:
		return nil
	}
}

// tick is the unit of processor time in /proc.
const tick = 10 * time.Millisecond

// machineCPU is the processor time that all processes have used so far.
func machineCPU() (time.Duration, error) {
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	line, _, _ := strings.Cut(string(stat), "\n")
	fields := strings.Fields(line)
	if len(fields) < 9 || fields[0] != "cpu" {
		return 0, errors.New("/proc/stat has another form here")
	}
	var sum time.Duration
	for i, f := range fields[1:9] { // user nice system idle iowait irq softirq steal
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, err
		}
		if i < 3 || i == 7 { // interrupts are mostly those of the loopback
			sum += time.Duration(n) * tick
		}
	}
	return sum, nil
}

// cpu is the processor time that the process has used so far. Linux only: it
// is told in ticks of 10 ms.
func (p *process) cpu() (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	// The name, in parentheses, may hold anything; user and system time are the
	// 14th and 15th fields, counted with it.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 13 {
		return 0, errors.New("/proc/<pid>/stat has another form here")
	}
	user, err1 := strconv.ParseInt(fields[11], 10, 64)
	system, err2 := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * tick, errors.Join(err1, err2)
}

// peakMemory is the most that the process has had in memory, in bytes.
func (p *process) peakMemory() (int, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		if value, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, err := strconv.Atoi(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "kB")))
			return kib << 10, err
		}
	}
	return 0, errors.New("/proc/<pid>/status has no VmHWM")
}
