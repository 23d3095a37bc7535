// Package bare is the yardstick of the measurements: a bridge as bare as one
// can be that keeps what it has answered. Reports come in by net/http, are
// appended to a file with one fsync a group, are answered, and go out by
// paho.golang over ten connections. It checks no signature, reads no document,
// has no configuration, no limits, no cursor, and counts nothing; what it does
// is what any bridge in Go must do. It is not for use.
package bare

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"time"

	"sluice/bench/sink"
)

// Options say where the bridge listens, writes and sends.
type Options struct {
	Listen string // 127.0.0.1:0 for a free port
	Data   string // directory of the log
	Sink   string // host:port
	Papers sink.Papers
}

// Bridge is a running bridge.
type Bridge struct {
	listener net.Listener
	server   *http.Server
	journal  *journal
	out      *publisher
	stop     chan struct{}
	all      sync.WaitGroup
}

// New starts a bridge, which begins by sending what is in its log.
func New(o Options) (*Bridge, error) {
	listener, err := net.Listen("tcp", o.Listen)
	if err != nil {
		return nil, err
	}
	b := &Bridge{listener: listener, stop: make(chan struct{})}
	var old []*record
	if b.journal, old, err = openJournal(filepath.Join(o.Data, "log")); err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	if b.out, err = newPublisher(o.Sink, o.Papers); err != nil {
		return nil, errors.Join(err, listener.Close(), b.journal.file.Close())
	}
	for _, r := range old {
		b.out.send(r)
	}
	b.server = &http.Server{Handler: b, ReadHeaderTimeout: 10 * time.Second}
	b.all.Go(func() { b.journal.run(b.stop, b.out.send) })
	b.all.Go(func() { _ = b.server.Serve(listener) })
	return b, nil
}

// Addr is the address that the bridge listens on.
func (b *Bridge) Addr() string { return b.listener.Addr().String() }

// ServeHTTP takes a report and answers once it is on the disk.
func (b *Bridge) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	devEUI := r.URL.Query().Get("LrnDevEui")
	if len(devEUI) != 16 || r.ContentLength < 0 || r.ContentLength > 1<<20 {
		http.Error(w, "no report", http.StatusBadRequest)
		return
	}
	body := make([]byte, r.ContentLength)
	if _, err := io.ReadFull(r.Body, body); err != nil {
		http.Error(w, "no report", http.StatusBadRequest)
		return
	}
	rec := &record{devEUI: devEUI, body: body, done: make(chan error, 1)}
	b.journal.add(rec)
	if err := <-rec.done; err != nil {
		http.Error(w, "no disk", http.StatusServiceUnavailable)
	}
}

// Close ends the bridge. What was not sent stays in the log.
func (b *Bridge) Close(ctx context.Context) error {
	err := b.server.Shutdown(ctx)
	close(b.stop)
	b.all.Wait()
	b.out.close()
	return errors.Join(err, b.journal.file.Close())
}
