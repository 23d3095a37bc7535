package awsiot

import (
	"context"
	"sync"
)

// desks are the persistent sessions of commands that this process uses. Two
// clients with one client id throw each other out, so they take turns here:
// when a changed configuration opens beside the one before, the newcomer gets
// the session, and the one before has it back should the newcomer leave.
type desks struct {
	mu      sync.Mutex
	seats   map[string][]*seat // by session; the last one has it, or is to have it
	changed chan struct{}      // closed and made anew at each change
}

func newDesks() *desks {
	return &desks{seats: map[string][]*seat{}, changed: make(chan struct{})}
}

// seat is one who wants a session.
type seat struct {
	desks    *desks
	key      string
	busy     bool            // it has a link to the session, or is opening one
	away     context.Context //nolint:containedctx // ends when it is to give way
	displace func()          // ends away
}

// join asks for a session, and whoever has it to give way.
func (d *desks) join(key string) *seat {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := &seat{desks: d, key: key}
	s.away, s.displace = context.WithCancel(context.Background())
	if before := d.seats[key]; len(before) > 0 {
		before[len(before)-1].displace()
	}
	d.seats[key] = append(d.seats[key], s)
	return s
}

// turn waits until the session is s's to open.
func (s *seat) turn(ctx context.Context) error {
	for {
		s.desks.mu.Lock()
		if s.isNext() {
			s.busy = true
			s.displace() // of the turn before
			s.away, s.displace = context.WithCancel(context.Background())
			s.desks.mu.Unlock()
			return nil
		}
		changed := s.desks.changed
		s.desks.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (s *seat) isNext() bool {
	all := s.desks.seats[s.key]
	for _, other := range all {
		if other.busy {
			return false
		}
	}
	return len(all) > 0 && all[len(all)-1] == s
}

// giveWay is the context that ends when s is to close its link.
func (s *seat) giveWay() context.Context {
	s.desks.mu.Lock()
	defer s.desks.mu.Unlock()
	return s.away
}

// alone reports whether nobody else of this process wants the session.
func (s *seat) alone() bool {
	s.desks.mu.Lock()
	defer s.desks.mu.Unlock()
	return len(s.desks.seats[s.key]) == 1
}

// free says that the link is closed; s is to have the session again after
// those who came later.
func (s *seat) free() {
	s.desks.mu.Lock()
	defer s.desks.mu.Unlock()
	s.busy = false
	s.tell()
}

// quit says that the link is closed and that s does not want the session any
// more.
func (s *seat) quit() {
	s.desks.mu.Lock()
	defer s.desks.mu.Unlock()
	s.displace()
	all := s.desks.seats[s.key]
	rest := make([]*seat, 0, len(all))
	for _, other := range all {
		if other != s {
			rest = append(rest, other)
		}
	}
	s.desks.seats[s.key] = rest
	if len(rest) == 0 {
		delete(s.desks.seats, s.key)
	}
	s.tell()
}

// tell wakes those who wait. The lock is held.
func (s *seat) tell() {
	close(s.desks.changed)
	s.desks.changed = make(chan struct{})
}
