package journal

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"sluice"
)

const (
	streamQuarantine = "QUARANTINE"
	// quarantineTimeout bounds a write to quarantine, with the wait for its turn.
	quarantineTimeout = 5 * time.Second
	// maxQuarantined and maxQuarantineBytes bound all quarantines together,
	// and so what is known of them in memory and read at Open; on a small disk
	// they may hold an eighth of what is free at Open.
	maxQuarantined     = 100_000
	maxQuarantineBytes = 1 << 30
	quarantineOfDisk   = 8
	// reliefEvery is how long a full disk is left to history, and after that
	// to what was given up, before quarantine gives up more.
	reliefEvery = 30 * time.Second
	// sweepAtOnce is from how many records on they are purged together.
	sweepAtOnce = 16
)

// wards is what the quarantines of all places share.
type wards struct {
	stream  jetstream.Stream
	pub     *publisher // of who has the turn
	lastSeq uint64     // of the stream, for all he knows
	entries fetcher
	queue   queueOfRecords
	// turn is held by who changes the stream, and retries by who sends
	// messages again: channels, so that the wait can be given up.
	turn, retries chan struct{}
	most          int    // messages in all
	mostBytes     uint64 // bytes in all
	relieved      time.Time
}

// enter waits for a turn.
func enter(ctx context.Context, turn chan struct{}) (leave func(), err error) {
	select {
	case turn <- struct{}{}:
		return func() { <-turn }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (j *Journal) makeQuarantine(ctx context.Context) (err error) {
	if j.wards.pub, err = newPublisher(j.o.Quarantine); err != nil {
		return err
	}
	j.wards.stream, err = j.js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name:               streamQuarantine,
		Description:        "Sluice: what can never be delivered",
		Subjects:           []string{quarantinePrefix + "*.*"},
		Retention:          jetstream.LimitsPolicy,
		Storage:            jetstream.FileStorage,
		MaxMsgs:            -1,
		MaxBytes:           -1,
		MaxMsgsPerSubject:  1,
		Replicas:           1,
		AllowDirect:        true,
		AllowAtomicPublish: true,
	})
	if err != nil {
		return fmt.Errorf("journal: make the stream %s: %w", streamQuarantine, err)
	}
	return nil
}

// setWards sets the bounds of all quarantines together. What lies there
// already counts as free.
func (j *Journal) setWards() {
	j.wards.most, j.wards.mostBytes = maxQuarantined, maxQuarantineBytes
	j.wards.relieved = j.o.Clock()
	if j.o.Dir == "" {
		return
	}
	if free, err := j.diskFree(j.o.Dir); err == nil {
		_, bytes, _ := j.largest()
		j.wards.mostBytes = max(min(maxQuarantineBytes, (uint64(max(free, 0))+bytes)/quarantineOfDisk), 1)
	}
}

// keepsFailures reports whether what fails in a place is kept: the reports for
// a connection. The fate of a command is told to the cloud.
func (p *place) keepsFailures() bool { return !p.sink && strings.HasPrefix(string(p.name), upPrefix) }

// quarantine keeps an entry that can never be delivered, with its reason. nil
// means that it is on the disk, or is not to be kept: it may be counted as
// failed. Else it must be tried again.
func (j *Journal) quarantine(ctx context.Context, p *place, m *sluice.Message, err error) error {
	if !p.keepsFailures() || !sluice.Quarantines(err) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, quarantineTimeout)
	defer cancel()
	if cause := j.writeRecord(ctx, p, m, err); cause != nil {
		j.o.Log.Warn("cannot quarantine", "place", p.name.label(), "message", m.ID, "error", cause)
		return &sluice.Failure{
			Verdict: sluice.Retry, Reason: sluice.ReasonInternal, Err: cause,
			Message: "It can never be delivered, and quarantine cannot take it now.", Hint: "Check the disk of the data directory, and the log.",
		}
	}
	return nil
}

// bound makes the quarantine of a place, and then the largest of all, give up
// its oldest messages where it holds too much: a hundredth at once, so that a
// flood does not cost a purge each. What cannot be removed now is at the next
// time. The turn is held.
func (j *Journal) bound(ctx context.Context, p *place) {
	p.mu.Lock()
	n, bytes := len(p.ward.lying), p.ward.bytes
	p.mu.Unlock()
	if n > j.o.Quarantined || bytes > uint64(j.o.QuarantineBytes) {
		j.logged(p, j.dropOldest(ctx, p, max(n-j.o.Quarantined, n/100, 1)))
		return
	}
	if most, all, count := j.largest(); most != nil && (count > j.wards.most || all > j.wards.mostBytes) {
		j.logged(most, j.dropOldest(ctx, most, max(most.lain()/100, 1)))
	}
}

func (j *Journal) logged(p *place, err error) {
	if err != nil {
		j.o.Log.Warn("quarantine cannot be trimmed", "place", p.name.label(), "error", err)
	}
}

// lain is how many messages lie in quarantine, those in doubt included.
func (p *place) lain() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.ward.lying)
}

// largest returns the place whose quarantine holds the most bytes, and how many
// bytes and messages all hold.
func (j *Journal) largest() (most *place, bytes uint64, n int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	var size uint64
	for _, p := range j.places {
		p.mu.Lock()
		bytes += p.ward.bytes
		n += len(p.ward.lying)
		if p.ward.bytes > size {
			most, size = p, p.ward.bytes
		}
		p.mu.Unlock()
	}
	return most, bytes, n
}

// dropOldest makes a quarantine give up its n oldest messages, and tells. The
// turn is held.
func (j *Journal) dropOldest(ctx context.Context, p *place, n int) error {
	p.mu.Lock()
	n = min(n, len(p.ward.lying))
	if n == 0 {
		p.mu.Unlock()
		return nil
	}
	last := p.ward.lying[n-1].seq
	p.mu.Unlock()
	if err := j.purgeRecords(ctx, p, last); err != nil {
		return err
	}
	p.mu.Lock()
	before := len(p.ward.lying)
	for n > 0 && (n > before || p.ward.lying[n-1].seq > last) { // some were sent again meanwhile
		n--
	}
	p.ward.cut(n)
	p.ward.dropped += uint64(n)
	p.ward.untold += uint64(n)
	fresh := p.touch()
	p.mu.Unlock()
	j.books.changed(p, fresh)
	j.tellShrunk(p, true)
	return nil
}

// purgeRecords removes the records of a place up to a sequence.
func (j *Journal) purgeRecords(ctx context.Context, p *place, last uint64) error {
	err := j.wards.stream.Purge(ctx, jetstream.WithPurgeSubject(wardSubject(p.name)), jetstream.WithPurgeSequence(last+1))
	if err != nil {
		return fmt.Errorf("journal: purge the quarantine of %s: %w", p.name.label(), err)
	}
	return nil
}

// tellShrunk tells how many messages a quarantine has given up: at once, but
// for those of the minute after that, which are told together.
func (j *Journal) tellShrunk(p *place, now bool) {
	p.mu.Lock()
	n := p.ward.untold
	if n == 0 || now && j.o.Clock().Sub(p.ward.told) < trimEvery {
		p.mu.Unlock()
		return
	}
	p.ward.untold, p.ward.told = 0, j.o.Clock()
	p.mu.Unlock()
	name, _ := cutUp(p.name)
	j.o.Events.Record(sluice.Event{
		Level: sluice.LevelWarning, Type: sluice.EventQuarantineShrunk, Label: "Quarantine full", Connection: name,
		Detail: fmt.Sprintf("The quarantine of %s had no room for more: %d of its oldest messages are given up. They stay counted as failed.", p.name.label(), n),
		Hint:   "Find out why its messages cannot be delivered, then send them again or delete them.",
	})
}

// relieve makes quarantine give up its oldest messages when the disk stays
// full although history is gone, and only where that lets reports be taken
// again.
func (j *Journal) relieve(ctx context.Context) error {
	now, lack := j.o.Clock(), j.health.lack.Load()
	if j.health.disk.Load() == nil || lack <= 0 {
		j.wards.relieved = now
		return nil
	}
	if now.Sub(j.wards.relieved) < reliefEvery {
		return nil
	}
	leave, err := enter(ctx, j.wards.turn)
	if err != nil {
		return err
	}
	defer leave()
	_, all, _ := j.largest()
	if all < uint64(lack) {
		return nil
	}
	j.wards.relieved = now
	for freed := uint64(0); freed < uint64(lack); {
		p, before, _ := j.largest()
		if p == nil {
			return nil
		}
		if err := j.dropOldest(ctx, p, max(p.lain()/8, 1)); err != nil {
			return err
		}
		_, after, _ := j.largest()
		freed += before - min(after, before)
	}
	return nil
}

// sweepAll removes the records that are to leave.
func (j *Journal) sweepAll(ctx context.Context) {
	for _, name := range j.Places() {
		if p := j.place(name); p != nil {
			if err := j.sweep(ctx, p); err != nil && ctx.Err() == nil {
				j.o.Log.Warn("quarantine cannot be swept", "place", name.label(), "error", err)
			}
		}
	}
}

// sweep removes the records of a place that are to leave. Those that are older
// than all that stay, as when all are sent again, go at once.
func (j *Journal) sweep(ctx context.Context, p *place) error {
	p.mu.Lock()
	none := len(p.ward.leaving) == 0 || p.gone
	p.mu.Unlock()
	if none {
		return nil
	}
	leave, err := enter(ctx, j.wards.turn)
	if err != nil {
		return err
	}
	defer leave()
	p.mu.Lock()
	gone := make(map[uint64]uint64, len(p.ward.leaving))
	last, known := uint64(0), true
	for number, seq := range p.ward.leaving {
		gone[number] = seq
		last, known = max(last, seq), known && seq > 0
	}
	together := known && len(gone) >= sweepAtOnce && (len(p.ward.lying) == 0 || p.ward.lying[0].seq > last)
	p.mu.Unlock()
	if together {
		err = j.purgeRecords(ctx, p, last)
	} else {
		err = j.removeEach(ctx, p, gone)
	}
	p.mu.Lock()
	for number := range gone {
		if err == nil {
			delete(p.ward.leaving, number)
		}
	}
	fresh := p.touch()
	p.mu.Unlock()
	j.books.changed(p, fresh)
	return err
}

func (j *Journal) removeEach(ctx context.Context, p *place, gone map[uint64]uint64) error {
	for number := range gone {
		if err := j.wards.stream.Purge(ctx, jetstream.WithPurgeSubject(recordSubject(p.name, number))); err != nil {
			return fmt.Errorf("journal: remove from the quarantine of %s: %w", p.name.label(), err)
		}
	}
	return nil
}

// eraseQuarantine removes the whole quarantine of a place that is dropped.
func (j *Journal) eraseQuarantine(ctx context.Context, p *place) error {
	if !p.keepsFailures() {
		return nil
	}
	leave, err := enter(ctx, j.wards.turn)
	if err != nil {
		return err
	}
	defer leave()
	if err := j.wards.stream.Purge(ctx, jetstream.WithPurgeSubject(wardSubject(p.name))); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ward = ward{retried: p.ward.retried, dropped: p.ward.dropped}
	return nil
}

// checkQuarantine compares how many records there are with how many are known.
func (j *Journal) checkQuarantine(ctx context.Context) error {
	leave, err := enter(ctx, j.wards.turn)
	if err != nil {
		return err
	}
	defer leave()
	info, err := j.wards.stream.Info(ctx)
	if err != nil {
		return fmt.Errorf("journal: read the state of the quarantine: %w", err)
	}
	var known uint64
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, p := range j.places {
		p.mu.Lock()
		unclear := len(p.ward.doubts) > 0 || len(p.ward.leaving) > 0
		known += uint64(len(p.ward.lying))
		p.mu.Unlock()
		if unclear {
			return nil
		}
	}
	if info.State.Msgs != known {
		return fmt.Errorf("journal: quarantine has %d messages, %d are known", info.State.Msgs, known)
	}
	return nil
}
