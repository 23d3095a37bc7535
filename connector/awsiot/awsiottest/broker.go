package awsiottest

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"math/rand/v2"
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
	listener *listener

	dropPubacks atomic.Int64
	refuse      atomic.Uint32 // a reason code, 0 for none

	refusePersistent atomic.Bool
	wire             wireFaults

	mu       sync.Mutex
	sessions map[string]*session     // by client id
	live     map[string]*mqtt.Client // by client id: connecting or connected
	stats    map[string]*clientStats
	retained map[string]*message // by topic
}

func newBroker(o Options, r *registry) *broker {
	b := &broker{
		options: o, registry: r,
		sessions: map[string]*session{}, live: map[string]*mqtt.Client{},
		stats: map[string]*clientStats{}, retained: map[string]*message{},
	}
	capabilities := mqtt.NewDefaultServerCapabilities()
	capabilities.MaximumQos = 1
	capabilities.ReceiveMaximum = inflightMax
	capabilities.TopicAliasMaximum = topicAliasMax
	capabilities.SubIDAvailable = 0
	capabilities.MaximumSessionExpiryInterval = sessionExpiryMax
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

func (b *broker) start(leaf tls.Certificate) error {
	l, err := net.Listen("tcp", b.options.Addr)
	if err != nil {
		return fmt.Errorf("listen for MQTT: %w", err)
	}
	b.listener = &listener{
		net: l, log: b.options.Log, gone: b.gone, goodbye: b.goodbye, peers: map[*peer]bool{},
		tls: &tls.Config{
			Certificates:           []tls.Certificate{leaf},
			MinVersion:             tls.VersionTLS12,
			ClientAuth:             tls.RequireAnyClientCert,
			SessionTicketsDisabled: true, // as AWS
			VerifyConnection: func(cs tls.ConnectionState) error {
				return b.verify(cs.PeerCertificates[0])
			},
		},
	}
	err = b.mqtt.AddHook(&hook{broker: b}, nil)
	if err == nil {
		err = b.mqtt.AddListener(b.listener)
	}
	if err == nil {
		err = b.mqtt.Serve()
	}
	if err != nil {
		_ = l.Close()
		return fmt.Errorf("start the broker: %w", err)
	}
	return nil
}

func (b *broker) verify(c *x509.Certificate) error {
	_, err := b.registry.authorize(c)
	return err
}

func (b *broker) addr() string { return reachable(b.listener.net.Addr()) }

func (b *broker) close() { _ = b.mqtt.Close() }

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
			b.statsOf(cl.ID).connect(true) // before its CONNACK, so that it cannot miss it
			b.mu.Unlock()
			return
		}
		b.mu.Unlock()
		b.disconnect(old, packets.ErrSessionTakenOver)
		<-old.Net.Conn.(*peer).done
		b.gone(old.Net.Conn.(*peer))
	}
}

// gone forgets a connection that is done with.
func (b *broker) gone(p *peer) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for id, cl := range b.live {
		if cl.Net.Conn == p {
			delete(b.live, id)
			b.statsOf(id).connect(false)
		}
	}
}

// open gives a connected client its session: the one that it had, or a new one.
func (b *broker) open(cl *mqtt.Client, clean bool, window int) {
	b.mu.Lock()
	s := b.sessions[cl.ID]
	if s == nil || clean {
		s = newSession(cl.ID, b.statsOf(cl.ID), b.options.Clock)
		b.sessions[cl.ID] = s
	}
	b.mu.Unlock()
	s.attach(cl, window, newBucket(b.options.Rate), newBucket(b.options.OutboundRate))
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

func (b *broker) session(id string) *session {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.sessions[id]
}

// forget ends a session.
func (b *broker) forget(s *session) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.sessions[s.id] == s {
		delete(b.sessions, s.id)
	}
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
	for filter, members := range matched.Shared {
		if !matchesTopic(unshared(filter), m.topic) {
			continue
		}
		if s, sub := b.pick(members); s != nil {
			s.enqueue(newDelivery(m, sub))
		}
	}
}

func newDelivery(m *message, sub packets.Subscription) *delivery {
	return &delivery{message: m, qos: min(m.qos, sub.Qos, 1), retain: m.retain && sub.RetainAsPublished}
}

// pick chooses a member of a shared subscription at random, of those online
// where there are any. Source: Developer Guide, "Shared subscriptions".
func (b *broker) pick(members map[string]packets.Subscription) (*session, packets.Subscription) {
	var online, offline []string
	for id := range members {
		if s := b.session(id); s != nil && s.online() {
			online = append(online, id)
		} else if s != nil {
			offline = append(offline, id)
		}
	}
	if len(online) == 0 {
		online = offline
	}
	if len(online) == 0 {
		return nil, packets.Subscription{}
	}
	id := online[rand.IntN(len(online))]
	return b.session(id), members[id]
}

// retain keeps the last message of a topic; an empty one removes it.
func (b *broker) retain(m *message) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(m.payload) == 0 {
		delete(b.retained, m.topic)
		return
	}
	b.retained[m.topic] = m
}

func (b *broker) retainedOn(topic string) *message {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.retained[topic]
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
		if cl.Net.Conn.(*peer).certificateID == certificateID {
			b.disconnect(cl, packets.ErrNotAuthorized)
		}
	}
}

// DropPubacks makes the broker take the next n publishes of QoS 1 without
// acknowledging them.
func (s *Server) DropPubacks(n int) { s.broker.dropPubacks.Store(int64(n)) }

// RefuseConnects makes the broker answer every CONNECT with a reason code of
// MQTT 5, such as 0x87, not authorized (MQTT 3.1.1 gets the return code that
// is nearest). 0 accepts them again.
func (s *Server) RefuseConnects(code byte) { s.broker.refuse.Store(uint32(code)) }

// RefusePersistent makes the broker refuse persistent sessions with 0x87, not
// authorized, as AWS does where the policy has a condition on
// iot:ConnectAttributes that lacks PersistentConnect. Source: AWS IoT Core
// Developer Guide, "Connect policy examples"; that the code is 0x87 is inferred.
func (s *Server) RefusePersistent(refuse bool) { s.broker.refusePersistent.Store(refuse) }

// DisconnectAll ends every connection with a reason code of MQTT 5, such as
// 0x98, administrative action, and returns how many there were.
func (s *Server) DisconnectAll(code byte) int {
	return s.Disconnect(code, func(string) bool { return true })
}

// Disconnect ends the connections of those client ids that match picks, as
// DisconnectAll does.
func (s *Server) Disconnect(code byte, match func(clientID string) bool) int {
	n := 0
	for _, cl := range s.broker.connected() {
		if match(cl.ID) {
			s.broker.disconnect(cl, packets.Code{Code: code, Reason: "asked for by the test"})
			n++
		}
	}
	return n
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
