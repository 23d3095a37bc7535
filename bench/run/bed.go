package run

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"sluice/bench/ledger"
	"sluice/bench/load"
	"sluice/bench/sink"
)

// system is something that can be measured.
type system struct {
	name string
	// launch starts it on a bed, or again after a kill: with the same data
	// and on the same address.
	launch func(ctx context.Context, b *bed) error
	// source is true for what brings its own load.
	source bool
	// forgetful is true for what loses reports by design, and is waited for
	// only shortly.
	forgetful bool
	// connections and rate are Sluice's: see sluiceSystem.
	connections int
	rate        float64
	second      *sink.Sink // of the second connection; nil: they share one
	share       int64      // of the disk, of each connection; 0: Sluice's default
}

// bed is what one measurement of a system runs on: a directory, a sink, a
// ledger, a load.
type bed struct {
	o      *Options
	system *system
	dir    string
	ledger *ledger.Ledger
	sink   *sink.Sink
	load   *load.Generator

	mu      sync.Mutex
	target  load.Target // where the load goes
	process *process
}

// newBed makes a bed and starts the system on it.
func newBed(ctx context.Context, o *Options, s *system, quota int) (*bed, error) {
	return newBedOf(ctx, o, s, quota, s.connections)
}

// newBedOf is newBed with a load for so many groups of devices.
func newBedOf(ctx context.Context, o *Options, s *system, quota, groups int) (*bed, error) {
	b := &bed{o: o, system: s, ledger: ledger.New(load.FirstDevEUI, o.Devices)}
	var err error
	if b.dir, err = os.MkdirTemp(o.Dir, "sluice-bench-"); err != nil {
		return nil, err
	}
	if b.sink, err = sink.New(sink.Options{Ledger: b.ledger, Quota: quota}); err != nil {
		return nil, errors.Join(err, os.RemoveAll(b.dir))
	}
	b.load, err = load.New(load.Options{
		Devices: o.Devices, Concurrency: o.Concurrency, Groups: groups, Ledger: b.ledger, Target: b.where,
	})
	if err == nil {
		err = s.launch(ctx, b)
	}
	if err != nil {
		b.close()
		return nil, fmt.Errorf("%s: %w", s.name, err)
	}
	return b, nil
}

func (b *bed) where() load.Target {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.target
}

func (b *bed) aim(t load.Target) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.target = t
}

// close ends the system, then the sink, and removes the data.
func (b *bed) close() {
	if b.process != nil {
		b.process.stop()
	}
	b.sink.Stop()
	_ = os.RemoveAll(b.dir) // a directory for temporary files
}

// play posts for a time at a rate (0: as fast as they are answered).
func (b *bed) play(ctx context.Context, rate int, d time.Duration) error {
	if b.system.source {
		return b.idle(ctx, d)
	}
	own, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	b.load.Run(own, rate)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return b.process.alive()
}

// idle lets a time go by.
func (b *bed) idle(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return b.process.alive()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// settle waits until all that was accepted has arrived, or it is too long.
func (b *bed) settle(ctx context.Context) error {
	limit := b.o.patience()
	if b.system.forgetful {
		limit = min(limit, 2*b.o.outage())
	}
	return await(ctx, limit, func() bool { return b.system.source || b.ledger.Missing() == 0 })
}

var errInVain = errors.New("waited in vain")

func await(ctx context.Context, limit time.Duration, done func() bool) error {
	end := time.Now().Add(limit)
	for !done() {
		if time.Now().After(end) {
			return errInVain
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// mark is what was counted up to a moment.
type mark struct {
	at       time.Time
	totals   ledger.Totals
	cpu, own time.Duration
	machine  time.Duration // of all processes
}

func (b *bed) mark() (mark, error) {
	cpu, err := b.process.cpu()
	if err != nil {
		return mark{}, err
	}
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return mark{}, err
	}
	own := time.Duration(u.Utime.Nano() + u.Stime.Nano())
	machine, err := machineCPU()
	if err != nil {
		return mark{}, err
	}
	return mark{at: time.Now(), totals: b.ledger.Totals(), cpu: cpu, own: own, machine: machine}, nil
}
