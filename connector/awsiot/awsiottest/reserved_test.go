package awsiottest

import (
	"strings"
	"testing"
)

// echo answers on the topic with "/accepted".
type echo struct{ broker *broker }

func (e echo) accepts(topic string) bool { return strings.HasSuffix(topic, "/update") }

func (e echo) handle(p reservedPublish) {
	e.broker.publishReserved(p.topic+"/accepted", append([]byte(p.clientID+" "), p.payload...))
}

func TestTakesPublishes(t *testing.T) {
	for topic, want := range map[string]bool{
		"$aws/things/a/shadow/get": true, "$aws/things/a/shadow/name/b/update": true, "$aws/things/a/shadow/update/accepted": false,
		"$aws/things/a/shadow/other": false, "$aws/things/a/x": false, "$aws/things/a/jobs/get": true, "$aws/things/a/jobs/notify-next": false,
		"$aws/things/a/jobs/get/accepted": false, "$aws/events/presence/connected/a": false, "$aws/certificates/create/json": true,
		"$aws/things": false, "$aws/rules": false,
	} {
		if got := takesPublishes(topic); got != want {
			t.Errorf("%s: %v, want %v", topic, got, want)
		}
	}
}

func TestServiceOf(t *testing.T) {
	b := &broker{reserved: map[string]reservedService{}}
	long, short := echo{&broker{}}, echo{b}
	b.serveReserved("$aws/things/", short)
	b.serveReserved("$aws/things/a/", long)
	for topic, want := range map[string]reservedService{"$aws/things/b/update": short, "$aws/things/a/update": long, "$aws/x": nil} {
		if got := b.serviceOf(topic); got != want {
			t.Errorf("%s: %v", topic, got)
		}
	}
}

// TestReservedService wants a service to be handed what clients publish to its
// topics, and its answers to reach whoever subscribed.
func TestReservedService(t *testing.T) {
	s, err := NewServer(Options{KeyType: EC})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	s.broker.serveReserved("$aws/things/", echo{s.broker})
	got := make(chan string, 2)
	s.broker.serveReserved("$aws/things/other/", recorder(func(p reservedPublish) { got <- p.topic }))
	s.broker.publish(&message{topic: "$aws/things/a/update", payload: []byte("x"), origin: "c"})
	s.broker.publish(&message{topic: "$aws/things/other/update", qos: 1})
	if topic := <-got; topic != "$aws/things/other/update" {
		t.Errorf("handed %s", topic)
	}
	if !s.broker.mayPublish("$aws/things/a/update") || s.broker.mayPublish("$aws/things/a/other") {
		t.Error("the service does not decide what clients may publish to")
	}
}

type recorder func(reservedPublish)

func (recorder) accepts(string) bool        { return true }
func (r recorder) handle(p reservedPublish) { r(p) }
