package awsiot

import (
	"context"
	"time"

	"golang.org/x/time/rate"
)

// publishRate is the pace of a session. AWS takes 100 publishes a second from
// a client and discards what is more; the quota cannot be raised.
// Source: AWS IoT Core endpoints and quotas, "Publish requests per second per
// connection".
const publishRate = 98

// pacer spaces the publishes of a session evenly, and besides makes sure that
// in no second, wherever it starts, there are more than its rate and one: a
// late timer must not push two spaces together. Publishes take turns; a turn
// lasts until the packet is written.
type pacer struct {
	turn    chan struct{}
	limiter *rate.Limiter
	recent  []time.Time // when the last ones were written, a ring
	next    int         // the oldest of recent
}

// newPacer makes a pacer; nil, which does not pace, for a negative rate.
func newPacer(perSecond float64) *pacer {
	if perSecond < 0 {
		return nil
	}
	return &pacer{
		turn:    make(chan struct{}, 1),
		limiter: rate.NewLimiter(rate.Limit(perSecond), 1),
		recent:  make([]time.Time, int(perSecond)+1),
	}
}

// begin waits for the turn to write. Where it returns true, end must follow.
// It returns false once ctx or one of the channels ends.
func (p *pacer) begin(ctx context.Context, lost, closing <-chan struct{}) bool {
	if p == nil {
		return true
	}
	select {
	case p.turn <- struct{}{}:
	case <-ctx.Done():
		return false
	case <-lost:
		return false
	case <-closing:
		return false
	}
	now := time.Now()
	r := p.limiter.ReserveN(now, 1)
	wait := max(r.DelayFrom(now), p.recent[p.next].Add(time.Second).Sub(now))
	if wait <= 0 {
		return true
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
	case <-lost:
	case <-closing:
	}
	r.Cancel()
	<-p.turn
	return false
}

// end passes the turn on, after the packet was written.
func (p *pacer) end() {
	if p == nil {
		return
	}
	p.recent[p.next] = time.Now()
	p.next = (p.next + 1) % len(p.recent)
	<-p.turn
}
