package connection

import (
	"context"
	"errors"
	"time"

	"sluice"
)

// errRetired is told to a delivery whose pool gave way to another; it begins
// again with the new one.
var errRetired = errors.New("the sessions are being replaced")

// patience is how long a delivery waits.
type patience struct {
	ctx context.Context //nolint:containedctx // lives as long as one delivery
	// stop is closed when the connection stops reading: who only waits gives
	// its message back.
	stop <-chan struct{}
	// ended is closed when the pool is retired.
	ended <-chan struct{}
	// deadline is when the message expires; zero for never.
	deadline time.Time
	clock    sluice.Clock
}

// check returns the Failure of a message that is too old, nil while it is not.
func (p *patience) check() error {
	if p.deadline.IsZero() || p.clock().Before(p.deadline) {
		return nil
	}
	return errExpired()
}

// await waits until ready is closed; its error tells why it did not.
func (p *patience) await(ready <-chan struct{}) error {
	select {
	case <-ready:
		return nil
	default:
	}
	var expiry <-chan time.Time
	if !p.deadline.IsZero() {
		timer := time.NewTimer(p.deadline.Sub(p.clock()))
		defer timer.Stop()
		expiry = timer.C
	}
	select {
	case <-ready:
		return nil
	case <-p.ctx.Done():
		return p.ctx.Err()
	case <-p.stop:
		return errNotOpen()
	case <-expiry:
		return errExpired()
	}
}

// sleep waits for d, or does not begin to when the message would expire
// meanwhile.
func (p *patience) sleep(d time.Duration) error {
	if d <= 0 {
		return nil
	}
	if !p.deadline.IsZero() && p.clock().Add(d).After(p.deadline) {
		return errExpired()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-p.ctx.Done():
		return p.ctx.Err()
	case <-p.stop:
		return errNotOpen()
	case <-p.ended:
		return errRetired
	}
}

func errExpired() error {
	return &sluice.Failure{
		Verdict: sluice.Expired, Reason: sluice.ReasonExpired,
		Message: "The message is older than the connection's uplinkTimeValidity allows.",
	}
}

// errNotOpen says that the message has to wait for a session.
func errNotOpen() error {
	return &sluice.Failure{
		Verdict: sluice.NotConnected, Reason: sluice.ReasonDisconnected, Message: "No session of the connection is open.",
	}
}
