package awsiot

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"
	"github.com/eclipse/paho.golang/paho/log"
)

var errPing = errors.New("no answer to a ping")

// pinger keeps a link alive and finds out when it is dead. Unlike paho's it
// can be told to look now, so that a link that swallows everything is known
// twenty seconds after the first unanswered publish.
type pinger struct {
	now     chan struct{}
	answers chan struct{}
	timeout time.Duration
	failed  func(error) // told first why the link ends
}

var _ paho.Pinger = (*pinger)(nil)

func newPinger(timeout time.Duration, failed func(error)) *pinger {
	return &pinger{now: make(chan struct{}, 1), answers: make(chan struct{}, 1), timeout: timeout, failed: failed}
}

// probe asks for a ping now.
func (p *pinger) probe() { signal(p.now) }

func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Run pings in three quarters of the keep-alive time, whatever else is sent.
func (p *pinger) Run(ctx context.Context, conn net.Conn, keepAlive uint16) error {
	interval := time.Duration(keepAlive) * time.Second * 3 / 4
	if interval == 0 {
		interval = time.Hour
	}
	t := time.NewTicker(interval)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		case <-p.now:
		}
		select {
		case <-p.answers: // of an earlier ping
		default:
		}
		if _, err := packets.NewControlPacket(packets.PINGREQ).WriteTo(conn); err != nil {
			return err
		}
		deadline := time.NewTimer(p.timeout)
		select {
		case <-ctx.Done():
			deadline.Stop()
			return nil
		case <-p.answers:
			deadline.Stop()
		case <-deadline.C:
			p.failed(errPing)
			return errPing
		}
	}
}

// PingResp is paho telling that an answer came.
func (p *pinger) PingResp() { signal(p.answers) }

// PacketSent is of no interest.
func (p *pinger) PacketSent() {}

// PacketReceived is of no interest.
func (p *pinger) PacketReceived() {}

// SetDebug does nothing.
func (p *pinger) SetDebug(log.Logger) {}
