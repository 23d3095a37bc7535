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
	// fast is for what may mend itself at any moment: an outage.
	fast span
	// slow is for what somebody has to mend first, a refused certificate or a
	// stranger with our client id, and where each further try does harm: AWS
	// IoT counts CONNECTs for each client id, refused ones most strictly.
	slow span
}

// strategyOf returns the strategy of a name. All four names act as FAST for
// now; the three that ThingPark documents are to come.
func strategyOf(string) strategy {
	return strategy{
		fast: span{min: 500 * time.Millisecond, max: time.Minute},
		slow: span{min: 5 * time.Second, max: 5 * time.Minute},
	}
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
func (b *backoff) reset() { b.fast, b.slow = 0, 0 }
