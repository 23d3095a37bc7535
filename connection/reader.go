package connection

import (
	"context"
	"time"

	"sluice"
	"sluice/internal/lifetime"
)

const (
	// idleConcurrency is how many messages are taken out of the journal while
	// no session is open: enough to let old ones expire, few enough for many
	// dead connections to share the memory.
	idleConcurrency = 50
	// idleAfter is how long a pool must have been closed for that.
	idleAfter = 30 * time.Second
)

// reader is a running Read of the journal.
type reader struct {
	concurrency int
	cancel      context.CancelFunc
	stopping    bool
}

// syncReader starts, stops or resizes the reading. A resize is a stop and a
// start: what only waits is given back, what is in flight finishes.
func (r *runner) syncReader() {
	want := r.concurrency()
	switch {
	case r.reader == nil && want > 0:
		r.startReader(want)
	case r.reader != nil && !r.reader.stopping && r.reader.concurrency != want:
		r.reader.stopping = true
		r.reader.cancel()
	}
}

// concurrency is how many messages are to be under way at most; 0: no reading.
func (r *runner) concurrency() int {
	p := r.active
	if p == nil {
		return 0
	}
	full := p.readers() * laneCapacity
	switch {
	case p.up:
		return full
	case r.reader != nil && r.reader.concurrency > idleConcurrency && time.Now().Before(p.downSince.Add(idleAfter)):
		return r.reader.concurrency // a short gap is not worth a resize
	default:
		return min(full, idleConcurrency)
	}
}

// readersLeast is for how many sessions the journal is read at least.
const readersLeast = 10

// readers is for how many sessions the journal is read. It has two values, far
// apart, since to begin to read anew the messages under way must finish.
func (p *pool) readers() int {
	switch {
	case p.growth.want > readersLeast:
		p.wide = true
	case p.growth.want <= readersLeast/2:
		p.wide = false
	}
	if p.wide {
		return p.size
	}
	return min(readersLeast, p.size)
}

// readerDue is when a resize may be due.
func (r *runner) readerDue() time.Time {
	if r.active == nil || r.active.up || r.reader == nil || r.reader.stopping || r.reader.concurrency <= idleConcurrency {
		return time.Time{}
	}
	return r.active.downSince.Add(idleAfter)
}

func (r *runner) startReader(concurrency int) {
	ctx, cancel := context.WithCancel(context.Background())
	rd := &reader{concurrency: concurrency, cancel: cancel}
	r.reader = rd
	handler := sluice.HandlerFunc(func(c context.Context, m *sluice.Message) error {
		return r.deliver(c, ctx.Done(), m)
	})
	loop := lifetime.Loop{
		Name: "read journal", Min: time.Second, Max: time.Minute, Rand: r.o.Rand, Log: r.log,
	}
	r.work.Go(func() {
		defer cancel()
		loop.Run(ctx, func(ctx context.Context) error {
			return r.o.Journal.Read(ctx, r.id, handler, concurrency, r.settled)
		})
		r.post(func() {
			r.reader = nil
			r.settle()
		})
	})
}
