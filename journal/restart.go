package journal

import (
	"context"
	"time"

	"sluice"
)

const (
	// firstRestart and maxRestart bound how long the server is left alone
	// after it was restarted, when that has not helped.
	firstRestart = 2 * time.Second
	maxRestart   = time.Minute
	// restartTimeout bounds a restart. All blocks are read in it.
	restartTimeout = 5 * time.Minute
)

// restarter restarts the server when one of its streams takes nothing more.
type restarter struct {
	j     *Journal
	tries int
	next  time.Time
}

// check restarts the server if that is due. While the disk is full it is of
// no use.
func (r *restarter) check(ctx context.Context) {
	j := r.j
	if j.o.Restart == nil || j.health.disk.Load() != nil {
		return
	}
	if j.health.failures.Load() < enough && j.health.quarantine.Load() < enough && j.health.others.Load() < enough {
		if j.health.commit.Load() == nil {
			r.tries = 0
		}
		return
	}
	if time.Now().Before(r.next) {
		return
	}
	r.tries++
	defer func() { r.next = time.Now().Add(grow(firstRestart, maxRestart, r.tries, 1)) }()
	j.o.Log.Warn("a stream takes nothing more: the server is restarted")

	j.committing.Lock()
	defer j.committing.Unlock()
	ctx, cancel := context.WithTimeout(ctx, restartTimeout)
	defer cancel()
	if err := j.o.Restart(ctx); err != nil {
		j.o.Log.Error("the server could not be restarted", "error", err)
		return
	}
	j.health.failures.Store(0)
	j.health.quarantine.Store(0)
	j.health.others.Store(0)
	j.o.Events.Record(sluice.Event{
		Level: sluice.LevelWarning, Type: sluice.EventJournalRestarted, Label: "Journal restarted",
		Detail: "The journal could not write to the disk. Its storage was opened again.",
		Hint:   "Check the disk of the data directory, and the log.",
	})
}
