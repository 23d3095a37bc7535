package awsiottest_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/eclipse/paho.golang/paho"

	"sluice/connector/awsiot/awsiottest"
)

// BenchmarkThroughput sends 1 KB messages of QoS 1 from ten clients, one at a
// time each, to one subscriber, all in this process.
func BenchmarkThroughput(b *testing.B) {
	s, err := awsiottest.NewServer(awsiottest.Options{Rate: -1, KeyType: awsiottest.EC})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(s.Close)
	var received atomic.Int64
	all := make(chan struct{}, 1)
	subscriber := connect(b, s, dialer{id: "subscriber", receive: func(*paho.Publish) {
		if received.Add(1) == int64(b.N) {
			all <- struct{}{}
		}
	}})
	subscriber.subscribe(b, "up/+")
	const clients = 10
	var senders sync.WaitGroup
	var sent atomic.Int64
	publishers := make([]*client, clients)
	for i := range publishers {
		publishers[i] = connect(b, s, dialer{id: fmt.Sprintf("client-%d", i)})
	}
	payload := make([]byte, 1024)
	b.ResetTimer()
	for i, c := range publishers {
		senders.Go(func() {
			for sent.Add(1) <= int64(b.N) {
				if _, err := c.Publish(b.Context(), &paho.Publish{Topic: fmt.Sprintf("up/%d", i), QoS: 1, Payload: payload}); err != nil {
					b.Error(err)
				}
			}
		})
	}
	senders.Wait()
	<-all
}
