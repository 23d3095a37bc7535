package journal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/oklog/ulid/v2"

	"sluice"
	"sluice/internal/lifetime"
)

const (
	// streamReplays has a record for each connection: its last replay. It is
	// not the stream of the books, which may lose a second in a power cut: a
	// replay that was asked for or stopped is so for good.
	streamReplays = "REPLAYS"
	replayPrefix  = "replay."
	// holdFor is how long a replay that does not come on keeps history from
	// being trimmed.
	holdFor = time.Hour
)

// replayRecord is what is written of a replay.
type replayRecord struct {
	sluice.Replay
	// Seq and Index are where it goes on: an entry of a message of the stream.
	Seq   uint64 `json:"seq"`
	Index int    `json:"index"`
	// Before is how many messages earlier replays of the connection have sent.
	Before uint64 `json:"before"`
}

// replays are the replays of a journal.
type replays struct {
	j       *Journal
	changes sync.Mutex    // held while one is started, stopped or forgotten
	begin   chan struct{} // of one: one is to be begun

	mu sync.Mutex
	of map[string]*replay // the last one of each connection
}

// replay is one replay. What is not under mu is the sender's.
type replay struct {
	mu      sync.Mutex
	rec     replayRecord
	waiting uint64             // found, and not over
	moved   time.Time          // when it last came on
	cancel  context.CancelFunc // nil: it has not begun
	done    chan struct{}      // closed when it has ended

	writing sync.Mutex // held while its record is written
}

// view is the replay as others see it.
func (r *replay) view() sluice.Replay {
	r.mu.Lock()
	defer r.mu.Unlock()
	v := r.rec.Replay
	v.Found = v.Sent + v.Filtered + v.Failed + r.waiting
	return v
}

// change changes the record.
func (r *replay) change(f func(rec *replayRecord)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f(&r.rec)
}

// loadReplays reads the records, and makes their stream when there is none.
func (j *Journal) loadReplays(ctx context.Context) error {
	_, err := j.js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name:              streamReplays,
		Description:       "Sluice: replays",
		Subjects:          []string{replayPrefix + "*"},
		Retention:         jetstream.LimitsPolicy,
		Storage:           jetstream.FileStorage,
		MaxMsgs:           -1,
		MaxBytes:          -1,
		MaxMsgsPerSubject: 1,
		Replicas:          1,
		AllowDirect:       true,
	})
	if err != nil {
		return fmt.Errorf("journal: make the stream %s: %w", streamReplays, err)
	}
	records := newFetcher(j.o.Reads, streamReplays)
	for from := uint64(1); ; {
		got, err := records.batch(ctx, replayPrefix+"*", from, maxFetch, maxFetchBytes)
		if errors.Is(err, errNotFound) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("journal: read the replays: %w", err)
		}
		for _, s := range got {
			from = s.seq + 1
			r := &replay{moved: j.o.Clock()}
			if err := json.Unmarshal(s.data, &r.rec); err != nil || replayPrefix+r.rec.Connection != s.subject {
				j.o.Log.Error("the record of a replay is damaged", "record", s.subject)
				continue
			}
			j.makePlace(Up(r.rec.Connection)) // so that it is forgotten with its connection
			j.replays.of[r.rec.Connection] = r
		}
	}
}

// write writes the record, durably.
func (rs *replays) write(ctx context.Context, r *replay) error {
	r.writing.Lock()
	defer r.writing.Unlock()
	r.mu.Lock()
	data, err := json.Marshal(&r.rec)
	subject := replayPrefix + r.rec.Connection
	r.mu.Unlock()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	if _, err := rs.j.js.Publish(ctx, subject, data); err != nil {
		e := unavailable("The journal cannot keep how far the replay is.", "Check the disk of the data directory, and the log.")
		e.Err = err
		return e
	}
	return nil
}

// StartReplay begins a replay, of which Connection, From, To, Devices and Rate
// are taken; it is durable then, goes on after a restart, and waits while the
// connection is not open. CodeConflict: one is under way.
func (j *Journal) StartReplay(ctx context.Context, q sluice.Replay) (sluice.Replay, error) {
	if _, err := placeOf(&sluice.Message{Connection: q.Connection}); err != nil || q.Connection == "" {
		return q, sluice.Errorf(sluice.CodeInvalid, "A replay needs a connection.")
	}
	rs := &j.replays
	rs.changes.Lock()
	defer rs.changes.Unlock()
	now := j.o.Clock()
	if q.To.IsZero() || q.To.After(now) {
		q.To = now
	}
	r := &replay{moved: now, rec: replayRecord{Replay: sluice.Replay{
		ID: ulid.Make().String(), Connection: q.Connection, From: q.From, To: q.To, Devices: q.Devices, Rate: q.Rate,
		State: sluice.ReplayRunning, Asked: now, Reached: q.From,
	}}}
	if last := rs.get(q.Connection); last != nil {
		v := last.view()
		if v.Active() {
			return v, &sluice.Error{
				Code:    sluice.CodeConflict,
				Message: "A replay of the connection is under way: there is one at a time.",
				Hint:    "Wait for its end, or stop it: DELETE /connections/{id}/replay.",
			}
		}
		r.rec.Before = last.rec.Before + v.Sent
	}
	if j.makePlace(Up(q.Connection)).dropping() {
		return q, errDropping()
	}
	if err := rs.write(ctx, r); err != nil {
		return q, err
	}
	rs.mu.Lock()
	rs.of[q.Connection] = r
	rs.mu.Unlock()
	j.replayEvent(r, sluice.LevelInfo, sluice.EventReplayStarted, "Replay started", fmt.Sprintf(
		"What was received from %s to %s is sent again.", replayTime(q.From), replayTime(q.To)))
	rs.wake()
	return r.view(), nil
}

func replayTime(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// Replay returns the last replay of a connection, or the one under way.
func (j *Journal) Replay(connection string) (sluice.Replay, bool) {
	r := j.replays.get(connection)
	if r == nil {
		return sluice.Replay{}, false
	}
	return r.view(), true
}

// Replayed is how many messages were sent to a connection by all its replays.
func (j *Journal) Replayed(connection string) uint64 {
	r := j.replays.get(connection)
	if r == nil {
		return 0
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.rec.Before + r.rec.Sent
}

// StopReplay ends the replay of a connection, if one is under way, for good.
// What it has begun to send is finished before it returns.
func (j *Journal) StopReplay(ctx context.Context, connection string) error {
	rs := &j.replays
	rs.changes.Lock()
	defer rs.changes.Unlock()
	r := rs.get(connection)
	if r == nil {
		return nil
	}
	if err := r.halt(context.WithoutCancel(ctx)); err != nil { // bounded by itself
		return err
	}
	before := r.view()
	if !before.Active() {
		return nil
	}
	r.change(func(rec *replayRecord) {
		rec.State, rec.Reason, rec.Ended = sluice.ReplayStopped, "", j.o.Clock()
	})
	if err := rs.write(ctx, r); err != nil {
		r.change(func(rec *replayRecord) { rec.State, rec.Reason, rec.Ended = before.State, before.Reason, before.Ended })
		rs.wake()
		return err
	}
	j.replayEvent(r, sluice.LevelInfo, sluice.EventReplayStopped, "Replay stopped", "It was stopped. "+r.sum())
	return nil
}

// halt ends the sender, if there is one, and waits for it.
func (r *replay) halt(ctx context.Context) error {
	r.mu.Lock()
	cancel, done := r.cancel, r.done
	r.mu.Unlock()
	if cancel == nil {
		return nil
	}
	cancel()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (rs *replays) get(connection string) *replay {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	return rs.of[connection]
}

func (rs *replays) wake() {
	select {
	case rs.begin <- struct{}{}:
	default:
	}
}

// run runs the replays that are under way, until ctx ends.
func (rs *replays) run(ctx context.Context) {
	var senders sync.WaitGroup
	defer senders.Wait()
	for ctx.Err() == nil {
		rs.mu.Lock()
		for _, r := range rs.of {
			if own, ok := r.start(ctx); ok {
				senders.Go(func() { rs.send(own, r) })
			}
		}
		rs.mu.Unlock()
		select {
		case <-rs.begin:
		case <-ctx.Done():
		}
	}
}

// start marks a replay as begun; false: it has been, or is over.
func (r *replay) start(ctx context.Context) (own context.Context, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cancel != nil || !r.rec.Active() {
		return nil, false
	}
	own, r.cancel = context.WithCancel(ctx)
	r.done = make(chan struct{})
	return own, true
}

// send is the goroutine of a replay.
func (rs *replays) send(ctx context.Context, r *replay) {
	var over bool
	err := lifetime.Guard(func() (err error) {
		over, err = newSender(rs.j, r).run(ctx)
		return err
	})
	// What is noted here holds where the journal ends, too.
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), commitTimeout)
	defer cancel()
	switch {
	case err != nil:
		rs.j.o.Log.Error("a replay has failed", "connection", r.rec.Connection, "error", err)
		r.change(func(rec *replayRecord) {
			rec.State, rec.Reason, rec.Ended = sluice.ReplayFailed, "A fault of Sluice's own. It is in the log.", rs.j.o.Clock()
		})
		rs.j.replayEvent(r, sluice.LevelError, sluice.EventReplayFailed, "Replay failed", "By a fault of Sluice's own. "+r.sum())
	case over:
		r.change(func(rec *replayRecord) {
			rec.State, rec.Reason, rec.Ended = sluice.ReplayDone, "", rs.j.o.Clock()
		})
		rs.j.replayEnded(r)
	}
	if err := rs.write(end, r); err != nil {
		rs.j.o.Log.Error("how far a replay is could not be written", "connection", r.rec.Connection, "error", err)
	}
	r.mu.Lock()
	r.waiting = 0 // it is found again where it goes on
	r.cancel()
	r.cancel = nil
	close(r.done)
	r.mu.Unlock()
}

// forget ends the replay of a connection and erases its record.
func (rs *replays) forget(ctx context.Context, connection string) error {
	rs.changes.Lock()
	defer rs.changes.Unlock()
	r := rs.get(connection)
	if r == nil {
		return nil
	}
	r.change(func(rec *replayRecord) { rec.State = sluice.ReplayStopped })
	if err := r.halt(ctx); err != nil {
		return err
	}
	s, err := rs.j.js.Stream(ctx, streamReplays)
	if err != nil {
		return err
	}
	if err := s.Purge(ctx, jetstream.WithPurgeSubject(replayPrefix+connection)); err != nil {
		return err
	}
	rs.mu.Lock()
	defer rs.mu.Unlock()
	delete(rs.of, connection)
	return nil
}

// hold is the sequence from which on replays still have to read: history is
// kept for them, but not for one that has not come on for holdFor.
func (rs *replays) hold() uint64 {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	from, now := uint64(math.MaxUint64), rs.j.o.Clock()
	for _, r := range rs.of {
		r.mu.Lock()
		if r.rec.Active() && now.Sub(r.moved) < holdFor {
			from = min(from, r.rec.Seq)
		}
		r.mu.Unlock()
	}
	return from
}

// sum tells the numbers of a replay.
func (r *replay) sum() string {
	v := r.view()
	s := fmt.Sprintf("%d messages were sent, %d filtered, %d failed.", v.Sent, v.Filtered, v.Failed)
	if v.Damaged > 0 {
		s += fmt.Sprintf(" %d entries of the journal could not be read.", v.Damaged)
	}
	if v.Missing > 0 {
		s += fmt.Sprintf(" %d entries were not there any more.", v.Missing)
	}
	if !v.History.IsZero() {
		s += fmt.Sprintf(" The history of the journal begins at %s, not at %s.", replayTime(v.History), replayTime(v.From))
	}
	return s
}

func (j *Journal) replayEnded(r *replay) {
	level := sluice.LevelInfo
	if v := r.view(); v.Failed > 0 || v.Damaged > 0 || v.Missing > 0 {
		level = sluice.LevelWarning
	}
	j.replayEvent(r, level, sluice.EventReplayEnded, "Replay ended", "It has come to its end. "+r.sum())
}

func (j *Journal) replayEvent(r *replay, level sluice.Level, t sluice.EventType, label, detail string) {
	j.o.Events.Record(sluice.Event{Level: level, Type: t, Label: label, Detail: detail, Connection: r.view().Connection})
}
