package connection

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"sluice"
)

// errRetired is told to a delivery whose pool gave way to another; it begins
// again with the new one.
var errRetired = errors.New("the sessions are being replaced")

// patience is how long a delivery waits.
type patience struct {
	ctx context.Context //nolint:containedctx // lives as long as one delivery
	// stop is closed when the connection stops reading: who only waits gives
	// its message back.
	stop <-chan struct{}
	// ended is closed when the pool is retired.
	ended <-chan struct{}
	// deadline is when the message expires; zero for never.
	deadline time.Time
	clock    sluice.Clock
	// room is for those who wait for their device to be made ready.
	room *room
}

// room bounds how many wait for something of their own, so that others find
// workers of the journal free.
type room struct {
	most int64
	in   atomic.Int64
}

// enter takes a place; false: there is none.
func (r *room) enter() bool {
	if r.in.Add(1) <= r.most {
		return true
	}
	r.in.Add(-1)
	return false
}

func (r *room) leave() { r.in.Add(-1) }

// errNoRoom gives a message back that would have to wait, for a while.
func errNoRoom() error {
	return &sluice.Failure{
		Verdict: sluice.RetryAfter, After: 500 * time.Millisecond, Reason: sluice.ReasonThingPending,
		Message: "Too many devices wait to be made ready in the cloud.",
	}
}

// check returns the Failure of a message that is too old, nil while it is not.
func (p *patience) check() error {
	if p.deadline.IsZero() || p.clock().Before(p.deadline) {
		return nil
	}
	return errExpired()
}

// await waits until ready is closed; its error tells why it did not.
func (p *patience) await(ready <-chan struct{}) error {
	select {
	case <-ready:
		return nil
	default:
	}
	var expiry <-chan time.Time
	if !p.deadline.IsZero() {
		timer := time.NewTimer(p.deadline.Sub(p.clock()))
		defer timer.Stop()
		expiry = timer.C
	}
	select {
	case <-ready:
		return nil
	case <-p.ctx.Done():
		return p.ctx.Err()
	case <-p.stop:
		return errNotOpen()
	case <-expiry:
		return errExpired()
	}
}

// sleep waits for d, or does not begin to when the message would expire
// meanwhile.
func (p *patience) sleep(d time.Duration) error {
	if d <= 0 {
		return nil
	}
	if !p.deadline.IsZero() && p.clock().Add(d).After(p.deadline) {
		return errExpired()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-p.ctx.Done():
		return p.ctx.Err()
	case <-p.stop:
		return errNotOpen()
	case <-p.ended:
		return errRetired
	}
}

// context returns a context for a call that may block: it ends when the
// delivery is to wait no longer, for whatever cause. end is called once the
// call has returned. As most calls never wait, nothing is made before somebody
// asks for Done.
func (p *patience) context() (ctx context.Context, end func()) {
	c := &waiting{Context: p.ctx, patience: p}
	return c, c.end
}

// verdict is what became of a call under context: its own error, unless that
// is for the end of the patience.
func (p *patience) verdict(err error) error {
	if err == nil {
		return nil
	}
	switch v, _ := sluice.VerdictOf(err); v {
	case sluice.Permanent, sluice.Filtered, sluice.Expired:
		return err
	default:
	}
	select {
	case <-p.ended:
		return errRetired
	case <-p.stop:
		return errNotOpen()
	default:
	}
	if e := p.check(); e != nil {
		return e
	}
	if errors.Is(err, context.Canceled) && p.ctx.Err() == nil {
		return errNoRoom()
	}
	return err
}

// waiting is the context of [patience.context].
type waiting struct {
	context.Context //nolint:containedctx // the parent
	patience        *patience

	mu      sync.Mutex
	child   context.Context //nolint:containedctx // nil: nobody has asked
	cancel  context.CancelFunc
	inRoom  bool
	watcher sync.WaitGroup
}

// Done makes the context that ends with the patience.
func (w *waiting) Done() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.child != nil {
		return w.child.Done()
	}
	p := w.patience
	if p.deadline.IsZero() {
		w.child, w.cancel = context.WithCancel(w.Context)
	} else {
		w.child, w.cancel = context.WithTimeout(w.Context, p.deadline.Sub(p.clock()))
	}
	if w.inRoom = p.room.enter(); !w.inRoom {
		w.cancel() // who asks for Done is about to wait
		return w.child.Done()
	}
	child, cancel := w.child, w.cancel
	w.watcher.Go(func() {
		defer cancel()
		select {
		case <-child.Done():
		case <-p.stop:
		case <-p.ended:
		}
	})
	return child.Done()
}

// Err is nil until Done is closed.
func (w *waiting) Err() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.child != nil {
		return w.child.Err()
	}
	return w.Context.Err()
}

func (w *waiting) end() {
	w.mu.Lock()
	cancel, inRoom := w.cancel, w.inRoom
	w.mu.Unlock()
	if cancel != nil {
		cancel()
		w.watcher.Wait()
	}
	if inRoom {
		w.patience.room.leave()
	}
}

func errExpired() error {
	return &sluice.Failure{
		Verdict: sluice.Expired, Reason: sluice.ReasonExpired,
		Message: "The message is older than the connection's uplinkTimeValidity allows.",
	}
}

// errNotOpen says that the message has to wait for a session.
func errNotOpen() error {
	return &sluice.Failure{
		Verdict: sluice.NotConnected, Reason: sluice.ReasonDisconnected, Message: "No session of the connection is open.",
	}
}
