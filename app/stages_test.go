package app

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestStagesStopInOrder(t *testing.T) {
	var mu sync.Mutex
	var ended []string
	wait := func(name string, err error) stage {
		return stage{name, func(ctx context.Context) error {
			<-ctx.Done()
			mu.Lock()
			defer mu.Unlock()
			ended = append(ended, name)
			return err
		}, time.Minute}
	}
	broken := errors.New("broken")
	for _, test := range []struct {
		name string
		stop bool
		err  error
	}{{"asked to", true, nil}, {"one ends by itself", false, nil}, {"one fails", false, broken}} {
		t.Run(test.name, func(t *testing.T) {
			ended = nil
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			stages := []stage{wait("store", nil), wait("journal", nil), wait("door", nil)}
			if test.stop {
				cancel()
			} else {
				stages = append(stages, stage{"odd", func(context.Context) error { return test.err }, time.Minute})
			}
			err := runStages(ctx, slog.New(slog.DiscardHandler), time.Minute, stages)
			if want := []string{"door", "journal", "store"}; !slices.Equal(ended, want) {
				t.Errorf("ended %v, want %v", ended, want)
			}
			switch {
			case test.stop && err != nil:
				t.Errorf("error = %v, want none", err)
			case !test.stop && (err == nil || !strings.Contains(err.Error(), "odd")):
				t.Errorf("error = %v, want one that names the stage", err)
			case test.err != nil && !errors.Is(err, test.err):
				t.Errorf("error = %v, want %v", err, test.err)
			}
		})
	}
}

func TestStageThatDoesNotEndIsNamed(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := runStages(ctx, slog.New(slog.DiscardHandler), time.Minute, []stage{
		{"stuck", func(context.Context) error { <-release; return nil }, time.Millisecond},
	})
	if err == nil || !strings.Contains(err.Error(), "stuck: did not end") {
		t.Errorf("error = %v", err)
	}
}

func TestStopIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		stuck := func(context.Context) error { <-release; return nil }
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		begun := time.Now()
		err := runStages(ctx, slog.New(slog.DiscardHandler), 5*time.Second, []stage{
			{"store", func(ctx context.Context) error { <-ctx.Done(); return nil }, time.Hour},
			{"second", stuck, time.Hour},
			{"first", stuck, time.Hour},
		})
		if took := time.Since(begun); took != 5*time.Second+lastMoment {
			t.Errorf("took %s", took)
		}
		if err == nil || !strings.Contains(err.Error(), "first") || !strings.Contains(err.Error(), "second") || strings.Contains(err.Error(), "store") {
			t.Errorf("error = %v", err)
		}
		close(release)
		synctest.Wait()
	})
}
