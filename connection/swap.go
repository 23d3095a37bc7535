package connection

import (
	"strings"
	"time"

	"sluice"
)

// compare brings the pools in line with a changed configuration.
//
// While the new pool opens, the old one delivers; when it is open, new
// messages go to it and the old one finishes what is in flight and closes. If
// it does not open, the old one works on and the new one is tried again under
// the strategy, until it opens or the configuration changes again. If the old
// one is lost meanwhile, both try: should the old one come first it delivers
// until the new one is open, which then takes over in any case. A pool that
// was never open in this run has nothing to defend: the new one takes its
// place at once. After a restart only the stored configuration is known.
func (r *runner) compare() {
	switch {
	case r.active.essence == r.essence:
		back := r.candidate != nil
		r.dropCandidate()
		r.applied()
		if back {
			r.record(sluice.LevelInfo, sluice.EventConnectionApplied, "Connection applied",
				"The configuration of "+r.title()+" is the one in force again.", nil)
		}
	case r.candidate != nil && r.candidate.essence == r.essence:
		// It is on its way.
	default:
		r.dropCandidate()
		p, err := r.newPool(1 - r.active.generation)
		if err != nil {
			r.notApplied(err, true)
			return
		}
		if r.active.everUp {
			r.candidate = p
			r.show(func(s *sluice.Status) {
				s.Applied, s.Reason = false, "The changed configuration is being opened; the one before works on."
			})
			return
		}
		r.replace(p)
		r.applied()
	}
}

func (r *runner) dropCandidate() {
	if r.candidate != nil {
		r.retire(r.candidate)
		r.candidate = nil
	}
}

// replace puts a pool in the place of the active one.
func (r *runner) replace(p *pool) {
	old := r.active
	r.active = p
	r.serving.Store(p)
	r.showSize(p)
	r.retire(old)
}

// idleDue is when the connection is to be restarted for want of uplinks; zero:
// it is not.
func (r *runner) idleDue() time.Time {
	s := r.settings.Load()
	if r.active == nil || !r.active.up || r.candidate != nil || s.strategy.idle == 0 {
		return time.Time{}
	}
	last := r.born.Add(time.Duration(r.uplinked.Load()))
	if last.Before(r.active.upSince) {
		last = r.active.upSince
	}
	return last.Add(s.strategy.idle + time.Nanosecond) // more than that
}

// restart opens the connection anew under the other client ids, as a link that
// is dead in a way that nobody sees would else stay so.
func (r *runner) restart() {
	p, err := r.newPool(1 - r.active.generation)
	if err != nil {
		r.active.upSince = time.Now() // tried again when as much time has passed
		r.log.Error("the connection cannot be restarted", "err", err)
		return
	}
	p.downSince = time.Now()
	r.toClosing("there was no uplink for more than " + strings.TrimSuffix(r.settings.Load().strategy.idle.String(), "0m0s") + ".")
	r.replace(p)
	r.toClosed()
}

// swap puts the candidate, which has come up, in force.
func (r *runner) swap() {
	p := r.candidate
	r.candidate = nil
	r.replace(p)
	if r.state() != sluice.StateOpened {
		r.toOpened()
	}
	r.applied()
	r.record(sluice.LevelInfo, sluice.EventConnectionApplied, "Connection applied",
		"The changed configuration of "+r.title()+" is in force.", nil)
}

// applied notes that what is stored is in force.
func (r *runner) applied() {
	r.unapplied = ""
	r.show(func(s *sluice.Status) { s.Applied, s.Reason = true, "" })
}

// notApplied notes that it is not, and tells it once for each cause.
func (r *runner) notApplied(err error, tell bool) {
	cause := r.sentence(err)
	r.show(func(s *sluice.Status) { s.Applied, s.Reason = false, cause })
	if !tell || r.unapplied == cause {
		return
	}
	r.unapplied = cause
	r.record(sluice.LevelError, sluice.EventConnectionUnapplied, "Connection not applied",
		"The changed configuration of "+r.title()+" is not in force, the one before works on: "+cause, err)
}
