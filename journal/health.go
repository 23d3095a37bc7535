package journal

import (
	"errors"
	"fmt"
	"sync/atomic"

	"sluice"
)

// health is why entries cannot be taken at the moment, nil where they can.
type health struct {
	commit atomic.Pointer[sluice.Error]
	disk   atomic.Pointer[sluice.Error]
	tight  atomic.Bool // less than twice the reserve is free
	// failures weighs the commits that failed since the last one that did not.
	failures atomic.Int64
	// quarantine weighs the writes to quarantine that failed, in the same way.
	quarantine atomic.Int64
	// low says that no more than half the reserve is free.
	low atomic.Bool
	// lack is how many bytes must become free before entries are taken again.
	lack atomic.Int64
	// others weighs what failed on other streams of the same server since it
	// was last restarted: each stream meets the end of the disk by itself.
	others atomic.Int64
}

// Doubt tells the journal that another stream of its server takes nothing.
// When that is told again and again, while the disk has room, the server is
// restarted.
func (j *Journal) Doubt() { j.health.others.Add(1) }

// enough is from where on failures show that the stream takes nothing more.
const enough = 2

// failed weighs a failed commit: one that the stream refuses shows that it has
// met an error, after which it refuses all; one without an answer may be a slow
// disk.
func (h *health) failed(cause error) {
	if _, refused := errors.AsType[*refusal](cause); refused {
		h.failures.Add(enough)
		return
	}
	h.failures.Add(1)
}

func (h *health) commits(err *sluice.Error) {
	if h.commit.Load() != err {
		h.commit.Store(err)
	}
}

// refusal is why Append refuses at once.
func (h *health) refusal() error {
	if err := h.disk.Load(); err != nil {
		return err
	}
	return nil
}

// Err is nil while entries can be taken; else a *sluice.Error that says why
// not: the disk is nearly full, or the last commit failed.
func (j *Journal) Err() error {
	if err := j.health.refusal(); err != nil {
		return err
	}
	if err := j.health.commit.Load(); err != nil {
		return err
	}
	if j.queue.hasEnded() {
		return errEnding()
	}
	return nil
}

// checkDisk compares the room on the disk with the reserve, and tells when
// that changes.
func (j *Journal) checkDisk() {
	if j.o.Dir == "" {
		return
	}
	free, err := j.diskFree(j.o.Dir)
	if err != nil {
		j.o.Log.Warn("cannot see how full the disk is", "error", err)
		return
	}
	j.health.low.Store(free < j.o.Reserve/2)
	j.health.lack.Store(j.o.Reserve + j.o.Reserve/16 - free)
	full := j.health.disk.Load() != nil
	j.health.tight.Store(free < 2*j.o.Reserve)
	switch {
	case !full && free < j.o.Reserve:
		err := unavailable(
			fmt.Sprintf("The disk is nearly full: %d MiB are free, %d MiB are kept in reserve.", free>>20, j.o.Reserve>>20),
			"Make room on the disk of the data directory.")
		j.health.disk.Store(err)
		j.o.Events.Record(sluice.Event{
			Level: sluice.LevelError, Type: sluice.EventJournalFull, Label: "Journal full",
			Detail: err.Message + " Reports are refused until there is room.", Hint: err.Hint,
		})
	case full && free >= j.o.Reserve+j.o.Reserve/16:
		j.health.disk.Store(nil)
		j.o.Events.Record(sluice.Event{
			Level: sluice.LevelInfo, Type: sluice.EventJournalFull, Label: "Journal full",
			Detail: "The disk has room again. Reports are taken.",
		})
	}
}
