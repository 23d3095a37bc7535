package main

import (
	"log/slog"
	"time"

	"sluice/app/demo"
)

type demoCommand struct {
	For      time.Duration `placeholder:"TIME" help:"Stop after this time, print a summary, and exit 0 only if nothing was lost."`
	Rate     int           `default:"50" placeholder:"N" help:"Reports a second (default ${default})."`
	Devices  int           `default:"50" placeholder:"N" help:"Simulated devices (default ${default})."`
	Listen   string        `placeholder:"ADDR" help:"Address of the REST API (default 127.0.0.1:8080, or a free port where that is taken)."`
	LogLevel slog.Level    `name:"log-level" default:"error" placeholder:"LEVEL" help:"debug, info, warn or error (default ${default})."`
}

func (c *demoCommand) Run(p *process) error {
	return demo.Run(p.ctx, demo.Options{
		For: c.For, Rate: c.Rate, Devices: c.Devices, Listen: c.Listen,
		Version: versionText(), Out: p.out, Log: p.logger(c.LogLevel),
	})
}
