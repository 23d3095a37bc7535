package app

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluice"
)

// TestMerge makes one of what several know of an entry, in whatever order it
// is told.
func TestMerge(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	report := func(state sluice.TraceState, change func(*sluice.Trace)) sluice.Trace {
		t := sluice.Trace{Message: "m", Kind: sluice.KindUplink, Connection: "1", State: state}
		if change != nil {
			change(&t)
		}
		return t
	}
	command := func(state sluice.TraceState, change func(*sluice.Trace)) sluice.Trace {
		t := report(state, change)
		t.Kind, t.Network = sluice.KindDownlink, "n"
		return t
	}
	over := func(after time.Duration) func(*sluice.Trace) {
		return func(t *sluice.Trace) { t.Over = now.Add(after) }
	}
	source := func(t *sluice.Trace) { t.Source, t.Journalled = "topic", now }
	for name, c := range map[string]struct{ a, b, want sluice.Trace }{
		"the outcome counts, not that it is over": {
			report(sluice.TraceUnrecorded, nil), report(sluice.TraceDelivered, over(1)), report(sluice.TraceDelivered, over(1)),
		},
		"over counts, not what it was before": {
			report(sluice.TraceSent, nil), report(sluice.TraceFailed, over(1)), report(sluice.TraceFailed, over(1)),
		},
		"the later end counts, of one that was repeated after a crash": {
			report(sluice.TraceDelivered, over(1)), report(sluice.TraceDelivered, over(2)), report(sluice.TraceDelivered, over(2)),
		},
		"a command's source is told when it is taken alone": {
			command(sluice.TraceWaiting, source), command(sluice.TraceQueued, over(1)),
			command(sluice.TraceQueued, func(t *sluice.Trace) { source(t); over(1)(t) }),
		},
		"what it waits for is told by the journal": {
			command(sluice.TraceWaiting, source), command(sluice.TraceWaiting, func(t *sluice.Trace) { t.Text = "It waits." }),
			command(sluice.TraceWaiting, func(t *sluice.Trace) { source(t); t.Text = "It waits." }),
		},
	} {
		for _, order := range [][]sluice.Trace{{c.a, c.b}, {c.b, c.a}} {
			if d := cmp.Diff([]sluice.Trace{c.want}, merge(order)); d != "" {
				t.Errorf("%s: (-want +got)\n%s", name, d)
			}
		}
	}
	apart := []sluice.Trace{
		report(sluice.TraceDelivered, nil), report(sluice.TraceDelivered, func(t *sluice.Trace) { t.Connection = "2" }),
		report(sluice.TraceDelivered, func(t *sluice.Trace) { t.Replayed = true }), command(sluice.TraceQueued, nil),
	}
	if got := merge(apart); len(got) != 4 {
		t.Errorf("those of other entries are kept apart: %+v", got)
	}
}

// TestNewest keeps all ways of the messages that were received last.
func TestNewest(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	way := func(message, connection string, n int) sluice.Trace {
		return sluice.Trace{Message: message, Connection: connection, Received: now.Add(time.Duration(n) * time.Second)}
	}
	got := newest([]sluice.Trace{way("a", "1", 1), way("c", "1", 3), way("b", "1", 2), way("b", "2", 2), way("c", "2", 3)}, 2)
	count := map[string]int{}
	for _, g := range got {
		count[g.Message]++
	}
	if d := cmp.Diff(map[string]int{"b": 2, "c": 2}, count); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
}
