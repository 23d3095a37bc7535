package run

import (
	"errors"
	"fmt"
	"io"
	"time"
)

// Options say what is measured, and how long.
type Options struct {
	Seconds     int    // of each measurement
	Pairs       int    // of Sluice and the yardstick, one after the other
	Only        string // what to measure: "", "speed", "faults"
	Devices     int
	Concurrency int  // connections of the load
	Rate        int  // the steady load, reports a second
	Outage      int  // seconds
	Others      bool // measure the alternatives that are installed
	Connections []int
	Paced       bool
	Isolation   bool
	Profile     string // directory for profiles of Sluice and the yardstick
	Dir         string // where data is written; "" is the system's for temporary files
	Out         io.Writer

	// short, for tests, makes all times a fraction of a second.
	short bool
}

// Quick makes of the options those of a smoke test: everything is done, and
// the figures mean little.
func (o Options) Quick() Options {
	o.Seconds, o.Pairs, o.Outage, o.Others = 2, 1, 2, false
	o.Devices = min(o.Devices, 500)
	return o
}

func (o *Options) check() error {
	switch {
	case o.Seconds < 1 || o.Pairs < 1 || o.Outage < 1 || o.Rate < 1 || o.Concurrency < 1:
		return errors.New("seconds, pairs, outage, rate and concurrency are numbers above zero")
	case o.Devices < o.Concurrency:
		return fmt.Errorf("%d devices cannot keep %d connections busy: each has one report under way at most", o.Devices, o.Concurrency)
	case o.Only != "" && o.Only != "speed" && o.Only != "faults":
		return fmt.Errorf("%q is not measured; speed and faults are", o.Only)
	}
	for _, n := range o.Connections {
		if n < 1 || n > o.Devices {
			return fmt.Errorf("%d connections cannot share %d devices", n, o.Devices)
		}
	}
	return nil
}

// window is how long is measured.
func (o *Options) window() time.Duration {
	if o.short {
		return 300 * time.Millisecond
	}
	return time.Duration(o.Seconds) * time.Second
}

// warmUp is what goes before it.
func (o *Options) warmUp() time.Duration {
	if o.short {
		return 200 * time.Millisecond
	}
	return min(2*time.Second, o.window())
}

// outage is how long the sink is away.
func (o *Options) outage() time.Duration {
	if o.short {
		return 300 * time.Millisecond
	}
	return time.Duration(o.Outage) * time.Second
}

// patience is how long is waited for what was accepted to arrive, before it
// counts as lost.
func (o *Options) patience() time.Duration { return time.Minute }
