package journal

import (
	"context"
	"errors"
	"fmt"

	"sluice"
)

// stateSubject is where it is noted, in the stream of the books, whether the
// journal runs or has ended in order.
const (
	statePrefix  = "state."
	stateSubject = statePrefix + "run"
	stateRunning = "running"
	stateEnded   = "ended"
)

// writeState notes the state. One that cannot be written is no harm: the next
// Open tells of an end that was not orderly.
func (j *Journal) writeState(pub *publisher, state string) {
	out := []outgoing{{subject: stateSubject, data: []byte(state)}}
	pub.each(out, false, 0, commitTimeout)
	if err := out[0].err; err != nil {
		j.o.Log.Warn("cannot note whether the journal runs", "error", err)
	}
}

// checkState tells of an end that was not orderly, and what it cost. lost is
// how many entries the books know that the stream does not have.
func (j *Journal) checkState(ctx context.Context, lost uint64) error {
	s, err := newFetcher(j.o.Reads, streamBooks).last(ctx, stateSubject)
	if err != nil && !errors.Is(err, errNotFound) {
		return fmt.Errorf("journal: read how it ended: %w", err)
	}
	if j.o.Restored != "" {
		j.restoredEvent(lost)
		return nil
	}
	if err == nil && string(s.data) == stateEnded || err != nil && len(j.places) == 0 {
		return nil
	}
	j.unclean = true
	waiting := j.waiting()
	e := sluice.Event{
		Level: sluice.LevelWarning, Type: sluice.EventJournalUnclean, Label: "Unclean restart",
		Detail: fmt.Sprintf("The last end was not orderly. %d entries wait; of these at most those that were delivered in the last second before it are delivered again. ", waiting-min(lost, waiting)),
	}
	if lost == 0 {
		e.Detail += "None is lost."
	} else {
		e.Level = sluice.LevelError
		e.Detail += fmt.Sprintf("%d are lost.", lost)
		e.Hint = "Check the disk of the data directory."
	}
	j.o.Events.Record(e)
	return nil
}

// waiting is how many entries are not done.
func (j *Journal) waiting() (n uint64) {
	for _, p := range j.places {
		n += p.pending()
	}
	return n
}

// restoredEvent tells of the first start after a restore, which looks like one
// after an end that was not orderly.
func (j *Journal) restoredEvent(lost uint64) {
	waiting := j.waiting()
	e := sluice.Event{
		Level: sluice.LevelWarning, Type: sluice.EventSystemRestored, Label: "Restored",
		Detail: fmt.Sprintf("Sluice was restored from %s. %d entries wait; of these, those that were delivered after it are delivered again, under the same ids. "+
			"What was accepted after it is not in it.", j.o.Restored, waiting-min(lost, waiting)),
		Hint: "Do not run the original beside it: both use the same client ids.",
	}
	if lost > 0 {
		e.Level = sluice.LevelError
		e.Detail += fmt.Sprintf(" %d are lost.", lost)
	}
	j.o.Events.Record(e)
}
