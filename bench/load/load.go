// Package load generates the load of a measurement: signed ThingPark reports
// of about 1.2 KB, posted over HTTP connections that are kept open, or
// published by MQTT for systems that take nothing else. It shares its
// processors with what it measures, so the reports are those of a
// thingparktest.Fleet, made once and then changed in place, and the client is
// as small as can be; a report costs it about two system calls.
package load

import (
	"context"
	"fmt"
	"sync"
	"time"

	"sluice/bench/ledger"
)

// Target is where the reports go: one of the two is set.
type Target struct {
	URL    string // of the door for reports
	Broker string // host:port of an MQTT broker, without TLS
}

// Options say what is generated.
type Options struct {
	Devices     int
	Concurrency int                            // connections, hence reports under way at once
	Groups      int                            // the devices are split into so many groups, tagged g0, g1, ...; 0: no tags
	First       int                            // the number of the first device
	FirstGroup  int                            // the number of the first group
	Timeout     time.Duration                  // for one report; default 5 s
	Ledger      *ledger.Ledger                 // where it is written down
	Target      func() Target                  // asked whenever a connection is opened
	Dial        func(worker int) (Wire, error) // instead of a Target
	Now         func() time.Time               // default time.Now
}

// Generator posts reports.
type Generator struct {
	o         Options
	documents []*document
}

// New makes a generator.
func New(o Options) (*Generator, error) {
	if o.Timeout <= 0 {
		o.Timeout = 5 * time.Second
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Concurrency < 1 || o.Devices < o.Concurrency {
		return nil, fmt.Errorf("%d devices cannot keep %d connections busy: each has one report under way at most", o.Devices, o.Concurrency)
	}
	g := &Generator{o: o}
	groups := max(o.Groups, 1)
	for i := range groups {
		first, end := o.Devices*i/groups, o.Devices*(i+1)/groups
		var tags []string
		if o.Groups > 0 {
			tags = []string{Tag(o.FirstGroup + i)}
		}
		some, err := newDocuments(o.First+first, end-first, tags)
		if err != nil {
			return nil, err
		}
		g.documents = append(g.documents, some...)
	}
	return g, nil
}

// Tag is the tag of the devices of a group.
func Tag(group int) string { return fmt.Sprintf("g%d", group) }

// Size is the mean size of a report's body in bytes.
func (g *Generator) Size() int {
	n := 0
	for _, d := range g.documents {
		n += len(d.body)
	}
	return n / len(g.documents)
}

// Run posts reports until ctx ends, at a rate a second (0: as fast as they are
// answered), and waits for those under way. A device's reports are posted one
// after another. A rate that cannot be kept is not caught up with.
func (g *Generator) Run(ctx context.Context, rate int) {
	var all sync.WaitGroup
	for w := range g.o.Concurrency {
		all.Go(func() { g.work(ctx, w, rate) })
	}
	all.Wait()
}

// work posts the reports of every Concurrency-th device, over one connection.
func (g *Generator) work(ctx context.Context, w, rate int) {
	var p *pace
	if rate > 0 {
		step := time.Duration(float64(time.Second) * float64(g.o.Concurrency) / float64(rate))
		p = newPace(step, step*time.Duration(w)/time.Duration(g.o.Concurrency))
	}
	var c Wire
	defer func() {
		if c != nil {
			c.Close()
		}
	}()
	for i := w; p.wait(ctx); i += g.o.Concurrency {
		if i >= len(g.documents) {
			i = w
		}
		d, start := g.documents[i], g.o.Now()
		d.next(start)
		if c == nil {
			var err error
			if c, err = g.dial(w); err != nil {
				c = nil
				g.o.Ledger.Refuse()
				pause(ctx, 10*time.Millisecond) // nobody listens: this must not spin
				continue
			}
		}
		ok, err := c.Post(d.devEUI, d.query, d.body)
		if err != nil {
			c.Close()
			c = nil
		}
		if ok {
			g.o.Ledger.Accept(d.number, d.fCnt, g.o.Now().Sub(start))
		} else {
			g.o.Ledger.Refuse()
		}
	}
}

func (g *Generator) dial(w int) (Wire, error) {
	if g.o.Dial != nil {
		return g.o.Dial(w)
	}
	t := g.o.Target()
	if t.Broker != "" {
		return dialMQTT(t.Broker, fmt.Sprintf("load-%d", w), g.o.Timeout)
	}
	return dialHTTP(t.URL, g.o.Timeout)
}

// Wire is one connection to what is measured. Post reports whether the report
// was taken; after an error the connection is of no use any more.
type Wire interface {
	Post(devEUI string, query, body []byte) (bool, error)
	Close()
}

// pace spreads the work of one goroutine evenly in time. A nil pace has no
// turns to wait for.
type pace struct {
	step time.Duration
	next time.Time
}

func newPace(step, offset time.Duration) *pace {
	return &pace{step: step, next: time.Now().Add(offset)}
}

// wait waits for the next turn; false when ctx has ended.
func (p *pace) wait(ctx context.Context) bool {
	if p == nil {
		return ctx.Err() == nil
	}
	if d := time.Until(p.next); d > 0 {
		pause(ctx, d)
	} else if -d > time.Second {
		p.next = time.Now() // too far behind
	}
	p.next = p.next.Add(p.step)
	return ctx.Err() == nil
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
