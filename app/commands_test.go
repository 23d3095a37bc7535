package app

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"sluice"
)

// A command that the network server has taken is not sent again when its
// report cannot be journalled at once, and does not expire then either.
func TestQueuedCommandIsSentOnce(t *testing.T) {
	for _, late := range []bool{false, true} {
		posts, full := 0, true
		var told []*sluice.Message
		now := time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC)
		c := &commands{
			to: sluice.HandlerFunc(func(context.Context, *sluice.Message) error { posts++; return nil }),
			reports: sluice.HandlerFunc(func(_ context.Context, m *sluice.Message) error {
				if full {
					return errors.New("the disk is full")
				}
				told = append(told, m)
				return nil
			}),
			clock:  func() time.Time { return now },
			tells:  func(string, sluice.Kind) bool { return true },
			queued: map[string]time.Time{},
		}
		m := &sluice.Message{ID: "m", Kind: sluice.KindDownlink, DevEUI: "A", Connection: "8", Document: []byte(`{"DevEUI_downlink":{"CorrelationID":"AB"}}`)}
		again := func() error {
			if late {
				return c.late(t.Context(), m, &sluice.Failure{Verdict: sluice.Expired})
			}
			return c.Handle(t.Context(), m)
		}
		if err := c.Handle(t.Context(), m); err == nil {
			t.Error("over, although its report is not durable")
		}
		now = now.Add(time.Minute)
		if err := again(); err == nil {
			t.Error("over, although its report is not durable")
		}
		full = false
		if err := again(); err != nil {
			t.Errorf("late %v: %v", late, err)
		}
		if posts != 1 || len(told) != 1 || told[0].Kind != sluice.KindDownlinkQueued || len(c.queued) != 0 {
			t.Fatalf("late %v: sent %d times, told %+v, %d remembered", late, posts, told, len(c.queued))
		}
		if at := gjson.GetBytes(told[0].Document, "*.Time").String(); at != "2026-03-01T10:00:00.000Z" {
			t.Errorf("queued at %s", at)
		}
	}
}

// What ends a command is told before it is over; and nothing where it is not
// wanted.
func TestEndOfACommandIsTold(t *testing.T) {
	expired := &sluice.Failure{Verdict: sluice.Expired, Message: "It is 9s old, the limit is 8s."}
	rejected := &sluice.Failure{Verdict: sluice.Permanent, Status: 350, Message: "no"}
	for _, wanted := range []bool{true, false} {
		for _, f := range []*sluice.Failure{expired, rejected} {
			full, told := wanted, 0
			c := &commands{
				to: sluice.HandlerFunc(func(context.Context, *sluice.Message) error { return f }),
				reports: sluice.HandlerFunc(func(context.Context, *sluice.Message) error {
					if full {
						return errors.New("the disk is full")
					}
					told++
					return nil
				}),
				clock: time.Now, tells: func(string, sluice.Kind) bool { return wanted }, queued: map[string]time.Time{},
			}
			m := &sluice.Message{ID: "m", Kind: sluice.KindDownlink, Document: []byte(`{"DevEUI_downlink":{}}`)}
			ends := []func() error{func() error { return c.Handle(t.Context(), m) }}
			if f == expired {
				ends = append(ends, func() error { return c.late(t.Context(), m, f) })
			}
			for _, end := range ends {
				full, told = wanted, 0
				if v, _ := sluice.VerdictOf(end()); wanted && v != sluice.Retry {
					t.Errorf("over with verdict %v, although its report is not durable", v)
				}
				full = false
				if v, _ := sluice.VerdictOf(end()); v != f.Verdict || (told == 1) != wanted {
					t.Errorf("verdict %v, told %d times, wanted %v", v, told, wanted)
				}
			}
		}
	}
}
