package lifetime

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestLoopStartsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var at []time.Duration
		began := time.Now()
		l := Loop{Name: "x", Min: time.Second, Max: 4 * time.Second, Rand: func() float64 { return 1 }, Log: slog.New(slog.DiscardHandler)}
		l.Run(ctx, func(ctx context.Context) error {
			at = append(at, time.Since(began))
			switch len(at) {
			case 1:
				return errors.New("an error")
			case 2:
				panic("a panic")
			case 3, 4:
				return nil // too early is an error too
			case 5:
				time.Sleep(steady)
				return nil
			case 6:
				cancel()
			}
			<-ctx.Done()
			return ctx.Err()
		})
		want := []time.Duration{0, time.Second, 3 * time.Second, 7 * time.Second, 11 * time.Second, 12*time.Second + steady}
		for i := range want {
			if i >= len(at) || at[i] != want[i] {
				t.Fatalf("runs at %v, want %v", at, want)
			}
		}
	})
}

func TestGuard(t *testing.T) {
	err := Guard(func() error { panic("boo") })
	p, ok := errors.AsType[*PanicError](err)
	if !ok || p.Value != "boo" || !strings.Contains(err.Error(), "TestGuard") {
		t.Errorf("error %v", err)
	}
	if err := Guard(func() error { return nil }); err != nil {
		t.Error(err)
	}
}
