package bare

import (
	"context"
	"crypto/tls"
	"fmt"
	"hash/maphash"
	"net"
	"sync"
	"time"

	"github.com/eclipse/paho.golang/paho"

	"sluice/bench/sink"
)

const (
	connections = 10
	// perConnection is how many publishes are under way on a connection.
	perConnection = 20
)

// publisher publishes records with QoS 1 over ten connections. Each device has
// its lane, where one publish is under way at a time, so its order is kept.
type publisher struct {
	address string
	tls     *tls.Config
	seed    maphash.Seed
	lanes   []*lane
	conns   []*conn
	all     sync.WaitGroup
	ctx     context.Context //nolint:containedctx // of the goroutines
	cancel  context.CancelFunc
}

// lane is what waits for one of a connection's publishes: without a bound.
type lane struct {
	mu     sync.Mutex
	queue  []*record
	signal chan struct{} // of one
}

// conn is a connection that is opened again whenever it is lost.
type conn struct {
	mu     sync.Mutex
	client *paho.Client
	ctx    context.Context //nolint:containedctx // ends with the connection
	up     chan struct{}   // closed once it is open
}

func newPublisher(address string, papers sink.Papers) (*publisher, error) {
	config, err := papers.ClientTLS()
	if err != nil {
		return nil, err
	}
	p := &publisher{address: address, tls: config, seed: maphash.MakeSeed()}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	for i := range connections {
		c := &conn{up: make(chan struct{})}
		p.conns = append(p.conns, c)
		p.all.Go(func() { p.keep(c, fmt.Sprintf("bare-%d", i)) })
		for range perConnection {
			l := &lane{signal: make(chan struct{}, 1)}
			p.lanes = append(p.lanes, l)
			p.all.Go(func() { p.work(l, c) })
		}
	}
	return p, nil
}

func (p *publisher) close() {
	p.cancel()
	p.all.Wait()
}

// send queues a record.
func (p *publisher) send(r *record) {
	l := p.lanes[maphash.String(p.seed, r.devEUI)%uint64(len(p.lanes))]
	l.mu.Lock()
	l.queue = append(l.queue, r)
	l.mu.Unlock()
	select {
	case l.signal <- struct{}{}:
	default:
	}
}

// work publishes what is queued in a lane, one record after another.
func (p *publisher) work(l *lane, c *conn) {
	var batch []*record
	for {
		select {
		case <-l.signal:
		case <-p.ctx.Done():
			return
		}
		l.mu.Lock()
		batch, l.queue = l.queue, batch[:0]
		l.mu.Unlock()
		for i, r := range batch {
			for c.publish(p.ctx, r.devEUI, r.body) != nil {
				if p.ctx.Err() != nil {
					return
				}
			}
			batch[i] = nil
		}
	}
}

// keep keeps a connection open until the publisher is closed.
func (p *publisher) keep(c *conn, id string) {
	for p.ctx.Err() == nil {
		if client, err := p.dial(id); err == nil {
			ctx, cancel := context.WithCancel(p.ctx)
			c.mu.Lock()
			c.client, c.ctx = client, ctx
			close(c.up)
			c.mu.Unlock()
			select {
			case <-client.Done():
			case <-p.ctx.Done():
				_ = client.Disconnect(&paho.Disconnect{})
			}
			c.mu.Lock()
			c.up = make(chan struct{})
			c.mu.Unlock()
			cancel()
			<-client.Done()
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-p.ctx.Done():
		}
	}
}

func (p *publisher) dial(id string) (*paho.Client, error) {
	ctx, cancel := context.WithTimeout(p.ctx, 5*time.Second)
	defer cancel()
	tlsConn, err := (&tls.Dialer{NetDialer: &net.Dialer{}, Config: p.tls}).DialContext(ctx, "tcp", p.address)
	if err != nil {
		return nil, err
	}
	client := paho.NewClient(paho.ClientConfig{Conn: newGather(tlsConn)})
	if _, err := client.Connect(ctx, &paho.Connect{ClientID: id, KeepAlive: 30, CleanStart: true}); err != nil {
		_ = tlsConn.Close()
		return nil, err
	}
	return client, nil
}

// publish waits for the connection and publishes once.
func (c *conn) publish(ctx context.Context, devEUI string, body []byte) error {
	c.mu.Lock()
	up := c.up
	c.mu.Unlock()
	select {
	case <-up:
	case <-ctx.Done():
		return ctx.Err()
	}
	c.mu.Lock()
	client, own := c.client, c.ctx
	c.mu.Unlock()
	_, err := client.Publish(own, &paho.Publish{Topic: "tpx/things/" + devEUI + "/uplink", QoS: 1, Payload: body})
	return err
}
