package awsiot_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sluice"
	"sluice/connector/awsiot"
	"sluice/connector/awsiot/awsiottest"
	"sluice/connector/connectortest"
)

var unpaced = awsiot.Options{PublishRate: -1}

func failureOf(tb testing.TB, err error) *sluice.Failure {
	tb.Helper()
	f, ok := errors.AsType[*sluice.Failure](err)
	if !ok {
		tb.Fatalf("%v (%T), want a *sluice.Failure", err, err)
	}
	return f
}

const device = "20635F0108000496"

func TestPublishProperties(t *testing.T) {
	for _, qos := range []int{0, 1} {
		t.Run(fmt.Sprint("QoS ", qos), func(t *testing.T) {
			c := newCloud(t, awsiottest.Options{})
			w := c.watch(t, "tpx/things/+/uplink")
			s := open(t, newRig().dial(t, unpaced, c.with(t, map[string]any{"uplinkQos": qos})), 0)
			m, again := connectortest.Uplink(device, 7), *connectortest.Uplink(device, 7)
			again.Replayed = true
			for _, m := range []*sluice.Message{m, &again} {
				if err := s.Handle(within(t), m); err != nil {
					t.Fatal(err)
				}
			}
			await(t, "both arrive", func() bool { return len(w.all()) == 2 })
			p, replayed := w.all()[0], w.all()[1]
			if p.Properties.User.Get("sluice-replayed") != "" || replayed.Properties.User.Get("sluice-replayed") != "true" {
				t.Errorf("got %s and %s", p, replayed)
			}
			if p.QoS != byte(qos) || p.Topic != "tpx/things/"+device+"/uplink" || string(p.Payload) != string(m.Document) ||
				p.Properties.ContentType != "application/json" || p.Properties.User.Get("sluice-id") != m.ID {
				t.Errorf("got %s", p)
			}
		})
	}
}

// A base station's alarm has no DevEUI: its LrrID, which the message has in its
// place, stands in.
func TestPublishAlarmOfBaseStation(t *testing.T) {
	c := newCloud(t, awsiottest.Options{})
	w := c.watch(t, "tpx/things/+/uplink")
	s := open(t, newRig().dial(t, unpaced, c.with(t, nil)), 0)
	m := connectortest.Uplink("08040059", 1)
	m.Kind, m.Document = sluice.KindBSAlarm, []byte(`{"BS_alarm":{"LrrID":"08040059","Acked":0}}`)
	if err := s.Handle(within(t), m); err != nil {
		t.Fatal(err)
	}
	await(t, "it arrives", func() bool { return len(w.all()) == 1 })
	if p := w.all()[0]; p.Topic != "tpx/things/08040059/uplink" || string(p.Payload) != string(m.Document) {
		t.Errorf("got %s", p)
	}
}

func TestPublishRefusedLocally(t *testing.T) {
	c := newCloud(t, awsiottest.Options{})
	d := newRig().dial(t, unpaced, c.with(t, map[string]any{"uplinkTopicPattern": "a/{CustomerData.name}/{DevEUI}"}))
	s := open(t, d, 0)
	m := connectortest.Uplink(device, 1)
	if f := failureOf(t, s.Handle(within(t), m)); f.Verdict != sluice.Permanent || f.Reason != sluice.ReasonPattern || !strings.Contains(f.Message, "{CustomerData.name}") {
		t.Errorf("unresolved: %+v", f)
	}
	m.Document = fmt.Appendf(nil, `{"DevEUI_uplink":{"DevEUI":%q,"CustomerData":{"name":%q}}}`, device, strings.Repeat("x", 300))
	if f := failureOf(t, s.Handle(within(t), m)); f.Verdict != sluice.Permanent || f.Reason != sluice.ReasonTopic {
		t.Errorf("long topic: %+v", f)
	}
	m.Payload = make([]byte, 128<<10)
	m.Document = fmt.Appendf(nil, `{"DevEUI_uplink":{"DevEUI":%q,"CustomerData":{"name":"n"}}}`, device)
	if err := s.Handle(within(t), m); err != nil {
		t.Errorf("just at the limit: %v", err)
	}
}

// Acknowledgements that do not come are told in time, cost no place in flight
// and no reconnect.
func TestPubackTimeout(t *testing.T) {
	c := newCloud(t, awsiottest.Options{Rate: -1})
	o := awsiot.Options{PublishRate: -1, PubackTimeout: 100 * time.Millisecond}
	s := open(t, newRig().dial(t, o, c.with(t, nil)), 0)
	const dropped = 150 // more than may be in flight
	c.DropPubacks(dropped)
	var wg sync.WaitGroup
	for i := range dropped {
		wg.Go(func() {
			err := s.Handle(within(t), connectortest.Uplink(fmt.Sprintf("%016X", i), 1))
			if f := failureOf(t, err); f.Verdict != sluice.Retry || f.Reason != sluice.ReasonTimeout {
				t.Errorf("%+v", f)
			}
		})
	}
	wg.Wait()
	if err := s.Handle(within(t), connectortest.Uplink(device, 2)); err != nil {
		t.Errorf("after it: %v", err)
	}
	if n := c.ClientStats()[s.ID()].Connects; n != 1 {
		t.Errorf("%d connects", n)
	}
}

// Acknowledgements that come later than we wait for them still count as
// outstanding with AWS, which ends a connection that has more than a hundred:
// there never are, and each message gets through in the end.
func TestLatePubacks(t *testing.T) {
	c := newCloud(t, awsiottest.Options{Rate: -1})
	o := awsiot.Options{PublishRate: -1, PubackTimeout: 200 * time.Millisecond}
	s := open(t, newRig().dial(t, o, c.with(t, nil)), 0)
	c.DelayPubacks(300 * time.Millisecond)
	var wg sync.WaitGroup
	var late atomic.Int64
	for i := range 250 {
		wg.Go(func() {
			if err := s.Handle(within(t), connectortest.Uplink(fmt.Sprintf("%016X", i), 1)); sluice.ReasonOf(err) == sluice.ReasonTimeout {
				late.Add(1)
			} else if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	c.DelayPubacks(0)
	if late.Load() == 0 {
		t.Error("no acknowledgement was late")
	}
	for i := range 10 {
		if err := s.Handle(within(t), connectortest.Uplink(device, i)); err != nil {
			t.Errorf("after it: %v", err)
		}
	}
	if n := c.Exceeded(awsiottest.QuotaInboundUnacked); n > 0 || c.ClientStats()[s.ID()].Connects != 1 {
		t.Errorf("%d times over a hundred unacknowledged; %v", n, s.Err())
	}
}

func TestThrottledPublish(t *testing.T) {
	c := newCloud(t, awsiottest.Options{Rate: 5})
	r := newRig()
	s := open(t, r.dial(t, unpaced, c.with(t, nil)), 0)
	var f *sluice.Failure
	for i := range 20 {
		if err := s.Handle(within(t), connectortest.Uplink(device, i)); err != nil {
			f = failureOf(t, err)
			break
		}
	}
	if f == nil || f.Verdict != sluice.RetryAfter || f.After != time.Second || f.Reason != sluice.ReasonThrottled {
		t.Errorf("%+v", f)
	}
}

// At its own pace a session is never throttled.
func TestPacedPublish(t *testing.T) {
	c := newCloud(t, awsiottest.Options{})
	s := open(t, newRig().dial(t, awsiot.Options{}, c.with(t, nil)), 0)
	var wg sync.WaitGroup
	for i := range 250 {
		wg.Go(func() {
			if err := s.Handle(within(t), connectortest.Uplink(fmt.Sprintf("%016X", i), 1)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if st := c.ClientStats()[s.ID()]; st.Discarded > 0 || st.PeakRate > 100 || st.Published != 250 {
		t.Errorf("%+v", st)
	}
}

// What is under way when the link ends is told at once, with the verdict that
// the reason asks for.
func TestInFlightWhenLost(t *testing.T) {
	for _, tc := range []struct {
		code    byte
		verdict sluice.Verdict
		reason  sluice.Reason
	}{
		{0x8B, sluice.NotConnected, sluice.ReasonDisconnected},
		{0x98, sluice.NotConnected, sluice.ReasonDisconnected},
		{0x97, sluice.NotConnected, sluice.ReasonThrottled},
		{0x87, sluice.RetryAfter, sluice.ReasonNotAuthorized},
		{0x95, sluice.Permanent, sluice.ReasonTooLarge},
		{0x90, sluice.Permanent, sluice.ReasonTopic},
	} {
		t.Run(fmt.Sprintf("0x%02X", tc.code), func(t *testing.T) {
			c := newCloud(t, awsiottest.Options{})
			patient := awsiot.Options{PublishRate: -1, PubackTimeout: time.Hour}
			s := open(t, newRig().dial(t, patient, c.with(t, nil)), 0)
			c.DropPubacks(1)
			result := make(chan error, 1)
			go func() { result <- s.Handle(within(t), connectortest.Uplink(device, 1)) }()
			await(t, "it is under way", func() bool { return c.ClientStats()[s.ID()].Published == 1 })
			c.DisconnectAll(tc.code)
			var f *sluice.Failure
			select {
			case err := <-result:
				f = failureOf(t, err)
			case <-within(t).Done():
				t.Fatal("the publish still waits for its acknowledgement")
			}
			if f.Verdict != tc.verdict || f.Reason != tc.reason {
				t.Errorf("%+v", f)
			}
			<-s.Done()
			if f := failureOf(t, s.Err()); f.Reason != tc.reason || f.Status != int(tc.code) {
				t.Errorf("Err: %+v", f)
			}
		})
	}
}

func TestTakenOver(t *testing.T) {
	c := newCloud(t, awsiottest.Options{})
	first := open(t, newRig().dial(t, unpaced, c.with(t, nil)), 0)
	second := open(t, newRig().dial(t, unpaced, c.with(t, nil)), 0)
	<-first.Done()
	if f := failureOf(t, first.Err()); f.Reason != sluice.ReasonTakenOver || f.Hint == "" {
		t.Errorf("%+v", f)
	}
	if err := second.Handle(within(t), connectortest.Uplink(device, 1)); err != nil {
		t.Error(err)
	}
}

func TestRefusedConnect(t *testing.T) {
	c := newCloud(t, awsiottest.Options{})
	d := newRig().dial(t, unpaced, c.with(t, nil))
	for _, tc := range []struct {
		code   byte
		reason sluice.Reason
		hint   string
	}{
		{0x87, sluice.ReasonNotAuthorized, ":client/sluice-a1b2c3d4-8-0-0"},
		{0x86, sluice.ReasonAuthentication, "registered"},
		{0x97, sluice.ReasonThrottled, "limits"},
		{0x85, sluice.ReasonRejected, ""},
	} {
		c.RefuseConnects(tc.code)
		_, err := d.Open(within(t), 0, func() {})
		if f := failureOf(t, err); f.Reason != tc.reason || f.Verdict != sluice.NotConnected || !strings.Contains(f.Hint, tc.hint) {
			t.Errorf("0x%02X: %+v", tc.code, f)
		}
	}
}

func TestDeactivatedCertificate(t *testing.T) {
	c := newCloud(t, awsiottest.Options{})
	d := newRig().dial(t, unpaced, c.with(t, nil))
	s := open(t, d, 0)
	arn := c.conf["certificateId"].(string)
	c.DeactivateCertificate(arn[strings.LastIndex(arn, "/")+1:])
	<-s.Done()
	failureOf(t, s.Err())
	_, err := d.Open(within(t), 0, func() {})
	if f := failureOf(t, err); f.Reason != sluice.ReasonAuthentication || !strings.Contains(f.Hint, "active") {
		t.Errorf("%+v", f)
	}
}

// A wire that goes wrong before the CONNACK is told by what went wrong.
func TestOpenFailures(t *testing.T) {
	c := newCloud(t, awsiottest.Options{})
	o := awsiot.Options{PublishRate: -1, ConnectTimeout: 500 * time.Millisecond}
	for _, tc := range []struct {
		name   string
		change map[string]any
		reason sluice.Reason
	}{
		{"nobody listens", map[string]any{"dataEndpoint": closedPort(t)}, sluice.ReasonUnreachable},
		{"no TLS", map[string]any{"dataEndpoint": listen(t, nil, func(conn net.Conn) { _, _ = conn.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n")) })}, sluice.ReasonTLS},
		{"silence", map[string]any{"dataEndpoint": listen(t, nil, func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) })}, sluice.ReasonTLS},
		{"hangs up in the handshake", map[string]any{"dataEndpoint": listen(t, nil, func(net.Conn) {})}, sluice.ReasonTLS},
		{"unknown authority", map[string]any{"caCertificate": nil}, sluice.ReasonTLS},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := newRig().dial(t, o, c.with(t, tc.change)).Open(within(t), 0, func() {})
			if f := failureOf(t, err); f.Reason != tc.reason || f.Verdict != sluice.NotConnected {
				t.Errorf("%+v", f)
			}
		})
	}
}

// AWS closes the connection after a good handshake where the certificate is
// not active, and says nothing.
func TestHangsUpAfterTheHandshake(t *testing.T) {
	c := newCloud(t, awsiottest.Options{})
	p := newPair(t, "ec", time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
	pair, err := tls.X509KeyPair([]byte(p.certificate), []byte(p.keys["EC"]))
	if err != nil {
		t.Fatal(err)
	}
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		conf := &tls.Config{Certificates: []tls.Certificate{pair}, MaxVersion: version, ClientAuth: tls.RequireAnyClientCert}
		addr := listen(t, conf, func(conn net.Conn) { _, _ = conn.Read(make([]byte, 1)) })
		_, err := newRig().dial(t, unpaced, c.with(t, map[string]any{"dataEndpoint": addr, "caCertificate": p.certificate})).Open(within(t), 0, func() {})
		if f := failureOf(t, err); f.Reason != sluice.ReasonAuthentication || !strings.Contains(f.Hint, "iot:Connect") {
			t.Errorf("%+v", f)
		}
	}
}

// closedPort is an address where nobody listens.
func closedPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// listen serves connections until the test ends.
func listen(t *testing.T, conf *tls.Config, serve func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var conns []net.Conn
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, conn)
			mu.Unlock()
			wg.Go(func() {
				defer func() { _ = conn.Close() }()
				if conf != nil {
					c := tls.Server(conn, conf)
					if c.Handshake() != nil {
						return
					}
					serve(c)
					return
				}
				serve(conn)
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		mu.Lock()
		for _, conn := range conns {
			_ = conn.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return l.Addr().String()
}

// A link that swallows everything is found out by a ping.
func TestBlackHole(t *testing.T) {
	c := newCloud(t, awsiottest.Options{})
	var hole atomic.Bool
	addr := listen(t, nil, func(down net.Conn) {
		up, err := net.Dial("tcp", c.MQTTAddr())
		if err != nil {
			return
		}
		var wg sync.WaitGroup
		copyTo := func(to, from net.Conn) {
			b := make([]byte, 4096)
			for {
				n, err := from.Read(b)
				if err != nil {
					_ = to.Close()
					return
				}
				if !hole.Load() {
					_, _ = to.Write(b[:n])
				}
			}
		}
		wg.Go(func() { copyTo(up, down) })
		copyTo(down, up)
		wg.Wait()
	})
	_, port, _ := net.SplitHostPort(addr)
	o := awsiot.Options{PublishRate: -1, PubackTimeout: 200 * time.Millisecond}
	s := open(t, newRig().dial(t, o, c.with(t, map[string]any{"dataEndpoint": "localhost:" + port})), 0)
	if err := s.Handle(within(t), connectortest.Uplink(device, 1)); err != nil {
		t.Fatal(err)
	}
	hole.Store(true)
	if f := failureOf(t, s.Handle(within(t), connectortest.Uplink(device, 2))); f.Reason != sluice.ReasonTimeout {
		t.Errorf("%+v", f)
	}
	select {
	case <-s.Done():
	case <-within(t).Done():
		t.Fatal("the dead link went unnoticed")
	}
	if f := failureOf(t, s.Err()); f.Reason != sluice.ReasonTimeout {
		t.Errorf("%+v", f)
	}
}

// While a command waits to be taken, uplinks are acknowledged; afterwards the
// commands come in order.
func TestSlowTaker(t *testing.T) {
	c := newCloud(t, awsiottest.Options{Rate: -1})
	w := c.watch(t)
	s := open(t, newRig().dial(t, unpaced, c.with(t, nil)), 0)
	free := make(chan struct{})
	var mu sync.Mutex
	var got []string
	err := s.(sluice.Subscriber).Subscribe(within(t), func(ctx context.Context, cmd sluice.Command) error {
		select {
		case <-free:
		case <-ctx.Done():
			return ctx.Err()
		}
		mu.Lock()
		defer mu.Unlock()
		got = append(got, string(cmd.Document))
		if cmd.DevEUI != device || cmd.Source != "tpx/things/"+strings.ToLower(device)+"/downlink" {
			t.Errorf("%+v", cmd)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	const n = 250
	for i := range n {
		w.publish(t, "tpx/things/"+strings.ToLower(device)+"/downlink", 1, fmt.Append(nil, i))
	}
	for i := range 20 {
		if err := s.Handle(within(t), connectortest.Uplink(device, i)); err != nil {
			t.Fatal(err)
		}
	}
	close(free)
	await(t, "all are taken", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(got) == n
	})
	for i, text := range got {
		if text != fmt.Sprint(i) {
			t.Fatalf("command %d is %s", i, text)
		}
	}
}

// Too many commands with QoS 0 are lost, which is told, and hold up nothing.
func TestFloodOfUnacknowledgedCommands(t *testing.T) {
	c := newCloud(t, awsiottest.Options{Rate: -1})
	w := c.watch(t)
	r := newRig()
	s := open(t, r.dial(t, unpaced, c.with(t, nil)), 0)
	free, taken := make(chan struct{}), atomic.Int32{}
	err := s.(sluice.Subscriber).Subscribe(within(t), func(context.Context, sluice.Command) error {
		<-free
		taken.Add(1)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 300 {
		w.publish(t, "tpx/things/"+device+"/downlink", 0, fmt.Append(nil, i))
	}
	await(t, "the loss is told", func() bool { return len(r.events.Of(sluice.EventDownlinkIgnored)) == 1 })
	if err := s.Handle(within(t), connectortest.Uplink(device, 1)); err != nil {
		t.Error(err)
	}
	close(free)
	await(t, "the others are taken", func() bool { return taken.Load() >= 100 })
}

func TestNoDownlinkTopicNoSubscriber(t *testing.T) {
	c := newCloud(t, awsiottest.Options{})
	s := open(t, newRig().dial(t, unpaced, c.with(t, map[string]any{"downlinkTopicPattern": nil})), 0)
	if _, ok := s.(sluice.Subscriber); ok {
		t.Error("the session is a Subscriber")
	}
}

// A command that was not taken when the session closes is not acknowledged.
func TestCloseWhileTaking(t *testing.T) {
	c := newCloud(t, awsiottest.Options{})
	w := c.watch(t)
	s := open(t, newRig().dial(t, unpaced, c.with(t, nil)), 0)
	offered := make(chan struct{}, 1)
	err := s.(sluice.Subscriber).Subscribe(within(t), func(ctx context.Context, _ sluice.Command) error {
		offered <- struct{}{}
		<-ctx.Done()
		return ctx.Err()
	})
	if err != nil {
		t.Fatal(err)
	}
	w.publish(t, "tpx/things/"+device+"/downlink", 1, []byte("x"))
	<-offered
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := s.Close(ctx); err != nil {
		t.Error(err)
	}
	<-s.Done()
}

func BenchmarkPublish(b *testing.B) {
	for _, bc := range []struct {
		name      string
		qos, many int
	}{{"QoS 0", 0, 1}, {"QoS 1", 1, 1}, {"QoS 1, 50 under way", 1, 50}} {
		b.Run(bc.name, func(b *testing.B) {
			c := newCloud(b, awsiottest.Options{Rate: -1})
			s := open(b, newRig().dial(b, unpaced, c.with(b, map[string]any{"uplinkQos": bc.qos})), 0)
			m := connectortest.Uplink(device, 1)
			m.Payload = make([]byte, 1200)
			ctx := context.Background()
			b.ReportAllocs()
			b.ResetTimer()
			var wg sync.WaitGroup
			var left atomic.Int64
			left.Store(int64(b.N))
			for range bc.many {
				wg.Go(func() {
					for left.Add(-1) >= 0 {
						if err := s.Handle(ctx, m); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
		})
	}
}
