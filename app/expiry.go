package app

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"sluice"
)

// expiryEvery is how often it is looked at what expires.
const expiryEvery = time.Hour

// expirySteps are how long before its end a certificate is told of, and at its
// end. They fall.
func expirySteps() []time.Duration {
	const day = 24 * time.Hour
	return []time.Duration{30 * day, 7 * day, day, 0}
}

// connectionsAndBlobs is what the expiry needs of the store.
type connectionsAndBlobs interface {
	sluice.Recorder
	Connections() []sluice.Connection
	Blob(key string) ([]byte, bool)
	PutBlob(key string, value []byte) error
}

// expiry tells of configurations that cease to be accepted by themselves,
// because a certificate in them expires: at each step once, over restarts too.
type expiry struct {
	store      connectionsAndBlobs
	connectors map[string]sluice.Expirer
	clock      sluice.Clock
	wake       chan struct{} // of one: something stored has changed
}

func newExpiry(store connectionsAndBlobs, connectors []sluice.Connector, clock sluice.Clock) *expiry {
	e := &expiry{store: store, connectors: map[string]sluice.Expirer{}, clock: clock, wake: make(chan struct{}, 1)}
	for _, c := range connectors {
		if x, ok := c.(sluice.Expirer); ok {
			e.connectors[c.Info().ID] = x
		}
	}
	return e
}

// Expires tells when a connection's certificate expires, if it has one.
func (e *expiry) Expires(c sluice.Connection) (time.Time, bool) {
	x, ok := e.connectors[c.ConnectorID]
	if !ok {
		return time.Time{}, false
	}
	return x.Expires(c.Configuration)
}

// changed has the connections looked at soon.
func (e *expiry) changed() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// run looks at the connections, until ctx ends.
func (e *expiry) run(ctx context.Context) error {
	tick := time.NewTicker(expiryEvery)
	defer tick.Stop()
	for {
		e.check()
		select {
		case <-ctx.Done():
			return nil
		case <-e.wake:
		case <-tick.C:
		}
	}
}

// expiryTold is what was told of a connection: the step, counted from 1, of
// the certificate that ends at a time.
type expiryTold struct {
	End  time.Time
	Step int
}

func expiryKey(connection string) string { return "expiry." + connection }

func (e *expiry) check() {
	now := e.clock()
	for _, c := range e.store.Connections() {
		end, ok := e.Expires(c)
		if !ok {
			continue
		}
		step := 0
		for _, before := range expirySteps() {
			if !now.Before(end.Add(-before)) {
				step++
			}
		}
		var told expiryTold
		if blob, ok := e.store.Blob(expiryKey(c.ID)); ok {
			_ = json.Unmarshal(blob, &told) // what cannot be read was not told
		}
		if told.End.Equal(end) && told.Step >= step || !told.End.Equal(end) && step == 0 {
			continue
		}
		blob, err := json.Marshal(expiryTold{End: end, Step: step})
		if err == nil {
			err = e.store.PutBlob(expiryKey(c.ID), blob)
		}
		if err == nil { // else it is told again
			e.store.Record(expiryEvent(c, end, now))
		}
	}
}

func expiryEvent(c sluice.Connection, end, now time.Time) sluice.Event {
	event := sluice.Event{
		Level: sluice.LevelWarning, Type: sluice.EventCertificateExpiring, Label: "Certificate expiring", Connection: c.ID,
		Hint: fmt.Sprintf("Make a new certificate and send it with PUT /connections/%s: it takes over without a gap.", c.ID),
	}
	at := end.UTC().Format(time.RFC3339)
	switch left := end.Sub(now); {
	case left <= 0:
		event.Level, event.Label = sluice.LevelError, "Certificate expired"
		event.Detail = fmt.Sprintf("The certificate of connection %q expired on %s. The cloud refuses it.", c.Name, at)
	case left < 48*time.Hour:
		event.Level = sluice.LevelError
		event.Detail = fmt.Sprintf("The certificate of connection %q expires in %d hours, on %s.", c.Name, int(left.Hours()), at)
	default:
		event.Detail = fmt.Sprintf("The certificate of connection %q expires in %d days, on %s.", c.Name, int(left.Hours()/24), at)
	}
	return event
}
