package awsiot

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"sluice"
)

// dialer opens the sessions of a pool with one configuration.
type dialer struct {
	o     Options
	desks *desks // of all Dialers of the Connector
	spec  sluice.DialerSpec
	cfg   config
	tls   *tls.Config
	host  string // of the MQTT broker; under HTTPS, of what publishes go to
	port  string

	identity aws.CredentialsProvider // nil: there are no credentials
	who      string                  // they are, for people
	web      *http.Client            // of the APIs of AWS
	skew     atomic.Int64            // how far AWS's clock is ahead of ours

	uplink   *topic
	downlink *topic // nil: no commands

	inflow   *inflow   // of commands
	registry *registry // nil: things are not looked at
	presence *presence // nil: whether we are online is not told
	shadows  *shadows  // nil: there are none

	mu   sync.Mutex
	told map[string]time.Time // when an event of a kind was told
}

var (
	_ sluice.Dialer    = (*dialer)(nil)
	_ sluice.Preparer  = (*dialer)(nil)
	_ sluice.Prober    = (*dialer)(nil)
	_ sluice.Pacer     = (*dialer)(nil)
	_ sluice.Grower    = (*dialer)(nil)
	_ sluice.Sharer    = (*dialer)(nil)
	_ sluice.Gauger    = (*dialer)(nil)
	_ sluice.Refresher = (*dialer)(nil)
)

func newDialer(o Options, at *desks, in *accounts, spec sluice.DialerSpec) (*dialer, error) {
	cfg := readConfig(spec.Connection.Configuration)
	cfg.CreateDevices = spec.Common.CreateDevices
	d := &dialer{o: o, desks: at, spec: spec, cfg: cfg, inflow: newInflow(), told: map[string]time.Time{}}
	if d.spec.Clock == nil {
		d.spec.Clock = time.Now
	}
	d.host, d.port = cfg.dataAddress()
	if cfg.Protocol == protocolHTTPS {
		d.host, d.port = cfg.publishAddress()
	}
	invalid := func(err error) error {
		return &sluice.Error{Code: sluice.CodeInvalid, Message: "The configuration cannot be used.", Err: err}
	}
	pool, err := readPool(cfg.CACertificate)
	if err != nil {
		return nil, invalid(fmt.Errorf("caCertificate: %w", err))
	}
	d.tls = &tls.Config{
		MinVersion:                  tls.VersionTLS12,
		RootCAs:                     pool,
		DynamicRecordSizingDisabled: true, // a packet is one record
	}
	if cfg.certified() {
		certificate, err := clientCertificate(cfg.Certificate, cfg.PrivateKey)
		if err != nil {
			return nil, invalid(err)
		}
		// Always ours, whatever authorities the server says it would like:
		// AWS knows certificates one by one.
		d.tls.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return certificate, nil }
	}
	d.web = newWebClient(&cfg, pool)
	d.identity, d.who = d.newIdentity(d.web)
	var problems []string
	if d.uplink, problems = compileTopic(cfg.UplinkTopicPattern, true); len(problems) > 0 {
		return nil, invalid(errors.New("uplinkTopicPattern: " + problems[0]))
	}
	if cfg.DownlinkTopicPattern != "" {
		if d.downlink, problems = compileTopic(cfg.DownlinkTopicPattern, false); len(problems) > 0 {
			return nil, invalid(errors.New("downlinkTopicPattern: " + problems[0]))
		}
	}
	if cfg.PresenceTopic != "" {
		d.presence = newPresence(d)
	}
	if cfg.registers() {
		if d.registry, err = newRegistry(d, in); err != nil {
			return nil, invalid(err)
		}
	}
	if d.shadows, err = newShadows(d); err != nil {
		return nil, invalid(err)
	}
	return d, nil
}

// Size is the configured pool size.
func (d *dialer) Size() int { return max(1, min(d.cfg.PoolSize, maxPool)) }

// Least is how many sessions the pool has without load.
func (d *dialer) Least() int { return max(1, min(d.cfg.PoolMin, d.Size())) }

// Shares is how many sessions share the commands.
func (d *dialer) Shares() int {
	if d.downlink == nil {
		return 1
	}
	return max(1, min(d.cfg.DownlinkSessions, d.Size()))
}

// Pace is how many publishes a second a session makes at most.
func (d *dialer) Pace() float64 { return max(0, d.o.PublishRate) }

// Open opens the session of a lane.
func (d *dialer) Open(ctx context.Context, lane int, authenticating func()) (sluice.Session, error) {
	if d.cfg.Protocol == protocolHTTPS {
		return d.openPublisher(ctx, lane, authenticating)
	}
	s := newSession(d, d.clientID(lane))
	if d.shadows != nil {
		s.turns = newTurns()
	}
	if err := d.connect(ctx, s, authenticating); err != nil {
		return nil, err
	}
	if d.cfg.webSocket() {
		s.endBefore(d.webSocketLife())
	}
	if d.presence != nil {
		d.presence.begin()
	}
	if d.shadows != nil {
		d.shadows.serve(d.shadows.publishes(s))
	}
	if d.takes() {
		return d.taking(newSubscriber(s, lane)), nil
	}
	return s, nil
}

// takes reports whether commands are taken, from a topic or from shadows.
func (d *dialer) takes() bool { return d.downlink != nil || d.takesFromShadows() }

func (d *dialer) takesFromShadows() bool { return d.shadows != nil && d.shadows.wishes != nil }

// taking has a session that takes commands from a topic take those of shadows
// too, where there are any.
func (d *dialer) taking(s commandSession) sluice.Session {
	if d.takesFromShadows() {
		return &shadowCommander{s, d}
	}
	return s
}

// connect opens the link of a session. authenticating may be nil.
func (d *dialer) connect(ctx context.Context, s *session, authenticating func()) error {
	ctx, cancel := context.WithTimeout(ctx, d.o.ConnectTimeout)
	defer cancel()
	conn, err := d.link(ctx, authenticating)
	if err != nil {
		return err
	}
	return s.connect(ctx, newLink(conn, s.receiveAcknowledged))
}

// link makes the wire of MQTT: TCP, TLS and, where it is wanted, WebSocket.
func (d *dialer) link(ctx context.Context, authenticating func()) (net.Conn, error) {
	host, port := d.cfg.dataAddress()
	conn, err := d.wire(ctx, host, port, d.cfg.mqttALPN())
	if err != nil {
		return nil, err
	}
	if authenticating != nil {
		authenticating()
	}
	if !d.cfg.webSocket() {
		return conn, nil
	}
	ws, again, err := d.upgrade(ctx, conn)
	if !again {
		return ws, err
	}
	if conn, err = d.wire(ctx, host, port, nil); err != nil {
		return nil, err
	}
	ws, _, err = d.upgrade(ctx, conn)
	return ws, err
}

// Probe makes the wire and closes it again, without a CONNECT: AWS IoT limits
// those, for each client id and for the account.
// Source: AWS IoT Core quotas, "MQTT CONNECT".
func (d *dialer) Probe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, d.o.ConnectTimeout)
	defer cancel()
	alpn := d.cfg.mqttALPN()
	if d.cfg.Protocol == protocolHTTPS {
		alpn = d.cfg.publishALPN()
	}
	conn, err := d.wire(ctx, d.host, d.port, alpn)
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

// Close ends the making of things and tells that we are offline, and waits.
func (d *dialer) Close() {
	if d.presence != nil {
		d.presence.close()
	}
	d.shadows.close()
	if d.registry != nil {
		d.registry.close()
	}
	d.web.CloseIdleConnections()
}

// tellAgain is how long an event of a kind is not told again: an operator
// wants to read it once, not once a message.
const tellAgain = 10 * time.Minute

// tell records an event, unless one of its kind was just told.
func (d *dialer) tell(level sluice.Level, t sluice.EventType, label, kind, devEUI string, f *sluice.Failure) {
	if !d.toldBefore(string(t) + " " + kind) {
		d.record(level, t, label, devEUI, f)
	}
}

// toldBefore reports whether an event was just told, and notes that it is.
func (d *dialer) toldBefore(key string) bool {
	now := d.spec.Clock()
	d.mu.Lock()
	defer d.mu.Unlock()
	if last, ok := d.told[key]; ok && now.Sub(last) < tellAgain {
		return true
	}
	d.told[key] = now
	if len(d.told) > 10000 {
		clear(d.told) // kinds may name devices; better told twice than kept for ever
	}
	return false
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
