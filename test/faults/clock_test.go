package faults

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sluice/app"
	"sluice/app/demo"
	"sluice/connector/awsiot/awsiottest"
	"sluice/test/child"
	"sluice/test/faults/oracle"
	"sluice/test/faults/proxy"
)

// TestClockSteps lets the clock jump while reports flow and links are cut. It
// is the clock of Sluice and of the world around it, handed in: so Sluice runs
// in this process.
func TestClockSteps(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var off atomic.Int64
	clock := func() time.Time { return time.Now().Add(time.Duration(off.Load())) }
	w := &world{oracle: oracle.New(), devices: 50, answers: map[int]int{}}
	var err error
	if w.World, err = demo.NewWorld(ctx, demo.WorldOptions{
		Devices: w.devices, AWS: awsiottest.Options{KeyType: awsiottest.EC}, Watch: w.watch(), Clock: clock,
	}); err != nil {
		t.Fatal(err)
	}
	defer w.World.Close()
	if w.wire, err = proxy.New(w.AWS.MQTTAddr()); err != nil {
		t.Fatal(err)
	}
	defer w.wire.Close()
	bridge, err := app.New(ctx, app.Options{Data: t.TempDir(), Listen: "127.0.0.1:0", Clock: clock})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- bridge.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	w.process = &child.Process{API: demo.REST{Base: "http://" + bridge.Addr(), Token: bridge.Token()}}
	if err := w.Configure(ctx, w.process.API, func(c map[string]any) { c["dataEndpoint"], c["poolSize"] = localhost(w.wire.Addr()), 3 }); err != nil {
		t.Fatal(err)
	}
	if err := w.opened(ctx); err != nil {
		t.Fatal(err)
	}
	w.step(ctx, t, &off)
	var wrong []string
	if err := w.drained(ctx); err != nil {
		wrong = append(wrong, err.Error())
	} else if err := w.fresh(ctx); err != nil {
		wrong = append(wrong, err.Error())
	}
	wrong = append(wrong, w.oracle.Judge(oracle.Ending{Counters: w.counted(ctx)})...)
	for _, r := range w.Rejections() {
		wrong = append(wrong, "refused: "+string(r))
	}
	if len(wrong) > 0 {
		t.Error(strings.Join(wrong, "\n"))
	}
}

// step steps the clock to and fro while reports and commands flow.
func (w *world) step(ctx context.Context, t *testing.T, off *atomic.Int64) {
	t.Helper()
	flowing, stop := context.WithCancel(ctx)
	var flow sync.WaitGroup
	flow.Go(func() { w.look(flowing) })
	flow.Go(func() { _ = w.Post(flowing, demo.Load{Rate: 200}) })
	flow.Go(func() { _ = w.command(flowing, 10) })
	for _, to := range []time.Duration{time.Hour, -time.Hour, 0, 90 * time.Second, -24 * time.Hour, 0} {
		from, accepted := time.Now(), w.answered(200)
		off.Store(int64(to))
		w.wire.Cut()
		if err := until(ctx, "reports to be taken", func() bool { return w.answered(200) >= accepted+100 }); err != nil {
			t.Error(err)
		}
		w.oracle.Fault(oracle.Fault{Name: "clock off by " + to.String(), From: from, To: time.Now(), Sessions: 3, Links: 1})
	}
	stop()
	flow.Wait()
}
