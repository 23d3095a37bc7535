package connection

import (
	"errors"
	"time"

	"sluice"
)

// The names of the reconnect strategies.
const (
	strategyFast       = "FAST"
	strategyCalm       = "CALM"
	strategyNormal     = "NORMAL"
	strategyAggressive = "AGGRESSIVE"
)

func strategyNames() []string {
	return []string{strategyFast, strategyCalm, strategyNormal, strategyAggressive}
}

// stableAfter is how long a session must have been open before its loss is
// taken as a new one, and not as one more failure of a row: without it a cloud
// that accepts and then kicks would be asked twice a second for ever.
const stableAfter = 10 * time.Second

// span is a range of delays: each try waits twice as long as the one before.
type span struct{ min, max time.Duration }

func (s span) at(tries int) time.Duration {
	d := s.min
	for range tries {
		if d >= s.max/2 {
			return s.max
		}
		d *= 2
	}
	return d
}

// strategy says how long to wait before the next CONNECT.
type strategy struct {
	name string
	// phases are the times that a connection which is down is tried at, as
	// ThingPark documents them; without phases fast and slow count. A single
	// session that is lost beside open ones always goes by fast and slow.
	phases []phase
	// idle is how long a connection without an uplink is left open; 0: for ever.
	idle time.Duration
	// fast is for what may mend itself at any moment: an outage.
	fast span
	// slow is for what somebody has to mend first, a refused certificate or a
	// stranger with our client id, and where each further try does harm: AWS
	// IoT counts CONNECTs for each client id, refused ones most strictly.
	slow span
}

// phase is a time with tries at even distances; it lasts for ever where lasts
// is 0.
type phase struct{ every, lasts time.Duration }

// jitter is how far a try lies from its time at most, so that connections that
// were lost together are not tried together.
const jitter = time.Minute

// strategyOf returns the strategy of a name.
// Source: ThingPark X IoT Flow documentation, "About connections"; FAST is ours.
func strategyOf(name string) strategy {
	const day = 24 * time.Hour
	s := strategy{
		name: name,
		fast: span{min: 500 * time.Millisecond, max: time.Minute},
		slow: span{min: 5 * time.Second, max: 5 * time.Minute},
	}
	switch name {
	case strategyCalm:
		s.phases = []phase{{10 * time.Minute, 12 * time.Hour}, {time.Hour, day}}
	case strategyNormal:
		s.phases = []phase{{5 * time.Minute, time.Hour}, {time.Hour, day}, {day, 0}}
	case strategyAggressive:
		s.phases = []phase{{3 * time.Minute, 3 * time.Hour}, {30 * time.Minute, 7 * day}, {time.Hour, 0}}
		s.idle = time.Hour
	}
	return s
}

// planned is how long after the loss the n-th try is due, n from 1; false:
// there is none any more.
func (s strategy) planned(n int) (time.Duration, bool) {
	var before time.Duration
	for _, ph := range s.phases {
		tries := int(ph.lasts / ph.every)
		if ph.lasts == 0 || n <= tries {
			return before + time.Duration(n)*ph.every, true
		}
		n -= tries
		before += ph.lasts
	}
	return 0, false
}

// needsMending reports whether trying again without a change will hardly help.
func needsMending(reason sluice.Reason) bool {
	switch reason {
	case sluice.ReasonAuthentication, sluice.ReasonNotAuthorized, sluice.ReasonTLS, sluice.ReasonTakenOver,
		sluice.ReasonConfiguration:
		return true
	default:
		return false
	}
}

// refusedIdentity reports whether a failed opening is AUTHENTICATION_FAILED
// rather than CLOSED.
func refusedIdentity(reason sluice.Reason) bool {
	switch reason {
	case sluice.ReasonAuthentication, sluice.ReasonNotAuthorized, sluice.ReasonTLS:
		return true
	default:
		return false
	}
}

// backoff counts the failures of a row. It belongs to one goroutine.
type backoff struct {
	rand func() float64
	fast int
	slow int
	// Of a strategy with phases:
	began time.Time // of the row
	tries int
}

// at returns when a connection that is down is tried next, after err; zero:
// never. The times of a strategy with phases count from the loss, whatever
// happens between.
func (b *backoff) at(now time.Time, s strategy, err error) time.Time {
	if s.phases == nil {
		return now.Add(b.next(s, err))
	}
	if b.began.IsZero() {
		b.began = now
	}
	b.tries++
	planned, ok := s.planned(b.tries)
	if !ok {
		return time.Time{}
	}
	t := b.began.Add(planned + time.Duration((2*b.rand()-1)*float64(jitter)))
	if f, ok := errors.AsType[*sluice.Failure](err); ok && t.Before(now.Add(f.After)) {
		t = now.Add(f.After)
	}
	return t
}

// next returns how long to wait after err: half of the strategy's delay and a
// random share of the other half, or what the cloud asked for if that is more.
func (b *backoff) next(s strategy, err error) time.Duration {
	var d time.Duration
	if needsMending(sluice.ReasonOf(err)) {
		d = s.slow.at(b.slow)
		b.slow++
	} else {
		d = s.fast.at(b.fast)
		b.fast++
	}
	d = d/2 + time.Duration(b.rand()*float64(d/2))
	if f, ok := errors.AsType[*sluice.Failure](err); ok && f.After > d {
		d = f.After
	}
	return d
}

// reset starts a new row of failures.
func (b *backoff) reset() { *b = backoff{rand: b.rand} }
