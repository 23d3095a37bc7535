package journal

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/time/rate"

	"sluice"
)

const (
	// replayShare is the part of what a connection can send that a replay
	// takes, where it is not asked for more, and replayRate how many messages
	// a second it sends where it is not known what the connection can.
	replayShare = 0.25
	replayRate  = 100
	// replayInFlight bounds how many messages of a replay are under way.
	replayInFlight = 64
	// replayKeep is how often it is written how far a replay is.
	replayKeep = time.Second
	// replayPatience is how long a message is tried, while the connection is
	// open, before it counts as failed: it must not hold up the others for ever.
	replayPatience = 10 * time.Minute
	// yieldMost is how long a replay waits for live entries before each of its
	// messages: so it goes on, if slowly, where there is no end of them.
	yieldMost = time.Second
	// firstHeld is when a message is tried again whose device is held up.
	firstHeld = time.Second
	// scanPause is how long a replay rests between two requests to the stream
	// that come one after another, so that reading much takes no core.
	scanPause = 25 * time.Millisecond
	// yieldPause is how often it is looked whether live entries are through.
	yieldPause = 10 * time.Millisecond
	// failuresEvery is how often failures are told of.
	failuresEvery = time.Minute
)

// sender sends the messages of one replay. All is its goroutine's, which
// learns of what became of a message by results.
type sender struct {
	j          *Journal
	r          *replay
	place      *place
	connection string
	from, to   time.Time
	only       map[string]bool // nil: every device

	// What is read: see replay_read.go.
	goOn     position // where it was when it began
	read     position // what lies before was looked at; zero: nothing yet
	next     uint64   // what is read next from the stream
	end      uint64   // the last message to read
	extended bool
	readAll  bool
	got      []stored  // read, not looked at
	rested   time.Time // no request to the stream before
	ids      recent
	numbers  map[Place]uint64

	window  fifo[*item]
	bytes   int
	devices map[string]*replayed
	ready   fifo[*replayed]
	delayed []*replayed
	begun   map[*item]*turn
	results chan result
	turns   context.Context //nolint:containedctx // of the messages that are under way

	limiter  *rate.Limiter
	failures int       // readings of the stream that failed, in a row
	down     int       // tries that met no connection, in a row
	downFor  time.Time // no try before
	up       time.Time // since when the connection takes messages
	yielding time.Time // since when live entries are waited for
	kept     time.Time // when the record was written last
	failed   uint64    // since the last event that told of it
	toldOf   time.Time
}

// replayed is a device with messages in a replay, of which one is under way at
// a time.
type replayed struct {
	key   string
	items fifo[*item]
	due   time.Time // not before: the next try
}

// result is what became of a message.
type result struct {
	d   *replayed
	it  *item
	err error
}

func newSender(j *Journal, r *replay) *sender {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := &sender{
		j: j, r: r, place: j.makePlace(Up(r.rec.Connection)), connection: r.rec.Connection, from: r.rec.From, to: r.rec.To,
		goOn:    position{r.rec.Seq, r.rec.Index},
		numbers: map[Place]uint64{}, devices: map[string]*replayed{}, begun: map[*item]*turn{},
		results: make(chan result, replayInFlight),
		limiter: rate.NewLimiter(replayRate, 1),
		up:      time.Now(),
	}
	if len(r.rec.Devices) > 0 {
		s.only = make(map[string]bool, len(r.rec.Devices))
		for _, d := range r.rec.Devices {
			s.only[d] = true
		}
	}
	return s
}

// run sends until all is sent, or ctx ends; over says which.
func (s *sender) run(ctx context.Context) (over bool, err error) {
	var cancel context.CancelFunc
	s.turns, cancel = context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer s.note()
	defer s.leave(cancel)
	s.limiter.SetLimit(rate.Limit(s.pace()))
	timer := time.NewTimer(0)
	defer timer.Stop()
	for found := false; ctx.Err() == nil; {
		wait := time.Duration(0)
		more := true
		if found {
			more, err = s.fill(ctx)
		} else if err = s.find(ctx); err == nil {
			found = true
		}
		switch {
		case err != nil && ctx.Err() == nil:
			s.failures++
			wait = backoff(s.failures, s.j.o.Rand())
			s.j.o.Log.Warn("a replay cannot read the stream", "connection", s.connection, "error", err)
		case more:
			wait = scanPause
		default:
			s.failures = 0
			if s.readAll && s.window.len() == 0 && len(s.got) == 0 {
				return true, nil
			}
			wait = replayKeep
		}
		wait = min(wait, s.dispatch())
		timer.Reset(max(wait, 0))
		select {
		case res := <-s.results:
			s.settle(res)
		case <-timer.C:
		case <-ctx.Done():
		}
		s.keep(ctx)
	}
	return false, nil
}

// leave takes back what has not begun and waits, bounded, for what has.
func (s *sender) leave(cancel context.CancelFunc) {
	for _, t := range s.begun {
		s.place.withdraw(t, errNoReader())
	}
	for _, limit := range []time.Duration{defaultGrace, abandonment} {
		timer := time.NewTimer(limit)
		for waiting := true; waiting && len(s.begun) > 0; {
			select {
			case res := <-s.results:
				s.settle(res)
			case <-timer.C:
				waiting = false
			}
		}
		timer.Stop()
		cancel()
	}
}

// dispatch sends what may be sent now, and returns when there may be more.
func (s *sender) dispatch() time.Duration {
	now := time.Now()
	wait := s.undelay(now)
	for s.ready.len() > 0 {
		if len(s.begun) >= replayInFlight {
			return wait
		}
		if left := s.downFor.Sub(now); left > 0 {
			return min(wait, left)
		}
		if left := s.yield(now); left > 0 {
			return min(wait, left)
		}
		d := *s.ready.front()
		it, driver, ok := s.first(d)
		if !ok {
			s.ready.pop()
			delete(s.devices, d.key)
			continue
		}
		place := s.limiter.ReserveN(now, 1)
		if left := place.DelayFrom(now); left > 0 {
			place.CancelAt(now)
			return min(wait, left)
		}
		s.ready.pop()
		if s.down > 0 { // it is a probe, and the only one for a while
			s.down++
			s.downFor = now.Add(pause(s.down, s.j.o.Rand()))
		}
		s.begin(d, it, driver, now)
	}
	return wait
}

// yield lets live entries go first: it returns how long to wait for them.
func (s *sender) yield(now time.Time) time.Duration {
	if !s.place.crowded() {
		s.yielding = time.Time{}
		return 0
	}
	if s.yielding.IsZero() {
		s.yielding = now
	}
	if left := yieldMost - now.Sub(s.yielding); left > 0 {
		return min(left, yieldPause)
	}
	s.yielding = now
	return 0
}

// undelay makes ready whose time has come, and returns when there is a next.
func (s *sender) undelay(now time.Time) time.Duration {
	wait := replayKeep
	kept := s.delayed[:0]
	for _, d := range s.delayed {
		if left := d.due.Sub(now); left > 0 {
			wait = min(wait, left)
			kept = append(kept, d)
			continue
		}
		s.ready.push(d)
	}
	clear(s.delayed[len(kept):])
	s.delayed = kept
	return wait
}

// first returns the first message of a device that the flows of now lead to
// the connection, and by which driver. false: there is none left.
func (s *sender) first(d *replayed) (it *item, driver string, ok bool) {
	for d.items.len() > 0 {
		it = *d.items.front()
		if it.m == nil { // dismissed
			d.items.pop()
			continue
		}
		if driver, ok = s.route(it.m); ok {
			return it, driver, true
		}
		s.r.change(func(rec *replayRecord) { rec.Filtered++ })
		s.dismiss(it)
		d.items.pop()
	}
	return nil, "", false
}

// begin hands a message over.
func (s *sender) begin(d *replayed, it *item, driver string, now time.Time) {
	m := *it.m
	m.Connection, m.Driver, m.Validity, m.Number, m.Replayed = s.connection, driver, 0, 0, true
	t := &turn{m: &m, ctx: s.turns, done: func(err error) { s.results <- result{d, it, err} }}
	it.begun = true
	if it.since.IsZero() {
		it.since = now
	}
	if s.r.view().Started.IsZero() {
		s.r.change(func(rec *replayRecord) { rec.Started = s.j.o.Clock() })
	}
	s.begun[it] = t
	if err := s.place.lend(t); err != nil {
		s.settle(result{d, it, err})
	}
}

// settle takes in what became of a message.
func (s *sender) settle(res result) {
	delete(s.begun, res.it)
	now := time.Now()
	verdict, after := sluice.VerdictOf(res.err)
	if res.err != nil && verdict == sluice.NotConnected {
		if s.down == 0 {
			s.down = 1
			s.downFor = now.Add(pause(s.down, s.j.o.Rand()))
		}
		s.state(sluice.ReplayWaiting, res.err)
		s.ready.push(res.d)
		return
	}
	if s.down > 0 {
		s.down, s.up, s.downFor = 0, now, time.Time{}
	}
	s.state(sluice.ReplayRunning, nil)
	switch {
	case res.err == nil:
		s.over(res, func(rec *replayRecord) { rec.Sent++ })
	case verdict == sluice.Filtered:
		s.over(res, func(rec *replayRecord) { rec.Filtered++ })
	case verdict == sluice.Retry || verdict == sluice.RetryAfter:
		s.again(res, after, now)
	default:
		s.fail(res)
	}
}

// again has a message tried another time, or gives it up.
func (s *sender) again(res result, after time.Duration, now time.Time) {
	since := res.it.since
	if s.up.After(since) {
		since = s.up
	}
	if now.Sub(since) > replayPatience {
		s.fail(res)
		return
	}
	res.it.attempts++
	if after == 0 {
		after = backoff(res.it.attempts, s.j.o.Rand())
	}
	res.d.due = now.Add(after)
	s.delayed = append(s.delayed, res.d)
}

// over ends the first message of a device.
func (s *sender) over(res result, count func(*replayRecord)) {
	s.r.change(count)
	res.d.items.pop()
	s.dismiss(res.it)
	if res.d.items.len() > 0 {
		s.ready.push(res.d)
		return
	}
	delete(s.devices, res.d.key)
}

// dismiss ends a message: it is not sent, or not any more.
func (s *sender) dismiss(it *item) {
	s.bytes -= cost(it.m)
	s.r.mu.Lock()
	s.r.waiting--
	s.r.rec.Reached = later(s.r.rec.Reached, it.m.Received)
	s.r.mu.Unlock()
	it.m = nil
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// fail counts a message as failed, and tells of the first and then at times.
func (s *sender) fail(res result) {
	m := res.it.m
	s.failed++
	if now := time.Now(); now.Sub(s.toldOf) >= failuresEvery {
		e := sluice.Event{
			Level: sluice.LevelWarning, Type: sluice.EventUplinkFailed, Label: "Replayed uplink failed", Reason: sluice.ReasonOf(res.err),
			Detail: res.err.Error(), Connection: s.connection, DevEUI: m.DevEUI, Message: m.ID,
		}
		if f, ok := errors.AsType[*sluice.Failure](res.err); ok {
			e.Detail, e.Hint = f.Message, f.Hint
		}
		if s.failed > 1 {
			e.Detail = fmt.Sprintf("%d more within the last minutes; the last: %s", s.failed, e.Detail)
		}
		s.j.o.Events.Record(e)
		s.failed, s.toldOf = 0, now
	}
	s.over(res, func(rec *replayRecord) { rec.Failed++ })
}

// state notes whether the replay runs or waits, and why.
func (s *sender) state(state sluice.ReplayState, why error) {
	reason := ""
	if f, ok := errors.AsType[*sluice.Failure](why); ok {
		reason = f.Message
	}
	s.r.change(func(rec *replayRecord) {
		if !rec.Active() {
			return // being forgotten
		}
		if rec.State != state {
			s.kept = time.Time{} // worth writing at once
		}
		rec.State, rec.Reason = state, reason
	})
}

// note puts into the record how far the replay is.
func (s *sender) note() {
	at := s.cursor()
	s.r.mu.Lock()
	defer s.r.mu.Unlock()
	if at.seq != s.r.rec.Seq || at.index != s.r.rec.Index {
		s.r.rec.Seq, s.r.rec.Index = at.seq, at.index
		s.r.moved = s.j.o.Clock()
	}
}

// keep writes the record each second, and takes over at which rate to send.
func (s *sender) keep(ctx context.Context) {
	s.note()
	now := time.Now()
	if now.Sub(s.kept) < replayKeep {
		return
	}
	s.kept = now
	s.limiter.SetLimit(rate.Limit(s.pace()))
	if err := s.j.replays.write(ctx, s.r); err != nil && ctx.Err() == nil {
		s.j.o.Log.Warn("how far a replay is could not be written", "connection", s.connection, "error", err)
	}
}

// pace is how many messages a second are sent at most: as was asked for, or a
// share of what the connection can do, and never more than that.
func (s *sender) pace() float64 {
	can := 0.0
	if s.j.o.Pace != nil {
		can = s.j.o.Pace(s.connection)
	}
	s.r.mu.Lock()
	defer s.r.mu.Unlock()
	n := s.r.rec.Rate
	switch {
	case n <= 0 && can > 0:
		n = max(1, can*replayShare)
	case n <= 0:
		n = replayRate
	case can > 0:
		n = min(n, can)
	}
	s.r.rec.Pace = n
	return n
}
