package app

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"sluice"
	"sluice/connection"
	"sluice/journal"
)

// commandsAtOnce is how many commands are under way to one network server:
// ThingPark limits the rate of downlinks, and one of a device goes at a time.
const commandsAtOnce = 16

// deliverCommands hands a network the commands that wait for it, until ctx
// ends.
func (a *App) deliverCommands(ctx context.Context, network string, to sluice.Handler) error {
	c := &commands{to: to, reports: a.journaled(), clock: a.options.Clock, tells: a.tells, queued: map[string]time.Time{}}
	return a.journal.Read(ctx, journal.Down(network), journal.ReadOptions{
		Handler:     c,
		Late:        c.late,
		Concurrency: commandsAtOnce,
		Settled: func(m *sluice.Message, o journal.Outcome, err error) {
			a.metrics.command(m.Connection, fateOf(o))
			a.passed(m, o, err)
			if o != journal.Delivered {
				a.store.Record(commandEvent(m, o, err))
			}
		},
	})
}

// earlierCommands are the last commands that were taken before this start, as
// far as the journal has them.
func (a *App) earlierCommands(ctx context.Context) (connection.Earlier, error) {
	var e connection.Earlier
	if at, orderly := a.journal.LastEnd(); !orderly {
		e.Crashed = at
	}
	for _, n := range a.store.Networks() {
		err := a.journal.Recent(ctx, journal.Down(n.ID), connection.RecallMost, func(m *sluice.Message) {
			if m.Fingerprint != "" {
				e.Taken = append(e.Taken, connection.Taken{Connection: m.Connection, Fingerprint: m.Fingerprint, Received: m.Received})
			}
		})
		if err != nil {
			return e, fmt.Errorf("read the last commands: %w", err)
		}
	}
	slices.SortStableFunc(e.Taken, func(a, b connection.Taken) int { return a.Received.Compare(b.Received) })
	return e, nil
}

// fateOf puts an outcome in the words of those who count commands.
func fateOf(o journal.Outcome) connection.Fate {
	switch o {
	case journal.Delivered:
		return connection.FateQueued
	case journal.Expired:
		return connection.FateExpired
	default:
		return connection.FateRejected
	}
}

// tells reports whether a connection is to have reports of a kind of its
// commands; one that was deleted is to have none.
func (a *App) tells(id string, kind sluice.Kind) bool {
	c, err := a.store.Connection(id)
	if err != nil {
		return false
	}
	common, err := connection.ParseCommon(c.Configuration)
	return err == nil && connection.Tells(common, kind)
}

// commands hands commands to a network and tells the cloud what became of
// them: the report is durable before the command is over.
type commands struct {
	to      sluice.Handler
	reports sluice.Handler
	clock   sluice.Clock
	tells   func(connection string, kind sluice.Kind) bool

	// queued are the commands that the network server has taken, and of which
	// the report is not durable yet, by their ids: they must not be sent twice.
	// While reports cannot be journalled no commands can either, so they are
	// about as many as could be under way.
	mu     sync.Mutex
	queued map[string]time.Time
}

// Handle hands over a command that is not queued yet, and tells its fate.
func (c *commands) Handle(ctx context.Context, m *sluice.Message) error {
	at, queued := c.isQueued(m.ID)
	if !queued {
		m.Way.Try("")
		err := c.to.Handle(ctx, m)
		var f *sluice.Failure
		switch {
		case err == nil:
			at = c.clock()
		case errors.As(err, &f) && (f.Verdict == sluice.Permanent || f.Verdict == sluice.Expired):
			return c.over(ctx, m, f, err)
		default:
			return err
		}
	}
	return c.tellQueued(ctx, m, at)
}

// late tells that a command's time has passed; one that is queued is not late.
func (c *commands) late(ctx context.Context, m *sluice.Message, tooOld *sluice.Failure) error {
	if at, queued := c.isQueued(m.ID); queued {
		return c.tellQueued(ctx, m, at)
	}
	return c.over(ctx, m, tooOld, tooOld)
}

// over returns the error that ends a command, once it is told.
func (c *commands) over(ctx context.Context, m *sluice.Message, f *sluice.Failure, err error) error {
	if !c.tells(m.Connection, sluice.KindDownlinkRejected) {
		return err
	}
	if e := c.reports.Handle(ctx, connection.Rejected(m, f, c.clock())); e != nil {
		return fmt.Errorf("report the rejection of a command: %w", e)
	}
	return err
}

// tellQueued tells that the network server has taken a command.
func (c *commands) tellQueued(ctx context.Context, m *sluice.Message, at time.Time) error {
	if c.tells(m.Connection, sluice.KindDownlinkQueued) {
		if err := c.reports.Handle(ctx, connection.Queued(m, at)); err != nil {
			c.mu.Lock()
			c.queued[m.ID] = at
			c.mu.Unlock()
			return fmt.Errorf("report that a command is queued: %w", err)
		}
	}
	c.mu.Lock()
	delete(c.queued, m.ID)
	c.mu.Unlock()
	return nil
}

func (c *commands) isQueued(id string) (time.Time, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	at, ok := c.queued[id]
	return at, ok
}

func commandEvent(m *sluice.Message, o journal.Outcome, err error) sluice.Event {
	e := sluice.Event{
		Level: sluice.LevelWarning, Type: sluice.EventDownlinkRejected, Label: "Downlink rejected",
		Connection: m.Connection, Network: m.Network, DevEUI: m.DevEUI, Message: m.ID, Reason: sluice.ReasonOf(err),
		Detail: "The network server did not take the downlink for device " + m.DevEUI,
	}
	if o == journal.Expired {
		e.Type, e.Label = sluice.EventDownlinkExpired, "Downlink expired"
		e.Detail = "The downlink for device " + m.DevEUI + " was too old before the network server took it"
		e.Reason = sluice.ReasonExpired
	}
	var f *sluice.Failure
	if errors.As(err, &f) {
		e.Detail += ": " + f.Message
		e.Hint = f.Hint
	}
	return e
}
