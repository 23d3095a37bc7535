package awsiot_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluice"
	"sluice/connector/awsiot"
	"sluice/connector/awsiot/awsiottest"
	"sluice/connector/connectortest"
)

// The ids of the clients begin as is configured, are the same after a restart,
// and alternate between two for a changed configuration.
func TestClientIDs(t *testing.T) {
	c := newCloud(t, awsiottest.Options{})
	conf := c.with(t, map[string]any{"clientIdPrefix": "gw.7", "poolSize": 100})
	var ids []string
	for generation := range 2 {
		for range 2 {
			s := open(t, newPool().dial(t, generation, conf), 99)
			ids = append(ids, s.ID())
			closeSession(t, s)
		}
	}
	want := []string{"gw.7-a1b2c3d4-8-99-0", "gw.7-a1b2c3d4-8-99-0", "gw.7-a1b2c3d4-8-99-1", "gw.7-a1b2c3d4-8-99-1"}
	if diff := cmp.Diff(want, ids); diff != "" {
		t.Error(diff)
	}
	s := open(t, newPool().dial(t, 0, c.with(t, nil)), 0)
	subscribe(t, s, new(commands).take)
	for id := range c.ClientStats() {
		if len(id) > 128 || !strings.HasPrefix(id, "gw.7-") && !strings.HasPrefix(id, "sluice-") {
			t.Errorf("client id %s", id)
		}
	}
}

func TestPoolSizes(t *testing.T) {
	c := newCloud(t, awsiottest.Options{})
	for _, tc := range []struct {
		change              map[string]any
		size, least, shares int
	}{
		{map[string]any{"poolSize": nil}, 10, 2, 1},
		{map[string]any{"poolSize": 1}, 1, 1, 1},
		{map[string]any{"poolSize": 100, "poolMin": 50}, 100, 50, 1},
		{map[string]any{"poolSize": 4, "poolMin": 9, "downlinkSessions": 9}, 4, 4, 4},
		{map[string]any{"poolSize": 9, "downlinkSessions": 9, "downlinkTopicPattern": nil}, 9, 2, 1},
	} {
		d := newRig().dial(t, unpaced, c.with(t, tc.change))
		if d.Size() != tc.size || d.(sluice.Grower).Least() != tc.least || d.(sluice.Sharer).Shares() != tc.shares {
			t.Errorf("%v: %d sessions, at least %d, %d share the commands", tc.change, d.Size(), d.(sluice.Grower).Least(), d.(sluice.Sharer).Shares())
		}
	}
}

// A stranger takes the session in which commands are kept: it is said, with
// what to do, and taken back after a while; meanwhile the lane goes on with
// uplinks. The two do not throw each other out without end.
func TestStolenInbox(t *testing.T) {
	c := newCloud(t, awsiottest.Options{})
	r := newRig()
	d := r.dial(t, awsiot.Options{PublishRate: -1, RetryStolen: time.Millisecond}, c.with(t, nil))
	s := open(t, d, 0)
	var got commands
	subscribe(t, s, got.take)
	inbox := c.inboxes()[0]
	connects := func() int { return c.ClientStats()[inbox].Connects }

	stranger := newRig().dial(t, awsiot.Options{PublishRate: -1, RetryStolen: time.Hour}, c.with(t, nil))
	subscribe(t, open(t, stranger, 1), new(commands).take)
	await(t, "the session is taken back", func() bool { return connects() == 3 })
	w := c.watch(t)
	w.commands(t, "mine")
	got.are(t, "mine")
	if err := s.Handle(within(t), connectortest.Uplink(device, 1)); err != nil {
		t.Error(err)
	}
	if err := s.Err(); err != nil {
		t.Errorf("the lane is lost: %v", err)
	}
	events := r.events.Of(sluice.EventSessionLost)
	if len(events) != 1 || events[0].Reason != sluice.ReasonTakenOver || !strings.Contains(events[0].Label, "uses our id") ||
		!strings.Contains(events[0].Detail, inbox) || !strings.Contains(events[0].Hint, "clientIdPrefix") {
		t.Errorf("events %+v", events)
	}
}

// Our own change of the configuration is no stranger.
func TestOwnChangeIsNoTakeover(t *testing.T) {
	c := newCloud(t, awsiottest.Options{})
	p := newPool()
	conf := c.with(t, map[string]any{"presenceTopic": "presence", "poolSize": 3, "downlinkSessions": 3})
	var sessions []sluice.Session
	for generation := range 2 {
		d := p.dial(t, generation, conf)
		for lane := range 3 {
			s := open(t, d, lane)
			subscribe(t, s, new(commands).take)
			sessions = append(sessions, s)
		}
	}
	for _, s := range sessions {
		if err := s.Err(); err != nil {
			t.Error(err)
		}
		endSession(t, s)
	}
	if events := p.events.Of(""); len(events) > 0 {
		t.Errorf("events %+v", events)
	}
}

// tally counts commands by their document.
type tally struct {
	mu  sync.Mutex
	all map[string]int
}

func (c *tally) take(_ context.Context, cmd sluice.Command) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all[string(cmd.Document)]++
	return nil
}

func (c *tally) size() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.all)
}

// More than a thousand commands a second get through the sessions that share
// them, under AWS's hundred a second of each, and each comes once.
func TestSharedCommands(t *testing.T) {
	const members, n = 12, 2500
	c := newCloud(t, awsiottest.Options{Rate: -1, OutboundRate: 100})
	d := newRig().dial(t, unpaced, c.with(t, map[string]any{"poolSize": members, "downlinkSessions": members}))
	got := tally{all: map[string]int{}}
	for lane := range members {
		subscribe(t, open(t, d, lane), got.take)
	}
	if len(c.inboxes()) != members {
		t.Fatalf("sessions %v", c.inboxes())
	}
	began := time.Now()
	var sending sync.WaitGroup
	for from := range 4 {
		w := c.watchAs(t, fmt.Sprintf("sender-%d", from))
		sending.Go(func() {
			for i := from; i < n; i += 4 {
				w.commands(t, fmt.Sprint(i))
			}
		})
	}
	sending.Wait()
	await(t, "all commands", func() bool { return got.size() == n })
	t.Logf("%d commands through %d sessions: %.0f a second", n, members, n/time.Since(began).Seconds())
	for document, times := range got.all {
		if times != 1 {
			t.Errorf("command %s came %d times", document, times)
		}
	}
	for _, id := range c.inboxes() {
		if s := c.ClientStats()[id]; s.Delivered == 0 {
			t.Errorf("session %s got nothing", id)
		}
	}
	if c.Dropped() != 0 {
		t.Errorf("%d dropped", c.Dropped())
	}
}

// What comes while all that share the commands are away waits for them.
func TestSharedCommandsAreKept(t *testing.T) {
	c := newCloud(t, awsiottest.Options{})
	w := c.watch(t)
	conf := c.with(t, map[string]any{"poolSize": 3, "downlinkSessions": 3})
	got := tally{all: map[string]int{}}
	for range 2 {
		d := newPool().dial(t, 0, conf)
		var sessions []sluice.Session
		for lane := range 3 {
			s := open(t, d, lane)
			subscribe(t, s, got.take)
			sessions = append(sessions, s)
		}
		before := got.size()
		w.commands(t, fmt.Sprint("open ", before))
		await(t, "a command", func() bool { return got.size() == before+1 })
		for _, s := range sessions {
			closeSession(t, s)
		}
		if before == 0 {
			w.commands(t, "1", "2", "3", "4", "5")
		}
	}
	await(t, "those that came meanwhile", func() bool { return got.size() == 7 })
}
