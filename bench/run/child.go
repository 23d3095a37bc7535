package run

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"runtime/debug"
	"time"

	"sluice"
	"sluice/app"
	"sluice/bench/bare"
	"sluice/bench/sink"
	"sluice/connector/awsiot"
)

// What is measured runs in a process of its own, so that its processor time
// and its memory are its own. It is this same program: the environment says
// that it is to be a child, and which.
const childVariable = "SLUICE_BENCH_CHILD"

// The kinds of children.
const (
	childSluice = "sluice"
	childBare   = "bare"
	childAlone  = "alone"
)

// childSpec says what a child is to be.
type childSpec struct {
	Kind    string
	Listen  string
	Data    string
	Sink    string      // of bare and alone
	Papers  sink.Papers // of bare and alone
	Devices int         // of alone
	Rate    float64     // of sluice: publishes a second and session; negative: not paced
	Share   int64       // of sluice: of the disk, of each connection
	Profile bool        // serve net/http/pprof
}

// childHello is the line that a child writes when it is ready.
type childHello struct {
	Addr  string
	Token string // of sluice
	Pprof string // address of net/http/pprof, if asked for
}

// Child runs what the environment says, if it says that this process is a
// child. main and TestMain call it first and exit with its code if it was one.
func Child() (code int, child bool) {
	text, child := os.LookupEnv(childVariable)
	if !child {
		return 0, false
	}
	if err := runChild(text); err != nil {
		fmt.Fprintln(os.Stderr, "child:", err)
		return 1, true
	}
	return 0, true
}

func runChild(text string) error {
	var spec childSpec
	if err := json.Unmarshal([]byte(text), &spec); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() { // the parent's end, however it comes, ends the child
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	var hello childHello
	if spec.Profile {
		address, stop, err := servePprof()
		if err != nil {
			return err
		}
		defer stop()
		hello.Pprof = address
	}
	switch spec.Kind {
	case childSluice:
		return sluiceChild(ctx, spec, hello)
	case childBare:
		return bareChild(ctx, spec, hello)
	case childAlone:
		sayHello(hello)
		return bare.Alone(ctx, spec.Sink, spec.Papers, spec.Devices)
	}
	return fmt.Errorf("no child is called %q", spec.Kind)
}

func sayHello(h childHello) {
	line, _ := json.Marshal(h)
	fmt.Println(string(line))
}

// sluiceChild is `sluice serve` with another pace.
func sluiceChild(ctx context.Context, spec childSpec, hello childHello) error {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(app.GCPercent)
	}
	a, err := app.New(ctx, app.Options{
		Data: spec.Data, Listen: spec.Listen, Version: "bench", Share: spec.Share,
		Connectors: []sluice.Connector{awsiot.New(awsiot.Options{PublishRate: spec.Rate})},
		Log:        slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
	})
	if err != nil {
		return err
	}
	hello.Addr, hello.Token = a.Addr(), a.Token()
	sayHello(hello)
	return a.Run(ctx)
}

func bareChild(ctx context.Context, spec childSpec, hello childHello) error {
	b, err := bare.New(bare.Options{Listen: spec.Listen, Data: spec.Data, Sink: spec.Sink, Papers: spec.Papers})
	if err != nil {
		return err
	}
	hello.Addr = b.Addr()
	sayHello(hello)
	<-ctx.Done()
	end, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return b.Close(end)
}

func servePprof() (address string, stop func(), err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	s := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(l)
	}()
	return l.Addr().String(), func() { _ = s.Close(); <-done }, nil
}
