// Package schedule makes, from a seed, a load and a list of timed faults. The
// same seed makes the same schedule, for ever.
package schedule

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// Kind is a kind of fault.
type Kind string

// The kinds. N means what each says.
const (
	Cut            Kind = "links are cut"
	Stall          Kind = "wire stalls"                    // N: 1 up, 2 down, 3 both ways
	HalfOpen       Kind = "links are half open"            // the far end has gone without a word
	Slow           Kind = "wire is slow"                   // N: delay in ms
	CutMidPacket   Kind = "links are cut after some bytes" // N: how many
	DropPubacks    Kind = "PUBACKs are dropped"            // N: how many
	CutInPuback    Kind = "links are cut in PUBACKs"       // N: how many
	Disconnect     Kind = "broker disconnects all"         // N: the reason code
	RestartKept    Kind = "broker restarts, sessions kept" //
	RestartLost    Kind = "broker restarts, sessions lost" //
	RefuseConnects Kind = "CONNECTs are refused"           // N: the reason code
	ThrottleThings Kind = "registry throttles"             // N: how many calls
	FailThings     Kind = "registry answers 5xx"           // N: how many calls
	KillSluice     Kind = "kill -9"                        // and started again after For
	RestartSluice  Kind = "restart"                        // with SIGTERM
	SlowDownlinks  Kind = "network server answers slowly"  // N: ms that each answer takes
)

// Fault is one fault: At after the beginning, lasting For.
type Fault struct {
	Kind    Kind
	At, For time.Duration
	N       int
}

func (f Fault) String() string {
	text := fmt.Sprintf("%5.2f s  %s", f.At.Seconds(), f.Kind)
	if f.N != 0 {
		text += fmt.Sprintf(" (%d)", f.N)
	}
	if f.For > 0 {
		text += fmt.Sprintf(", for %.2f s", f.For.Seconds())
	}
	return text
}

// Schedule is what a seed makes.
type Schedule struct {
	Seed     uint64
	Devices  int
	Rate     int // reports a second
	Sessions int // of the connection's pool
	Commands int // a second
	Poison   int // reports that can never be delivered
	Faults   []Fault
}

// Length is how long faults are made; the last may last longer.
const Length = 5 * time.Second

// Make makes the schedule of a seed.
func Make(seed uint64) Schedule {
	r := rand.New(rand.NewPCG(seed, 0x51))
	s := Schedule{
		Seed:     seed,
		Devices:  pick(r, 10, 50, 50, 200, 1000),
		Rate:     100 + r.IntN(200),
		Sessions: 1 + r.IntN(4),
		Commands: r.IntN(20),
		Poison:   r.IntN(5),
	}
	for range 2 + r.IntN(5) {
		s.Faults = append(s.Faults, fault(r))
	}
	slices.SortStableFunc(s.Faults, func(a, b Fault) int { return int(a.At - b.At) })
	return s
}

func pick[T any](r *rand.Rand, from ...T) T { return from[r.IntN(len(from))] }

// fault makes one fault.
func fault(r *rand.Rand) Fault {
	f := Fault{
		Kind: pick(r, Cut, Stall, HalfOpen, Slow, CutMidPacket, DropPubacks, CutInPuback, Disconnect, RestartKept, RestartLost,
			RefuseConnects, ThrottleThings, FailThings, KillSluice, KillSluice, RestartSluice, SlowDownlinks),
		At: time.Duration(r.Int64N(int64(Length))),
	}
	brief := time.Duration(r.Int64N(int64(2 * time.Second)))
	switch f.Kind {
	case Stall:
		f.For, f.N = brief, 1+r.IntN(3)
	case Slow:
		f.For, f.N = brief, 1+r.IntN(40)
	case CutMidPacket:
		f.N = 1 + r.IntN(5000)
	case DropPubacks:
		f.N = 1 + r.IntN(30)
	case CutInPuback:
		f.N = 1 + r.IntN(4)
	case Disconnect:
		f.N = pick(r, 0x8b, 0x98, 0x97, 0x87)
	case RestartKept, RestartLost:
		f.For = brief
	case RefuseConnects:
		f.For, f.N = brief, pick(r, 0x87, 0x88, 0x97, 0x8a)
	case ThrottleThings, FailThings:
		f.N = 1 + r.IntN(20)
	case KillSluice:
		f.For = brief / 4
	case SlowDownlinks:
		f.For, f.N = brief, 1+r.IntN(500)
	}
	return f
}

// String is the schedule for people, a line a fault.
func (s Schedule) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d: %d devices, %d reports/s, %d sessions, %d commands/s, %d poison reports",
		s.Seed, s.Devices, s.Rate, s.Sessions, s.Commands, s.Poison)
	for _, f := range s.Faults {
		fmt.Fprintf(&b, "\n  %s", f)
	}
	return b.String()
}
