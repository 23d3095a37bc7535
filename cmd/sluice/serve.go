package main

import (
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"time"

	"github.com/alecthomas/units"

	"sluice/app"
)

// defaultListen is where Sluice listens unless it is told otherwise.
const defaultListen = "127.0.0.1:8080"

type serveCommand struct {
	Data          string           `required:"" placeholder:"DIR" help:"The data directory: journal, configuration, keys."`
	Listen        string           `default:"127.0.0.1:8080" placeholder:"ADDR" help:"Address of the REST API and of the reports (default ${default})."`
	PublicURL     string           `name:"public-url" placeholder:"URL" help:"Address that others reach Sluice at; puts downlinkUrl into uplinks."`
	KeyFile       string           `name:"key-file" placeholder:"FILE" help:"The key that seals secrets (default: secret.key in the data directory)."`
	ForgetSecrets bool             `name:"forget-secrets" help:"Start although the key is lost: make a new one; the secrets must be entered again."`
	Drain         time.Duration    `default:"5s" placeholder:"TIME" help:"How long to go on delivering when asked to stop (default ${default})."`
	Retention     time.Duration    `default:"168h" placeholder:"TIME" help:"How old a report may become before it is given up (default ${default})."`
	History       time.Duration    `default:"24h" placeholder:"TIME" help:"How long what was delivered is kept (default ${default})."`
	Share         units.Base2Bytes `placeholder:"SIZE" help:"What the waiting reports of one connection may take of the disk, such as 2GiB (default: a quarter of what is free)."`
	Reserve       units.Base2Bytes `default:"256MiB" placeholder:"SIZE" help:"What stays free on the disk: below it, reports are refused (default ${default})."`
	LogLevel      slog.Level       `name:"log-level" default:"info" placeholder:"LEVEL" help:"debug, info, warn or error (default ${default})."`
}

func (c *serveCommand) Run(p *process) error {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(app.GCPercent)
	}
	log := p.logger(c.LogLevel)
	a, err := app.New(p.ctx, app.Options{
		Data: c.Data, Listen: c.Listen, PublicURL: c.PublicURL, KeyFile: c.KeyFile,
		ForgetSecrets: c.ForgetSecrets, Drain: c.Drain,
		Retention: c.Retention, History: c.History, Share: int64(c.Share), Reserve: int64(c.Reserve),
		Version: versionText(), Log: log, LogEvents: true,
	})
	switch {
	case p.ctx.Err() != nil && err != nil:
		return nil // asked to stop while it started: that is no failure
	case err != nil:
		return err
	}
	if file, created := a.TokenFile(); created {
		fmt.Fprintf(p.errOut, "An administrator token was made. It is in %s; send it as \"Authorization: Bearer <token>\".\n", file)
	} else {
		fmt.Fprintf(p.errOut, "The administrator token is in %s.\n", file)
	}
	fmt.Fprintf(p.errOut, "Sluice %s listens on http://%s (API page: http://%s/docs).\n", versionText(), a.Addr(), a.Addr())
	return a.Run(p.ctx)
}
