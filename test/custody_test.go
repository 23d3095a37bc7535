package test

import (
	"context"
	"math/rand/v2"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"sluice/app/demo"
)

// TestWayOfAMessage goes the whole way: reports in over HTTP, out over TLS and
// MQTT, things made, commands back; then an orderly end and a second start.
func TestWayOfAMessage(t *testing.T) {
	const devices = 20
	w, p := opened(t, devices, nil)
	if err := w.Post(t.Context(), demo.Load{Rate: 300, Count: 600}); err != nil {
		t.Fatal(err)
	}
	for i := range 10 {
		if err := w.Command(t.Context(), i); err != nil {
			t.Fatal(err)
		}
	}
	settled(t, w, false)
	if got := w.Totals(); got.Accepted != 600 || got.Refused != 0 {
		t.Errorf("totals = %+v", got)
	}
	if n := len(w.AWS.Things()); n != devices {
		t.Errorf("%d things, want %d", n, devices)
	}
	wait(t, "the counters", func() bool {
		c := p.counters(w.ConnectionID)
		if !c.holds() {
			t.Fatalf("the law of the counters does not hold: %+v", c)
		}
		// 600 reports, and for each command one that says that it is queued.
		return c.Delivered == 610 && c.Received == 610
	})

	// A second process on the directory is refused, and says why.
	out, err := exec.Command(binary, "serve", "--data", p.data, "--listen", "127.0.0.1:0").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "in use") {
		t.Errorf("second process: %v\n%s", err, out)
	}

	creates := w.AWS.Calls("CreateThing")
	p.terminate()
	p = p.again()
	p.opened(w.ConnectionID)
	if err := w.Post(t.Context(), demo.Load{Rate: 300, Count: 200}); err != nil {
		t.Fatal(err)
	}
	settled(t, w, false)
	if n := w.AWS.Calls("CreateThing"); n != creates {
		t.Errorf("%d things made anew after the restart: known things are to be remembered", n-creates)
	}
	wait(t, "the counters after the restart", func() bool {
		c := p.counters(w.ConnectionID)
		return c.holds() && c.Received == 810 && c.Delivered == 810
	})
	p.terminate()
}

// TestRestartWithBacklog keeps what waits for a stopped connection through a
// restart, and delivers it in order once the connection is active again.
func TestRestartWithBacklog(t *testing.T) {
	w, p := opened(t, 10, nil)
	put(t, p, w.ConnectionID, func(c map[string]any) { c["active"] = false })
	wait(t, "the connection to stop", func() bool { return p.connection(w.ConnectionID).State == "DEACTIVATED" })
	if err := w.Post(t.Context(), demo.Load{Rate: 500, Count: 1000}); err != nil {
		t.Fatal(err)
	}
	want := counters{Received: 1000, Pending: 1000}
	if c := p.counters(w.ConnectionID); c != want {
		t.Fatalf("counters = %+v, want %+v", c, want)
	}
	status, answer, err := p.api.Raw(t.Context(), "DELETE", "/connections/"+w.ConnectionID+"", nil)
	if err != nil || status != 409 {
		t.Errorf("DELETE with a backlog: %d %s %v", status, answer, err)
	}
	p.terminate()

	p = p.again()
	if c := p.counters(w.ConnectionID); c != want {
		t.Fatalf("counters after the restart = %+v, want %+v", c, want)
	}
	put(t, p, w.ConnectionID, func(c map[string]any) { c["active"] = true })
	settled(t, w, false)
	p.terminate()
}

// put reads a connection, changes it, and sends it back as it came, secrets
// as "*****".
func put(t *testing.T, p *process, id string, change func(map[string]any)) {
	t.Helper()
	var c map[string]any
	if err := p.api.Do(t.Context(), "GET", "/connections/"+id, nil, &c); err != nil {
		t.Fatal(err)
	}
	change(c)
	if err := p.api.Do(t.Context(), "PUT", "/connections/"+id, c, nil); err != nil {
		t.Fatal(err)
	}
}

// TestKill kills the process again and again, at any moment, while reports
// and commands flow: what was accepted arrives. SLUICE_KILLS says how often.
func TestKill(t *testing.T) {
	kills := 4
	if n, err := strconv.Atoi(os.Getenv("SLUICE_KILLS")); err == nil {
		kills = n
	}
	w, p := opened(t, 50, nil)
	stop := background(t, func(ctx context.Context) error { return w.Post(ctx, demo.Load{Rate: 600}) })
	stopCommands := background(t, func(ctx context.Context) error { return command(ctx, w) })
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for i := range kills {
		before := w.Totals().Accepted
		at := before + 100 + random.IntN(600)
		wait(t, "reports to flow", func() bool { return w.Totals().Accepted >= at })
		killed := time.Now()
		p.kill()
		p = p.again()
		if c := p.counters(w.ConnectionID); !c.holds() {
			t.Fatalf("kill %d: the law of the counters does not hold: %+v", i, c)
		}
		uncleanIsTold(t, p, killed)
	}
	before := w.Totals().Accepted
	wait(t, "reports to flow", func() bool { return w.Totals().Accepted >= before+300 })
	stop()
	stopCommands()
	settled(t, w, true)
	got := w.Totals()
	t.Logf("%d kills: %+v", kills, got)
	// A crash repeats what was done since the cursor was last written.
	if bound := kills * 1000; got.Twice > bound {
		t.Errorf("%d twice, want at most %d", got.Twice, bound)
	}
	p.terminate()
}

// uncleanIsTold wants an event since the kill that says in numbers what it cost.
func uncleanIsTold(t *testing.T, p *process, killed time.Time) {
	t.Helper()
	said := regexp.MustCompile(`^The last end was not orderly\. \d+ entries wait; .* None is lost\.$`)
	wait(t, "the kill to be told", func() bool {
		event := gjson.GetBytes(p.events("?type=journal.unclean"), "0")
		if detail := event.Get("detail").Str; event.Exists() && !said.MatchString(detail) {
			t.Fatalf("the event says %q", detail)
		}
		return event.Get("time").Time().After(killed)
	})
}

// command sends ten commands a second until ctx ends.
func command(ctx context.Context, w *demo.World) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := w.Command(context.WithoutCancel(ctx), i); err != nil {
			return err
		}
	}
}

// TestCommandsWait sends commands while all links are cut, and while Sluice is
// stopped: AWS keeps them, and each arrives once.
func TestCommandsWait(t *testing.T) {
	w, p := opened(t, 5, nil)
	if err := w.Post(t.Context(), demo.Load{Rate: 100, Count: 10}); err != nil {
		t.Fatal(err)
	}
	settled(t, w, false)
	send := func() {
		t.Helper()
		for i := range 5 {
			if err := w.Command(t.Context(), i); err != nil {
				t.Fatal(err)
			}
		}
	}
	w.Cut(0x8b) // server shutting down
	send()
	settled(t, w, false)
	p.terminate()
	send()
	p = p.again()
	settled(t, w, false)
	// A crash repeats what was done since the cursor was last written.
	p.kill()
	send()
	p = p.again()
	settled(t, w, true)
	if got := w.Totals(); got.Commands != 15 {
		t.Errorf("totals = %+v", got)
	}
	p.terminate()
}

// TestTermination delivers what waits before it ends.
func TestTermination(t *testing.T) {
	// One paced session: what is posted at once takes seconds to deliver.
	w, p := opened(t, 20, func(c map[string]any) { c["poolSize"] = 1 })
	if err := w.Post(t.Context(), demo.Load{Count: 400}); err != nil {
		t.Fatal(err)
	}
	if c := p.counters(w.ConnectionID); c.Pending == 0 {
		t.Fatalf("nothing waits: %+v", c)
	}
	p.terminate()
	if got := w.Totals(); got.Missing != 0 || got.Twice != 0 || got.Arrived != 400 {
		t.Errorf("after the end: %+v", got)
	}
}

// TestOutage takes AWS away while reports flow: what was accepted meanwhile
// arrives when it is back, each device's in order.
func TestOutage(t *testing.T) {
	w, p := opened(t, 30, nil)
	stop := background(t, func(ctx context.Context) error { return w.Post(ctx, demo.Load{Rate: 400}) })
	flow := func(n int) {
		before := w.Totals().Accepted
		wait(t, "reports to flow", func() bool { return w.Totals().Accepted >= before+n })
	}
	flow(200)
	w.AWS.RefuseConnects(0x88) // server unavailable
	w.Cut(0x8b)                // server shutting down
	wait(t, "the connection to notice", func() bool { return p.connection(w.ConnectionID).State != "OPENED" })
	flow(800)
	w.AWS.RefuseConnects(0)
	p.opened(w.ConnectionID)
	flow(200)
	stop()
	settled(t, w, true)
	if got := w.Totals(); got.Refused != 0 || got.Disordered != 0 {
		t.Errorf("totals = %+v, want none refused and none out of order", got)
	}
	wait(t, "nothing to be pending", func() bool { return p.counters(w.ConnectionID).Pending == 0 })
	p.terminate()
}
