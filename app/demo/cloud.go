package demo

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"
)

// cloud is a cloud application on AWS: an MQTT client that receives every
// uplink and sends commands.
type cloud struct {
	client *paho.Client
	lost   atomic.Pointer[error]
}

// The topics of the demo: those of ThingPark's documentation.
const (
	uplinkPattern   = "tpx/things/{DevEUI}/uplink"
	downlinkPattern = "tpx/things/{DevEUI}/downlink"
)

// cloudID is the client id of the cloud application.
const cloudID = "cloud-application"

// dialCloud connects to the broker at addr and subscribes; arrived is called
// for each uplink, one after another.
func dialCloud(ctx context.Context, addr, clientID string, config *tls.Config, arrived func(*paho.Publish)) (*cloud, error) {
	dialer := tls.Dialer{NetDialer: &net.Dialer{Timeout: 5 * time.Second}, Config: config}
	conn, err := dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("cloud application: %w", err)
	}
	c := &cloud{}
	fail := func(err error) { c.lost.CompareAndSwap(nil, &err) }
	c.client = paho.NewClient(paho.ClientConfig{
		ClientID: clientID,
		Conn:     packets.NewThreadSafeConn(conn),
		OnPublishReceived: []func(paho.PublishReceived) (bool, error){func(p paho.PublishReceived) (bool, error) {
			arrived(p.Packet)
			return true, nil
		}},
		OnServerDisconnect: func(d *paho.Disconnect) { fail(fmt.Errorf("disconnected with reason 0x%02x", d.ReasonCode)) },
		OnClientError:      fail,
	})
	if _, err := c.client.Connect(ctx, &paho.Connect{ClientID: clientID, CleanStart: true, KeepAlive: 30}); err != nil {
		return nil, fmt.Errorf("cloud application: %w", err)
	}
	filter := strings.ReplaceAll(uplinkPattern, "{DevEUI}", "+")
	if _, err := c.client.Subscribe(ctx, &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: filter, QoS: 1}}}); err != nil {
		_ = c.client.Disconnect(&paho.Disconnect{}) // the first error tells more
		return nil, fmt.Errorf("cloud application: subscribe to %s: %w", filter, err)
	}
	return c, nil
}

// send publishes a command for a device; nil means that AWS has it.
func (c *cloud) send(ctx context.Context, devEUI string, document []byte) error {
	topic := strings.ReplaceAll(downlinkPattern, "{DevEUI}", devEUI)
	_, err := c.client.Publish(ctx, &paho.Publish{Topic: topic, QoS: 1, Payload: document})
	return err
}

// err tells why the link was lost, nil while it stands.
func (c *cloud) err() error {
	if p := c.lost.Load(); p != nil {
		return fmt.Errorf("the cloud application lost its link: %w", *p)
	}
	return nil
}

func (c *cloud) close() { _ = c.client.Disconnect(&paho.Disconnect{}) }
