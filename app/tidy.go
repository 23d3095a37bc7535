package app

import (
	"context"
	"strings"
	"time"

	"sluice/journal"
)

// tidyAgain is how soon what could not be removed is tried again: a deleted
// connection is still closing its sessions.
const tidyAgain = time.Second

// tidy removes what deleted connections and networks leave behind: their
// entries in the journal, their things and their metrics. It looks at the
// start too, since the process may have ended in between.
func (a *App) tidy(ctx context.Context) error {
	for {
		var again <-chan time.Time
		if !a.removeOrphans(ctx) {
			again = time.After(tidyAgain)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-a.deleted:
		case <-again:
		}
	}
}

// removeOrphans reports whether nothing is left to remove.
func (a *App) removeOrphans(ctx context.Context) bool {
	// The places are listed first: what is made after that is not among them.
	places := a.journal.Places()
	wanted := map[journal.Place]bool{journal.Up(""): true}
	for _, c := range a.store.Connections() {
		wanted[journal.Up(c.ID)] = true
	}
	for _, n := range a.store.Networks() {
		wanted[journal.Down(n.ID)] = true
	}
	done := true
	for _, place := range places {
		if wanted[place] {
			continue
		}
		if err := a.journal.Drop(ctx, place); err != nil {
			done = false
			a.options.Log.Debug("what a deleted connection or network left is not removed yet", "error", err)
			continue
		}
		if id, ok := strings.CutPrefix(string(place), "up."); ok {
			a.store.ForgetThings(id)
			a.logged("remove the metrics of a deleted connection", a.store.PutBlob(blobKey(id), nil))
			a.logged("remove what was told of a deleted connection", a.store.PutBlob(expiryKey(id), nil))
		}
	}
	return done
}
