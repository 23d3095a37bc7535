package run

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/tidwall/gjson"

	"sluice/app/demo"
	"sluice/bench/load"
)

// The systems that can be measured anywhere.
const (
	nameSluice    = "Sluice"
	nameYardstick = "bare bridge in Go (the yardstick)"
	nameAlone     = "publisher alone (no bridge)"
)

// yardstick is the bare bridge.
func yardstick() *system {
	return &system{name: nameYardstick, launch: func(_ context.Context, b *bed) error {
		return b.launchChild(childSpec{Kind: childBare, Sink: b.sink.Addr(), Papers: b.sink.Papers()}, "/ingest")
	}}
}

// alone is the wire's own limit.
func alone() *system {
	return &system{name: nameAlone, source: true, launch: func(_ context.Context, b *bed) error {
		return b.launchChild(childSpec{Kind: childAlone, Sink: b.sink.Addr(), Papers: b.sink.Papers(), Devices: b.o.Devices}, "")
	}}
}

// sluiceSystem is Sluice with a number of connections that share the load,
// each with its share of the devices, and a pace of each session.
func sluiceSystem(connections int, rate float64) *system {
	s := &system{name: nameSluice, rate: rate}
	if connections > 1 {
		s.connections = connections
	}
	s.launch = launchSluice
	return s
}

func launchSluice(ctx context.Context, b *bed) error {
	data := filepath.Join(b.dir, "data")
	if err := os.MkdirAll(data, 0o700); err != nil {
		return err
	}
	path := b.where().URL // known once it was configured
	if err := b.launchChild(childSpec{Kind: childSluice, Data: data, Rate: b.system.rate, Share: b.system.share}, ""); err != nil {
		return err
	}
	if path != "" {
		b.aim(load.Target{URL: path})
		return nil
	}
	api := demo.REST{Base: "http://" + b.process.hello.Addr, Token: b.process.hello.Token}
	path, err := configure(ctx, b, api)
	if err != nil {
		return err
	}
	b.aim(load.Target{URL: api.Base + path})
	return nil
}

// configure makes a network, the connections and their flows, and waits until
// every session is open.
func configure(ctx context.Context, b *bed, api demo.REST) (ingest string, err error) {
	var network struct{ IngestPath string }
	if err := api.Do(ctx, "POST", "/networks", map[string]any{
		"kind": "thingpark", "name": "load",
		"configuration": map[string]any{"asId": load.ASID, "asKey": load.ASKey},
	}, &network); err != nil {
		return "", err
	}
	n := max(b.system.connections, 1)
	size := 10
	if n > 1 {
		size = 1
	}
	ids := make([]string, 0, n)
	for i := range n {
		to := b.sink
		if i == 1 && b.system.second != nil {
			to = b.system.second
		}
		papers := to.Papers()
		var connection struct{ ID string }
		if err := api.Do(ctx, "POST", "/connections", map[string]any{
			"connectorId": "actility-aws-iot", "name": fmt.Sprintf("sink %d", i),
			"configuration": map[string]any{
				"uplinkTopicPattern": "tpx/things/{DevEUI}/uplink", "downlinkTopicPattern": "tpx/things/{DevEUI}/downlink",
				"region": "eu-central-1", "accountPrefix": "bench-ats", "dataEndpoint": to.Addr(), "createDevices": false,
				"certificate": papers.Certificate, "privateKey": papers.PrivateKey, "caCertificate": papers.CA, "poolSize": size, "poolMin": size,
			},
		}, &connection); err != nil {
			return "", err
		}
		ids = append(ids, connection.ID)
		matchers := []any{}
		if b.system.connections > 0 {
			matchers = append(matchers, map[string]any{"type": "thing", "tags": []string{load.Tag(i)}})
		}
		if err := api.Do(ctx, "POST", "/flows", map[string]any{
			"name": fmt.Sprintf("flow %d", i), "matchers": matchers,
			"connectors": []any{map[string]any{"id": "actility-aws-iot", "connectionId": connection.ID}},
		}, nil); err != nil {
			return "", err
		}
	}
	for _, id := range ids {
		var answer []byte
		if await(ctx, time.Minute, func() bool {
			_, answer, _ = api.Raw(ctx, "GET", "/connections/"+id, nil) // asked again where it fails
			return gjson.GetBytes(answer, "sessions.open").Int() == int64(size)
		}) != nil {
			return "", fmt.Errorf("connection %s is not open with %d sessions after a minute; the sink has %q, and the connection is %s %s",
				id, size, b.sink.ClientIDs(), gjson.GetBytes(answer, "state"), gjson.GetBytes(answer, "sessions"))
		}
	}
	return network.IngestPath, nil
}

// launchChild starts a child, on the address that it had before, if any.
func (b *bed) launchChild(spec childSpec, path string) error {
	spec.Listen, spec.Profile = "127.0.0.1:0", b.o.Profile != ""
	if b.process != nil {
		spec.Listen = b.process.hello.Addr
	}
	if spec.Data == "" {
		spec.Data = b.dir
	}
	p, err := startChild(spec, filepath.Join(b.dir, "log.txt"))
	if err != nil {
		return err
	}
	b.process = p
	if path != "" {
		b.aim(load.Target{URL: "http://" + p.hello.Addr + path})
	}
	return nil
}

// freePort is a port of the loopback that nobody listens on just now.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}
