package awsiot

import (
	"fmt"
	"sync"
	"time"

	"sluice"
)

const (
	// commandRate is how many commands a second AWS sends one client at most;
	// what is more waits in AWS, or is discarded. The quota cannot be raised.
	// Source: AWS IoT Core endpoints and quotas, "Outbound publish requests per
	// second per connection".
	commandRate = 100
	// nearRate is told: what is sent then is perhaps not all there is.
	nearRate = 0.8 * commandRate
	// clearRate is what they must fall below before they can come near again.
	clearRate = 0.5 * commandRate
	// inflowSeconds is over how many whole seconds the rates are taken. A burst
	// that AWS hands over within less is none of those that wait.
	inflowSeconds = 5
	// inflowAgain is how long it is not told again, though it comes back.
	inflowAgain = time.Hour
)

// inflow watches how many commands a second come to each client that takes
// them, and knows when to tell that they come near what AWS sends one.
type inflow struct {
	mu    sync.Mutex
	lanes map[int]*commandSeconds // at most as many as share the commands, or as the pool has
	near  bool
	told  bool      // that it is near now
	last  time.Time // when it was told last; zero: never
}

func newInflow() *inflow { return &inflow{lanes: map[int]*commandSeconds{}} }

// count counts a command that came to a lane. Where that is to be told now, it
// returns how many a second came to the busiest.
func (f *inflow) count(lane int, now time.Time) (rate float64, tell bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.lanes[lane]
	if s == nil {
		s = &commandSeconds{}
		f.lanes[lane] = s
	}
	if !s.add(now) {
		return 0, false // it was judged in this second
	}
	rate = f.busiest(now)
	switch {
	case rate < clearRate:
		f.near, f.told = false, false
	case rate >= nearRate:
		f.near = true
	}
	if !f.near || f.told || !f.last.IsZero() && now.Sub(f.last) < inflowAgain {
		return 0, false
	}
	f.told, f.last = true, now
	return rate, true
}

// rate is how many commands a second came to the busiest lane lately.
func (f *inflow) rate(now time.Time) float64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.busiest(now)
}

func (f *inflow) busiest(now time.Time) (most float64) {
	for _, s := range f.lanes {
		most = max(most, s.rate(now))
	}
	return most
}

// commandSeconds counts by whole seconds: the present one, and those before.
type commandSeconds struct {
	counts [inflowSeconds + 1]int
	last   int64 // the second of the last one
}

// at is where a second is counted.
func (s *commandSeconds) at(second int64) *int {
	return &s.counts[uint64(second)%uint64(len(s.counts))]
}

// add reports whether it is the first one in its second.
func (s *commandSeconds) add(now time.Time) bool {
	second := now.Unix()
	if second == s.last {
		*s.at(second)++
		return false
	}
	if second < s.last || second-s.last >= int64(len(s.counts)) { // also where the clock was set back
		clear(s.counts[:])
		s.last = second - 1
	}
	for s.last < second {
		s.last++
		*s.at(s.last) = 0
	}
	*s.at(second) = 1
	return true
}

// rate is the mean of the whole seconds before the present one.
func (s *commandSeconds) rate(now time.Time) float64 {
	present, sum := now.Unix(), 0
	for second := present - inflowSeconds; second < present; second++ {
		if second <= s.last && s.last-second < int64(len(s.counts)) {
			sum += *s.at(second)
		}
	}
	return float64(sum) / inflowSeconds
}

// CommandRate is how many commands a second came to the busiest session lately.
func (d *dialer) CommandRate() float64 { return d.inflow.rate(d.spec.Clock()) }

// countCommand counts a command, and tells when they come near what AWS sends.
func (d *dialer) countCommand(lane int) {
	rate, tell := d.inflow.count(lane, d.spec.Clock())
	if !tell {
		return
	}
	d.record(sluice.LevelWarning, sluice.EventDownlinkNearLimit, "Commands near the limit", "", &sluice.Failure{
		Reason: sluice.ReasonThrottled,
		Message: fmt.Sprintf("%.0f commands a second came to one client, over %d seconds. AWS sends a client %d a second at most: what is more waits, or is discarded.",
			rate, inflowSeconds, commandRate),
		Hint: d.moreSessions(),
	})
}

// moreSessions is what to do about commands that are too many.
func (d *dialer) moreSessions() string {
	now := d.Shares()
	want := min(2*now, maxPool)
	if want == now {
		return "Spread the commands over several connections: downlinkSessions cannot be more."
	}
	hint := fmt.Sprintf("Set downlinkSessions to %d; it is %d.", want, now)
	if want > d.Size() {
		hint = fmt.Sprintf("Set downlinkSessions and poolSize to %d; they are %d and %d.", want, now, d.Size())
	}
	if now == 1 {
		hint += " The commands of a device may then overtake each other."
	}
	return hint + " Allow iot:Subscribe on " + d.arn("topicfilter/"+shareOf(d.group(), d.downlink.Filter())) + " and iot:Connect on " +
		d.arn("client/"+d.name()+"-*") + " in " + d.policy() + ". Once it is set, sluice aws policy " + d.spec.Connection.ID + " writes all that is needed."
}
