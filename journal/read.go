package journal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"sluice"
)

// Outcome is how an entry ended.
type Outcome int

// The outcomes.
const (
	Delivered Outcome = iota // the handler returned nil
	Failed                   // it never will: verdict Permanent
	Expired                  // it was too old
	Filtered                 // it is not wanted
)

// String returns the outcome's name, in lower case.
func (o Outcome) String() string {
	switch o {
	case Delivered:
		return "delivered"
	case Failed:
		return "failed"
	case Expired:
		return "expired"
	case Filtered:
		return "filtered"
	}
	return fmt.Sprintf("outcome %d", int(o))
}

// ReadOptions are what [Journal.Read] needs beside the place.
type ReadOptions struct {
	// Handler takes the entries. Its context outlives that of Read by up to
	// Grace, and ends when the entry expires.
	Handler sluice.Handler
	// Concurrency is how many entries are in the handler's hands at most, 1
	// of a device. Default 1.
	Concurrency int
	// Grace is how long Read waits for the handler after its context has
	// ended, before it ends the handler's. Default 3 s.
	Grace time.Duration
	// Late, if not nil, is given an entry that is too old, with why, before it
	// is over: nil means that it is delivered all the same, a Failure with
	// verdict Expired that it may expire, any other error that Late is to be
	// called again.
	Late func(ctx context.Context, m *sluice.Message, tooOld *sluice.Failure) error
	// Settled, if not nil, is called once an entry is over, after it was
	// counted. err is the handler's last error, or why it expired; nil for
	// Delivered. It must not block.
	Settled func(m *sluice.Message, o Outcome, err error)
	// Retrying, if not nil, is called when an entry is to be tried again.
	// attempt counts the tries from 1; those that ended with NotConnected do
	// not count.
	Retrying func(m *sluice.Message, attempt int, err error)
}

const (
	defaultGrace = 3 * time.Second
	// abandonment is how long Read waits, after the grace, for a handler
	// whose context has ended.
	abandonment = 10 * time.Second
	// windowLimit is how far ahead of the floor is read.
	windowLimit = 50_000
	// parkAfter is how far behind the floor may be before the entry that holds
	// it is parked.
	parkAfter = windowLimit / 2
	// maxFetch and maxFetchBytes bound one request to the stream.
	maxFetch      = 1024
	maxFetchBytes = 1 << 20
	// memory is what all readers together may hold of documents, shared out
	// equally, but no one more or less than maxShare and minShare. A reader
	// may hold a quarter more of what it has read again.
	memory   = 32 << 20
	maxShare = 8 << 20
	minShare = 64 << 10
	// deviceDocuments is how many entries of a device are held with their
	// documents, once half of the reader's share is taken; those that follow
	// are read again when their turn comes.
	deviceDocuments = 4
	// downItems is how many entries are held while the handler says that it
	// is not connected.
	downItems = 256
)

// Read hands the entries of a place to a handler until ctx ends; then it
// waits for those that the handler has, and returns nil. It begins where the
// place's book says. A place is read by one Read at a time (CodeConflict).
//
// What happens to an entry when the handler returns an error is told by its
// verdict (see [sluice.VerdictOf]): Retry waits from 0.25 s to 30 s, with
// jitter; NotConnected waits from 50 ms to 1 s, so that a handler that does
// not block until it is connected does not spin; Permanent, Filtered and
// Expired end it. An entry that is older than its Validity (from its birth)
// or than the journal's Retention (from when it was received) expires, before
// the handler gets it or when an error says that it is not delivered. A
// panic of the handler counts as Retry.
func (j *Journal) Read(ctx context.Context, name Place, o ReadOptions) error {
	if o.Concurrency < 1 {
		o.Concurrency = 1
	}
	if o.Grace == 0 {
		o.Grace = defaultGrace
	}
	base, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	r := &reader{
		j: j, o: o, p: j.makePlace(name), base: base,
		devices: map[string]*device{},
		wake:    make(chan struct{}, 1),
		idle:    make(chan struct{}, 1),
		call:    make(chan struct{}, maxResting),
		closed:  make(chan struct{}),
	}
	if err := r.attach(); err != nil {
		return err
	}
	err := r.feed(ctx)
	return errors.Join(err, r.detach(cancel))
}

// reader is a call of Read. The place's lock guards all that changes.
type reader struct {
	j    *Journal
	p    *place
	o    ReadOptions
	base context.Context //nolint:containedctx // what the handlers' contexts are made from

	next      uint64 // the number that is taken next
	nextSeq   uint64 // the message that it lies in, or an earlier one
	starts    fifo[start]
	devices   map[string]*device
	ready     fifo[*device] // those that may have an entry handled
	workers   int           // goroutines that handle entries
	resting   int           // goroutines that wait to be called
	hands     sync.WaitGroup
	items     int  // entries taken and not over
	bytes     int  // documents in memory
	down      bool // the handler said NotConnected last
	closing   bool
	restoring bool   // what is parked is not taken yet
	stuck     bool   // what comes next did not fit when the floor was at
	stuckAt   uint64 // this number
	reloads   reloads
	lending   int // workers that handle messages of a replay

	wake chan struct{} // of one: there may be something to fetch
	idle chan struct{} // of one: closing, and no worker is left

	call   chan struct{} // of maxResting: to those who rest
	closed chan struct{} // closed with closing
}

// start says that an entry is the first of a message of the stream.
type start struct{ number, seq uint64 }

func (r *reader) attach() error {
	p := r.p
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.reader != nil || p.gone {
		return sluice.Errorf(sluice.CodeConflict, "The entries of %s are being read already, or deleted.", p.name.label())
	}
	p.reader = r
	r.next, r.nextSeq = p.done.floor+1, p.seq
	r.restoring = len(p.done.parked) > 0
	r.j.readers.Add(1)
	return nil
}

// detach waits for the workers and ends the reading.
func (r *reader) detach(cancel context.CancelFunc) error {
	p := r.p
	p.mu.Lock()
	r.closing = true
	for _, d := range r.devices {
		if d.stop != nil {
			d.stop()
		}
		d.giveBack(errNoReader())
	}
	busy := r.workers > 0
	close(r.closed)
	p.mu.Unlock()

	var err error
	if busy && !r.wait(r.o.Grace) {
		cancel()
		if !r.wait(abandonment) {
			err = fmt.Errorf("journal: a handler of %s does not end", p.name.label())
		}
	}
	if err == nil {
		r.hands.Wait()
	}
	p.mu.Lock()
	p.reader = nil
	p.mu.Unlock()
	r.j.readers.Add(-1)
	return err
}

func (r *reader) wait(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-r.idle:
		return true
	case <-timer.C:
		return false
	}
}

// feed fetches what the committer does not hand over, until ctx ends.
func (r *reader) feed(ctx context.Context) error {
	if err := r.restore(ctx); err != nil || ctx.Err() != nil {
		return err
	}
	var failures int
	for ctx.Err() == nil {
		r.p.mu.Lock()
		hungry, from, last := r.behind() && r.room(), r.nextSeq, r.p.lastSeq
		r.p.mu.Unlock()
		if !hungry {
			select {
			case <-r.wake:
			case <-ctx.Done():
			}
			continue
		}
		err := r.fetch(ctx, from, last)
		switch {
		case err == nil:
			failures = 0
			continue
		case ctx.Err() != nil:
			return nil
		case r.j.o.Reads.IsClosed():
			return fmt.Errorf("journal: read %s: %w", r.p.name.label(), err)
		}
		failures++
		r.j.o.Log.Warn("cannot read the stream", "place", r.p.name.label(), "error", err)
		r.sleep(ctx, backoff(failures, r.j.o.Rand()))
	}
	return nil
}

func (r *reader) sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// behind reports whether the stream has what was not taken. The lock is held.
func (r *reader) behind() bool { return r.next <= r.p.last && !r.closing }

// poke makes feed look again. The lock is held.
func (r *reader) poke() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// share is how many bytes of documents the reader may hold.
func (r *reader) share() int {
	return min(max(memory/max(int(r.j.readers.Load()), 1), minShare), maxShare)
}

// room reports whether more may be taken. The lock is held.
func (r *reader) room() bool {
	r.park()
	switch {
	case r.next > r.p.done.floor+windowLimit, r.bytes >= r.share():
		return false
	case r.stuck && r.stuckAt == r.p.done.floor:
		return false
	case r.ready.len() >= max(2*r.o.Concurrency, 256):
		return false
	case r.down && r.items >= downItems:
		return false
	}
	return true
}

// offer takes a bundle that was just committed, if it is what comes next. The
// lock is held.
func (r *reader) offer(b *building, seq uint64) {
	if r.closing || r.restoring {
		return
	}
	r.park()
	if b.hot == nil || r.next != b.first || r.next > r.p.done.floor+windowLimit || r.bytes >= r.share()/2 {
		r.poke()
		return
	}
	r.starts.push(start{b.first, seq})
	for _, m := range b.hot {
		r.take(m, seq)
	}
	r.nextSeq = seq + 1
	r.j.stats.hot.Add(uint64(len(b.hot)))
}

// startOf returns the sequence of the message that an entry lies in; seq is
// what is known of it. The lock is held.
func (r *reader) startOf(number, seq uint64) uint64 {
	for r.starts.len() > 0 && r.starts.front().number <= number {
		seq = r.starts.pop().seq
	}
	return seq
}

// take takes the next entry, which lies in the message seq. The lock is held.
func (r *reader) take(m *sluice.Message, seq uint64) {
	r.next = m.Number + 1
	r.push(m, seq)
}

// push gives an entry to its device. The lock is held.
func (r *reader) push(m *sluice.Message, seq uint64) {
	if r.p.done.has(m.Number) {
		return
	}
	d := r.devices[m.DevEUI]
	if d == nil {
		d = &device{key: m.DevEUI}
		r.devices[m.DevEUI] = d
	}
	w := waiting{number: m.Number, seq: seq}
	if d.queue.len() < deviceDocuments || r.bytes < r.share()/2 {
		if d.queue.len() > 0 {
			// It will wait, and must not keep all of its bundle in memory.
			m.Document = bytes.Clone(m.Document)
		}
		w.m = noted(m)
		r.bytes += cost(m)
	}
	d.queue.push(w)
	r.items++
	if !d.busy {
		d.busy = true
		r.enqueue(d)
	}
}

// noted gives a message a way to be noted in. The lock is held.
func noted(m *sluice.Message) *sluice.Message {
	if m.Way == nil {
		m.Way = new(sluice.Way)
	}
	return m
}

// cost is what a message in memory counts for.
func cost(m *sluice.Message) int { return len(m.Document) + 512 }
