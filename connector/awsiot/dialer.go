package awsiot

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"sluice"
)

// dialer opens the sessions of a pool with one configuration.
type dialer struct {
	o     Options
	desks *desks // of all Dialers of the Connector
	spec  sluice.DialerSpec
	cfg   config
	tls   *tls.Config
	host  string // of the MQTT broker
	port  string

	uplink   *topic
	downlink *topic // nil: no commands

	registry *registry // nil: things are not looked at

	mu   sync.Mutex
	told map[string]time.Time // when an event of a kind was told
}

var (
	_ sluice.Dialer   = (*dialer)(nil)
	_ sluice.Preparer = (*dialer)(nil)
	_ sluice.Prober   = (*dialer)(nil)
	_ sluice.Pacer    = (*dialer)(nil)

	_ sluice.Refresher = (*dialer)(nil)
)

func newDialer(o Options, at *desks, in *accounts, spec sluice.DialerSpec) (*dialer, error) {
	cfg := readConfig(spec.Connection.Configuration)
	cfg.CreateDevices = spec.Common.CreateDevices
	d := &dialer{o: o, desks: at, spec: spec, cfg: cfg, told: map[string]time.Time{}}
	if d.spec.Clock == nil {
		d.spec.Clock = time.Now
	}
	d.host, d.port = cfg.dataAddress()
	invalid := func(err error) error {
		return &sluice.Error{Code: sluice.CodeInvalid, Message: "The configuration cannot be used.", Err: err}
	}
	certificate, err := clientCertificate(cfg.Certificate, cfg.PrivateKey)
	if err != nil {
		return nil, invalid(err)
	}
	pool, err := readPool(cfg.CACertificate)
	if err != nil {
		return nil, invalid(fmt.Errorf("caCertificate: %w", err))
	}
	d.tls = &tls.Config{
		MinVersion: tls.VersionTLS12,
		ServerName: d.host,
		RootCAs:    pool,
		// Always ours, whatever authorities the server says it would like:
		// AWS knows certificates one by one.
		GetClientCertificate:        func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return certificate, nil },
		DynamicRecordSizingDisabled: true, // a packet is one record
	}
	var problems []string
	if d.uplink, problems = compileTopic(cfg.UplinkTopicPattern, true); len(problems) > 0 {
		return nil, invalid(errors.New("uplinkTopicPattern: " + problems[0]))
	}
	if cfg.DownlinkTopicPattern != "" {
		if d.downlink, problems = compileTopic(cfg.DownlinkTopicPattern, false); len(problems) > 0 {
			return nil, invalid(errors.New("downlinkTopicPattern: " + problems[0]))
		}
	}
	if cfg.registers() {
		if d.registry, err = newRegistry(d, in, pool); err != nil {
			return nil, invalid(err)
		}
	}
	return d, nil
}

// Size is the configured pool size.
func (d *dialer) Size() int { return max(1, min(d.cfg.PoolSize, 10)) }

// Pace is how many publishes a second a session makes at most.
func (d *dialer) Pace() float64 { return max(0, d.o.PublishRate) }

// Open opens the session of a lane.
func (d *dialer) Open(ctx context.Context, lane int, authenticating func()) (sluice.Session, error) {
	s := newSession(d, clientID(d.spec.Instance, d.spec.Connection.ID, lane, d.spec.Generation))
	if err := d.connect(ctx, s, authenticating); err != nil {
		return nil, err
	}
	if d.downlink != nil {
		return newSubscriber(s), nil
	}
	return s, nil
}

// connect opens the link of a session. authenticating may be nil.
func (d *dialer) connect(ctx context.Context, s *session, authenticating func()) error {
	ctx, cancel := context.WithTimeout(ctx, d.o.ConnectTimeout)
	defer cancel()
	conn, err := d.link(ctx)
	if err != nil {
		return err
	}
	if authenticating != nil {
		authenticating()
	}
	return s.connect(ctx, newLink(conn, s.receiveAcknowledged))
}

// link makes the wire: TCP and TLS.
func (d *dialer) link(ctx context.Context) (*tls.Conn, error) {
	var nd net.Dialer
	tcp, err := nd.DialContext(ctx, "tcp", net.JoinHostPort(d.host, d.port))
	if err != nil {
		return nil, d.dialFailure(err)
	}
	conn := tls.Client(tcp, d.tls)
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = tcp.Close()
		return nil, d.tlsFailure(err)
	}
	return conn, nil
}

// Probe makes the wire and closes it again, without a CONNECT: AWS IoT limits
// those, for each client id and for the account.
// Source: AWS IoT Core quotas, "MQTT CONNECT".
func (d *dialer) Probe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, d.o.ConnectTimeout)
	defer cancel()
	conn, err := d.link(ctx)
	if err != nil {
		return err
	}
	_ = conn.NetConn().Close() // nothing of the protocol above was begun
	return nil
}

// Prepare makes sure, as far as it is configured, that the message's device is
// a thing.
func (d *dialer) Prepare(ctx context.Context, m *sluice.Message) error {
	if d.registry == nil {
		return nil
	}
	return d.registry.prepare(ctx, m)
}

// Close ends the making of things and waits for it.
func (d *dialer) Close() {
	if d.registry != nil {
		d.registry.close()
	}
}

// tellAgain is how long an event of a kind is not told again: an operator
// wants to read it once, not once a message.
const tellAgain = 10 * time.Minute

// tell records an event, unless one of its kind was just told.
func (d *dialer) tell(level sluice.Level, t sluice.EventType, label, kind, devEUI string, f *sluice.Failure) {
	key := string(t) + " " + kind
	now := d.spec.Clock()
	d.mu.Lock()
	last, ok := d.told[key]
	again := ok && now.Sub(last) < tellAgain
	if !again {
		d.told[key] = now
	}
	if len(d.told) > 10000 {
		clear(d.told) // kinds may name devices; better told twice than kept for ever
	}
	d.mu.Unlock()
	if !again {
		d.record(level, t, label, devEUI, f)
	}
}

// record records an event.
func (d *dialer) record(level sluice.Level, t sluice.EventType, label, devEUI string, f *sluice.Failure) {
	if d.spec.Events == nil {
		return
	}
	d.spec.Events.Record(sluice.Event{
		Level: level, Type: t, Label: label, Detail: f.Message, Hint: f.Hint, Reason: f.Reason,
		Connection: d.spec.Connection.ID, DevEUI: devEUI,
	})
}
