package app

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/oklog/ulid/v2"

	"sluice"
	"sluice/api"
	"sluice/journal"
	"sluice/store"
)

// passed notes how a message ended.
func (a *App) passed(m *sluice.Message, o journal.Outcome, err error) {
	t := sluice.TraceOf(m, stateOf(m, o))
	t.Over = a.options.Clock()
	t.Because(err)
	a.store.Passed(t)
}

// stateOf is how a message ended, in the words of its trace.
func stateOf(m *sluice.Message, o journal.Outcome) sluice.TraceState {
	switch o {
	case journal.Delivered:
		if m.IsCommand() {
			return sluice.TraceQueued
		}
		return sluice.TraceDelivered
	case journal.Expired:
		return sluice.TraceExpired
	case journal.Filtered:
		return sluice.TraceFiltered
	default:
		if m.IsCommand() {
			return sluice.TraceRejected
		}
		return sluice.TraceFailed
	}
}

// taken notes what is known of a message once it is journalled: of a report
// that no flow wanted all, of a command where it came from, which the journal
// does not keep.
func (a *App) taken(m *sluice.Message) {
	if m.Connection != "" && !m.IsCommand() {
		return
	}
	t := sluice.TraceOf(m, sluice.TraceWaiting)
	t.Journalled = a.options.Clock()
	if !m.IsCommand() {
		t.State, t.Over = sluice.TraceUnmatched, t.Journalled
	}
	a.store.Passed(t)
}

// taken hands the commands that are taken to the flows, and notes those that are refused there.
type taken struct{ app *App }

func (c taken) Handle(ctx context.Context, m *sluice.Message) error {
	err := c.app.router.Handle(ctx, m)
	if f, ok := errors.AsType[*sluice.Failure](err); ok && f.Verdict == sluice.Permanent {
		t := sluice.TraceOf(m, sluice.TraceRejected)
		t.Over = c.app.options.Clock()
		t.Because(err)
		c.app.store.Passed(t)
	}
	return err
}

// traces puts together what the journal knows, of what is not over, and the
// store, of what is. The journal is asked first: what ends in between is found
// twice.
type traces struct {
	journal *journal.Journal
	store   *store.Store
}

func (t traces) Message(ctx context.Context, id string) (api.Traced, error) {
	u, err := ulid.ParseStrict(id)
	if err != nil {
		return api.Traced{Complete: true}, nil //nolint:nilerr // no message of Sluice's has such an id
	}
	received := ulid.Time(u.Time())
	entries, err := t.journal.Trace(ctx, id, received)
	if err != nil {
		return api.Traced{}, unreadable(err)
	}
	p, err := t.store.WaysOf(ctx, id, received, func(found []sluice.Trace) bool {
		return len(entries) > 0 && !slices.ContainsFunc(entries, func(e sluice.Trace) bool { return missing(found, e) })
	})
	if err != nil {
		return api.Traced{}, err
	}
	return api.Traced{Traces: merge(append(entries, p.Traces...)), Since: p.Since, Complete: p.Complete}, nil
}

// missing reports whether the store is to tell more of an entry than the
// journal, and has not yet.
func missing(found []sluice.Trace, e sluice.Trace) bool {
	if e.State != sluice.TraceUnrecorded && e.Kind != sluice.KindDownlink {
		return false
	}
	return !slices.ContainsFunc(found, func(f sluice.Trace) bool {
		return entryOf(f) == entryOf(e) && (e.State != sluice.TraceUnrecorded || !f.State.Open())
	})
}

func (t traces) MessagesOf(ctx context.Context, devEUI string, limit int) (api.Traced, error) {
	entries, complete, err := t.journal.Waiting(ctx, devEUI, limit)
	if err != nil {
		return api.Traced{}, unreadable(err)
	}
	p, err := t.store.WaysOfDevice(ctx, devEUI, limit)
	if err != nil {
		return api.Traced{}, err
	}
	all := newest(merge(append(entries, p.Traces...)), limit)
	return api.Traced{Traces: all, Since: p.Since, Complete: complete && p.Complete}, nil
}

func unreadable(err error) error {
	return &sluice.Error{
		Code: sluice.CodeUnavailable, Message: "The journal cannot be read now.",
		Hint: "Try again later. If it stays so, look at the log and at the disk of the data directory.", Err: err,
	}
}

// entry tells entries of messages apart.
type entry struct {
	message, connection string
	command, replayed   bool
}

func entryOf(t sluice.Trace) entry {
	return entry{message: t.Message, connection: t.Connection, command: t.Kind == sluice.KindDownlink, replayed: t.Replayed}
}

// merge makes one of the traces of each entry: what ended last counts, and
// before that how far it has come. What only another tells is added.
func merge(ts []sluice.Trace) []sluice.Trace {
	of := map[entry]sluice.Trace{}
	for _, t := range ts {
		old, ok := of[entryOf(t)]
		if ok && weight(old) > weight(t) || ok && weight(old) == weight(t) && old.Over.After(t.Over) {
			old, t = t, old
		}
		t.Source = cmp.Or(t.Source, old.Source)
		if t.Journalled.IsZero() {
			t.Journalled = old.Journalled
		}
		of[entryOf(t)] = t
	}
	merged := make([]sluice.Trace, 0, len(of))
	for _, t := range of {
		merged = append(merged, t)
	}
	return merged
}

// weight is how much a trace tells: that something is over and how, that it is
// over, how far it has come, that it was taken.
func weight(t sluice.Trace) int {
	switch {
	case t.State == sluice.TraceUnrecorded:
		return 2
	case !t.State.Open():
		return 3
	case t.Text != "" || t.Step != "" || t.Tries > 0:
		return 1
	}
	return 0
}

// newest returns the traces of those messages that were received last.
func newest(ts []sluice.Trace, limit int) []sluice.Trace {
	slices.SortFunc(ts, func(a, b sluice.Trace) int {
		return cmp.Or(b.Received.Compare(a.Received), cmp.Compare(b.Message, a.Message))
	})
	last, n := "", 0
	for i, t := range ts {
		if t.Message != last {
			if n == limit {
				return ts[:i]
			}
			last = t.Message
			n++
		}
	}
	return ts
}
