// Command bench measures Sluice against a bare Go bridge, and against what
// else is installed, on this machine: go run ./bench. README.md tells what is
// measured, and how.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/alecthomas/kong"

	"sluice/bench/run"
)

// commandLine is the command line.
type commandLine struct {
	Quick       bool   `help:"A smoke test of under a minute; its figures mean little."`
	Seconds     int    `default:"5" placeholder:"N" help:"Length of each measurement (default ${default})."`
	Pairs       int    `default:"3" placeholder:"N" help:"Pairs of Sluice and the yardstick (default ${default})."`
	Only        string `placeholder:"WHAT" help:"Measure only speed, or only faults."`
	Devices     int    `default:"5000" placeholder:"N" help:"Simulated devices (default ${default})."`
	Concurrency int    `default:"128" placeholder:"N" help:"HTTP connections of the load (default ${default})."`
	Rate        int    `default:"1000" placeholder:"N" help:"The steady load, reports a second (default ${default})."`
	Outage      int    `default:"10" placeholder:"N" help:"Seconds of an outage (default ${default})."`
	Others      bool   `default:"true" negatable:"" help:"Measure the alternatives that are installed too."`
	Connections []int  `placeholder:"N,N,..." help:"Instead: the steady load over so many connections, such as 1,50,500."`
	Paced       bool   `help:"Instead: Sluice at AWS's pace, ten sessions fully loaded."`
	Isolation   bool   `help:"Instead: what an ailing connection does to another."`
	Profile     string `placeholder:"DIR" help:"Write profiles of the processor and of allocations there."`
	Dir         string `placeholder:"DIR" help:"Where data is written; it must be on the disk that counts (default: the system's for temporary files)."`
}

func main() {
	if code, child := run.Child(); child {
		os.Exit(code)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var c commandLine
	kong.Parse(&c, kong.Name("bench"), kong.Description("Measures Sluice on this machine."))
	debug.SetGCPercent(400) // load and sink share the processors with what is measured
	o := run.Options{
		Seconds: c.Seconds, Pairs: c.Pairs, Only: c.Only, Devices: c.Devices, Concurrency: c.Concurrency, Rate: c.Rate,
		Outage: c.Outage, Others: c.Others, Connections: c.Connections, Paced: c.Paced, Isolation: c.Isolation, Profile: c.Profile, Dir: c.Dir, Out: os.Stdout,
	}
	if c.Quick {
		o = o.Quick()
	}
	if err := run.Run(ctx, o); err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1) //nolint:gocritic // what stop would undo ends with the process
	}
}
