package thingpark

import (
	"io"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"

	"sluice"
)

// Network is the open door to one ThingPark.
type Network struct {
	id       string // as good as a password: not for the log
	config   config
	reports  sluice.Handler
	sealer   sluice.Sealer
	clock    sluice.Clock
	log      *slog.Logger // names the network already
	ids      *idSource
	refusals *refusals
	client   *http.Client
	gate     gate
}

var (
	_ sluice.Network = (*Network)(nil)
	_ http.Handler   = (*Network)(nil)
)

// Close lets no more commands in and waits for the commands and the reports
// that are under way: at most as long as a downlink may take. Reports that
// come after it are still taken, for as long as the Reports handler takes them:
// a network that is replaced under load refuses none.
func (n *Network) Close() {
	n.gate.close()
	n.refusals.close()
	n.client.CloseIdleConnections()
}

// gate counts who is inside; once it is closed it counts nobody any more.
type gate struct {
	mu     sync.Mutex
	closed bool
	inside sync.WaitGroup
}

// enter reports whether the caller was counted; if so it must leave.
func (g *gate) enter() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return false
	}
	g.inside.Add(1)
	return true
}

func (g *gate) leave() { g.inside.Done() }

func (g *gate) close() {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	g.inside.Wait()
}

// idSource makes message ids: ULIDs that rise even within a millisecond.
type idSource struct {
	mu      sync.Mutex
	entropy *ulid.MonotonicEntropy
}

func newIDSource(entropy io.Reader) *idSource {
	return &idSource{entropy: ulid.Monotonic(entropy, 0)}
}

func (s *idSource) next(now time.Time) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id, err := ulid.New(ulid.Timestamp(now), s.entropy)
	if err != nil {
		return "", err
	}
	return id.String(), nil
}
