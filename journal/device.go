package journal

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"sluice"
)

// device is a device that has entries in a reader.
type device struct {
	key   string
	queue fifo[waiting]
	// busy: it is in the queue of those that are ready, or its first entry is
	// handled, or waits for another try.
	busy     bool
	turn     *turn       // a message of a replay that waits for the device
	attempts int         // tries of the first entry that count
	pauses   int         // tries of it that met no connection, in a row
	stop     func() bool // stops the timer of the next try
	handled  bool        // a worker has its first entry
	failure  error       // how the last try of it ended
}

// waiting is an entry that a reader has taken. m is nil when it is to be read
// from the stream again.
type waiting struct {
	m      *sluice.Message
	number uint64
	seq    uint64
}

// Waits between tries, and how many doublings lead from the first to the
// longest.
const (
	firstRetry = 250 * time.Millisecond
	maxRetry   = 30 * time.Second
	firstPause = 50 * time.Millisecond
	maxPause   = time.Second
)

// backoff is how long to wait after the n-th try, n from 1: between half and
// all of a time that doubles.
func backoff(n int, rnd float64) time.Duration { return grow(firstRetry, maxRetry, n, rnd) }

// pause is how long to wait after the n-th try that met no connection.
func pause(n int, rnd float64) time.Duration { return grow(firstPause, maxPause, n, rnd) }

func grow(first, most time.Duration, n int, rnd float64) time.Duration {
	d := most
	if n < 16 {
		d = min(first<<(n-1), most)
	}
	return d/2 + time.Duration(rnd*float64(d/2))
}

// enqueue makes a device ready. The lock is held.
func (r *reader) enqueue(d *device) {
	r.ready.push(d)
	switch {
	case r.closing || r.workers >= r.o.Concurrency:
	case r.resting > 0:
		r.resting--
		r.workers++
		r.call <- struct{}{}
	default:
		r.workers++
		r.hands.Go(r.work)
	}
}

const (
	// maxResting is how many goroutines of a reader wait for work, and restFor
	// how long: a new one for each entry would have to grow its stack each time.
	maxResting = 32
	restFor    = time.Second
)

// work is a goroutine that handles entries. When none is ready it rests for a
// while, if not too many do.
func (r *reader) work() {
	timer := time.NewTimer(restFor)
	defer timer.Stop()
	r.p.mu.Lock()
	for r.handleReady() {
		r.resting++
		r.p.mu.Unlock()
		timer.Reset(restFor)
		if !r.rest(timer) {
			return
		}
		r.p.mu.Lock()
	}
	r.p.mu.Unlock()
}

// rest waits until the goroutine is called, and reports whether it was.
func (r *reader) rest(timer *time.Timer) bool {
	select {
	case <-r.call:
		return true
	case <-r.closed:
	case <-timer.C:
	}
	r.p.mu.Lock()
	defer r.p.mu.Unlock()
	if r.resting > 0 {
		r.resting--
		return false
	}
	<-r.call // it was called just now: the calls are as many as those who do not rest
	return true
}

// handleReady handles entries until none is ready, and reports whether the
// goroutine may rest then. The lock is held, but not while the handler runs.
func (r *reader) handleReady() bool {
	for !r.closing && r.ready.len() > 0 {
		d := r.ready.pop()
		if d.queue.len() == 0 { // what is live goes first
			r.lent(d)
			continue
		}
		w := *d.queue.front()
		if r.p.done.has(w.number) { // given up meanwhile
			r.advance(d)
			continue
		}
		d.handled = true
		r.p.mu.Unlock()
		r.turn(d, w)
		r.p.mu.Lock()
	}
	r.workers--
	if r.closing && r.workers == 0 {
		select {
		case r.idle <- struct{}{}:
		default:
		}
	}
	return !r.closing && r.resting < maxResting
}

// turn brings the first entry of a device one step on.
func (r *reader) turn(d *device, w waiting) {
	m := w.m
	if m == nil {
		var err error
		if m, err = r.load(w); err != nil {
			r.unloadable(d, w, err)
			return
		}
		r.keep(d, m)
	}
	until := r.deadline(m)
	left := until.Sub(r.j.o.Clock())
	if left <= 0 {
		r.late(d, m)
		return
	}
	ctx, cancel := context.WithTimeoutCause(r.base, left, errExpired)
	err := r.handle(ctx, r.o.Handler, m)
	cancel()
	if err == nil {
		r.over(d, m, Delivered, nil)
		return
	}
	verdict, after := sluice.VerdictOf(err)
	switch verdict {
	case sluice.Permanent:
		if cause := r.j.quarantine(r.base, r.p, m, err); cause != nil {
			r.again(d, m, sluice.Retry, 0, until.Sub(r.j.o.Clock()), cause)
			return
		}
		r.over(d, m, Failed, err)
	case sluice.Filtered:
		r.over(d, m, Filtered, err)
	case sluice.Expired:
		r.over(d, m, Expired, err)
	default:
		left = until.Sub(r.j.o.Clock())
		if left <= 0 || errors.Is(context.Cause(ctx), errExpired) {
			r.late(d, m)
			return
		}
		r.again(d, m, verdict, min(after, left), left, err)
	}
}

// errExpired is the cause of a handler's context that ends because its entry
// has expired.
var errExpired = errors.New("the entry has expired")

// late ends an entry that is too old, once whoever wants to know of it does.
func (r *reader) late(d *device, m *sluice.Message) {
	tooOld := r.tooOld(m)
	if r.o.Late == nil {
		r.over(d, m, Expired, tooOld)
		return
	}
	err := r.handle(r.base, sluice.HandlerFunc(func(ctx context.Context, m *sluice.Message) error { return r.o.Late(ctx, m, tooOld) }), m)
	switch verdict, _ := sluice.VerdictOf(err); {
	case err == nil:
		r.over(d, m, Delivered, nil)
	case verdict == sluice.Expired:
		r.over(d, m, Expired, err)
	default:
		r.again(d, m, sluice.Retry, 0, maxRetry, err)
	}
}

// handle calls a handler and turns a panic into an error.
func (r *reader) handle(ctx context.Context, to sluice.Handler, m *sluice.Message) (err error) {
	defer func() {
		if v := recover(); v != nil {
			r.j.o.Log.Error("a handler panicked", "place", r.p.name.label(), "message", m.ID,
				"panic", fmt.Sprint(v), "stack", string(debug.Stack()))
			err = &sluice.Failure{
				Verdict: sluice.Retry, Reason: sluice.ReasonInternal,
				Message: "An internal error. It is in the log.", Err: fmt.Errorf("panic: %v", v),
			}
		}
	}()
	return to.Handle(ctx, m)
}

// deadline is when m expires.
func (r *reader) deadline(m *sluice.Message) time.Time {
	t := r.kept(m).Add(r.j.o.Retention)
	if limit := m.Limit(0); limit > 0 {
		if v := m.Born().Add(limit); v.Before(t) {
			return v
		}
	}
	return t
}

// kept is the time that the retention counts from.
func (r *reader) kept(m *sluice.Message) time.Time {
	switch {
	case m.Retries != 0:
		return m.Retried
	case m.Received.IsZero():
		return r.j.o.Clock()
	default:
		return m.Received
	}
}

func (r *reader) tooOld(m *sluice.Message) *sluice.Failure {
	age, limit := r.j.o.Clock().Sub(r.kept(m)), r.j.o.Retention
	if v := m.Limit(0); v > 0 && !m.Born().Add(v).After(r.j.o.Clock()) {
		age, limit = r.j.o.Clock().Sub(m.Born()), v
	}
	return &sluice.Failure{
		Verdict: sluice.Expired, Reason: sluice.ReasonExpired,
		Message: fmt.Sprintf("It is %s old, the limit is %s.", age.Round(time.Second), limit),
	}
}

// over ends the first entry of a device.
func (r *reader) over(d *device, m *sluice.Message, o Outcome, err error) {
	p := r.p
	p.mu.Lock()
	counted := p.settle(m.Number, o)
	if o == Delivered {
		r.down = false
	}
	r.advance(d)
	fresh := p.touch()
	p.mu.Unlock()
	r.j.books.changed(p, fresh)
	if counted && r.o.Settled != nil {
		r.o.Settled(m, o, err)
	}
}

// advance drops the first entry of a device and makes the next one ready. The
// lock is held.
func (r *reader) advance(d *device) {
	w := d.queue.pop()
	if w.m != nil {
		r.bytes -= cost(w.m)
	}
	r.items--
	d.attempts, d.pauses, d.handled, d.failure = 0, 0, false, nil
	r.proceed(d)
	if r.behind() {
		r.poke()
	}
}

// proceed makes a device ready again, if there is more of it. The lock is held.
func (r *reader) proceed(d *device) {
	if d.queue.len() > 0 || d.turn != nil {
		r.ready.push(d) // the worker that calls this goes on to take it
	} else {
		delete(r.devices, d.key)
	}
}

// again has the first entry of a device handled another time: after the
// time that its verdict asks for, but no later than when it expires.
func (r *reader) again(d *device, m *sluice.Message, verdict sluice.Verdict, after, left time.Duration, err error) {
	p := r.p
	p.mu.Lock()
	if r.closing {
		p.mu.Unlock()
		return
	}
	attempt := 0
	d.failure = err
	var wait time.Duration
	if verdict == sluice.NotConnected {
		r.down = true
		d.pauses++
		wait = pause(d.pauses, r.j.o.Rand())
	} else {
		d.pauses = 0
		d.attempts++
		attempt = d.attempts
		wait = backoff(d.attempts, r.j.o.Rand())
		if verdict == sluice.RetryAfter {
			wait = max(after, time.Millisecond)
		}
	}
	r.later(d, min(wait, left))
	p.mu.Unlock()
	if attempt > 0 && r.o.Retrying != nil {
		r.o.Retrying(m, attempt, err)
	}
}

// later makes a device ready after a time. The lock is held.
func (r *reader) later(d *device, wait time.Duration) {
	d.handled = false
	d.giveBack(errHeld())
	d.stop = r.j.after(wait, func() {
		r.p.mu.Lock()
		defer r.p.mu.Unlock()
		d.stop = nil
		r.enqueue(d)
	})
	if r.behind() {
		r.poke()
	}
}
