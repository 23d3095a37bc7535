package faults

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/app/demo"
	"sluice/connector/awsiot/awsiottest"
	"sluice/network/thingpark/thingparktest"
	"sluice/test/faults/oracle"
	"sluice/test/faults/proxy"
	"sluice/test/faults/schedule"
)

// TestSeeds runs the schedules of many seeds, several at a time: most of a
// run is waiting. SLUICE_SEED names one seed, SLUICE_SEEDS how many there are;
// they begin at SLUICE_FIRST.
func TestSeeds(t *testing.T) {
	first, n := number("SLUICE_FIRST", 1), number("SLUICE_SEEDS", 20)
	if one := number("SLUICE_SEED", 0); one > 0 {
		first, n = one, 1
	}
	seeds := make(chan uint64)
	var workers sync.WaitGroup
	for range min(n, number("SLUICE_WORLDS", 4)) {
		workers.Go(func() {
			for seed := range seeds {
				t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) { runSeed(t, schedule.Make(seed)) })
			}
		})
	}
	for seed := range n {
		seeds <- first + seed
	}
	close(seeds)
	workers.Wait()
}

func number(name string, otherwise uint64) uint64 {
	if n, err := strconv.ParseUint(os.Getenv(name), 10, 64); err == nil {
		return n
	}
	return otherwise
}

func runSeed(t *testing.T, s schedule.Schedule) {
	t.Logf("%s", s)
	ctx := t.Context()
	w, err := newWorld(ctx, t.TempDir(), s.Devices, s.Sessions)
	if err != nil {
		t.Fatal(err)
	}
	defer w.close()
	var wrong []string
	if err := w.play(ctx, s); err != nil {
		wrong = append(wrong, err.Error())
	}
	wrong = append(wrong, w.judge(ctx, oracle.Ending{})...)
	got := w.Totals()
	t.Logf("%d accepted, %d refused, %d arrived, %d twice; %d commands", got.Accepted, got.Refused, got.Arrived, got.Twice, got.Commands)
	if len(wrong) > 0 {
		w.keep(t, fmt.Sprintf("sluice-faults-seed-%d", s.Seed))
		t.Fatalf("%s\n\n%s\n\nrepeat it with: make faults SEED=%d", s, strings.Join(wrong, "\n"), s.Seed)
	}
}

// play lets reports and commands flow while the faults of the schedule come
// and go, and then waits until all is well again.
func (w *world) play(ctx context.Context, s schedule.Schedule) error {
	flowing, stop := context.WithCancel(ctx)
	var flow, faults sync.WaitGroup
	var mu sync.Mutex
	var errs []error
	note := func(err error) {
		mu.Lock()
		defer mu.Unlock()
		errs = append(errs, err)
	}
	begun := time.Now()
	looking, stopLooking := context.WithCancel(ctx)
	defer stopLooking()
	flow.Go(func() { w.look(looking) })
	load := sync.WaitGroup{}
	load.Go(func() { note(w.Post(flowing, demo.Load{Rate: s.Rate})) })
	load.Go(func() { note(w.command(flowing, s.Commands)) })
	load.Go(func() { w.poisons(flowing, s) })
	for _, f := range s.Faults {
		faults.Go(func() {
			if sleep(ctx, time.Until(begun.Add(f.At))) {
				note(w.inject(ctx, f, s))
			}
		})
	}
	sleep(ctx, schedule.Length)
	faults.Wait()
	stop()
	load.Wait()
	w.calm()
	note(w.settle(ctx))
	stopLooking()
	flow.Wait()
	return errors.Join(errs...)
}

// sleep waits; false when ctx has ended meanwhile.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (w *world) command(ctx context.Context, rate int) error {
	if rate == 0 {
		return nil
	}
	for i := 0; sleep(ctx, time.Second/time.Duration(rate)); i++ {
		if err := w.Command(context.WithoutCancel(ctx), i); err != nil {
			return err
		}
	}
	return nil
}

func (w *world) poisons(ctx context.Context, s schedule.Schedule) {
	for i := range s.Poison {
		if !sleep(ctx, schedule.Length/time.Duration(s.Poison+1)) {
			return
		}
		w.poison(context.WithoutCancel(ctx), i%s.Devices)
	}
}

// sluices picks the clients of Sluice among those of the broker.
func sluices(id string) bool { return strings.HasPrefix(id, "sluice-") }

// inject makes a fault and, after its time, ends it, and tells the oracle.
func (w *world) inject(ctx context.Context, f schedule.Fault, s schedule.Schedule) error {
	told := oracle.Fault{Name: string(f.Kind), From: time.Now(), Sessions: s.Sessions, Links: 1}
	err := w.make(ctx, f, &told)
	told.To = time.Now()
	if told.LosesCommands {
		// Until Sluice has subscribed anew, the cloud keeps no command for it.
		subscribed, e := w.subscribed(ctx, told.To)
		told.To, err = subscribed, errors.Join(err, e)
	}
	w.oracle.Fault(told)
	if err != nil {
		return fmt.Errorf("%s: %w", f, err)
	}
	return nil
}

func (w *world) make(ctx context.Context, f schedule.Fault, told *oracle.Fault) error {
	switch f.Kind {
	case schedule.Cut:
		w.wire.Cut()
	case schedule.Stall:
		w.wire.Stall(proxy.Direction(f.N))
		sleep(ctx, f.For)
		w.wire.Stall(0)
	case schedule.HalfOpen:
		w.wire.HalfOpen()
	case schedule.Slow:
		w.wire.Slow(time.Duration(f.N)*time.Millisecond, 0)
		sleep(ctx, f.For)
		w.wire.Slow(0, 0)
	case schedule.CutMidPacket:
		w.wire.CutAfter(f.N, proxy.Both)
	case schedule.DropPubacks:
		told.Pubacks = f.N
		w.AWS.DropPubacks(f.N)
	case schedule.CutInPuback:
		told.Links = f.N
		w.AWS.CutInPubacks(f.N)
	case schedule.Disconnect:
		w.Cut(byte(f.N))
	case schedule.RestartKept, schedule.RestartLost:
		told.LosesCommands = f.Kind == schedule.RestartLost
		w.wire.Refuse(true)
		if w.AWS.Cut(sluices); told.LosesCommands {
			w.AWS.LoseSessions(sluices)
		}
		sleep(ctx, f.For)
		w.wire.Refuse(false)
	case schedule.RefuseConnects:
		w.AWS.RefuseConnects(byte(f.N))
		w.wire.Cut()
		sleep(ctx, f.For)
		w.AWS.RefuseConnects(0)
	case schedule.ThrottleThings:
		w.AWS.ThrottleRegistry(f.N)
	case schedule.FailThings:
		w.AWS.Fail(awsiottest.Fault{Times: f.N, Status: 503, Code: "ServiceUnavailableException", Message: "asked for by the test"})
	case schedule.KillSluice:
		told.Crash = true
		return w.kill(func() error { sleep(ctx, f.For); return nil })
	case schedule.RestartSluice:
		return w.restart(ctx)
	case schedule.SlowDownlinks:
		w.LRC.Set(thingparktest.Answer{Delay: time.Duration(f.N) * time.Millisecond})
		sleep(ctx, f.For)
		w.LRC.Set(thingparktest.Answer{})
	}
	return nil
}

// calm ends every fault that would go on. Links that are half open are for
// Sluice to find out.
func (w *world) calm() {
	w.wire.Stall(0)
	w.wire.Slow(0, 0)
	w.wire.Refuse(false)
	w.AWS.RefuseConnects(0)
	w.AWS.ClearFaults()
	w.AWS.DropPubacks(0)
	w.AWS.CutInPubacks(0)
	w.LRC.Set(thingparktest.Answer{})
}
