package bare

import (
	"context"

	"sluice/bench/ledger"
	"sluice/bench/load"
	"sluice/bench/sink"
)

// Alone publishes reports as fast as they are acknowledged, without any bridge,
// until ctx ends: the wire's own limit. It uses the bridge's publisher, so it
// has as many publishes under way.
func Alone(ctx context.Context, address string, papers sink.Papers, devices int) error {
	p, err := newPublisher(address, papers)
	if err != nil {
		return err
	}
	defer p.close()
	defer context.AfterFunc(ctx, p.cancel)() // also where a publish waits for a connection
	g, err := load.New(load.Options{
		Devices: devices, Concurrency: min(devices, connections*perConnection),
		Ledger: ledger.New(load.FirstDevEUI, devices),
		Dial: func(worker int) (load.Wire, error) {
			return &directWire{p: p, c: p.conns[worker%connections]}, nil
		},
	})
	if err != nil {
		return err
	}
	g.Run(ctx, 0)
	return nil
}

// directWire is a place on a connection of the publisher.
type directWire struct {
	p *publisher
	c *conn
}

// Post publishes a report and waits for the acknowledgement.
func (w *directWire) Post(devEUI string, _, body []byte) (bool, error) {
	err := w.c.publish(w.p.ctx, devEUI, body)
	return err == nil, nil
}

// Close does nothing: the connections are the publisher's.
func (w *directWire) Close() {}
