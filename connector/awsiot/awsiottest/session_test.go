package awsiottest

import (
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	mqtt "github.com/mochi-mqtt/server/v2"
)

// closed is a link to a client whose window is closed: all that is sent waits.
func closed() link { return link{client: &mqtt.Client{}, persistent: true} }

func numbered(n int) *delivery {
	return &delivery{message: &message{topic: "t", payload: []byte(strconv.Itoa(n)), qos: 1}, qos: 1}
}

// What comes while a connection ends is kept behind what waited for it.
func TestDetachKeepsOrder(t *testing.T) {
	s := newSession("a", newBroker(Options{}.withDefaults(), nil, nil), &clientStats{})
	l := closed()
	l.stop, l.stopped, l.outbound = make(chan struct{}), make(chan struct{}), newBucket(0)
	s.link = l // its writer is this test
	s.enqueue(numbered(0))
	s.enqueue(numbered(1))
	detached := make(chan struct{})
	go func() {
		defer close(detached)
		s.detach(l.client)
	}()
	<-l.stop
	s.enqueue(numbered(2))
	s.enqueue(numbered(3))
	close(l.stopped)
	<-detached
	var kept []string
	for _, d := range s.stored {
		kept = append(kept, string(d.payload))
	}
	if diff := cmp.Diff([]string{"0", "1", "2", "3"}, kept); diff != "" {
		t.Errorf("kept (-want +got): %s", diff)
	}
}

// A message that comes while a client connects is kept. The clock is asked with
// the lock held: there others queue for it, for long enough that they have it in
// turn, a client among those who send.
func TestNothingIsDroppedInBetween(t *testing.T) {
	var s *session
	var others sync.WaitGroup
	var once sync.Once
	const senders = 40
	o := Options{Clock: func() time.Time {
		once.Do(func() {
			for i := range senders {
				others.Go(func() { s.enqueue(numbered(i)) })
				if i == senders/2 {
					others.Go(func() { s.attach(closed()) })
				}
			}
		})
		for now := time.Now(); time.Since(now) < 2*time.Millisecond; {
			runtime.Gosched()
		}
		return time.Now()
	}}
	s = newSession("a", newBroker(o.withDefaults(), nil, nil), &clientStats{})
	s.enqueue(numbered(senders))
	others.Wait()
	s.detach(s.client)
	if n := len(s.stored); n != senders+1 || s.stats.counts.Dropped > 0 {
		t.Errorf("%d messages are kept, want %d; %d were dropped", n, senders+1, s.stats.counts.Dropped)
	}
}
