package oracle

import (
	"fmt"
	"slices"
	"time"

	"sluice"
)

// Dead tells what Sluice gave up. It is nil where Sluice keeps no list: then
// its count is judged alone.
type Dead interface {
	// Dead is the reason why a report was given up, "" when it was not.
	Dead(r Report) (reason string)
}

// Ending is what Sluice says of itself when all is over.
type Ending struct {
	Counters sluice.Counters
	Dead     Dead
	// Lost is how many reports Sluice says that damage on the disk has cost:
	// they are in Counters.Failed, and may be any. MayLose bounds it.
	Lost, MayLose int
}

// maxSentences bounds what is said of one promise.
const maxSentences = 10

// verdict collects sentences, a bounded number of each promise.
type verdict struct {
	all   []string
	count int
}

func (v *verdict) begin() { v.count = 0 }

func (v *verdict) add(format string, args ...any) {
	if v.count++; v.count <= maxSentences {
		v.all = append(v.all, fmt.Sprintf(format, args...))
	}
}

func (v *verdict) end() {
	if v.count > maxSentences {
		v.all = append(v.all, fmt.Sprintf("... and %d more of this kind", v.count-maxSentences))
	}
}

// Judge says all that is wrong; nothing when each promise was kept.
func (o *Oracle) Judge(e Ending) []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	v := &verdict{all: slices.Clone(o.broken)}
	for _, judge := range []func(*verdict, Ending){o.conserved, o.ordered, o.duplicated, o.counted, o.commanded} {
		v.begin()
		judge(v, e)
		v.end()
	}
	return v.all
}

// conserved wants every accepted report to be somewhere.
func (o *Oracle) conserved(v *verdict, e Ending) {
	lost := e.Lost
	for _, r := range o.sorted() {
		f := o.reports[r]
		switch {
		case f.poison && len(f.arrivals) > 0:
			v.add("%s can never be delivered, and arrived at %s", r, clock(f.arrivals[0].at))
		case f.poison && f.accepted && e.Dead != nil && e.Dead.Dead(r) == "":
			v.add("%s can never be delivered, and is not among what was given up", r)
		case f.accepted && !f.poison && len(f.arrivals) == 0:
			if lost > 0 {
				lost--
				continue
			}
			v.add("LOST: %s, accepted at %s%s, did not arrive", r, clock(f.answered), o.during(f.posted, f.answered))
		}
	}
	if e.Lost > e.MayLose {
		v.add("damage cost %d reports, at most %d were hit", e.Lost, e.MayLose)
	}
}

// ordered wants the first arrivals of a device in its own order. What was not
// accepted may arrive whenever it likes.
func (o *Oracle) ordered(v *verdict, _ Ending) {
	for _, rs := range o.order {
		last := Report{}
		for _, r := range rs {
			f := o.reports[r]
			if !f.accepted {
				continue
			}
			if r.FCntUp < last.FCntUp {
				at := f.arrivals[0].at
				v.add("ORDER: %s arrived first at %s, after %s at %s%s", r, clock(at),
					last, clock(o.reports[last].arrivals[0].at), o.during(o.reports[last].arrivals[0].at, at))
			} else {
				last = r
			}
		}
	}
}

// duplicated wants few copies, each with the id of the first.
func (o *Oracle) duplicated(v *verdict, _ Ending) {
	bound, copies := 0, 0
	for _, f := range o.faults {
		bound += f.Duplicates(len(o.order), o.arrivals)
	}
	for _, r := range o.sorted() {
		all := o.reports[r].arrivals
		copies += max(0, len(all)-1)
		for i := 1; i < len(all); i++ {
			if all[i].id != all[0].id || all[i].id == "" {
				v.add("%s arrived with id %q at %s, and with %q at %s", r, all[0].id, clock(all[0].at), all[i].id, clock(all[i].at))
			}
		}
	}
	if copies > bound {
		v.add("DUPLICATES: %d copies arrived, at most %d may by the faults; first: %s", copies, bound, o.firstCopies())
	}
}

// arrivals counts what arrived between two times.
func (o *Oracle) arrivals(from, to time.Time) (n int) {
	for _, f := range o.reports {
		for _, a := range f.arrivals {
			if !a.at.Before(from) && !a.at.After(to) {
				n++
			}
		}
	}
	return n
}

func (o *Oracle) firstCopies() (text string) {
	n := 0
	for _, r := range o.sorted() {
		all := o.reports[r].arrivals
		if len(all) < 2 {
			continue
		}
		text += fmt.Sprintf(" %s at %s and %s;", r, clock(all[0].at), clock(all[1].at))
		if n++; n == maxSentences {
			break
		}
	}
	return text
}

// counted wants the counters to say what was seen from outside.
func (o *Oracle) counted(v *verdict, e Ending) {
	var accepted, arrived, unasked, poison, dead uint64
	for _, f := range o.reports {
		if len(f.arrivals) > 0 && !f.accepted {
			unasked++
		}
		switch {
		case len(f.arrivals) > 0:
			arrived++
		case f.poison:
			dead++
		}
		if f.accepted {
			accepted++
			if f.poison {
				poison++
			}
		}
	}
	c, lost, told := e.Counters, uint64(e.Lost), uint64(len(o.told))
	arrived += told
	if !c.Holds() {
		v.add("the law does not hold at the end: %+v", c)
	}
	if c.Pending != 0 {
		v.add("%d reports are pending at the end", c.Pending)
	}
	if c.Received < accepted+told || c.Received > uint64(len(o.reports))+told {
		v.add("Sluice received %d, by its own count; %d were accepted of %d posted, and %d fates told", c.Received, accepted, len(o.reports), told)
	}
	// What was delivered, and then lost by damage before its position was
	// written, may have been counted as lost.
	if c.Delivered > arrived || c.Delivered+lost < arrived {
		v.add("Sluice delivered %d, by its own count; %d arrived, of which %d were never accepted, and %d were lost by damage", c.Delivered, arrived, unasked, lost)
	}
	if c.Failed < poison || c.Failed > dead+lost {
		v.add("Sluice gave up %d, by its own count; %d of %d that can never be delivered were accepted, %d were lost by damage", c.Failed, poison, dead, lost)
	}
	if c.Expired != 0 || c.Filtered != 0 {
		v.add("nothing could expire or be filtered, and yet: %+v", c)
	}
}

// commanded wants every command at the network server.
func (o *Oracle) commanded(v *verdict, _ Ending) {
	for _, id := range o.missingCommands() {
		c := o.commands[id]
		v.add("LOST: command %s, taken by the cloud at %s%s, did not reach the network server", id, clock(c.sent), o.during(c.sent, c.sent))
	}
	bound := 0
	for _, f := range o.faults {
		bound += f.Links + InFlight
	}
	if o.again > bound {
		v.add("DUPLICATES: %d commands reached the network server again, at most %d may by the faults", o.again, bound)
	}
}

// missingCommands are those that did not arrive, and were not in a session
// that the cloud forgot. What came in before it and was not taken may have
// been in one.
func (o *Oracle) missingCommands() (ids []string) {
	for id, c := range o.commands {
		if c.sent.IsZero() || !c.taken.IsZero() {
			continue
		}
		lost := slices.ContainsFunc(o.faults, func(f Fault) bool { return f.LosesCommands && !c.sent.After(f.To) })
		if !lost {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}
