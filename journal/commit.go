package journal

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"sluice"
)

const (
	// pace is the time from the start of a commit of several entries to the start
	// of the next: under load
	// the next group gathers, and a commit of one costs as much as one of fifty.
	pace = 1500 * time.Microsecond
	// bundleBytes is the size that a bundle is closed at.
	bundleBytes = 64 << 10
	// plainMessages is how many messages of the stream are published one by
	// one, each with its own fsync. From there on a batch, with its four
	// fsyncs and a staging area, is cheaper: measured, 0.26 ms a message
	// against 4.5 ms a batch.
	plainMessages = 18
	// sendTries is how often a group is sent that is refused because something
	// came in before it.
	sendTries = 3
	// commitTimeout bounds how long the stream may take for a commit.
	commitTimeout = 5 * time.Second
)

// committer is the one goroutine that appends to the stream.
type committer struct {
	j       *Journal
	pub     *publisher
	enc     encoder
	group   []pending
	bundles []*building
	open    map[Place]*building
	out     []outgoing
}

// building is a bundle that is being made.
type building struct {
	place   *place
	entries []pending
	first   uint64
	size    int
	data    []byte
	hot     []*sluice.Message // what a reader is to be handed; nil: nobody reads
	retries []uint64          // the entries that are sent again out of quarantine
}

func newCommitter(j *Journal) (*committer, error) {
	pub, err := newPublisher(j.o.Conn)
	if err != nil {
		return nil, err
	}
	return &committer{j: j, pub: pub, open: map[Place]*building{}}, nil
}

// run commits until ctx ends, and then what has been taken.
func (c *committer) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-c.j.queue.signal:
		case <-ctx.Done():
			c.j.queue.end()
			for c.commit() {
			}
			return
		}
		timer.Reset(pace)
		for c.commit() && c.j.queue.waiting() >= maxGroup {
		}
		c.j.queue.wake() // a group is bounded: what it left has had its signal
		if len(c.group) < 2 {
			continue // nothing gathers: a lone entry need not wait
		}
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
	}
}

// commit commits one group and reports whether there was one.
func (c *committer) commit() bool {
	j := c.j
	j.committing.Lock()
	defer j.committing.Unlock()
	if err := j.sure(); err != nil {
		c.failAll(err)
		return false
	}
	j.queue.encoding.Lock()
	c.group = j.queue.take(c.group[:0])
	c.sort()
	c.encode()
	j.queue.encoding.Unlock()
	if len(c.group) == 0 {
		return false
	}
	for rest := c.bundles; len(rest) > 0; {
		n := min(len(rest), maxBatch)
		if len(j.unsure) > 0 {
			n = len(rest) // their numbers follow on those that failed
			c.fail(rest, errNoAnswer)
		} else {
			c.publish(rest[:n])
		}
		rest = rest[n:]
	}
	j.stats.commits.Add(1)
	clear(c.group)
	clear(c.bundles)
	c.bundles = c.bundles[:0]
	return true
}

// sort lays the group's entries into bundles, in their order.
func (c *committer) sort() {
	clear(c.open)
	for _, e := range c.group {
		if e.m.Retries != 0 && !c.j.makePlace(e.place).mayRetry(e.m.Retries) {
			e.w.settle(errNotQuarantined(e.m.Retries))
			continue
		}
		b := c.open[e.place]
		if b != nil && b.size+e.size > bundleBytes {
			b = nil
		}
		if b == nil {
			b = &building{place: c.j.makePlace(e.place)}
			if b.place.dropping() {
				e.w.settle(errDropping())
				continue
			}
			c.open[e.place] = b
			c.bundles = append(c.bundles, b)
		}
		b.entries = append(b.entries, e)
		b.size += e.size
	}
}

// encode gives the entries their numbers and makes the bundles' bytes.
func (c *committer) encode() {
	clear(c.open) // from here: the last bundle of each place
	for _, b := range c.bundles {
		p := b.place
		p.mu.Lock()
		b.first = p.last + 1
		reading := p.reader != nil
		p.mu.Unlock()
		if before := c.open[p.name]; before != nil {
			b.first = before.first + uint64(len(before.entries))
		}
		c.open[p.name] = b
		c.encodeBundle(b, reading)
	}
}

func (c *committer) encodeBundle(b *building, reading bool) {
	data := appendBundleHead(make([]byte, 0, bundleHeadSize+b.size), b.first, len(b.entries))
	if reading {
		b.hot = make([]*sluice.Message, 0, len(b.entries))
	}
	for i := range b.entries {
		m, number := b.entries[i].m, b.first+uint64(i)
		var document int
		data, document = c.enc.appendEntry(data, number, m)
		if m.Retries != 0 {
			b.retries = append(b.retries, m.Retries)
		}
		if reading {
			own := *m
			own.Document, own.Payload, own.Number = data[document:len(data):len(data)], nil, number
			b.hot = append(b.hot, &own)
		}
		b.entries[i].m = nil
	}
	b.data = data
}

// publish publishes bundles and settles their entries.
func (c *committer) publish(bundles []*building) {
	j := c.j
	c.out = c.out[:0]
	for _, b := range bundles {
		c.out = append(c.out, outgoing{subject: string(b.place.name), data: b.data})
	}
	for range sendTries {
		c.send(c.out)
		seq, ok := misplaced(c.out)
		if !ok || !j.follow(seq, bundles) {
			break
		}
	}
	failed, names := false, j.o.Names()
	for i, b := range bundles {
		if err := cmp.Or(c.out[i].err, names); err != nil {
			failed = true
			c.fail(bundles[i:i+1], err)
			continue
		}
		if !failed {
			j.lastSeq = c.out[i].seq // what is not known lies behind it
		}
		j.committed(b, c.out[i].seq)
	}
	clear(c.out)
	if len(j.unsure) == 0 {
		j.health.commits(nil)
		j.health.failures.Store(0)
	}
}

// send publishes messages, one by one or as a batch.
func (c *committer) send(out []outgoing) {
	if len(out) > plainMessages {
		c.pub.atomic(out, c.j.lastSeq, commitTimeout)
		c.j.stats.batches.Add(1)
	} else {
		c.pub.each(out, true, c.j.lastSeq, commitTimeout)
	}
}

// misplaced reports whether all of the messages were refused because the
// stream's last sequence is another than ours, and which. Either a message
// whose outcome was not known has come in late, or the server counts
// otherwise than it has said, because it met damage on the disk: so it is
// taken from the refusal, not from the stream's state.
func misplaced(out []outgoing) (seq uint64, ok bool) {
	for i := range out {
		r, refused := errors.AsType[*refusal](out[i].err)
		if !refused || r.ErrCode != errCodeWrongLastSequence {
			return 0, false
		}
		if i > 0 {
			continue
		}
		_, text, _ := strings.Cut(r.Description, ": ")
		var err error
		if seq, err = strconv.ParseUint(text, 10, 64); err != nil {
			return 0, false
		}
	}
	return seq, len(out) > 0
}

// follow brings what is known up to the stream's last sequence, and reports
// whether the bundles, which have their numbers already, may still be sent: not
// where a number of theirs has been taken meanwhile.
func (j *Journal) follow(seq uint64, bundles []*building) bool {
	ctx, cancel := context.WithTimeout(context.Background(), commitTimeout)
	defer cancel()
	j.o.Log.Warn("the stream's last sequence is another than expected", "expected", j.lastSeq, "is", seq)
	if err := j.catchUp(ctx, seq); err != nil {
		return false
	}
	for _, b := range bundles {
		b.place.mu.Lock()
		taken := b.place.last >= b.first
		b.place.mu.Unlock()
		if taken {
			return false
		}
	}
	return true
}

// catchUp reads what has come into the stream behind our last sequence, up to
// its own, so that no number is given twice: whatever was published, and
// whenever it lands, is fenced by the sequence that was read last.
func (j *Journal) catchUp(ctx context.Context, end uint64) error {
	for from := j.lastSeq + 1; from <= end; {
		got, err := j.entries.batch(ctx, ">", from, maxFetch, maxFetchBytes)
		if errors.Is(err, errNotFound) {
			break // damaged: a reader counts what is missing
		}
		if err != nil {
			return err
		}
		for _, s := range got {
			from = s.seq + 1
			if b, err := openBundle(s.data); err == nil && s.seq <= end {
				j.landed(j.makePlace(Place(s.subject)), b, s.seq)
			}
		}
	}
	j.lastSeq = end
	return nil
}

// landed notes that the stream has a message of a place.
func (j *Journal) landed(p *place, b bundle, seq uint64) {
	last, retries := b.last(), retriesIn(b)
	p.mu.Lock()
	if before := p.last; last > before {
		p.backlog += (last - before) * unknownEntry
		p.last, p.lastSeq = last, seq
		p.retryAll(retries, before)
		if p.sink {
			p.giveUp(p.last, seq+1, Filtered)
		}
		if p.reader != nil {
			p.reader.poke()
		}
	}
	fresh := p.touch()
	p.mu.Unlock()
	j.books.changed(p, fresh)
}

// committed books a bundle that is in the stream, hands it to the reader, and
// tells those who wait for it.
func (j *Journal) committed(b *building, seq uint64) {
	p := b.place
	n := uint64(len(b.entries))
	if len(b.hot) > 0 {
		now := j.o.Clock()
		for _, m := range b.hot {
			m.Journalled = now
		}
	}
	p.mu.Lock()
	p.last, p.lastSeq = b.first+n-1, seq
	p.backlog += uint64(len(b.data))
	for _, number := range b.retries {
		p.retry(number)
	}
	if p.sink {
		p.giveUp(p.last, seq+1, Filtered)
	}
	if p.reader != nil {
		p.reader.offer(b, seq)
	}
	fresh := p.touch()
	p.mu.Unlock()
	j.books.changed(p, fresh)
	j.stats.messages.Add(1)
	j.stats.entries.Add(n)
	for i := range b.entries {
		b.entries[i].w.settle(nil)
	}
}

// fail tells those who wait for bundles that these are not in, for all we know.
func (c *committer) fail(bundles []*building, cause error) {
	err := unavailable("The journal could not write to the disk.", "Check the disk of the data directory, and the log.")
	err.Err = cause
	c.j.health.commits(err)
	c.j.health.failed(cause)
	for _, b := range bundles {
		c.j.unsure[b.place] = struct{}{}
		c.j.stats.refused.Add(uint64(len(b.entries)))
		c.j.o.Log.Error("commit failed", "place", b.place.name.label(), "entries", len(b.entries), "error", cause)
		for i := range b.entries {
			b.entries[i].w.settle(err)
		}
	}
}

// failAll refuses all that waits.
func (c *committer) failAll(cause error) {
	c.j.queue.encoding.Lock()
	c.group = c.j.queue.take(c.group[:0])
	c.j.queue.encoding.Unlock()
	for _, e := range c.group {
		c.j.stats.refused.Add(1)
		e.w.settle(cause)
	}
	clear(c.group)
}

// sure reads the stream's sequence and the numbers of those places again of
// which a commit's outcome was not known. j.committing is held.
func (j *Journal) sure() error {
	if len(j.unsure) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), commitTimeout)
	defer cancel()
	err := j.resync(ctx)
	if err != nil {
		e := unavailable("The journal cannot be read.", "Check the disk of the data directory, and the log.")
		e.Err = err
		j.health.commits(e)
		return e
	}
	j.health.commits(nil)
	return nil
}

func (j *Journal) resync(ctx context.Context) error {
	info, err := j.stream.Info(ctx)
	if err != nil {
		return fmt.Errorf("journal: read the stream's state: %w", err)
	}
	if err := j.catchUp(ctx, info.State.LastSeq); err != nil {
		return err
	}
	clear(j.unsure)
	return nil
}

// lastOf reads the last number of a place in the stream, and the sequence of
// its message.
func (j *Journal) lastOf(ctx context.Context, name Place) (number, seq uint64, err error) {
	s, err := j.entries.last(ctx, string(name))
	if err != nil {
		return 0, 0, err
	}
	b, err := openBundle(s.data)
	if err != nil {
		return 0, 0, fmt.Errorf("journal: the last message of %s: %w", name.label(), err)
	}
	return b.last(), s.seq, nil
}
