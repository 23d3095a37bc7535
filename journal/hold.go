package journal

import (
	"context"

	"sluice"
)

// hold is a Hold that was not released.
type hold struct{ end context.CancelCauseFunc }

// Hold keeps all entries that are in the stream there until release is called:
// nothing is trimmed, no place is dropped. Entries are appended, delivered and
// expire as always. held ends with ctx, and when the disk becomes too full to
// hold anything: its cause then is a *sluice.Error. There is one Hold at a time
// (CodeConflict); none while the disk is nearly full (CodeUnavailable).
func (j *Journal) Hold(ctx context.Context) (held context.Context, release func(), err error) {
	if err := j.health.refusal(); err != nil {
		return nil, nil, err
	}
	held, end := context.WithCancelCause(ctx)
	h := &hold{end: end}
	if !j.hold.CompareAndSwap(nil, h) {
		end(nil)
		return nil, nil, sluice.Errorf(sluice.CodeConflict, "A backup is being made already.")
	}
	select {
	case j.removing <- struct{}{}:
	case <-ctx.Done():
		j.hold.Store(nil)
		end(nil)
		return nil, nil, ctx.Err()
	}
	return held, func() {
		j.removed()
		j.hold.Store(nil)
		end(nil)
	}, nil
}

// HoldBooks keeps positions from being written until release is called, which
// is to be soon.
func (j *Journal) HoldBooks() (release func()) {
	j.books.writes.Lock()
	return j.books.writes.Unlock
}

// tryRemoving reports whether entries may be taken out of the stream now; then
// removed is to be called after it. A Hold is ended where the disk is full: it
// is then there to be trimmed the next time.
func (j *Journal) tryRemoving() bool {
	select {
	case j.removing <- struct{}{}:
		return true
	default:
	}
	if h := j.hold.Load(); h != nil && j.health.disk.Load() != nil {
		h.end(sluice.Errorf(sluice.CodeUnavailable, "The disk is nearly full, so the backup was given up: old entries must go."))
	}
	return false
}

func (j *Journal) removed() { <-j.removing }
