package awsiottest

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// broker is the message broker. mochi reads and writes packets, opens and
// ends sessions and matches filters; what AWS does otherwise is in hook, and
// delivery in session.
type broker struct {
	options  Options
	registry *registry
	mqtt     *mqtt.Server
	reserved map[string]reservedService // by prefix of their topics
	listener *listener

	web        *web
	identities identities
	policies   policies
	groups     groups
	linkFaults
	wires wireFaults

	exceeded         exceeded
	unshared         atomic.Uint64
	connects         *buckets // by client id
	accountConnects  *bucket
	accountPublishes *bucket
	queued           *bucket

	mu       sync.Mutex
	guards   map[*mqtt.Client]*guard // connecting or connected
	sessions map[string]*session     // by client id
	live     map[string]*mqtt.Client // by client id: connecting or connected
	stats    map[string]*clientStats
	retained map[string]*message // by topic
}

func newBroker(o Options, r *registry, known identities) *broker {
	b := &broker{
		options: o, registry: r, reserved: map[string]reservedService{},
		sessions: map[string]*session{}, live: map[string]*mqtt.Client{},
		stats: map[string]*clientStats{}, retained: map[string]*message{}, guards: map[*mqtt.Client]*guard{},
		identities: known, policies: policies{byCertificate: map[string]*attached{}}, groups: groups{byFilter: map[string]*group{}},
		exceeded: newExceeded(), connects: newBuckets(o.Quotas.ConnectRate),
		accountConnects: newBucket(float64(o.Quotas.AccountConnectRate)), accountPublishes: newBucket(float64(o.Quotas.AccountPublishRate)),
		queued: newBucket(float64(o.Quotas.QueueRate)),
	}
	b.web = newWeb(b)
	capabilities := mqtt.NewDefaultServerCapabilities()
	capabilities.MaximumQos = 1
	capabilities.ReceiveMaximum = inflightMax
	capabilities.TopicAliasMaximum = topicAliasMax
	capabilities.SubIDAvailable = 0
	capabilities.MaximumSessionExpiryInterval = uint32(o.Quotas.SessionExpiry / time.Second)
	// A client that sends more gets its DISCONNECT from the hook.
	capabilities.MaximumPacketSize = 2 * packetSize
	// mochi's queues are not used.
	capabilities.MaximumClientWritesPending = 1
	b.mqtt = mqtt.New(&mqtt.Options{
		Capabilities:             capabilities,
		ClientNetReadBufferSize:  16 << 10,
		ClientNetWriteBufferSize: 16 << 10,
		// AWS has no $SYS topics: they are "resent" once in a century.
		SysTopicResendInterval: 100 * 365 * 24 * 3600,
		Logger:                 slog.New(demoted{o.Log.Handler()}),
	})
	return b
}

func (b *broker) start(leaf tls.Certificate, names []string) error {
	b.listener = &listener{
		log: b.options.Log, faults: &b.wires, idle: b.idle, slowed: func() { b.exceeded.add(QuotaThroughput) }, gone: b.gone, goodbye: b.goodbye,
		establish: b.mqtt.EstablishConnection, in: b.options.Quotas.Throughput,
		peers: map[*peer]bool{}, done: make(chan struct{}),
	}
	if b.options.OutboundRate > 0 {
		b.listener.out = b.options.Quotas.Throughput
	}
	b.listener.doors = []*door{b.mqttDoor(b.options.Addr, leaf, names), b.door443(b.options.Addr443, leaf, names)}
	for _, d := range b.listener.doors {
		if err := d.listen(); err != nil {
			b.listener.shut()
			return fmt.Errorf("listen for MQTT: %w", err)
		}
	}
	b.web.start()
	err := b.mqtt.AddHook(&hook{broker: b}, nil)
	if err == nil {
		err = b.mqtt.AddListener(b.listener)
	}
	if err == nil {
		err = b.mqtt.Serve()
	}
	if err != nil {
		b.listener.shut()
		b.web.close()
		return fmt.Errorf("start the broker: %w", err)
	}
	return nil
}

func (b *broker) verify(c *x509.Certificate) error {
	_, err := b.registry.authorize(c)
	return err
}

// addr and addr443 are host:port of the doors. The host is a name: AWS refuses
// clients that do not send one.
func (b *broker) addr() string    { return named(b.listener.doors[0].addr) }
func (b *broker) addr443() string { return named(b.listener.doors[1].addr) }

func named(addr string) string {
	host, port, _ := net.SplitHostPort(addr)
	if ip := net.ParseIP(host); ip != nil && (ip.IsLoopback() || ip.IsUnspecified()) {
		host = "localhost"
	}
	return net.JoinHostPort(host, port)
}

func (b *broker) close() {
	_ = b.mqtt.Close()
	b.web.close()
}

// idle ends the connection of a client that was silent for one and a half
// times its keep-alive.
func (b *broker) idle(cl *mqtt.Client) {
	if !cl.Closed() {
		b.disconnect(cl, packets.ErrKeepAliveTimeout)
	}
}

// outlived ends a connection over WebSocket after a day. Source: AWS General
// Reference, "WebSocket connection duration"; the reason code is inferred.
func (b *broker) outlived(p *peer) {
	if cl := p.client.Load(); cl != nil {
		b.disconnect(cl, packets.ErrAdministrativeAction)
		return
	}
	_ = p.raw.Close()
}

// goodbye tells every client that the server ends.
func (b *broker) goodbye() {
	for _, cl := range b.connected() {
		b.disconnect(cl, packets.ErrServerShuttingDown)
	}
}

// disconnect ends a client's connection: MQTT 5 is told why, MQTT 3.1.1 has
// no packet for it.
func (b *broker) disconnect(cl *mqtt.Client, code packets.Code) {
	b.options.Log.Info("client disconnected", "client", cl.ID, "code", fmt.Sprintf("0x%02X", code.Code), "reason", code.Reason)
	code = explained("DISCONNECT", code)
	if cl.Properties.ProtocolVersion == 5 {
		_ = cl.Net.Conn.SetWriteDeadline(time.Now().Add(time.Second)) // it may not read any more
		_ = b.mqtt.DisconnectClient(cl, code)
	}
	cl.Stop(code)
}

// claim makes cl the one connection of its client id: another one is
// disconnected, and claim returns when it is gone altogether, so that mochi
// hands its session over in peace.
func (b *broker) claim(cl *mqtt.Client) {
	for {
		b.mu.Lock()
		old := b.live[cl.ID]
		if old == nil {
			b.live[cl.ID] = cl
			stats := b.statsOf(cl.ID)
			stats.connect(true) // before its CONNACK, so that it cannot miss it
			b.mu.Unlock()
			p := cl.Net.Conn.(*peer)
			p.client.Store(cl)
			p.stats.Store(stats)
			return
		}
		b.mu.Unlock()
		b.disconnect(old, packets.ErrSessionTakenOver)
		<-old.Net.Conn.(*peer).done
	}
}

// gone forgets a connection that is done with.
func (b *broker) gone(p *peer) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for cl := range b.guards {
		if cl.Net.Conn == p {
			delete(b.guards, cl)
		}
	}
	for id, cl := range b.live {
		if cl.Net.Conn == p {
			delete(b.live, id)
			b.statsOf(id).connect(false)
		}
	}
}

func (b *broker) setGuard(cl *mqtt.Client, g *guard) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.guards[cl] = g
}

func (b *broker) guard(cl *mqtt.Client) *guard {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.guards[cl]
}

// openSession gives a connected client its session: the one that it had, or a
// new one.
func (b *broker) openSession(clean bool, l link) {
	id := l.client.ID
	b.mu.Lock()
	old := b.sessions[id]
	s := old
	if s == nil || clean {
		s = newSession(id, b, b.statsOf(id))
		b.sessions[id] = s
	}
	b.mu.Unlock()
	if old != nil && old != s {
		old.end()
	}
	s.attach(l)
}

// statsOf is called with the lock held.
func (b *broker) statsOf(id string) *clientStats {
	c := b.stats[id]
	if c == nil {
		c = &clientStats{}
		b.stats[id] = c
	}
	return c
}

func (b *broker) knownStats(id string) *clientStats {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.stats[id]
}

func (b *broker) session(id string) *session {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.sessions[id]
}

// forget ends a session.
func (b *broker) forget(s *session) {
	s.end()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.sessions[s.id] == s {
		delete(b.sessions, s.id)
	}
}

// forgetSessions ends the sessions of the client ids that match picks and that
// are not connected.
func (b *broker) forgetSessions(match func(clientID string) bool) {
	for id, cl := range b.mqtt.Clients.GetAll() {
		if !match(id) || b.isLive(id) {
			continue
		}
		b.mqtt.UnsubscribeClient(cl)
		if s := b.session(id); s != nil {
			b.forget(s)
		}
		b.mqtt.Clients.Delete(id)
	}
}

func (b *broker) isLive(id string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.live[id] != nil
}

// route hands a message to each session that has subscribed to its topic, and
// for each shared subscription to one of its members.
func (b *broker) route(m *message) {
	matched := b.mqtt.Topics.Subscribers(m.topic)
	for id, sub := range matched.Subscriptions {
		if s := b.session(id); s != nil && s.wants(m.topic) && !(sub.NoLocal && m.origin == id) {
			s.enqueue(newDelivery(m, sub))
		}
	}
	for filter := range matched.Shared {
		if matchesTopic(unshared(filter), m.topic) {
			b.share(filter, m)
		}
	}
}

func newDelivery(m *message, sub packets.Subscription) *delivery {
	return &delivery{message: m, qos: min(m.qos, sub.Qos, 1), retain: m.retain && sub.RetainAsPublished}
}

func (b *broker) connected() []*mqtt.Client {
	b.mu.Lock()
	defer b.mu.Unlock()
	var all []*mqtt.Client
	for _, cl := range b.live {
		all = append(all, cl)
	}
	return all
}

// dropPrincipal disconnects the clients of a certificate that is no longer
// active. Inferred: AWS does so too, within minutes.
func (b *broker) dropPrincipal(certificateID string) {
	for _, cl := range b.connected() {
		if cl.Net.Conn.(*peer).principal.certificateID == certificateID {
			b.disconnect(cl, packets.ErrNotAuthorized)
		}
	}
}

// demoted is a log handler for mochi's log: what is less than an error to
// mochi is detail to us.
type demoted struct{ slog.Handler }

func demote(level slog.Level) slog.Level {
	if level < slog.LevelError {
		return min(level, slog.LevelDebug)
	}
	return level
}

func (d demoted) Enabled(ctx context.Context, level slog.Level) bool {
	return d.Handler.Enabled(ctx, demote(level))
}

func (d demoted) Handle(ctx context.Context, r slog.Record) error {
	r.Level = demote(r.Level)
	return d.Handler.Handle(ctx, r)
}

func (d demoted) WithAttrs(attrs []slog.Attr) slog.Handler {
	return demoted{d.Handler.WithAttrs(attrs)}
}

func (d demoted) WithGroup(name string) slog.Handler { return demoted{d.Handler.WithGroup(name)} }
