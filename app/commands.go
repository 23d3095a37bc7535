package app

import (
	"context"
	"errors"
	"fmt"

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
	return a.journal.Read(ctx, journal.Down(network), journal.ReadOptions{
		Handler:     rejecting{to: to, reports: a.journaled(), clock: a.options.Clock, known: a.knows},
		Concurrency: commandsAtOnce,
		Settled: func(m *sluice.Message, o journal.Outcome, err error) {
			a.metrics.downlink(m.Connection, o == journal.Delivered)
			a.passed(m, o, err)
			if o != journal.Delivered {
				a.store.Record(commandEvent(m, o, err))
			}
		},
	})
}

func (a *App) knows(connection string) bool {
	_, err := a.store.Connection(connection)
	return err == nil
}

// rejecting tells the cloud of a command that the network server refused: the
// report of it is durable before the command is over.
type rejecting struct {
	to      sluice.Handler
	reports sluice.Handler
	clock   sluice.Clock
	known   func(connection string) bool
}

func (r rejecting) Handle(ctx context.Context, m *sluice.Message) error {
	m.Way.Try("")
	err := r.to.Handle(ctx, m)
	var f *sluice.Failure
	if !errors.As(err, &f) || f.Verdict != sluice.Permanent && f.Verdict != sluice.Expired || !r.known(m.Connection) {
		return err
	}
	if e := r.reports.Handle(ctx, connection.Rejected(m, f, r.clock())); e != nil {
		return fmt.Errorf("report the rejection of a command: %w", e)
	}
	return err
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
