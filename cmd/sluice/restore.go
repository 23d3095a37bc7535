package main

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime/debug"

	"sluice"
	"sluice/app"
	"sluice/backup"
)

type restoreCommand struct {
	Data    string `required:"" placeholder:"DIR" help:"The data directory to make: one that is empty or does not exist yet."`
	KeyFile string `name:"key-file" placeholder:"FILE" help:"The key of the secrets, where it is not in the backup; it is copied into the data directory."`
	File    string `arg:"" help:"The backup."`
}

func (c *restoreCommand) Run(p *process) error {
	var key []byte
	if c.KeyFile != "" {
		var err error
		if key, err = os.ReadFile(c.KeyFile); err != nil {
			return &sluice.Error{Code: sluice.CodeInvalid, Message: "the key file cannot be read", Hint: "Nothing was restored.", Err: err}
		}
	}
	// The server below keeps blocks for ten seconds; what is free of them is to
	// be used again before the process grows.
	debug.SetGCPercent(25)
	a, err := backup.Open(c.File)
	if err != nil {
		return err
	}
	defer func() { _ = a.Close() }() // was only read
	r, err := app.Restore(p.ctx, app.Options{Data: c.Data, Log: p.logger(slog.LevelError)}, a, key)
	if err != nil {
		return err
	}
	c.report(p.out, r)
	return nil
}

// report says what was restored, and what happens next.
func (c *restoreCommand) report(w io.Writer, r app.Restored) {
	fmt.Fprintf(w, "Restored into %s, from a backup of %s made by Sluice %s:\n\n", c.Data, r.Time.Format("2006-01-02 15:04:05 UTC"), r.Sluice)
	fmt.Fprintf(w, "  %d connections, %d flows, %d networks\n", len(r.Connections), r.Flows, r.Networks)
	for _, n := range r.Connections {
		counted := r.Counters[n.ID]
		fmt.Fprintf(w, "  connection %s (%s): %d reports received, %d wait\n", n.ID, n.Name, counted.Received, counted.Pending)
	}
	fmt.Fprint(w, "\nWhen it starts, it delivers what waits. What was delivered after the backup is delivered again, under the same ids.\n"+
		"Reports that were accepted after the backup are not in it. An administrator token is made at the first start.\n"+
		"Do not run it beside the original: both use the same client ids, and would throw each other out of the cloud.\n\n")
	if r.KeyMissing {
		fmt.Fprintf(w, "The key of the secrets (id %s) is not in the backup. Put secret.key into %s before the start;\n"+
			"where it is lost, start once with --forget-secrets and enter the secrets again.\n\n", r.KeyID, c.Data)
	}
	fmt.Fprintf(w, "Next: sluice serve --data %s\n", c.Data)
}
