package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"sluice"
	"sluice/app"
)

// Options say how the demo is run.
type Options struct {
	Rate    int           // reports a second; default 50
	Devices int           // default 50
	For     time.Duration // 0: until the context ends
	Listen  string        // of Sluice; "": 127.0.0.1:8080, or a free port where that is taken
	Version string
	Out     io.Writer
	Log     *slog.Logger
}

// The demo's own times.
const (
	settleLimit = 30 * time.Second // for what is under way at the end
	openLimit   = 30 * time.Second // for the connection to open
)

// Run runs the demo until ctx ends or o.For is over, prints what happens, and
// returns nil only if nothing was lost: every accepted report arrived at the
// subscriber, none twice unless a session was lost, and every command reached
// the simulated ThingPark.
func Run(ctx context.Context, o Options) error {
	data, err := os.MkdirTemp("", "sluice-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(data)
	world, err := NewWorld(ctx, WorldOptions{Devices: o.Devices})
	if err != nil {
		return err
	}
	defer world.Close()
	bridge, err := open(ctx, o, data)
	if err != nil {
		return err
	}
	// Sluice goes on while the demo settles, and stops when the demo is over.
	own, stop := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	go func() { ended <- bridge.Run(own) }()
	d := &demo{Options: o, world: world, bridge: bridge, begun: time.Now()}
	err = d.run(ctx, data)
	stop()
	if e := <-ended; e != nil {
		err = errors.Join(err, fmt.Errorf("stop Sluice: %w", e))
	}
	return err
}

// open opens Sluice on the address wanted, or, where none is named and the
// usual one is taken, on a free port.
func open(ctx context.Context, o Options, data string) (*app.App, error) {
	options := app.Options{Data: data, Listen: o.Listen, Version: o.Version, Log: o.Log}
	a, err := app.New(ctx, options)
	if err != nil && o.Listen == "" && sluice.CodeOf(err) == sluice.CodeConflict {
		options.Listen = "127.0.0.1:0"
		a, err = app.New(ctx, options)
	}
	return a, err
}

type demo struct {
	Options
	world  *World
	bridge *app.App
	begun  time.Time
	lost   watch // sessions lost
	// posting is how long reports were posted.
	posting time.Duration
	// missing is what the last line found neither arrived nor waiting.
	missing int
}

func (d *demo) run(ctx context.Context, data string) error {
	api := REST{Base: "http://" + d.bridge.Addr(), Token: d.bridge.Token()}
	d.printAddresses(api, data)
	defer d.bridge.Follow(d.event)()
	if err := d.world.Configure(ctx, api, full); err != nil {
		return err
	}
	if err := d.awaitOpen(ctx); err != nil {
		return err
	}
	posting := ctx
	if d.For > 0 {
		var cancel context.CancelFunc
		posting, cancel = context.WithTimeout(ctx, d.For)
		defer cancel()
	}
	begun := time.Now()
	err := d.play(posting)
	d.posting = time.Since(begun)
	settled := d.settle()
	d.printSummary()
	if err != nil {
		return err
	}
	if verdict := d.world.Verdict(d.lost.count() > 0); verdict != nil {
		return verdict
	}
	return settled
}

// play posts reports and sends commands, with a line each second, until ctx
// ends.
func (d *demo) play(ctx context.Context) error {
	posted := make(chan error, 1)
	go func() { posted <- d.world.Post(ctx, Load{Rate: d.Rate}) }()
	commanded := make(chan error, 1)
	go func() { commanded <- d.command(ctx) }()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	fmt.Fprintln(d.Out, header)
	for lines := 1; ; lines++ {
		select {
		case <-tick.C:
			if lines%20 == 0 {
				fmt.Fprintln(d.Out, header)
			}
			d.printLine()
		case <-ctx.Done():
			return errors.Join(<-posted, <-commanded)
		}
	}
}

// command sends a command a second, to one device after another.
func (d *demo) command(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		// A command that AWS has is accounted for even when the demo is
		// stopped meanwhile.
		own, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		err := d.world.Command(own, i)
		cancel()
		if err != nil {
			return fmt.Errorf("the cloud application could not send a command: %w", err)
		}
	}
}

// full has all sessions open from the start: what the demo measures is the pace
// of a pool, not its growth.
func full(configuration map[string]any) { configuration["poolMin"] = 10 }

func (d *demo) awaitOpen(ctx context.Context) error {
	return await(ctx, openLimit, "the connection to open", func() bool {
		s, ok := d.bridge.Status(d.world.ConnectionID)
		return ok && s.State == sluice.StateOpened && len(s.Sessions) == s.Wanted
	})
}

// settle waits for what is under way.
func (d *demo) settle() error {
	return await(context.Background(), settleLimit, "everything to arrive", func() bool {
		return d.world.Settled() && d.bridge.Counters(d.world.ConnectionID).Pending == 0
	})
}

// await waits until done, at most for limit.
func await(ctx context.Context, limit time.Duration, what string, done func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("waited in vain for %s", what)
		case <-tick.C:
		}
	}
	return nil
}
