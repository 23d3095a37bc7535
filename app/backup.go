package app

import (
	"context"
	"encoding/json"
	"io"
	"time"

	"sluice/backup"
	"sluice/internal/datadir"
)

// backup writes a backup of what is running.
func (a *App) backup(ctx context.Context, w io.Writer, keyID string) error {
	return backup.Write(ctx, w, backup.Source{
		Conn: a.backups, Journal: a.journal, Dir: a.dir.Path(), Version: a.options.Version,
		Instance: a.dir.Instance(), KeyID: keyID, Summary: a.summary, Clock: a.options.Clock,
	})
}

func (a *App) summary() backup.Summary {
	s := backup.Summary{Connections: []backup.Named{}, Flows: len(a.store.Flows()), Networks: len(a.store.Networks())}
	for _, c := range a.store.Connections() {
		s.Connections = append(s.Connections, backup.Named{ID: c.ID, Name: c.Name})
	}
	return s
}

// restoredNote is what a data directory remembers until its first start.
type restoredNote struct {
	Time time.Time `json:"time"`
}

// restoredFrom says what a directory was restored from; "" for one that was
// not, or has started since.
func restoredFrom(dir *datadir.Dir) string {
	text := dir.Restored()
	if text == nil {
		return ""
	}
	var note restoredNote
	if err := json.Unmarshal(text, &note); err != nil {
		return "a backup"
	}
	return "a backup of " + note.Time.UTC().Format("2006-01-02 15:04:05") + " UTC"
}
