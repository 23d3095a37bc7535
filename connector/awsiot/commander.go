package awsiot

import (
	"context"
	"sync"

	"sluice"
)

// commander is a publisher of a connection that takes commands. They come over
// MQTT, by a session that is opened when this lane is the one to subscribe.
type commander struct {
	*publisher
	lane int

	mu     sync.Mutex
	inner  *subscriber // nil: not subscribed
	closed bool
	wait   sync.WaitGroup
}

var (
	_ sluice.Subscriber = (*commander)(nil)
	_ sluice.Ender      = (*commander)(nil)
)

// Subscribe opens the session for commands and subscribes it.
func (c *commander) Subscribe(ctx context.Context, take func(ctx context.Context, c sluice.Command) error) error {
	s := newSession(c.d, c.id)
	if err := c.d.connect(ctx, s, nil); err != nil {
		return err
	}
	if c.d.cfg.webSocket() {
		s.endBefore(c.d.webSocketLife())
	}
	inner := newSubscriber(s, c.lane)
	if err := inner.Subscribe(ctx, take); err != nil {
		_ = inner.Close(ctx)
		return err
	}
	c.mu.Lock()
	closed := c.closed
	if !closed {
		c.inner = inner
		c.wait.Go(func() {
			select {
			case <-inner.Done():
				c.end(inner.Err())
			case <-c.closing:
			}
		})
	}
	c.mu.Unlock()
	if closed {
		_ = inner.Close(ctx)
		return notConnected(sluice.ReasonDisconnected, nil, "The session is closed.", "")
	}
	return nil
}

// Close ends both halves.
func (c *commander) Close(ctx context.Context) error { return c.leave(ctx, (*subscriber).Close) }

// End is Close, after which the server keeps no commands.
func (c *commander) End(ctx context.Context) error { return c.leave(ctx, (*subscriber).End) }

func (c *commander) leave(ctx context.Context, how func(*subscriber, context.Context) error) error {
	c.mu.Lock()
	c.closed = true
	inner := c.inner
	c.mu.Unlock()
	c.one.Do(func() { close(c.closing) })
	c.wait.Wait()
	if inner != nil {
		_ = how(inner, ctx) // it is bounded, and the wire goes with it
	}
	return c.publisher.Close(ctx)
}
