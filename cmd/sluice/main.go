// Command sluice is the bridge between LoRaWAN network servers and the cloud.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"

	"sluice"
)

// version is set by the build (make build); else it is the module's own.
var version = ""

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// commands is the command line.
type commands struct {
	Demo     demoCommand     `cmd:"" help:"Run everything in one process: Sluice, an AWS IoT emulator, simulated devices."`
	Serve    serveCommand    `cmd:"" help:"Run Sluice on a data directory."`
	Backup   backupCommand   `cmd:"" help:"Back up a Sluice that runs into one file."`
	Restore  restoreCommand  `cmd:"" help:"Make a data directory of a backup."`
	AWSLocal awsLocalCommand `cmd:"" name:"aws-local" help:"Run the AWS IoT emulator by itself and print what to paste into POST /connections."`
	Doctor   doctorCommand   `cmd:"" help:"Test a connection step by step, and say what to do next."`
	AWS      awsCommand      `cmd:"" name:"aws" help:"Write down what AWS must allow."`
	Version  versionCommand  `cmd:"" help:"Print the version."`

	ShowVersion versionFlag `name:"version" help:"Print the version."`
}

// process is what the commands share of the process around them.
type process struct {
	ctx    context.Context
	out    io.Writer
	errOut io.Writer
}

// run parses the command line, runs the command and returns the exit code: 0
// for success, 1 for a failure, 2 for a wrong command line.
func run(ctx context.Context, args []string, out, errOut io.Writer) int {
	var c commands
	exit := -1
	parser, err := kong.New(&c,
		kong.Name("sluice"),
		kong.Description("A bridge between LoRaWAN network servers and AWS IoT Core."),
		kong.Writers(out, errOut),
		kong.Exit(func(code int) { exit = code }),
		kong.UsageOnError(),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
	)
	if err != nil {
		fmt.Fprintln(errOut, "sluice:", err)
		return 1
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	parsed, err := parser.Parse(args)
	if exit >= 0 { // --help, --version
		return exit
	}
	if err != nil {
		fmt.Fprintf(errOut, "sluice: %v\nTry: sluice --help\n", err)
		return 2
	}
	if err := parsed.Run(&process{ctx: ctx, out: out, errOut: errOut}); err != nil {
		printError(errOut, err)
		return 1
	}
	return 0
}

// printError says what is wrong, and what to do about it.
func printError(w io.Writer, err error) {
	if errors.Is(err, errNotWell) {
		return // all is said
	}
	var e *sluice.Error
	if !errors.As(err, &e) {
		fmt.Fprintln(w, "sluice:", err)
		return
	}
	fmt.Fprintln(w, "sluice:", e)
	for _, f := range e.Fields {
		fmt.Fprintf(w, "  %s: %s\n", f.Path, f.Message)
	}
	if e.Hint != "" {
		fmt.Fprintln(w, "→", e.Hint)
	}
}

type versionCommand struct{}

func (versionCommand) Run(p *process) error {
	printVersion(p.out)
	return nil
}

func printVersion(w io.Writer) { fmt.Fprintln(w, "sluice", versionText()) }

func versionText() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return strings.Trim(info.Main.Version, "()")
	}
	return "devel"
}

// logger writes what operators read to errOut.
func (p *process) logger(level slog.Level) *slog.Logger {
	return slog.New(slog.NewTextHandler(p.errOut, &slog.HandlerOptions{Level: level}))
}
