package awsiot_test

import (
	"context"
	"net"
	"testing"

	"sluice"
	"sluice/connector/awsiot"
	"sluice/connector/awsiot/awsiottest"
)

// A probe reaches the cloud, is no CONNECT, and says why it fails as Open does.
func TestProbe(t *testing.T) {
	c := newCloud(t, awsiottest.Options{Rate: -1})
	probe := func(changes map[string]any) error {
		d := newRig().dial(t, awsiot.Options{}, c.with(t, changes))
		return d.(sluice.Prober).Probe(within(t))
	}
	if err := probe(nil); err != nil {
		t.Errorf("probe: %v", err)
	}
	if n := len(c.ClientStats()); n != 0 {
		t.Errorf("%d CONNECTs", n)
	}
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := gone.Addr().String()
	_ = gone.Close()
	if err := probe(map[string]any{"dataEndpoint": address}); sluice.ReasonOf(err) != sluice.ReasonUnreachable {
		t.Errorf("nobody listens: %v", err)
	}
	if err := probe(map[string]any{"caCertificate": nil}); sluice.ReasonOf(err) != sluice.ReasonTLS {
		t.Errorf("an authority that is not trusted: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	d := newRig().dial(t, awsiot.Options{}, c.with(t, nil))
	if err := d.(sluice.Prober).Probe(ctx); err == nil {
		t.Error("a probe outlives its context")
	}
}
