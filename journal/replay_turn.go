package journal

import (
	"context"

	"sluice"
)

// turn is a message of a replay that takes the turn of its device in the
// reader of a place, so that no two messages of a device are under way at once.
type turn struct {
	m    *sluice.Message
	ctx  context.Context //nolint:containedctx // ends when the replay gives the message up
	done func(error)     // told once what became of it; must not block
}

// giveBack ends a turn that has not begun. The lock is held.
func (d *device) giveBack(err error) {
	if t := d.turn; t != nil {
		d.turn = nil
		t.done(err)
	}
}

// errNoReader gives a message of a replay back while nobody reads the place.
func errNoReader() error {
	return &sluice.Failure{
		Verdict: sluice.NotConnected, Reason: sluice.ReasonDisconnected, Message: "The connection is not in operation.",
	}
}

// errHeld gives a message of a replay back whose device waits for another try
// of an entry of its own.
func errHeld() error {
	return &sluice.Failure{
		Verdict: sluice.RetryAfter, After: firstHeld, Reason: sluice.ReasonTimeout,
		Message: "A live report of the device is refused at the moment.",
	}
}

// lend has a message of a replay handled, once nothing live of its device
// waits. A device has one such message at a time. An error: it is not taken.
func (p *place) lend(t *turn) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := p.reader
	if r == nil || r.closing {
		return errNoReader()
	}
	d := r.devices[t.m.DevEUI]
	switch {
	case d == nil:
		d = &device{key: t.m.DevEUI}
		r.devices[d.key] = d
	case d.stop != nil || d.turn != nil:
		return errHeld()
	}
	d.turn = t
	if !d.busy {
		d.busy = true
		r.enqueue(d)
	}
	return nil
}

// withdraw takes a message of a replay back, if its turn has not begun.
func (p *place) withdraw(t *turn, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if r := p.reader; r != nil {
		if d := r.devices[t.m.DevEUI]; d != nil && d.turn == t {
			d.giveBack(err) // a device without entries leaves at its turn
		}
	}
}

// crowded reports whether the reader has enough to do with live entries: it is
// behind, or the handler has an eighth of what it may have.
func (p *place) crowded() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := p.reader
	return r != nil && (r.behind() || r.workers-r.lending >= max(1, r.o.Concurrency/8))
}

// lent handles the message of a replay that has its device's turn. The lock is
// held, but not while the handler runs.
func (r *reader) lent(d *device) {
	t := d.turn
	d.turn = nil
	if t == nil { // withdrawn meanwhile
		r.proceed(d)
		return
	}
	r.lending++
	r.p.mu.Unlock()
	err := r.handleLent(t)
	r.p.mu.Lock()
	r.lending--
	r.proceed(d)
	t.done(err)
}

// handleLent calls the handler for a message of a replay.
func (r *reader) handleLent(t *turn) error {
	ctx, cancel := context.WithCancel(r.base)
	defer cancel()
	defer context.AfterFunc(t.ctx, cancel)()
	err := r.handle(ctx, r.o.Handler, t.m)
	if err != nil && ctx.Err() != nil {
		return errNoReader()
	}
	return err
}
