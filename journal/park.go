package journal

import (
	"context"
	"errors"
	"fmt"
)

// park raises the floor over the entries that hold it far behind what has been
// taken: a device that is refused for ever holds up its own entries only. The
// lock is held.
func (r *reader) park() {
	p := r.p
	if r.next <= p.done.floor+parkAfter {
		return
	}
	for r.next > p.done.floor+parkAfter {
		p.rewind() // p.seq is the message of the floor's entry
		if !p.done.park(p.seq) {
			break
		}
	}
	p.rewind()
}

// restore takes the entries that are parked, before all others: those of
// their devices that follow come after them.
func (r *reader) restore(ctx context.Context) error {
	p := r.p
	p.mu.Lock()
	parked := append([]start(nil), p.done.parked...)
	p.mu.Unlock()
	for i, failures := 0, 0; i < len(parked) && ctx.Err() == nil; {
		w := waiting{number: parked[i].number, seq: parked[i].seq}
		m, err := r.load(w)
		switch {
		case err == nil:
			p.mu.Lock()
			r.push(m, w.seq)
			p.mu.Unlock()
		case errors.Is(err, errDamaged), errors.Is(err, errNotFound):
			r.lose(w.number)
		case r.j.o.Reads.IsClosed():
			return fmt.Errorf("journal: read %s: %w", p.name.label(), err)
		default:
			failures++
			r.j.o.Log.Warn("cannot read the stream", "place", p.name.label(), "error", err)
			r.sleep(ctx, backoff(failures, r.j.o.Rand()))
			continue
		}
		failures = 0
		i++
	}
	p.mu.Lock()
	r.restoring = false
	p.mu.Unlock()
	return nil
}

// lose counts an entry that cannot be read as lost.
func (r *reader) lose(number uint64) {
	p := r.p
	p.mu.Lock()
	lost := p.settle(number, Failed)
	fresh := p.touch()
	p.mu.Unlock()
	r.j.books.changed(p, fresh)
	if lost {
		r.j.lost(p, number, number, 1)
	}
}
