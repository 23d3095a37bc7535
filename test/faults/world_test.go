package faults

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"sluice"
	"sluice/app/demo"
	"sluice/connector/awsiot/awsiottest"
	"sluice/network/thingpark/thingparktest"
	"sluice/test/child"
	"sluice/test/faults/oracle"
	"sluice/test/faults/proxy"
)

// binary is the program under test, built by TestMain: a path that is set
// once and read after.
var binary string

func TestMain(m *testing.M) { child.Main(m, raceEnabled, &binary) }

// patience bounds every wait for something that must come.
const patience = 3 * time.Minute

// world is a Sluice between a simulated ThingPark and an emulated AWS, with
// a wire that fails on request and an oracle that watches.
type world struct {
	*demo.World
	wire    *proxy.Proxy
	oracle  *oracle.Oracle
	devices int

	data, listen string

	mu      sync.Mutex // held while the process ends and starts
	process *child.Process
	token   string
	output  []string // of processes that have ended
	answers map[int]int
}

// newWorld starts the world, and a Sluice with an open connection of so many
// sessions on a data directory; wrap is a program to run it under.
func newWorld(ctx context.Context, data string, devices, sessions int, wrap ...string) (*world, error) {
	w := &world{oracle: oracle.New(), devices: devices, data: data, answers: map[int]int{}}
	err := w.start(ctx, sessions, wrap)
	if err != nil {
		w.close()
		return nil, err
	}
	return w, nil
}

func (w *world) start(ctx context.Context, sessions int, wrap []string) (err error) {
	if w.listen, err = child.FreePort(); err != nil {
		return err
	}
	if w.World, err = demo.NewWorld(ctx, demo.WorldOptions{
		Devices: w.devices, AWS: awsiottest.Options{KeyType: awsiottest.EC}, Watch: w.watch(),
	}); err != nil {
		return err
	}
	if w.wire, err = proxy.New(w.AWS.MQTTAddr()); err != nil {
		return err
	}
	w.AWS.FailOnly(sluices)
	if w.process, err = child.Start(binary, w.data, w.listen, wrap); err != nil {
		return err
	}
	if err := w.ready(ctx); err != nil {
		return err
	}
	if err := w.Configure(ctx, w.process.API, func(c map[string]any) {
		c["dataEndpoint"] = localhost(w.wire.Addr())
		c["poolSize"] = sessions
		c["uplinkTopicPattern"] = "tpx/things/{DevEUI}/{Poison|'uplink'}"
	}); err != nil {
		return err
	}
	return w.opened(ctx)
}

// watch tells the oracle what happens.
func (w *world) watch() demo.Watch {
	return demo.Watch{
		Answered: func(r thingparktest.Result) {
			w.count(r.Status)
			w.oracle.Answered(oracle.Report{DevEUI: r.DevEUI, FCntUp: r.FCntUp}, r.Start, r.Start.Add(r.Took), r.Accepted())
		},
		Arrived: func(a demo.Arrival) {
			w.oracle.Arrived(oracle.Report{DevEUI: a.DevEUI, FCntUp: a.FCntUp}, a.ID, a.Time)
		},
		Sent:  func(id string) { w.oracle.Sent(id, time.Now()) },
		Told:  w.oracle.Told,
		Taken: func(d thingparktest.Downlink) { w.oracle.Taken(d.CorrelationID, time.Now()) },
	}
}

// count counts the answers to reports by their status; 0 is none.
func (w *world) count(status int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.answers[status]++
}

func (w *world) answered(status int) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.answers[status]
}

func (w *world) close() {
	if w.process != nil {
		_ = w.process.Kill() // as a rule it has ended
	}
	if w.wire != nil {
		w.wire.Close()
	}
	if w.World != nil {
		w.World.Close()
	}
}

// api speaks to the Sluice that runs.
func (w *world) api() *child.Process {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.process
}

func (w *world) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	p := w.api()
	err := p.Ready(ctx)
	w.token = p.API.Token
	return err
}

func (w *world) opened(ctx context.Context) error {
	return until(ctx, "the connection to open", func() bool {
		c, err := w.api().Connection(ctx, w.ConnectionID)
		return err == nil && c.State == "OPENED"
	})
}

// subscribed returns when a command was sent after a time that got through. What
// the connection says of its state may be of before.
func (w *world) subscribed(ctx context.Context, after time.Time) (sent time.Time, err error) {
	i := 0
	err = until(ctx, "commands to get through", func() bool {
		ok := false
		if sent, ok = w.oracle.Through(after); ok {
			return true
		}
		if i++; i%10 == 0 {
			_ = w.Command(context.WithoutCancel(ctx), i) // the next one may get through
		}
		return false
	})
	return sent, err
}

// kill kills Sluice, does something, and starts it again.
func (w *world) kill(between func() error) error {
	return w.again((*child.Process).Kill, between)
}

// restart ends Sluice in order and starts it again. One that has only just
// begun does not know yet how to end in order.
func (w *world) restart(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return w.again(func(p *child.Process) error {
		if err := p.Ready(ctx); err != nil {
			return err
		}
		return p.Terminate()
	}, func() error { return nil })
}

func (w *world) again(end func(*child.Process) error, between func() error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := end(w.process); err != nil {
		return err
	}
	w.output = append(w.output, w.process.Output())
	if err := between(); err != nil {
		return err
	}
	p, err := child.Start(binary, w.data, w.listen, nil)
	if err != nil {
		return err
	}
	p.API.Token = w.token
	w.process = p
	return nil
}

// written is all that Sluice has written.
func (w *world) written() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Join(w.output, "---- killed or ended\n") + "----\n" + w.process.Output()
}

// look looks at the counters until ctx ends.
func (w *world) look(ctx context.Context) {
	for tick := time.Tick(50 * time.Millisecond); ; {
		select {
		case <-ctx.Done():
			return
		case <-tick:
		}
		// An answer may be late where a fault is under way.
		if c, err := w.api().Counters(ctx, w.ConnectionID); err == nil {
			w.oracle.Looked(c, time.Now())
		}
	}
}

// poison posts a report of device i whose topic is longer than AWS takes.
func (w *world) poison(ctx context.Context, i int) {
	w.PostChanged(ctx, i, func(document []byte) []byte {
		root := gjson.GetBytes(document, "DevEUI_uplink")
		w.oracle.Poison(oracle.Report{DevEUI: root.Get("DevEUI").String(), FCntUp: uint32(root.Get("FCntUp").Uint())})
		const head = `{"DevEUI_uplink":{`
		return []byte(head + `"Poison":"` + strings.Repeat("x", 300) + `",` + strings.TrimPrefix(string(document), head))
	})
}

// settle waits until all that was accepted has arrived, and nothing is
// pending; then fresh reports and commands must get through.
func (w *world) settle(ctx context.Context) error {
	if err := w.ready(ctx); err != nil {
		return err
	}
	if err := w.opened(ctx); err != nil {
		return err
	}
	if err := w.drained(ctx); err != nil {
		return err
	}
	return w.fresh(ctx)
}

func (w *world) drained(ctx context.Context) error {
	var c sluice.Counters
	err := until(ctx, "everything to arrive", func() bool {
		var err error
		c, err = w.api().Counters(ctx, w.ConnectionID)
		return err == nil && c.Pending == 0 && w.oracle.Missing() == 0 && w.oracle.MissingCommands() == 0
	})
	if err != nil {
		return fmt.Errorf("%w: %d reports and %d commands are missing, %+v", err, w.oracle.Missing(), w.oracle.MissingCommands(), c)
	}
	return nil
}

// fresh wants 50 more reports to be accepted, and a command to get through. A
// machine that is busy may refuse some: they are answered within a second.
func (w *world) fresh(ctx context.Context) error {
	before := w.oracle.Accepted()
	left := func() int { return before + 50 - w.oracle.Accepted() }
	var failed error
	err := until(ctx, "fresh reports to be accepted", func() bool {
		failed = w.Post(ctx, demo.Load{Rate: 500, Count: left()})
		return failed != nil || left() == 0
	})
	if err = errors.Join(err, failed); err != nil {
		return fmt.Errorf("%w: %d of 50 are not", err, left())
	}
	if err := w.Command(ctx, 0); err != nil {
		return err
	}
	return w.drained(ctx)
}

// judge ends Sluice and hands everything to the oracle.
func (w *world) judge(ctx context.Context, e oracle.Ending) (wrong []string) {
	e.Counters = w.counted(ctx)
	dead, err := w.quarantined(ctx)
	if err != nil {
		wrong = append(wrong, err.Error())
	}
	e.Dead = dead
	if err := w.Err(); err != nil {
		wrong = append(wrong, "the test itself: "+err.Error())
	}
	if err := w.api().Terminate(); err != nil {
		wrong = append(wrong, err.Error())
	}
	for _, word := range []string{"DATA RACE", "panic:"} {
		if strings.Contains(w.written(), word) {
			wrong = append(wrong, "Sluice wrote "+word)
		}
	}
	for status, n := range w.answers {
		if status != 0 && status != 200 && status != 503 {
			wrong = append(wrong, fmt.Sprintf("%d reports were answered %d", n, status))
		}
	}
	return append(wrong, w.oracle.Judge(e)...)
}

// counted returns the counters once no command waits any more, so that each has
// had its fate told, and they say what has arrived. What they never say the
// oracle will tell.
func (w *world) counted(ctx context.Context) (c sluice.Counters) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	_ = until(ctx, "the counters", func() bool {
		waiting, err := w.api().WaitingCommands(ctx, w.NetworkID)
		if err != nil {
			return false
		}
		got, err := w.api().Counters(ctx, w.ConnectionID)
		if err == nil {
			c = got
		}
		return err == nil && waiting == 0 && c.Pending == 0 && c.Delivered == w.oracle.Arrivals()
	})
	return c
}

// quarantine is what Sluice gave up, with the reasons.
type quarantine map[oracle.Report]string

func (q quarantine) Dead(r oracle.Report) string { return q[r] }

func (w *world) quarantined(ctx context.Context) (quarantine, error) {
	q, api := quarantine{}, w.api().API
	path := "/connections/" + w.ConnectionID + "/quarantine"
	var list []struct {
		Number uint64
		Reason string
	}
	if err := api.Do(ctx, "GET", path+"?perPage=100", nil, &list); err != nil {
		return q, err
	}
	for _, e := range list {
		_, document, err := api.Raw(ctx, "GET", fmt.Sprintf("%s/%d", path, e.Number), nil)
		if err != nil {
			return q, err
		}
		root := gjson.GetBytes(document, "document.DevEUI_uplink")
		q[oracle.Report{DevEUI: root.Get("DevEUI").String(), FCntUp: uint32(root.Get("FCntUp").Uint())}] = e.Reason
	}
	return q, nil
}

// until waits until done, as long as patience lasts.
func until(ctx context.Context, what string, done func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for tick := time.Tick(20 * time.Millisecond); !done(); {
		select {
		case <-tick:
		case <-ctx.Done():
			return errors.New("waited in vain for " + what)
		}
	}
	return nil
}

// keep writes what Sluice has written where a failed run can be looked at.
func (w *world) keep(t *testing.T, name string) {
	t.Helper()
	file := filepath.Join(os.TempDir(), name+".log")
	if err := os.WriteFile(file, []byte(w.written()), 0o600); err == nil {
		t.Logf("what Sluice wrote is in %s", file)
	}
}

// localhost is an address by the name that the emulator's certificate is for:
// AWS wants to be told the name of its endpoint, which TLS does not do with a
// number.
func localhost(addr string) string {
	_, port, _ := net.SplitHostPort(addr)
	return net.JoinHostPort("localhost", port)
}
