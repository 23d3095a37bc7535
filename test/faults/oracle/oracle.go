// Package oracle judges what a Sluice did while faults came and went. It is
// fed with what was posted and accepted, what arrived, and what Sluice says of
// itself; it knows no wire and no clock.
//
// It judges:
//
//   - conservation: each report that was accepted has arrived, or Sluice says
//     that it expired or gave it up;
//   - order: a device's reports arrived, each for the first time, in the order
//     in which they were posted;
//   - duplicates: no more than [Fault.Duplicates] allow in all, each with the
//     id of the first, and no id for two reports;
//   - the counters' law, in every look at it, and the counters against what
//     was seen from outside;
//   - commands: each that the cloud took reached the network server, but for
//     those that a lost session took with it.
package oracle

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"sluice"
)

// Report is an uplink: its device and its frame counter.
type Report struct {
	DevEUI string
	FCntUp uint32
}

func (r Report) String() string { return fmt.Sprintf("%s/%d", r.DevEUI, r.FCntUp) }

// Fault is one thing that was done to Sluice.
type Fault struct {
	Name     string
	From, To time.Time
	// Links is how many times a link may be lost by it, and Sessions how many
	// sessions a connection has.
	Links, Sessions int
	// Pubacks is how many acknowledgements were withheld.
	Pubacks int
	// Crash says that the process was killed.
	Crash bool
	// LosesCommands says that the cloud forgot the sessions, and what waited
	// in them.
	LosesCommands bool
}

// InFlight is how many publishes a session has under way at most.
const InFlight = 100

// BookLag bounds how far what a crash leaves written of a connection's
// position lies behind: it is written every 250 ms, and a busy machine may be
// late.
const BookLag = 2 * time.Second

// Duplicates is how many reports may arrive twice because of the fault, of so
// many devices:
//
//	links x sessions x min(InFlight, devices)   what was under way on the lost links
//	+ pubacks                                   what was taken without a word
//	+ crash x (sessions x min(InFlight, devices) + arrivals within BookLag before)
//
// A device has one message under way at a time.
func (f Fault) Duplicates(devices int, arrivals func(from, to time.Time) int) int {
	underWay := min(f.Sessions*InFlight, devices)
	n := f.Links*underWay + f.Pubacks
	if f.Crash {
		n += underWay + arrivals(f.From.Add(-BookLag), f.To)
	}
	return n
}

// fate is what happened to a report.
type fate struct {
	posted, answered time.Time
	accepted, poison bool
	arrivals         []arrival
}

type arrival struct {
	at time.Time
	id string
}

type command struct{ sent, taken time.Time }

// Oracle collects what happens. Its methods may be called by several
// goroutines.
type Oracle struct {
	mu       sync.Mutex
	reports  map[Report]*fate
	order    map[string][]Report // of each device, by first arrival
	ids      map[string]Report
	commands map[string]*command
	told     map[string]bool // fates of commands, by their ids
	again    int             // commands that ThingPark got another time
	faults   []Fault
	broken   []string // looks at which the law did not hold
}

// New makes an oracle that has seen nothing.
func New() *Oracle {
	return &Oracle{
		reports: map[Report]*fate{}, order: map[string][]Report{}, ids: map[string]Report{}, commands: map[string]*command{}, told: map[string]bool{},
	}
}

func (o *Oracle) fate(r Report) *fate {
	f := o.reports[r]
	if f == nil {
		f = &fate{}
		o.reports[r] = f
	}
	return f
}

// Answered notes the answer to a report whose posting began at posted;
// accepted is a 2xx.
func (o *Oracle) Answered(r Report, posted, answered time.Time, accepted bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	f := o.fate(r)
	f.posted, f.answered, f.accepted = posted, answered, accepted
}

// Poison notes that a report can never be delivered. It is told before the
// report is posted.
func (o *Oracle) Poison(r Report) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.fate(r).poison = true
}

// Arrived notes that a report arrived at the subscriber, with the id that it
// carries.
func (o *Oracle) Arrived(r Report, id string, at time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	f := o.fate(r)
	f.arrivals = append(f.arrivals, arrival{at, id})
	if len(f.arrivals) > 1 {
		return
	}
	o.order[r.DevEUI] = append(o.order[r.DevEUI], r)
	if other, ok := o.ids[id]; ok {
		o.broken = append(o.broken, fmt.Sprintf("%s and %s carry the same id %q", other, r, id))
	}
	o.ids[id] = r
}

// Sent notes that the cloud has taken a command; Taken that the network
// server has.
func (o *Oracle) Sent(id string, at time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.command(id).sent = at
}

// Taken notes that the network server has taken a command.
func (o *Oracle) Taken(id string, at time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	c := o.command(id)
	if !c.taken.IsZero() {
		o.again++
		return
	}
	c.taken = at
}

// Through returns when the first command was sent, of those sent after a time,
// that the network server has taken.
func (o *Oracle) Through(after time.Time) (sent time.Time, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, c := range o.commands {
		if !c.taken.IsZero() && c.sent.After(after) && (!ok || c.sent.Before(sent)) {
			sent, ok = c.sent, true
		}
	}
	return sent, ok
}

// Told notes that the fate of a command arrived at the subscriber, with the id
// that it carries: Sluice counts it as it counts reports.
func (o *Oracle) Told(id string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.told[id] = true
}

// Arrivals is how many reports and fates have arrived, each counted once.
func (o *Oracle) Arrivals() uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := uint64(len(o.told))
	for _, rs := range o.order {
		n += uint64(len(rs))
	}
	return n
}

func (o *Oracle) command(id string) *command {
	c := o.commands[id]
	if c == nil {
		c = &command{}
		o.commands[id] = c
	}
	return c
}

// Fault notes a fault that is over.
func (o *Oracle) Fault(f Fault) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.faults = append(o.faults, f)
}

// Looked notes a look at the counters.
func (o *Oracle) Looked(c sluice.Counters, at time.Time) {
	if c.Holds() {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.broken = append(o.broken, fmt.Sprintf("at %s the law did not hold: %+v%s", clock(at), c, o.during(at, at)))
}

// Missing is how many reports that were accepted, and can be delivered, have
// not arrived.
func (o *Oracle) Missing() (n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, f := range o.reports {
		if f.accepted && !f.poison && len(f.arrivals) == 0 {
			n++
		}
	}
	return n
}

// MissingCommands is how many commands have not reached the network server,
// of those that no lost session took with it.
func (o *Oracle) MissingCommands() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.missingCommands())
}

// Accepted is how many reports were accepted.
func (o *Oracle) Accepted() (n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, f := range o.reports {
		if f.accepted {
			n++
		}
	}
	return n
}

// AcceptedBefore returns the reports whose acceptance was known at a time.
func (o *Oracle) AcceptedBefore(t time.Time) (rs []Report) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for r, f := range o.reports {
		if f.accepted && f.answered.Before(t) {
			rs = append(rs, r)
		}
	}
	return rs
}

// during names the faults that lay between two times.
func (o *Oracle) during(from, to time.Time) string {
	text := ""
	for _, f := range o.faults {
		if !f.From.After(to) && !f.To.Before(from) {
			text += fmt.Sprintf(" (during %s, %s to %s)", f.Name, clock(f.From), clock(f.To))
		}
	}
	return text
}

func clock(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.Format("15:04:05.000")
}

// sorted returns the reports by device and frame counter.
func (o *Oracle) sorted() []Report {
	return slices.SortedFunc(maps.Keys(o.reports), func(a, b Report) int {
		return cmp.Or(cmp.Compare(a.DevEUI, b.DevEUI), cmp.Compare(a.FCntUp, b.FCntUp))
	})
}
