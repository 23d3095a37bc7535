// Package thingparktest simulates ThingPark for tests, demos and
// measurements: a [Fleet] of devices whose reports are posted as its LRC posts
// them, signed, and an [LRC] that takes downlinks and checks their signature.
// It shares no code with the production side, so that one checks the other.
//
// What it does not do: there is no radio, no join procedure, no second LRC, no
// routing profile and no retry (the real one does not retry either). Reports
// of kinds whose signature nobody published are signed as notifications are.
// Connections are kept open, where the real LRC opens one for each report.
package thingparktest

import (
	"context"
	"fmt"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"sluice"
)

// FleetOptions say what a Fleet simulates. Only URL is needed.
type FleetOptions struct {
	URL         string        // where reports are posted: http://host/ingest/{networkId}, own parameters allowed
	ASID, ASKey string        // sign the reports; empty: unsigned
	Devices     int           // default 50
	First       uint64        // DevEUI of the first device as a number; the others follow. Default 0x0251C0DE00000001
	Concurrency int           // connections, hence reports under way at once; default 32, at most one for each device
	Timeout     time.Duration // for one report; default 5 s
	Tags        []string      // CustomerData.tags of every device
	ModelCfg    string        // default "0"
	CustomerID  string        // default "100009731"
	Form        Form          // of the documents; default Typed
	Clock       sluice.Clock  // default time.Now
}

// Fleet is a number of simulated devices. Its methods may be called by several
// goroutines.
type Fleet struct {
	o       FleetOptions
	url     *url.URL
	devices []*device
}

// device counts a device's frames. Its mutex keeps its reports in order.
type device struct {
	mu       sync.Mutex
	devEUI   string
	number   uint64 // the DevEUI as a number
	customer string // its CustomerData
	fCntUp   uint32
	fCntDn   uint32
}

// NewFleet makes a fleet. It does nothing until it is told to.
func NewFleet(o FleetOptions) (*Fleet, error) {
	if o.Devices <= 0 {
		o.Devices = 50
	}
	if o.First == 0 {
		o.First = 0x0251C0DE00000001
	}
	if o.Concurrency <= 0 {
		o.Concurrency = 32
	}
	o.Concurrency = min(o.Concurrency, o.Devices)
	if o.Timeout <= 0 {
		o.Timeout = 5 * time.Second
	}
	if o.ModelCfg == "" {
		o.ModelCfg = "0"
	}
	if o.CustomerID == "" {
		o.CustomerID = "100009731"
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	u, err := url.Parse(o.URL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("the fleet needs a URL to post to, not %q", o.URL)
	}
	f := &Fleet{o: o, url: u, devices: make([]*device, o.Devices)}
	for i := range f.devices {
		n := o.First + uint64(i)
		eui := fmt.Sprintf("%016X", n)
		f.devices[i] = &device{devEUI: eui, number: n, customer: customer(eui, o.Tags)}
	}
	return f, nil
}

// DevEUI is the DevEUI of device i, in upper case.
func (f *Fleet) DevEUI(i int) string { return f.devices[i].devEUI }

// Result is what became of one report.
type Result struct {
	DevEUI string
	FCntUp uint32
	Start  time.Time     // when the posting began
	Took   time.Duration // until the answer
	Status int           // of the answer, 0 for none
	Err    error         // why there is no answer
}

// Accepted reports whether the receiver has taken the report.
func (r Result) Accepted() bool { return r.Err == nil && r.Status >= 200 && r.Status < 300 }

// Load is how reports are posted.
type Load struct {
	Rate  int // reports a second, of the whole fleet; 0 for as many as go
	Count int // reports in all; 0 for no end
}

// Run posts uplinks of all devices in turn until ctx ends or Count is
// reached, and waits for those under way. A device's reports are posted one
// after another. each is called for every result, by several goroutines. A
// rate that cannot be kept is not caught up with.
func (f *Fleet) Run(ctx context.Context, l Load, each func(Result)) error {
	var left atomic.Int64
	left.Store(int64(l.Count))
	workers := f.o.Concurrency
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			var pace *pace
			if l.Rate > 0 {
				step := time.Duration(float64(time.Second) * float64(workers) / float64(l.Rate))
				pace = newPace(step, step*time.Duration(w)/time.Duration(workers))
			}
			wire := &wire{url: f.url, timeout: f.o.Timeout}
			defer wire.close()
			for i := w; pace.wait(ctx) && (l.Count <= 0 || left.Add(-1) >= 0); i += workers {
				if i >= len(f.devices) {
					i = w
				}
				// What is begun is ended.
				each(f.post(context.WithoutCancel(ctx), wire, f.devices[i]))
			}
		})
	}
	wg.Wait()
	if l.Count > 0 && left.Load() > 0 {
		return ctx.Err()
	}
	return nil
}

// Post posts the next uplink of device i, on a connection of its own.
func (f *Fleet) Post(ctx context.Context, i int) Result {
	wire := &wire{url: f.url, timeout: f.o.Timeout}
	defer wire.close()
	return f.post(ctx, wire, f.devices[i])
}

// post holds the device for as long as its report is under way.
func (f *Fleet) post(ctx context.Context, w *wire, d *device) Result {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fCntUp++
	now := f.o.Clock()
	w.body = f.appendUplink(w.body[:0], d, now)
	w.query = f.appendQuery(w.query[:0], sluice.KindUplink, d, now)
	r := Result{DevEUI: d.devEUI, FCntUp: d.fCntUp, Start: time.Now()}
	r.Status, r.Err = w.post(ctx, f.o.Form.contentType())
	r.Took = time.Since(r.Start)
	return r
}

// Send posts a report that Make made, or that the test has changed since.
func (f *Fleet) Send(ctx context.Context, r *Report) Result {
	w := &wire{url: f.url, timeout: f.o.Timeout, body: r.Body, query: []byte(r.Query)}
	defer w.close()
	result := Result{DevEUI: r.DevEUI, FCntUp: r.FCntUp, Start: time.Now()}
	result.Status, result.Err = w.post(ctx, r.ContentType)
	result.Took = time.Since(result.Start)
	return result
}

// pace spreads the work of one goroutine evenly in time.
type pace struct {
	step time.Duration
	next time.Time
}

func newPace(step, offset time.Duration) *pace {
	return &pace{step: step, next: time.Now().Add(offset)}
}

// wait waits for the next turn; false when ctx has ended. A nil pace has no
// turns to wait for.
func (p *pace) wait(ctx context.Context) bool {
	if p == nil {
		return ctx.Err() == nil
	}
	if d := time.Until(p.next); d > 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
			return false
		}
	} else if -d > time.Second {
		p.next = time.Now() // too far behind
	}
	p.next = p.next.Add(p.step)
	return ctx.Err() == nil
}
