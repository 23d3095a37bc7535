// Package connection keeps connections open: for each one it opens a pool of
// sessions through its connector, reads its place in the journal, gives each
// report the form that the connection sends and hands it to a session, takes
// the commands that come back, and opens again what was lost or changed.
//
// Each connection has a runner, whose state belongs to one goroutine. What may
// block (opening, subscribing, closing) happens in goroutines of its own that
// report to it.
package connection

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"sluice"
)

// Journal is where a connection's reports wait.
type Journal interface {
	// Read hands the entries of a connection to handler until ctx ends, at
	// most concurrency of them at once and one of a device, and then waits,
	// bounded, for those under way. settled is told of each entry that is
	// over; err is nil when it was delivered, else verdict says what became of
	// it.
	Read(ctx context.Context, connectionID string, handler sluice.Handler, concurrency int,
		settled func(m *sluice.Message, verdict sluice.Verdict, err error)) error
}

// Options are what a [Supervisor] needs.
type Options struct {
	Connectors []sluice.Connector // by their ids
	Journal    Journal
	// Commands takes the commands of all connections; nil means durable. A
	// Permanent failure is told to the application as a rejection.
	Commands sluice.Handler
	// Reports takes the reports that Sluice makes itself, for the connection
	// that they name: what became of a command. nil means durable.
	Reports sluice.Handler
	// Things returns a connection's memory of things; it may be nil.
	Things   func(connectionID string) sluice.Things
	Events   sluice.Recorder
	Sealer   sluice.Sealer // seals the credentials of commands
	Instance string        // see [sluice.DialerSpec]
	// PublicURL is where this Sluice is reached from outside, without a slash
	// at the end; "" leaves downlinkUrl out of uplinks.
	PublicURL string
	// Earlier are the commands of all connections that were taken before.
	Earlier Earlier
	// Counted is told what becomes of a connection's commands as far as it is
	// known here; it may be nil. It must not block.
	Counted func(connectionID string, f Fate)
	// Clock gives the times that are shown or compared with a message's;
	// default time.Now. What lasts is measured by the monotonic clock, which no
	// step of the wall clock disturbs.
	Clock sluice.Clock
	Rand  func() float64 // 0 <= x < 1, safe for several goroutines; default math/rand/v2
	Log   *slog.Logger   // default: none
}

// Supervisor keeps a set of connections open. Its methods are safe for use by
// several goroutines.
type Supervisor struct {
	o       Options
	changed chan struct{} // wakes Run

	mu      sync.Mutex
	runners map[string]*runner
	leaving []*runner // stopped and forgotten, waited for by Run
	fresh   []*runner // not yet started
	ended   bool
}

// New makes a Supervisor; Apply says what it is to keep open, Run does it.
func New(o Options) *Supervisor {
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Rand == nil {
		o.Rand = rand.Float64
	}
	if o.Counted == nil {
		o.Counted = func(string, Fate) {}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	o.PublicURL = strings.TrimRight(o.PublicURL, "/")
	return &Supervisor{o: o, changed: make(chan struct{}, 1), runners: make(map[string]*runner)}
}

// Apply says which connections are wanted, all of them, with their secrets in
// clear. It returns at once; Run makes it so: what is new is opened, what has
// another Revision is changed (the old sessions deliver until the new ones are
// open), what is missing is closed and forgotten, and what is not Active is
// closed. Applying the same set again changes nothing.
func (s *Supervisor) Apply(cs []sluice.Connection) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return
	}
	wanted := make(map[string]bool, len(cs))
	for _, c := range cs {
		wanted[c.ID] = true
		if r, ok := s.runners[c.ID]; ok {
			r.change(c)
			continue
		}
		r := newRunner(&s.o, c, s.predecessor(c.ID))
		s.runners[c.ID] = r
		s.fresh = append(s.fresh, r)
	}
	for id, r := range s.runners {
		if !wanted[id] {
			delete(s.runners, id)
			s.leaving = append(s.leaving, r)
			r.gone.Store(true)
			r.stop()
		}
	}
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// predecessor is a runner of the same id that may still be closing.
func (s *Supervisor) predecessor(id string) <-chan struct{} {
	for i := len(s.leaving) - 1; i >= 0; i-- {
		if s.leaving[i].id == id {
			return s.leaving[i].done
		}
	}
	return nil
}

// Run keeps the connections open until ctx ends. Then each stops reading, lets
// what is in flight finish and closes its sessions, all within seconds; Run
// returns nil after that. It is called once.
func (s *Supervisor) Run(ctx context.Context) error {
	var runners sync.WaitGroup
	for {
		s.mu.Lock()
		for _, r := range s.fresh {
			runners.Go(r.run)
		}
		s.fresh = nil
		s.forget()
		s.mu.Unlock()
		select {
		case <-s.changed:
			continue
		case <-ctx.Done():
		}
		break
	}
	s.mu.Lock()
	s.ended = true
	for _, r := range s.fresh {
		runners.Go(r.run)
	}
	for _, r := range s.runners {
		r.stop()
	}
	s.mu.Unlock()
	runners.Wait()
	return nil
}

// forget drops the runners that have ended.
func (s *Supervisor) forget() {
	rest := s.leaving[:0]
	for _, r := range s.leaving {
		select {
		case <-r.done:
		default:
			rest = append(rest, r)
		}
	}
	clear(s.leaving[len(rest):])
	s.leaving = rest
}

// Status tells how a connection stands; false: there is none of that id.
func (s *Supervisor) Status(id string) (sluice.Status, bool) {
	r, ok := s.runner(id)
	if !ok {
		return sluice.Status{}, false
	}
	return r.status(), true
}

// Pace is how many messages a second a connection can send while it is open,
// as far as that is known; 0: it is not.
func (s *Supervisor) Pace(id string) float64 {
	r, ok := s.runner(id)
	if !ok {
		return 0
	}
	return r.pace()
}

// Command hands in a command for a device, as one that came from the cloud of
// the connection; it needs no open session. The message id of the downlink is
// returned once it is durable. The error is a *[sluice.Error]: CodeInvalid
// with all that is wrong in Fields, CodeNotFound for an unknown connection or
// device, CodeConflict where the connection takes no downlinks,
// CodeUnavailable when trying again later may help.
func (s *Supervisor) Command(ctx context.Context, connectionID string, c sluice.Command) (messageID string, err error) {
	r, ok := s.runner(connectionID)
	if !ok {
		return "", sluice.Errorf(sluice.CodeNotFound, "There is no connection with id %s.", connectionID)
	}
	return r.request(ctx, c)
}

func (s *Supervisor) runner(id string) (*runner, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ok := s.runners[id]
	return r, ok
}

// connector finds a connector by its id.
func (o *Options) connector(id string) (sluice.Connector, bool) {
	for _, c := range o.Connectors {
		if c.Info().ID == id {
			return c, true
		}
	}
	return nil, false
}
