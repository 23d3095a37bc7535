package app

import (
	"context"
	"encoding/json"
	"fmt"

	"sluice"
	"sluice/backup"
	"sluice/internal/datadir"
	"sluice/internal/natsd"
	"sluice/internal/seal"
	"sluice/journal"
)

// Restored is what was restored.
type Restored struct {
	backup.Manifest
	// Counters are those of each connection, by its id.
	Counters map[string]sluice.Counters
	// KeyMissing tells that secrets are there and their key is not.
	KeyMissing bool
}

// Restore makes a data directory of an archive, as [datadir.Restore] does. key,
// when it is not nil, is the text of the key file.
func Restore(ctx context.Context, o Options, a *backup.Archive, key []byte) (r Restored, err error) {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return r, err
	}
	if key == nil {
		key = a.Key
	}
	r = Restored{Manifest: a.Manifest, KeyMissing: a.KeyID != "" && key == nil}
	note, err := json.Marshal(restoredNote{a.Time})
	if err != nil {
		return r, fmt.Errorf("restore: %w", err)
	}
	err = datadir.Restore(o.Data, a.Instance, note, func(d *datadir.Dir) error {
		if err := restoreKey(d, key, a.KeyID); err != nil {
			return err
		}
		r.Counters, err = restoreStreams(ctx, o, d, a)
		return err
	})
	return r, err
}

// restoreKey writes the key file, and compares the key with the one that was
// used.
func restoreKey(d *datadir.Dir, key []byte, id string) error {
	if key == nil {
		return nil
	}
	if err := datadir.WriteFile(d.KeyFile(), key, 0o600); err != nil {
		return err
	}
	k, err := seal.Load(d.KeyFile())
	if err != nil {
		return err
	}
	if id != "" && k.ID() != id {
		return &sluice.Error{
			Code:    sluice.CodeInvalid,
			Message: fmt.Sprintf("this key is not the one that the secrets in the backup are sealed with: its id is %s, theirs is %s", k.ID(), id),
			Hint:    "Name the right key file with --key-file. Nothing was restored.",
		}
	}
	return nil
}

// restoreStreams makes the streams, and opens the journal on them to see how it
// stands. Nothing is synced meanwhile: all files are, at the end.
func restoreStreams(ctx context.Context, o Options, d *datadir.Dir, a *backup.Archive) (map[string]sluice.Counters, error) {
	server, err := natsd.Start(ctx, natsd.Options{Dir: d.JournalDir(), Log: o.Log})
	if err != nil {
		return nil, err
	}
	defer server.Close()
	conn, err := server.Connect()
	if err != nil {
		return nil, err
	}
	if err := a.Restore(ctx, conn); err != nil {
		return nil, err
	}
	j, err := journal.Open(ctx, journal.Options{Conn: conn, Clock: o.Clock, Log: o.Log})
	if err != nil {
		return nil, err
	}
	counters := map[string]sluice.Counters{}
	for _, c := range a.Connections {
		counters[c.ID] = j.Counters(journal.Up(c.ID))
	}
	return counters, nil
}
