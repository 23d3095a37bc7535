package test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"

	"sluice"
	"sluice/connection"
	"sluice/connector/awsiot"
	"sluice/connector/awsiot/awsiottest"
	"sluice/connector/connectortest"
)

// slowTests names the variable that asks for the long runs.
const slowTests = "SLUICE_SLOW"

// fleet is a journal of devices that report in turn, at a rate that does not
// wait for what becomes of the reports.
type fleet struct {
	devices int
	rate    float64 // reports a second, of all devices
	began   time.Time
	until   time.Duration

	offered, delivered, again atomic.Int64
	most                      atomic.Int64 // offered and not delivered
	over                      atomic.Bool  // nothing more is reported
	done                      chan struct{}
}

func newFleet(devices int, rate float64, until time.Duration) *fleet {
	return &fleet{devices: devices, rate: rate, began: time.Now(), until: until, done: make(chan struct{})}
}

// Read has each device's reports handled one after another, in order.
func (f *fleet) Read(ctx context.Context, _ string, h sluice.Handler, concurrency int,
	_ func(m *sluice.Message, v sluice.Verdict, err error),
) error {
	places := make(chan struct{}, concurrency)
	var wg sync.WaitGroup
	for n := range f.devices {
		wg.Go(func() { f.report(ctx, n, h, places) })
	}
	wg.Wait()
	if ctx.Err() == nil {
		close(f.done)
		<-ctx.Done()
	}
	return nil
}

func (f *fleet) report(ctx context.Context, device int, h sluice.Handler, places chan struct{}) {
	every := time.Duration(float64(f.devices) / f.rate * float64(time.Second))
	at := f.began.Add(every * time.Duration(device) / time.Duration(f.devices))
	for n := 0; at.Sub(f.began) < f.until && !f.over.Load(); at = at.Add(every) {
		timer := time.NewTimer(time.Until(at))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
		waiting := f.offered.Add(1) - f.delivered.Load()
		for most := f.most.Load(); waiting > most && !f.most.CompareAndSwap(most, waiting); most = f.most.Load() {
		}
		m := connectortest.Uplink(fmt.Sprintf("%016X", device), n)
		m.Connection = "8"
		for n++; ; {
			places <- struct{}{}
			err := h.Handle(context.WithoutCancel(ctx), m)
			<-places
			if err == nil {
				f.delivered.Add(1)
				break
			}
			f.again.Add(1)
			if ctx.Err() != nil {
				return
			}
		}
	}
}

// await waits until all has been reported and delivered.
func (f *fleet) await(t *testing.T) {
	t.Helper()
	timer := time.NewTimer(f.until + time.Minute)
	defer timer.Stop()
	select {
	case <-f.done:
	case <-timer.C:
		t.Fatalf("%d of %d reports are delivered", f.delivered.Load(), f.offered.Load())
	}
}

// none is a journal without reports.
type none struct{}

func (none) Read(ctx context.Context, _ string, _ sluice.Handler, _ int, _ func(*sluice.Message, sluice.Verdict, error)) error {
	<-ctx.Done()
	return nil
}

type plain struct{}

func (plain) Seal(clear []byte) ([]byte, error)  { return clear, nil }
func (plain) Open(sealed []byte) ([]byte, error) { return sealed, nil }

// bridge is a connection to the emulator without the rest of the program.
type bridge struct {
	*connection.Supervisor
	events connectortest.Events
	stop   func()

	configuration map[string]any
	revision      uint64
}

func bridged(t *testing.T, aws *awsiottest.Server, journal connection.Journal, change map[string]any, command func(*sluice.Message)) *bridge {
	t.Helper()
	return bridgedWith(t, aws, journal, awsiot.Options{}, change, command)
}

func bridgedWith(t *testing.T, aws *awsiottest.Server, journal connection.Journal, o awsiot.Options, change map[string]any,
	command func(*sluice.Message),
) *bridge {
	t.Helper()
	raw, err := json.Marshal(aws.Configuration())
	if err != nil {
		t.Fatal(err)
	}
	conf := map[string]any{}
	if err := json.Unmarshal(raw, &conf); err != nil {
		t.Fatal(err)
	}
	for _, k := range []string{"accessKeyId", "secretAccessKey"} {
		delete(conf, k)
	}
	conf["createDevices"] = false
	b := &bridge{configuration: conf}
	b.Supervisor = connection.New(connection.Options{
		Connectors: []sluice.Connector{awsiot.New(o)}, Journal: journal,
		Commands: sluice.HandlerFunc(func(_ context.Context, m *sluice.Message) error { command(m); return nil }),
		Reports:  sluice.HandlerFunc(func(context.Context, *sluice.Message) error { return nil }),
		Events:   &b.events, Sealer: plain{}, Instance: "abcd2345",
	})
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		if err := b.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	b.stop = sync.OnceFunc(func() { cancel(); running.Wait() })
	t.Cleanup(b.stop)
	b.change(t, change)
	wait(t, "the connection to open", func() bool {
		s, _ := b.Status("8")
		return s.State == sluice.StateOpened && len(s.Sessions) == s.Wanted
	})
	return b
}

// change applies another configuration.
func (b *bridge) change(t *testing.T, change map[string]any) {
	t.Helper()
	maps.Copy(b.configuration, change)
	raw, err := json.Marshal(b.configuration)
	if err != nil {
		t.Fatal(err)
	}
	b.revision++
	b.Apply([]sluice.Connection{{ID: "8", ConnectorID: "actility-aws-iot", Name: "Test", Active: true, Revision: b.revision, Configuration: raw}})
}

func emulator(t *testing.T, o awsiottest.Options) *awsiottest.Server {
	t.Helper()
	o.KeyType = awsiottest.EC
	aws, err := awsiottest.NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(aws.Close)
	return aws
}

// TestPoolUnderLoad has a pool of ten clients carry 970 reports a second, and
// one of a hundred 3,000, each starting with two: nothing is over a quota of
// AWS, and nothing is lost. The loads last seconds; with SLUICE_SLOW the first
// lasts a minute and the second twenty seconds.
func TestPoolUnderLoad(t *testing.T) {
	for _, tc := range []struct {
		pool           int
		rate           float64
		seconds, short int
	}{{10, 970, 60, 4}, {100, 3000, 20, 1}} {
		t.Run(fmt.Sprintf("%d clients", tc.pool), func(t *testing.T) {
			seconds := tc.short
			change := map[string]any{"poolSize": tc.pool}
			if os.Getenv(slowTests) != "" {
				seconds = tc.seconds
			}
			if tc.pool == 100 {
				change["poolMin"] = 100 // all of them are to have their share
			}
			aws := emulator(t, awsiottest.Options{})
			load := newFleet(int(tc.rate), tc.rate, time.Duration(seconds)*time.Second)
			b := bridged(t, aws, load, change, func(*sluice.Message) {})
			load.await(t)
			took := time.Since(load.began)
			b.judge(t, aws)
			s, _ := b.Status("8")
			t.Logf("%d reports in %.1f s, %.0f a second; %d waited at most; %d of %d sessions",
				load.delivered.Load(), took.Seconds(), float64(load.delivered.Load())/took.Seconds(), load.most.Load(), len(s.Sessions), s.Size)
		})
	}
}

// judge wants no quota of AWS to have been exceeded, and no session lost.
func (b *bridge) judge(t *testing.T, aws *awsiottest.Server) {
	t.Helper()
	clients, peak := 0, 0
	for id, s := range aws.ClientStats() {
		if s.Published > 0 {
			clients, peak = clients+1, max(peak, s.PeakRate)
		}
		if s.Connects != 1 {
			t.Errorf("%s connected %d times", id, s.Connects)
		}
	}
	for _, q := range []awsiottest.Quota{
		awsiottest.QuotaPublishRate, awsiottest.QuotaThroughput, awsiottest.QuotaInboundUnacked, awsiottest.QuotaClientID,
	} {
		if n := aws.Exceeded(q); n > 0 {
			t.Errorf("%d times over a quota: %s", n, q)
		}
	}
	if n := aws.Discarded(); n > 0 {
		t.Errorf("%d publishes were discarded", n)
	}
	if lost := b.events.Of(sluice.EventSessionLost); len(lost) > 0 {
		t.Errorf("sessions lost: %+v", lost[0])
	}
	t.Logf("%d clients, the busiest sent %d in a second", clients, peak)
}

// taken counts commands by their CorrelationID.
type taken struct {
	t  *testing.T
	mu sync.Mutex
	by map[string]int
}

func newTaken(t *testing.T) *taken { return &taken{t: t, by: map[string]int{}} }

func (k *taken) take(m *sluice.Message) {
	var d struct {
		DevEUIdownlink struct{ CorrelationID string } `json:"DevEUI_downlink"`
	}
	if err := json.Unmarshal(m.Document, &d); err != nil {
		k.t.Error(err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.by[d.DevEUIdownlink.CorrelationID]++
}

func (k *taken) size() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.by)
}

// once wants each to have been taken once.
func (k *taken) once() {
	k.t.Helper()
	k.mu.Lock()
	defer k.mu.Unlock()
	for id, times := range k.by {
		if times != 1 {
			k.t.Errorf("command %s was taken %d times", id, times)
		}
	}
}

// TestCommandsWhileAway has 500 commands wait in AWS while Sluice is down: all
// arrive afterwards, at the pace of AWS, each once by its CorrelationID, though
// the link is cut meanwhile.
func TestCommandsWhileAway(t *testing.T) {
	// Source of the ten a second: AWS IoT Developer Guide, "MQTT", persistent
	// sessions. Without SLUICE_SLOW it is faster.
	rate, n := 250, 500
	if os.Getenv(slowTests) != "" {
		rate = 10
	}
	aws := emulator(t, awsiottest.Options{Rate: -1, OutboundRate: 100, Quotas: awsiottest.Quotas{StoredRate: rate}})
	k := newTaken(t)
	bridged(t, aws, none{}, nil, k.take).stop()
	commands(application(t, aws), n)
	began := time.Now()
	bridged(t, aws, none{}, nil, k.take)
	wait(t, "half of the commands", func() bool { return k.size() >= n/2 })
	aws.Cut(isInbox)
	wait(t, "all commands", func() bool { return k.size() == n })
	t.Logf("%d commands in %.1f s", n, time.Since(began).Seconds())
	k.once()
}

// TestSharedCommands has more than a thousand commands a second come through
// the clients that share them, under AWS's hundred a second of each; though one
// of them is cut again and again, each is taken once by its CorrelationID. How
// fast it was is only judged with SLUICE_SLOW.
func TestSharedCommands(t *testing.T) {
	const n = 3000
	aws := emulator(t, awsiottest.Options{Rate: -1, OutboundRate: 100})
	k := newTaken(t)
	b := bridged(t, aws, none{}, map[string]any{"poolSize": 12, "downlinkSessions": 12}, k.take)
	wait(t, "all members", func() bool {
		members := 0
		for id, s := range aws.ClientStats() {
			if s.Connected && isInbox(id) {
				members++
			}
		}
		return members == 12
	})
	began := time.Now()
	var sending sync.WaitGroup
	send := application(t, aws)
	sending.Go(func() { commands(send, n) })
	for part := 1; part <= 3; part++ {
		wait(t, "some commands", func() bool { return k.size() >= n*part/4 })
		aws.Cut(func(id string) bool { return isInbox(id) && strings.HasSuffix(id, "-3") })
	}
	sending.Wait()
	wait(t, "all commands", func() bool { return k.size() == n })
	perSecond := n / time.Since(began).Seconds()
	t.Logf("%d commands: %.0f a second", n, perSecond)
	if os.Getenv(slowTests) != "" && perSecond < 1000 {
		t.Errorf("%.0f commands a second, want 1,000", perSecond)
	}
	k.once()
	if s, _ := b.Status("8"); s.State != sluice.StateOpened {
		t.Errorf("the connection is %s", s.State)
	}
}

// commands publishes commands for ten devices.
func commands(send func(topic, document string), n int) { commandsFrom(send, 0, n) }

func commandsFrom(send func(topic, document string), from, n int) {
	for i := from; i < from+n; i++ {
		eui := fmt.Sprintf("%016X", i%10)
		send("tpx/things/"+eui+"/downlink", fmt.Sprintf(
			`{"DevEUI_downlink":{"DevEUI":%q,"FPort":1,"payload_hex":"00","CorrelationID":"%X"}}`, eui, i+1))
	}
}

func isInbox(id string) bool { return strings.Contains(id, "-commands-") }

// TestThrottledPublishesComeAgain has AWS not acknowledge one publish in twenty:
// each is sent again after its time, without a reconnect.
func TestThrottledPublishesComeAgain(t *testing.T) {
	aws := emulator(t, awsiottest.Options{})
	aws.DropPubacksFraction(0.05, 1)
	load := newFleet(200, 200, 3*time.Second)
	b := bridgedWith(t, aws, load, awsiot.Options{PubackTimeout: 300 * time.Millisecond}, nil, func(*sluice.Message) {})
	load.await(t)
	b.judge(t, aws)
	if load.again.Load() == 0 {
		t.Error("nothing had to be sent again")
	}
}

// application is a client of the cloud that publishes commands.
func application(t *testing.T, aws *awsiottest.Server) func(topic, document string) {
	t.Helper()
	certificate, err := aws.CreateKeysAndCertificate(true)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair([]byte(certificate.CertificatePEM), []byte(certificate.PrivateKeyPEM))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(aws.CAPEM()))
	dialer := tls.Dialer{NetDialer: &net.Dialer{}, Config: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}}
	conn, err := dialer.DialContext(t.Context(), "tcp", aws.MQTTAddr())
	if err != nil {
		t.Fatal(err)
	}
	client := paho.NewClient(paho.ClientConfig{Conn: packets.NewThreadSafeConn(conn)})
	if _, err := client.Connect(t.Context(), &paho.Connect{ClientID: "application", KeepAlive: 60, CleanStart: true}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Disconnect(&paho.Disconnect{}) })
	return func(topic, document string) {
		if _, err := client.Publish(t.Context(), &paho.Publish{Topic: topic, QoS: 1, Payload: []byte(document)}); err != nil {
			t.Fatal(err)
		}
	}
}

// TestStrangerTakesALane has a stranger with the id of one lane come again and
// again: that is said, with what to do; the others carry the load.
func TestStrangerTakesALane(t *testing.T) {
	aws := emulator(t, awsiottest.Options{})
	load := newFleet(100, 150, 4*time.Second)
	b := bridged(t, aws, load, map[string]any{"poolMin": 3, "poolSize": 4, "downlinkTopicPattern": ""}, func(*sluice.Message) {})
	s, _ := b.Status("8")
	ids := []string{s.Sessions[0].ID, s.Sessions[1].ID, s.Sessions[2].ID}
	slices.Sort(ids)
	victim := ids[1]
	connects := func() int { return aws.ClientStats()[victim].Connects }
	if n := aws.Disconnect(0x8E, func(id string) bool { return id == victim }); n != 1 {
		t.Fatalf("%d clients %s", n, victim)
	}
	wait(t, "the event", func() bool { return len(b.events.Of(sluice.EventSessionLost)) > 0 })
	e := b.events.Of(sluice.EventSessionLost)[0]
	if e.Reason != sluice.ReasonTakenOver || e.Label != "Another client uses our id" || !strings.Contains(e.Detail, victim) || e.Hint == "" {
		t.Errorf("event %+v", e)
	}
	load.await(t)
	if s, _ := b.Status("8"); s.State != sluice.StateOpened || s.StartupTime.IsZero() {
		t.Errorf("status %+v", s)
	}
	if n := connects(); n > 2 {
		t.Errorf("%s connected %d times within seconds", victim, n)
	}
	if n := aws.Discarded(); n > 0 {
		t.Errorf("%d publishes were discarded", n)
	}
}
