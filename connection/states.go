package connection

import (
	"fmt"
	"time"

	"sluice"
)

// The state of a connection is that of its active pool. Each change is an
// event, in the words of ThingPark X IoT Flow.

func (r *runner) poolOpening(p *pool) {
	if p != r.active {
		return
	}
	r.setState(sluice.StateOpening)
	r.opening("Connection opening", "Opening "+r.title()+" ...")
}

func (r *runner) poolAuthenticating(p *pool) {
	if p != r.active || r.state() != sluice.StateOpening {
		return
	}
	r.setState(sluice.StateAuthenticating)
	r.opening("Connection authenticating", "Authenticating "+r.title()+" ...")
}

// opening tells of the first try; those after a failure are told by it.
func (r *runner) opening(label, detail string) {
	if r.failures == 0 {
		r.tell("", false, r.event(sluice.LevelInfo, sluice.EventConnectionOpening, label, detail, nil))
	}
}

func (r *runner) poolOpened(p *pool) {
	switch p {
	case r.active:
		r.toOpened()
	case r.candidate:
		r.swap()
	}
}

// poolFailed says that nothing of a pool could be opened.
func (r *runner) poolFailed(p *pool, err error) {
	switch p {
	case r.active:
		r.failed(err, p.next)
	case r.candidate:
		r.notApplied(err, true)
	}
}

// poolLost says that the last session of a pool is gone.
func (r *runner) poolLost(p *pool, wasUp bool, err error) {
	switch {
	case p == r.candidate:
		r.notApplied(err, true)
	case p != r.active:
	case wasUp:
		cause := r.sentence(err)
		r.toClosing(cause)
		r.toClosed()
		r.blame(cause)
	default:
		r.failed(err, p.next)
	}
}

// failed is the end of a try that opened nothing. next is when the next one
// is due; zero: when the configuration changes.
func (r *runner) failed(err error, next time.Time) {
	state := sluice.StateClosed
	if refusedIdentity(sluice.ReasonOf(err)) {
		state = sluice.StateAuthenticationFailed
	}
	cause := r.sentence(err)
	r.setState(state)
	r.blame(cause)
	when := ""
	if r.active != nil && r.active.over {
		when = " " + r.settings.Load().strategy.name + " has given up: it stays closed until it is saved or activated again."
		r.blame(cause + when)
	} else if wait := time.Until(next).Round(100 * time.Millisecond); !next.IsZero() && wait > 0 {
		when = " Next try in " + wait.String() + "."
	}
	e := r.event(sluice.LevelError, sluice.EventConnectionFailed, "Connection failed",
		"Unable to open "+r.title()+": "+cause+when, err)
	if e.Hint == "" && needsMending(e.Reason) {
		e.Hint = "Mend the configuration, or what it names in the cloud. Saving the connection tries again at once."
	}
	r.failures++
	r.tell(string(e.Reason)+cause, r.active == nil || !r.active.over, e)
}

// blame shows why the connection is not open, unless there is a changed
// configuration to speak of. "" ends it.
func (r *runner) blame(cause string) {
	r.show(func(s *sluice.Status) {
		if s.Applied {
			s.Reason = cause
		}
	})
}

func (r *runner) toOpened() {
	now := r.o.Clock()
	r.setState(sluice.StateOpened)
	r.show(func(s *sluice.Status) { s.StartupTime = now })
	r.blame("")
	detail := capital(r.title()) + " is open."
	if r.failures > 1 {
		detail = fmt.Sprintf("%s is open, after %d tries in vain.", capital(r.title()), r.failures)
	}
	r.failures = 0
	r.tell("", false, r.event(sluice.LevelInfo, sluice.EventConnectionOpened, "Connection opened", detail, nil))
}

// toClosing begins a closing: on request, or to open anew, for a cause.
func (r *runner) toClosing(cause string) {
	r.setState(sluice.StateClosing)
	level, rest := sluice.LevelInfo, " ..."
	if cause != "" {
		level, rest = sluice.LevelWarning, " for restart: "+cause
	}
	r.tell(rest, false, r.event(level, sluice.EventConnectionClosing, "Connection closing", "Closing "+r.title()+rest, nil))
}

func (r *runner) toClosed() {
	r.setState(sluice.StateClosed)
	r.tell("", false, r.event(sluice.LevelInfo, sluice.EventConnectionClosed, "Connection closed", capital(r.title())+" is closed.", nil))
}

func (r *runner) toDeactivated() {
	r.setState(sluice.StateDeactivated)
	r.record(sluice.LevelInfo, sluice.EventConnectionClosed, "Connection deactivated",
		capital(r.title())+" is deactivated; its backlog is kept.", nil)
}

// sessionLost tells of one session of a pool that works on, or not.
func (r *runner) sessionLost(p *pool, id string, err error) {
	if p != r.active {
		return
	}
	detail := "Session " + id + " of " + r.title() + " was lost: " + r.sentence(err)
	label := "Session lost"
	if sluice.ReasonOf(err) == sluice.ReasonTakenOver {
		label = "Another client uses our id"
	}
	r.tell(detail, false, r.event(sluice.LevelWarning, sluice.EventSessionLost, label, detail, err))
}

// slotFailed tells of a session that could not be opened beside others that
// are open. It is tried again.
func (r *runner) slotFailed(p *pool, s *slot, err error) {
	if p != r.active {
		return
	}
	e := r.event(sluice.LevelWarning, sluice.EventSessionLost, "Session failed",
		"A further session of "+r.title()+" could not be opened: "+r.sentence(err), err)
	r.tell(e.Detail, false, e)
	r.log.Debug("session not opened", "lane", s.number, "next", s.next, "err", err)
}

func (r *runner) state() sluice.State {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.shown.State
}

func (r *runner) setState(s sluice.State) {
	now := r.o.Clock()
	r.show(func(shown *sluice.Status) {
		if shown.State != s {
			shown.State, shown.Since = s, now
		}
	})
}

// show changes what Status shows.
func (r *runner) show(f func(s *sluice.Status)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f(&r.shown)
}

func (r *runner) status() sluice.Status {
	r.mu.Lock()
	s := r.shown
	r.mu.Unlock()
	s.Sessions = []sluice.SessionStatus{}
	if p := r.serving.Load(); p != nil {
		s.Sessions = p.lanes.status()
		if g, ok := p.dialer.(sluice.Gauger); ok {
			s.CommandRate = g.CommandRate()
		}
	}
	return s
}
