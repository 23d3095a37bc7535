package connection

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"sluice"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a cloud made of fakes, and what happened in it.
type world struct {
	t *testing.T

	mu       sync.Mutex
	size     int
	plain    bool                              // sessions are no Subscribers
	prepares bool                              // dialers are Preparers
	wrap     func(d *fakeDialer) sluice.Dialer // nil: as they are
	refuse   func(d *fakeDialer, lane int) error
	deny     func(s *fakeSession) error // Subscribe's answer
	handle   func(ctx context.Context, s *fakeSession, m *sluice.Message) error
	prepare  func(m *sluice.Message) error
	await    func(ctx context.Context, m *sluice.Message) error // Prepare, for long
	panics   bool

	dialers  []*fakeDialer
	sessions []*fakeSession // all that ever opened
	attempts []time.Time
	probes   []time.Time
	dial     func(ctx context.Context) error // Open's wire
	// refuseWired is the cloud's answer once the wire is up.
	refuseWired func() error
	probe       func(ctx context.Context, d *fakeDialer) error // nil: dialers are no Probers
	events      []sluice.Event
	commands    []*sluice.Message
	reports     []*sluice.Message
	fates       map[string]map[Fate]int // by connection
	command     func(m *sluice.Message) error
	prepared    []string
	began       time.Time
	ended       []string // the ids of sessions that were ended for good
	order       []string // openings and closings, as they happened
}

func newWorld(t *testing.T) *world {
	return &world{t: t, size: 1, began: time.Now()}
}

func (w *world) note(format string, args ...any) {
	w.order = append(w.order, fmt.Sprintf(format, args...))
}

// set changes the world.
func (w *world) set(f func(w *world)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f(w)
}

func (w *world) Record(e sluice.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = append(w.events, e)
}

// seen returns the events of the types, of all without types.
func (w *world) seen(types ...sluice.EventType) []sluice.Event {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []sluice.Event
	for _, e := range w.events {
		if len(types) == 0 || slices.Contains(types, e.Type) {
			out = append(out, e)
		}
	}
	return out
}

func (w *world) open() []*fakeSession {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []*fakeSession
	for _, s := range w.sessions {
		if !isDone(s.fake()) {
			out = append(out, s)
		}
	}
	return out
}

func (w *world) tries() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.attempts)
}

func (w *world) Info() sluice.ConnectorInfo {
	return sluice.ConnectorInfo{ID: "actility-aws-iot", Schema: json.RawMessage(`{"type":"object"}`)}
}

func (w *world) Check(json.RawMessage) (warnings, problems []sluice.Problem) { return nil, nil }

func (w *world) Dialer(spec sluice.DialerSpec) (sluice.Dialer, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	d := &fakeDialer{w: w, spec: spec, size: w.size}
	var c struct {
		Bad  bool `json:"bad"`
		Size int  `json:"poolSize"`
	}
	if err := json.Unmarshal(spec.Connection.Configuration, &c); err != nil {
		return nil, err
	}
	if c.Bad {
		return nil, &sluice.Failure{Reason: sluice.ReasonConfiguration, Message: "The configuration is bad."}
	}
	if c.Size > 0 {
		d.size = c.Size
	}
	w.dialers = append(w.dialers, d)
	switch {
	case w.wrap != nil:
		return w.wrap(d), nil
	case w.prepares:
		return preparingDialer{d}, nil
	case w.probe != nil:
		return probingDialer{d}, nil
	}
	return d, nil
}

type fakeDialer struct {
	w      *world
	spec   sluice.DialerSpec
	size   int
	closed bool
}

type preparingDialer struct{ *fakeDialer }

func (d preparingDialer) Prepare(ctx context.Context, m *sluice.Message) error {
	d.w.mu.Lock()
	f := d.w.prepare
	if g := d.w.await; g != nil {
		f = func(m *sluice.Message) error { return g(ctx, m) }
	}
	d.w.prepared = append(d.w.prepared, m.ID)
	d.w.mu.Unlock()
	if f != nil {
		return f(m)
	}
	return nil
}

type probingDialer struct{ *fakeDialer }

func (d probingDialer) Probe(ctx context.Context) error {
	d.w.mu.Lock()
	d.w.probes = append(d.w.probes, time.Now())
	f := d.w.probe
	d.w.mu.Unlock()
	return f(ctx, d.fakeDialer)
}

func (d *fakeDialer) Size() int { return d.size }

func (d *fakeDialer) Open(ctx context.Context, lane int, authenticating func()) (sluice.Session, error) {
	d.w.mu.Lock()
	d.w.attempts = append(d.w.attempts, time.Now())
	refuse, panics, dial, refuseWired := d.w.refuse, d.w.panics, d.w.dial, d.w.refuseWired
	d.w.mu.Unlock()
	if panics {
		panic("the connector is broken")
	}
	select {
	case <-time.After(10 * time.Millisecond):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if dial != nil {
		if err := dial(ctx); err != nil {
			return nil, err
		}
	}
	if refuseWired != nil {
		authenticating()
		return nil, refuseWired()
	}
	if refuse != nil {
		if err := refuse(d, lane); err != nil {
			if sluice.ReasonOf(err) == sluice.ReasonAuthentication {
				authenticating()
			}
			return nil, err
		}
	}
	authenticating()
	s := &fakeSession{
		w: d.w, dialer: d, lane: lane, done: make(chan struct{}),
		id: fmt.Sprintf("%s-%d-%d", d.spec.Connection.ID, d.spec.Generation, lane),
	}
	d.w.mu.Lock()
	defer d.w.mu.Unlock()
	for _, o := range d.w.sessions {
		if o.id == s.id && !isDone(o) {
			d.w.t.Errorf("session %s opens while it is open", s.id)
		}
	}
	d.w.sessions = append(d.w.sessions, s)
	d.w.note("open %s", s.id)
	if d.w.plain {
		return s, nil
	}
	return &fakeSubscriber{fakeSession: s}, nil
}

func (d *fakeDialer) Close() {
	d.w.mu.Lock()
	defer d.w.mu.Unlock()
	for _, s := range d.w.sessions {
		if s.dialer == d && !isDone(s) {
			d.w.t.Errorf("the dialer is closed before its session %s", s.id)
		}
	}
	d.closed = true
}

type fakeSession struct {
	w      *world
	dialer *fakeDialer
	lane   int
	id     string
	done   chan struct{}
	once   sync.Once
	err    error

	subscribed bool
	take       func(ctx context.Context, c sluice.Command) error
	handled    []string
	devices    map[string]int
}

type fakeSubscriber struct{ *fakeSession }

func (s *fakeSession) fake() sluice.Session { return s }

func (s *fakeSession) Handle(ctx context.Context, m *sluice.Message) error {
	if isDone(s) {
		return &sluice.Failure{Verdict: sluice.NotConnected, Reason: sluice.ReasonDisconnected, Message: "lost"}
	}
	s.w.mu.Lock()
	f := s.w.handle
	s.w.mu.Unlock()
	if f != nil {
		if err := f(ctx, s, m); err != nil {
			return err
		}
	}
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	s.handled = append(s.handled, m.ID)
	if s.devices == nil {
		s.devices = make(map[string]int)
	}
	s.devices[m.DevEUI]++
	return nil
}

func (s *fakeSession) Done() <-chan struct{} { return s.done }
func (s *fakeSession) Err() error            { return s.err }
func (s *fakeSession) ID() string            { return s.id }

func (s *fakeSession) Close(context.Context) error {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	s.once.Do(func() {
		s.w.note("close %s", s.id)
		close(s.done)
	})
	return nil
}

// End is Close, for good.
func (s *fakeSession) End(ctx context.Context) error {
	s.w.set(func(w *world) { w.ended = append(w.ended, s.id) })
	return s.Close(ctx)
}

// lose cuts the session.
func (s *fakeSession) lose(reason sluice.Reason) {
	s.once.Do(func() {
		s.err = &sluice.Failure{Verdict: sluice.NotConnected, Reason: reason, Message: "The link was cut."}
		close(s.done)
	})
}

func (s *fakeSubscriber) Subscribe(_ context.Context, take func(ctx context.Context, c sluice.Command) error) error {
	s.w.mu.Lock()
	deny := s.w.deny
	if s.take != nil {
		s.w.t.Errorf("session %s is subscribed twice", s.id)
	}
	s.fakeSession.take = take
	s.w.mu.Unlock()
	if deny != nil {
		if err := deny(s.fakeSession); err != nil {
			return err
		}
	}
	s.w.set(func(w *world) { s.subscribed = true; w.note("subscribe %s", s.id) })
	return nil
}

// published counts the messages that a session has published.
func (s *fakeSession) published() int {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	return len(s.handled)
}

// subscriber is the open session that is subscribed.
func (w *world) subscriber() *fakeSession {
	for _, s := range w.open() {
		w.mu.Lock()
		ok := s.subscribed
		w.mu.Unlock()
		if ok {
			return s
		}
	}
	return nil
}

// fakeJournal is a journal in memory with the discipline of the real one: one
// message of a device at a time, in order.
type fakeJournal struct {
	mu     sync.Mutex
	queues map[string][]*sluice.Message // by device
	busy   map[string]bool
	flying int
	wake   chan struct{}
	over   map[string]error
	counts counts
}

// counts are what a fakeJournal has seen.
type counts struct {
	reading int // Reads under way
	limit   int // of the last Read
	most    int // in flight at once
	done    int
	retries int
}

func (j *fakeJournal) count() counts {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.counts
}

func newFakeJournal() *fakeJournal {
	return &fakeJournal{
		queues: make(map[string][]*sluice.Message), busy: make(map[string]bool),
		wake: make(chan struct{}, 1), over: make(map[string]error),
	}
}

func (j *fakeJournal) add(ms ...*sluice.Message) {
	j.mu.Lock()
	for _, m := range ms {
		j.queues[m.DevEUI] = append(j.queues[m.DevEUI], m)
	}
	j.mu.Unlock()
	j.poke()
}

func (j *fakeJournal) poke() {
	select {
	case j.wake <- struct{}{}:
	default:
	}
}

func (j *fakeJournal) pending() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	n := 0
	for _, q := range j.queues {
		n += len(q)
	}
	return n
}

func (j *fakeJournal) outcome(id string) (error, bool) { //nolint:revive // the error is the value
	j.mu.Lock()
	defer j.mu.Unlock()
	err, ok := j.over[id]
	return err, ok
}

func (j *fakeJournal) Read(ctx context.Context, _ string, h sluice.Handler, concurrency int,
	settled func(m *sluice.Message, v sluice.Verdict, err error),
) error {
	var flight sync.WaitGroup
	defer flight.Wait()
	j.mu.Lock()
	j.counts.reading++
	j.counts.limit = concurrency
	j.mu.Unlock()
	defer func() {
		j.mu.Lock()
		j.counts.reading--
		j.mu.Unlock()
	}()
	hctx := context.WithoutCancel(ctx)
	for {
		j.mu.Lock()
		for dev, q := range j.queues {
			if ctx.Err() != nil || j.busy[dev] || len(q) == 0 || j.flying >= concurrency {
				continue
			}
			j.busy[dev] = true
			j.flying++
			j.counts.most = max(j.counts.most, j.flying)
			m := q[0]
			flight.Go(func() { j.one(ctx, hctx, h, m, settled) })
		}
		j.mu.Unlock()
		select {
		case <-ctx.Done():
			return nil
		case <-j.wake:
		}
	}
}

func (j *fakeJournal) one(ctx, hctx context.Context, h sluice.Handler, m *sluice.Message,
	settled func(m *sluice.Message, v sluice.Verdict, err error),
) {
	err := h.Handle(hctx, m)
	v, after := sluice.VerdictOf(err)
	again := err != nil && (v == sluice.Retry || v == sluice.RetryAfter || v == sluice.NotConnected)
	if again {
		j.mu.Lock()
		j.counts.retries++
		j.flying-- // who waits needs no worker
		j.mu.Unlock()
		j.poke()
		wait := after
		if v == sluice.Retry {
			wait = 100 * time.Millisecond
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
	} else {
		settled(m, v, err)
	}
	j.mu.Lock()
	if !again {
		j.queues[m.DevEUI] = j.queues[m.DevEUI][1:]
		j.over[m.ID] = err
		j.counts.done++
		j.flying--
	}
	j.busy[m.DevEUI] = false
	j.mu.Unlock()
	j.poke()
}

// fakeSealer seals by turning the bytes over.
type fakeSealer struct{}

func (fakeSealer) Seal(clear []byte) ([]byte, error) {
	out := slices.Clone(clear)
	slices.Reverse(out)
	return out, nil
}

func (s fakeSealer) Open(sealed []byte) ([]byte, error) { return s.Seal(sealed) }

// bench is a Supervisor in a world of fakes, in a synctest bubble.
type bench struct {
	*world
	*Supervisor
	journal *fakeJournal
	stop    func() // ends Run and waits for it
}

// run runs a test with fakes under a fake clock.
func run(t *testing.T, f func(t *testing.T, b *bench)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		b := &bench{world: w, journal: newFakeJournal()}
		b.Supervisor = New(Options{
			Connectors: []sluice.Connector{w},
			Journal:    b.journal,
			Commands: sluice.HandlerFunc(func(_ context.Context, m *sluice.Message) error {
				w.mu.Lock()
				f := w.command
				w.mu.Unlock()
				if f != nil {
					if err := f(m); err != nil {
						return err
					}
				}
				w.set(func(w *world) { w.commands = append(w.commands, m) })
				return nil
			}),
			Reports: sluice.HandlerFunc(func(_ context.Context, m *sluice.Message) error {
				w.set(func(w *world) { w.reports = append(w.reports, m) })
				return nil
			}),
			Counted: func(id string, f Fate) {
				w.set(func(w *world) {
					if w.fates == nil {
						w.fates = map[string]map[Fate]int{}
					}
					if w.fates[id] == nil {
						w.fates[id] = map[Fate]int{}
					}
					w.fates[id][f]++
				})
			},
			Events: w, Sealer: fakeSealer{}, Instance: "abcd2345", PublicURL: "https://sluice.example/",
			Rand: func() float64 { return 0.5 },
		})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			if err := b.Run(ctx); err != nil {
				t.Errorf("Run: %v", err)
			}
		}()
		b.stop = func() { cancel(); <-done }
		defer b.stop()
		f(t, b)
	})
}

// connection is the connection that most tests use, with more of a
// configuration.
func connection(revision uint64, more string) sluice.Connection {
	configuration := `{"region":"eu-central-1"`
	if more != "" {
		configuration += "," + more
	}
	return sluice.Connection{
		ID: "8", ConnectorID: "actility-aws-iot", Name: "Test", Active: true, Revision: revision,
		DownlinkID: "0f3c", Configuration: json.RawMessage(configuration + "}"),
	}
}

// apply applies one connection and lets everything happen that needs no time
// to pass, and a second besides.
func (b *bench) apply(c sluice.Connection) {
	b.Apply([]sluice.Connection{c})
	b.pass(time.Second)
}

// pass lets time pass.
func (b *bench) pass(d time.Duration) {
	time.Sleep(d) // the bubble's clock
	synctest.Wait()
}

func (b *bench) state() sluice.State {
	s, ok := b.Status("8")
	if !ok {
		return ""
	}
	return s.State
}

func (b *bench) wantState(want sluice.State) {
	b.t.Helper()
	if got := b.state(); got != want {
		b.t.Fatalf("state is %s, want %s; events: %v", got, want, b.seen())
	}
}

// uplink makes a report.
func uplink(id, devEUI string) *sluice.Message {
	return &sluice.Message{
		ID: id, Kind: sluice.KindUplink, DevEUI: devEUI, Connection: "8", Received: time.Now(), Time: time.Now(),
		Document: []byte(`{"DevEUI_uplink":{"DevEUI":"` + devEUI + `","FCntUp":7}}`),
	}
}

func refusal(reason sluice.Reason) error {
	return &sluice.Failure{Reason: reason, Message: "Refused: " + string(reason) + ".", Hint: "Mend it."}
}

var errBoom = errors.New("boom")
