package app

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"slices"
	"testing"
	"time"

	"sluice"
	"sluice/backup"
	"sluice/internal/natsd"
	"sluice/journal"
)

// BenchmarkAppendDuringBackup measures how long Append takes beside a backup of
// a journal with 200,000 entries that wait, and without one.
func BenchmarkAppendDuringBackup(b *testing.B) {
	server, err := natsd.Start(b.Context(), natsd.Options{Dir: b.TempDir(), SyncAlways: true})
	if err != nil {
		b.Fatal(err)
	}
	defer server.Close()
	conn, err := server.Connect()
	if err != nil {
		b.Fatal(err)
	}
	j, err := journal.Open(b.Context(), journal.Options{Conn: conn})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- j.Run(ctx) }()
	defer func() { cancel(); <-ended }()
	for n := 0; n < 200_000; n += 1000 {
		ms := make([]*sluice.Message, 1000)
		for i := range ms {
			ms[i] = benchReport(n + i)
		}
		if err := j.Append(b.Context(), ms...); err != nil {
			b.Fatal(err)
		}
	}
	backups, err := server.Connect()
	if err != nil {
		b.Fatal(err)
	}
	b.Run("alone", func(b *testing.B) { appends(b, j) })
	b.Run("beside", func(b *testing.B) {
		ctx, cancel := context.WithCancel(b.Context())
		done := make(chan struct{})
		var size counter
		began := time.Now()
		go func() {
			defer close(done)
			for ctx.Err() == nil {
				_ = backup.Write(ctx, &size, backup.Source{ // cancelled at the end
					Conn: backups, Journal: j, Dir: b.TempDir(), Summary: func() backup.Summary { return backup.Summary{} }, Clock: time.Now,
				})
			}
		}()
		appends(b, j)
		cancel()
		<-done
		b.ReportMetric(float64(size)/1e6/time.Since(began).Seconds(), "backup-MB/s")
	})
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	b.Logf("heap %d MB, from the system %d MB", m.HeapInuse>>20, m.Sys>>20)
}

// counter counts bytes.
type counter int64

func (c *counter) Write(p []byte) (int, error) { *c += counter(len(p)); return len(p), nil }

var _ io.Writer = (*counter)(nil)

func benchReport(n int) *sluice.Message {
	document := make([]byte, 1200)
	for i := range document {
		document[i] = byte('0' + (n*31+i*i+i*n)%77)
	}
	return &sluice.Message{
		ID: fmt.Sprint(n), Kind: "DevEUI_uplink", DevEUI: fmt.Sprint(n % 1000), Connection: "1", Received: time.Now(), Document: document,
	}
}

// appends appends one after another, 1,000 a second, and reports how long that
// takes.
func appends(b *testing.B, j *journal.Journal) {
	b.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	var took []time.Duration
	for n := 0; b.Loop(); n++ {
		<-tick.C
		start := time.Now()
		if err := j.Append(b.Context(), benchReport(n)); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-us")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-us")
	b.ReportMetric(float64(took[len(took)-1].Microseconds()), "max-us")
}
