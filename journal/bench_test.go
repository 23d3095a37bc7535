package journal

import (
	"bytes"
	"context"
	"fmt"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"sluice"
)

// document is about as large as a report of ThingPark.
func document() []byte {
	return append(append([]byte(`{"DevEUI_uplink":{"payload_hex":"`), bytes.Repeat([]byte("a5"), 580)...), `"}}`...)
}

func cpu(t testing.TB) time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		t.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

func messages(connections int) []*sluice.Message {
	ms, doc := make([]*sluice.Message, 1000), document()
	for i := range ms {
		ms[i] = report(fmt.Sprintf("%016X", i), i)
		ms[i].Connection, ms[i].Document = fmt.Sprint(i%connections+1), doc
	}
	return ms
}

// BenchmarkAppend appends reports of 1.2 KB from many goroutines that each
// wait for their own. cpu-us/op is the process's CPU time for a report.
func BenchmarkAppend(b *testing.B) {
	for _, connections := range []int{1, 50, 500} {
		for _, parallel := range []int{1, 16, 64, 256} {
			b.Run(fmt.Sprintf("connections=%d/parallel=%d", connections, parallel), func(b *testing.B) {
				h, ms := open(b, b.TempDir()), messages(connections)
				benchmarkAppend(b, h, ms, parallel)
				b.ReportMetric(float64(b.N)/float64(h.j.Stats().Commits), "entries/commit")
			})
		}
	}
}

func benchmarkAppend(b *testing.B, h *bench, ms []*sluice.Message, parallel int) {
	b.ReportAllocs()
	b.ResetTimer()
	before := cpu(b)
	var n atomic.Int64
	done := make(chan error, parallel)
	for range parallel {
		go func() {
			for {
				i := n.Add(1)
				if i > int64(b.N) {
					done <- nil
					return
				}
				if err := h.j.Append(context.Background(), ms[i%int64(len(ms))]); err != nil {
					done <- err
					return
				}
			}
		}()
	}
	for range parallel {
		if err := <-done; err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64((cpu(b)-before).Nanoseconds())/1000/float64(b.N), "cpu-us/op")
}

// BenchmarkAppendAndRead is the whole way, with the reader close behind.
func BenchmarkAppendAndRead(b *testing.B) {
	for _, parallel := range []int{16, 64, 256} {
		b.Run(fmt.Sprintf("parallel=%d", parallel), func(b *testing.B) {
			h, ms := open(b, b.TempDir()), messages(1)
			var got atomic.Int64
			h.read(Up("1"), ReadOptions{Concurrency: 100, Handler: sluice.HandlerFunc(func(context.Context, *sluice.Message) error {
				got.Add(1)
				return nil
			})})
			benchmarkAppend(b, h, ms, parallel)
			until(b, "all is read", func() bool { return got.Load() == int64(b.N) })
		})
	}
}

// BenchmarkRead reads a backlog from the stream.
func BenchmarkRead(b *testing.B) {
	for _, group := range []int{1, 50} {
		b.Run(fmt.Sprintf("bundle=%d", group), func(b *testing.B) {
			h, ms := open(b, b.TempDir()), messages(1)
			for i := 0; i < b.N; i += group {
				if err := h.j.Append(context.Background(), ms[:min(group, b.N-i)]...); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportAllocs()
			b.ResetTimer()
			before := cpu(b)
			var got atomic.Int64
			h.read(Up("1"), ReadOptions{Concurrency: 100, Handler: sluice.HandlerFunc(func(context.Context, *sluice.Message) error {
				got.Add(1)
				return nil
			})})
			until(b, "all is read", func() bool { return got.Load() == int64(b.N) })
			b.ReportMetric(float64((cpu(b)-before).Nanoseconds())/1000/float64(b.N), "cpu-us/op")
		})
	}
}
