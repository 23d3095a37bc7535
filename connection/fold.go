package connection

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"sluice"
)

const (
	// foldFor is how often what came again and again is summed up.
	foldFor = time.Hour
	// foldMost is how often one thing is told within that time.
	foldMost = 5
	// foldKinds bounds how many different things are told apart.
	foldKinds = 64
)

// fold keeps the events of a connection that is down, or goes up and down,
// readable: what happens again and again is told a few times, then once an
// hour with its number. It belongs to the runner's goroutine.
type fold struct {
	events sluice.Recorder
	outage int // goes up when a new one begins
	things map[string]*folded
}

// folded is one thing that happened.
type folded struct {
	began  time.Time // of the hour
	outage int       // when it was told last
	told   int       // within the hour
	more   int       // besides
	last   sluice.Event
}

func newFold(events sluice.Recorder) *fold {
	return &fold{events: events, things: make(map[string]*folded)}
}

// tell tells an event, or counts it. Two events of one type with equal keys
// are the same for a reader. With once, it is told once in an outage.
func (f *fold) tell(now time.Time, key string, once bool, e sluice.Event) {
	key = string(e.Type) + " " + e.Label + " " + key
	if _, ok := f.things[key]; !ok && len(f.things) >= foldKinds {
		key = string(e.Type) // too many causes to tell them apart
	}
	t, ok := f.things[key]
	if !ok {
		t = &folded{began: now, outage: -1}
		f.things[key] = t
	}
	if t.told >= foldMost || once && t.outage == f.outage {
		t.more++
		t.last = e
		return
	}
	t.told++
	t.outage = f.outage
	f.events.Record(e)
}

// flush tells what was counted, once an hour each; with all, at the end.
func (f *fold) flush(now, wall time.Time, all bool) {
	var out []sluice.Event
	for key, t := range f.things {
		switch {
		case !all && now.Sub(t.began) < foldFor:
			continue
		case t.more == 0:
			delete(f.things, key)
			continue
		}
		e := t.last
		if t.more > 1 {
			e.ID = ""
			e.Detail = fmt.Sprintf("%d more within the last hour; the last: %s", t.more, e.Detail)
		}
		out = append(out, e)
		t.began, t.told, t.more = now, 0, 0
	}
	slices.SortFunc(out, func(a, b sluice.Event) int { return cmp.Or(a.Time.Compare(b.Time), cmp.Compare(a.Label, b.Label)) })
	for _, e := range out {
		e.Time = wall
		f.events.Record(e)
	}
}

// tell tells an event that may come again and again.
func (r *runner) tell(key string, once bool, e sluice.Event) {
	r.fold.tell(time.Now(), key, once, e)
}
