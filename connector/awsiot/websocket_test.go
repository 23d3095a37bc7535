package awsiot_test

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice"
	"sluice/connector/awsiot"
	"sluice/connector/awsiot/awsiottest"
	"sluice/connector/connectortest"
)

// A clock that is wrong is found out by AWS's, once, and said; the session
// opens all the same.
func TestWebSocketClock(t *testing.T) {
	for name, changes := range map[string]string{"WSS": "WSS", "HTTPS": "HTTPS by access"} {
		t.Run(name, func(t *testing.T) {
			c := newCloud(t, awsiottest.Options{})
			r := newRig()
			ahead := func() time.Time { return time.Now().Add(time.Hour) }
			d := r.dial(t, awsiot.Options{Clock: ahead}, c.with(t, c.protocols()[changes]))
			for lane := range 2 {
				s := open(t, d, lane)
				if err := s.Handle(within(t), connectortest.Uplink("20635F0108000496", lane)); err != nil {
					t.Fatal(err)
				}
			}
			told := r.events.Of(sluice.EventConfigurationOdd)
			if len(told) != 1 || !strings.Contains(told[0].Detail, "1h0m0s ahead of") || told[0].Hint == "" {
				t.Errorf("events: %+v", told)
			}
		})
	}
}

// A session over WebSocket ends in order before AWS would end it: what is under
// way is acknowledged, and what comes then is for another session.
func TestWebSocketLife(t *testing.T) {
	c := newCloud(t, awsiottest.Options{Rate: -1})
	w := c.watch(t, "tpx/things/+/uplink")
	d := newRig().dial(t, awsiot.Options{WebSocketLife: 300 * time.Millisecond, PublishRate: -1}, c.with(t, c.protocols()["WSS"]))
	s, err := d.Open(within(t), 0, func() {})
	if err != nil {
		t.Fatal(err)
	}
	c.DelayPubacks(500 * time.Millisecond) // so that some are under way at the end
	var wait sync.WaitGroup
	for i := range 5 {
		wait.Go(func() {
			if err := s.Handle(within(t), connectortest.Uplink("20635F010800049"+string(rune('0'+i)), i)); err != nil {
				t.Errorf("under way: %v", err)
			}
		})
	}
	select {
	case <-s.Done():
	case <-within(t).Done():
		t.Fatal("it did not end")
	}
	f, ok := errors.AsType[*sluice.Failure](s.Err())
	if !ok || f.Verdict != sluice.NotConnected || !strings.Contains(f.Message, "24 hours") {
		t.Errorf("why: %v", s.Err())
	}
	if v, _ := sluice.VerdictOf(s.Handle(within(t), connectortest.Uplink("20635F0108000496", 9))); v != sluice.NotConnected {
		t.Errorf("a publish after its life: verdict %d", v)
	}
	if err := s.Close(within(t)); err != nil {
		t.Error(err)
	}
	wait.Wait()
	await(t, "all that was under way", func() bool { return len(w.all()) == 5 })
}
