package awsiot_test

import (
	"context"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sluice"
	"sluice/connector/awsiot"
	"sluice/connector/awsiot/awsiottest"
)

// Commands that come near what AWS sends one client are told once, with what
// was measured and what to do, and the gauge shows them.
func TestCommandsNearTheLimit(t *testing.T) {
	for name, c := range map[string]struct {
		conf map[string]any
		say  []string
	}{
		"one": {nil, []string{
			"Set downlinkSessions to 2; it is 1", "may then overtake", "iot:Subscribe on arn:aws:iot:eu-central-1:",
			":topicfilter/$share/sluice-a1b2c3d4-8/tpx/things/+/downlink", ":client/sluice-a1b2c3d4-8-*", "the certificate's policy", "aws policy 8",
		}},
		"all of a pool": {map[string]any{"poolSize": 1}, []string{"Set downlinkSessions and poolSize to 2; they are 1 and 1."}},
		"not kept":      {map[string]any{"clientIdPrefix": "plain"}, []string{":topicfilter/$share/plain-a1b2c3d4-8/"}},
	} {
		t.Run(name, func(t *testing.T) {
			cloud := newCloud(t, awsiottest.Options{Rate: -1})
			w := cloud.watch(t)
			if name == "not kept" {
				cloud.RefusePersistent(true)
			}
			r := newRig()
			var now atomic.Int64
			now.Store(time.Now().Unix())
			d, err := awsiot.New(unpaced).Dialer(sluice.DialerSpec{
				Connection: sluice.Connection{ID: "8", Configuration: cloud.with(t, c.conf)}, Common: r.common, Instance: "a1b2c3d4",
				Things: r.things, Events: r.events, Log: slog.New(slog.DiscardHandler),
				Clock: func() time.Time { return time.Unix(now.Load(), 0) },
			})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(d.Close)
			var taken atomic.Int64
			subscribe(t, open(t, d, 0), func(context.Context, sluice.Command) error {
				taken.Add(1)
				return nil
			})
			second := func(commands int) {
				t.Helper()
				want := taken.Load() + int64(commands)
				for range commands {
					w.commands(t, "{}")
				}
				await(t, "commands", func() bool { return taken.Load() == want })
				now.Add(1)
			}
			for range 6 {
				second(79)
			}
			told := func() []sluice.Event { return r.events.Of(sluice.EventDownlinkNearLimit) }
			if e := told(); len(e) > 0 {
				t.Fatalf("told at 79 a second: %+v", e)
			}
			for range 7 {
				second(96)
			}
			if got := d.(sluice.Gauger).CommandRate(); got != 96 {
				t.Errorf("%v a second", got)
			}
			e := told()
			if len(e) != 1 || e[0].Level != sluice.LevelWarning || e[0].Reason != sluice.ReasonThrottled || e[0].Connection != "8" ||
				!strings.Contains(e[0].Detail, " commands a second came to one client, over 5 seconds. AWS sends a client 100 a second") {
				t.Fatalf("%+v", e)
			}
			for _, want := range c.say {
				if !strings.Contains(e[0].Hint, want) {
					t.Errorf("the hint %q does not say %q", e[0].Hint, want)
				}
			}
		})
	}
}
