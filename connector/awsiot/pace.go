package awsiot

import (
	"context"
	"time"

	"golang.org/x/time/rate"
)

const (
	// publishRate is the pace of a session. AWS takes 100 publishes a second
	// from a client and discards what is more; the quota cannot be raised.
	// Source: AWS IoT Core endpoints and quotas, "Publish requests per second
	// per connection".
	publishRate = 98
	// byteRate is the pace of a session in bytes a second. AWS lets 512 KiB a
	// second pass and makes what is more wait, acknowledgements and pings
	// included. Source: the same, "Throughput per second per connection".
	byteRate = 500 << 10
)

// pacer spaces the publishes of a session evenly, by number and by size, and
// besides makes sure that in no second, wherever it starts, there are more than
// its rate and one, nor more bytes than its rate of those: a late timer must
// not push two spaces together. Publishes take turns; a turn lasts until the
// packet is written.
type pacer struct {
	turn    chan struct{}
	limiter *rate.Limiter
	recent  []written // the last ones, a ring
	next    int       // the oldest of recent
	free    time.Time // when the bytes of the last one have had their time
	size    int       // of the one that has the turn
}

// written is a publish.
type written struct {
	at   time.Time
	size int
}

// newPacer makes a pacer; nil, which does not pace, for a negative rate.
func newPacer(perSecond float64) *pacer {
	if perSecond < 0 {
		return nil
	}
	return &pacer{
		turn:    make(chan struct{}, 1),
		limiter: rate.NewLimiter(rate.Limit(perSecond), 1),
		recent:  make([]written, int(perSecond)+1),
	}
}

// begin waits for the turn to write so many bytes. Where it returns true, end
// must follow. It returns false once ctx or one of the channels ends.
func (p *pacer) begin(ctx context.Context, size int, lost, closing <-chan struct{}) bool {
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
	p.size = size
	now := time.Now()
	r := p.limiter.ReserveN(now, 1)
	wait := max(r.DelayFrom(now), p.recent[p.next].at.Add(time.Second).Sub(now), p.free.Sub(now), p.room(now, size))
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

// room is how long it is until so many bytes more make no second too full.
func (p *pacer) room(now time.Time, size int) time.Duration {
	for back := range len(p.recent) { // from the last one
		w := p.recent[(p.next+len(p.recent)-1-back)%len(p.recent)]
		if now.Sub(w.at) >= time.Second {
			return 0
		}
		if size += w.size; size > byteRate {
			return w.at.Add(time.Second).Sub(now)
		}
	}
	return 0
}

// end passes the turn on, after the packet was written.
func (p *pacer) end() {
	if p == nil {
		return
	}
	now := time.Now()
	p.recent[p.next] = written{now, p.size}
	p.next = (p.next + 1) % len(p.recent)
	p.free = now.Add(time.Duration(p.size) * time.Second / byteRate)
	<-p.turn
}
