package test

import (
	"context"
	"sync"
	"testing"
	"time"

	"sluice/app/demo"
	"sluice/connector/awsiot/awsiottest"
	"sluice/test/child"
)

// binary is the program under test, built by TestMain: a path that is set
// once and read after.
var binary string

func TestMain(m *testing.M) { child.Main(m, true, &binary) }

// process is a running `sluice serve`, whose troubles fail the test.
type process struct {
	*child.Process
	t            *testing.T
	api          demo.REST
	data, listen string
}

// freePort returns an address that nobody listens on.
func freePort(t *testing.T) string {
	t.Helper()
	addr, err := child.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	return addr
}

// serve starts `sluice serve` and waits until it is ready. It is killed at the
// end of the test where the test does not stop it.
func serve(t *testing.T, data, listen string, more ...string) *process {
	t.Helper()
	c, err := child.Start(binary, data, listen, nil, more...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Kill() // often it has ended
		if t.Failed() {
			t.Logf("what sluice wrote:\n%s", c.Output())
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := c.Ready(ctx); err != nil {
		t.Fatal(err)
	}
	return &process{Process: c, t: t, api: c.API, data: data, listen: listen}
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

func (p *process) output() string { return p.Output() }

// terminate asks the process to stop and wants it to exit with 0.
func (p *process) terminate() {
	p.t.Helper()
	if err := p.Terminate(); err != nil {
		p.t.Fatal(err)
	}
}

// kill ends the process as a power cut ends a program: with kill -9.
func (p *process) kill() {
	p.t.Helper()
	if err := p.Kill(); err != nil {
		p.t.Fatal(err)
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

func (p *process) connection(id string) child.Connection {
	p.t.Helper()
	c, err := p.Connection(p.t.Context(), id)
	if err != nil {
		p.t.Fatal(err)
	}
	return c
}

type counters struct{ Received, Delivered, Pending, Expired, Failed, Filtered int }

func (c counters) holds() bool {
	return c.Received == c.Delivered+c.Pending+c.Expired+c.Failed+c.Filtered
}

func (p *process) counters(id string) counters {
	p.t.Helper()
	c, err := p.Counters(p.t.Context(), id)
	if err != nil {
		p.t.Fatal(err)
	}
	return counters{int(c.Received), int(c.Delivered), int(c.Pending), int(c.Expired), int(c.Failed), int(c.Filtered)}
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
