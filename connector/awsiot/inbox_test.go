package awsiot_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"
	"github.com/google/go-cmp/cmp"

	"sluice"
	"sluice/connector/awsiot"
	"sluice/connector/awsiot/awsiottest"
	"sluice/connector/connectortest"
)

const downlinkTopic = "tpx/things/" + device + "/downlink"

// pool makes Dialers of one Connector, as one process does.
type pool struct {
	*rig
	connector *awsiot.Connector
}

func newPool() *pool { return &pool{rig: newRig(), connector: awsiot.New(unpaced)} }

func (p *pool) dial(tb testing.TB, generation int, configuration json.RawMessage) sluice.Dialer {
	tb.Helper()
	d, err := p.connector.Dialer(sluice.DialerSpec{
		Connection: sluice.Connection{ID: "8", Configuration: configuration}, Common: p.common, Instance: "a1b2c3d4",
		Generation: generation, Things: p.things, Events: p.events, Clock: time.Now, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(d.Close)
	return d
}

// commands are those that were taken, in order.
type commands struct {
	mu  sync.Mutex
	all []string
}

func (c *commands) take(_ context.Context, cmd sluice.Command) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all = append(c.all, string(cmd.Document))
	return nil
}

func (c *commands) taken() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]string{}, c.all...)
}

// are waits for the last of the commands and wants all of them, each once.
func (c *commands) are(t *testing.T, want ...string) {
	t.Helper()
	await(t, "commands "+strings.Join(want, " "), func() bool { return len(c.taken()) >= len(want) })
	if diff := cmp.Diff(want, c.taken()); diff != "" {
		t.Errorf("commands (-want +got): %s", diff)
	}
}

func subscribe(t *testing.T, s sluice.Session, take func(context.Context, sluice.Command) error) {
	t.Helper()
	if err := s.(sluice.Subscriber).Subscribe(within(t), take); err != nil {
		t.Fatal(err)
	}
}

func closeSession(t *testing.T, s sluice.Session) {
	t.Helper()
	if err := s.Close(within(t)); err != nil {
		t.Error(err)
	}
}

func endSession(t *testing.T, s sluice.Session) {
	t.Helper()
	if err := s.(sluice.Ender).End(within(t)); err != nil {
		t.Error(err)
	}
}

func (w *watcher) commands(t *testing.T, documents ...string) {
	t.Helper()
	for _, d := range documents {
		w.publish(t, downlinkTopic, 1, []byte(d))
	}
}

// A publisher's own id of a message comes with the command.
func TestCommandsHaveIDs(t *testing.T) {
	c := newCloud(t, awsiottest.Options{})
	w := c.watch(t)
	ids := make(chan string, 4)
	subscribe(t, open(t, newPool().dial(t, 0, c.with(t, nil)), 0), func(_ context.Context, cmd sluice.Command) error {
		ids <- cmd.ID
		return nil
	})
	property := &paho.PublishProperties{CorrelationData: []byte{0xab, 1}}
	property.User.Add("other", "x")
	property.User.Add("sluice-id", "order-7")
	for want, p := range map[string]*paho.PublishProperties{"": nil, "ab01": {CorrelationData: []byte{0xab, 1}}, "order-7": property} {
		if _, err := w.client.Publish(within(t), &paho.Publish{Topic: downlinkTopic, QoS: 1, Payload: []byte("{}"), Properties: p}); err != nil {
			t.Fatal(err)
		}
		if got := <-ids; got != want {
			t.Errorf("id %q, want %q", got, want)
		}
	}
}

// inboxes are the client ids of the sessions in which commands are kept.
func (c *cloud) inboxes() []string {
	list := []string{}
	for id, s := range c.ClientStats() {
		if s.Session && strings.Contains(id, "-commands-") {
			list = append(list, id)
		}
	}
	return list
}

// Commands that are published while the links are cut, and while the process
// is down, arrive afterwards, each once: whichever lane subscribes, and
// whichever generation the process was in when it stopped.
func TestCommandsAreKept(t *testing.T) {
	c := newCloud(t, awsiottest.Options{})
	w := c.watch(t)
	var got commands
	before := newPool()
	d := before.dial(t, 1, c.with(t, nil))
	s := open(t, d, 0)
	subscribe(t, s, got.take)
	w.commands(t, "0", "1")
	got.are(t, "0", "1")
	await(t, "they are acknowledged", func() bool { return c.ClientStats()[c.inboxes()[0]].Acknowledged == 2 })

	n := c.Disconnect(0x98, func(id string) bool { return strings.HasPrefix(id, "sluice-") })
	<-s.Done()
	if n != 2 {
		t.Errorf("%d links were cut", n)
	}
	w.commands(t, "2", "3", "4")
	closeSession(t, s)
	s = open(t, d, 1)
	subscribe(t, s, got.take)
	got.are(t, "0", "1", "2", "3", "4")

	closeSession(t, s)
	w.commands(t, "5", "6", "7")
	after := open(t, newPool().dial(t, 0, c.with(t, nil)), 0)
	subscribe(t, after, got.take)
	w.commands(t, "8")
	got.are(t, "0", "1", "2", "3", "4", "5", "6", "7", "8")
	if len(before.events.Of("")) > 0 {
		t.Errorf("events: %+v", before.events.Of(""))
	}
}

// A lane that is lost while it subscribes and one whose commands' link is lost
// are both told, so that another can be tried.
func TestLostInbox(t *testing.T) {
	c := newCloud(t, awsiottest.Options{})
	s := open(t, newRig().dial(t, unpaced, c.with(t, nil)), 0)
	subscribe(t, s, new(commands).take)
	c.Disconnect(0x97, func(id string) bool { return strings.Contains(id, "-commands-") })
	<-s.Done()
	if f := failureOf(t, s.Err()); f.Verdict != sluice.NotConnected || f.Reason != sluice.ReasonThrottled {
		t.Errorf("%+v", f)
	}
	if f := failureOf(t, s.Handle(within(t), connectortest.Uplink(device, 1))); f.Verdict != sluice.NotConnected {
		t.Errorf("Handle: %+v", f)
	}
}

// A changed configuration takes the commands over from the one before, which
// goes on with its uplinks, and no command is lost or comes twice.
func TestCommandsChangeHands(t *testing.T) {
	c := newCloud(t, awsiottest.Options{Rate: -1})
	w := c.watch(t)
	p := newPool()
	var got commands
	old := open(t, p.dial(t, 0, c.with(t, nil)), 0)
	subscribe(t, old, got.take)
	const n = 300
	want := []string{}
	for i := range n {
		want = append(want, fmt.Sprint(i))
	}
	var sending sync.WaitGroup
	sending.Go(func() { w.commands(t, want...) })
	next := open(t, p.dial(t, 1, c.with(t, nil)), 0)
	subscribe(t, next, got.take)
	sending.Wait()
	got.are(t, want...)
	select {
	case <-old.Done():
		t.Fatal("the one before ended: ", old.Err())
	default:
	}
	if err := old.Handle(within(t), connectortest.Uplink(device, 1)); err != nil {
		t.Error(err)
	}

	// The newcomer leaves: the one before has them back.
	closeSession(t, next)
	w.commands(t, "back")
	got.are(t, append(want, "back")...)

	// Another comes, and the one before ends: the session is in use.
	third := open(t, p.dial(t, 1, c.with(t, nil)), 0)
	subscribe(t, third, got.take)
	endSession(t, old)
	w.commands(t, "third")
	got.are(t, append(want, "back", "third")...)
	closeSession(t, third)
	if len(c.inboxes()) != 1 {
		t.Errorf("sessions kept: %v", c.inboxes())
	}
	if e := p.events.Of(""); len(e) > 0 {
		t.Errorf("events: %+v", e)
	}
}

// A newcomer that cannot subscribe leaves the commands with the one before.
func TestCommandsStayWithTheOneBefore(t *testing.T) {
	c := newCloud(t, awsiottest.Options{})
	w := c.watch(t)
	p := newPool()
	var got commands
	old := open(t, p.dial(t, 0, c.with(t, nil)), 0)
	subscribe(t, old, got.take)
	cert, err := c.CreateKeysAndCertificate(true)
	if err != nil {
		t.Fatal(err)
	}
	next := open(t, p.dial(t, 1, c.with(t, map[string]any{"certificate": cert.CertificatePEM, "privateKey": cert.PrivateKeyPEM})), 0)
	c.DeactivateCertificate(cert.ID)
	failureOf(t, next.(sluice.Subscriber).Subscribe(within(t), got.take))
	w.commands(t, "1")
	got.are(t, "1")
	select {
	case <-old.Done():
		t.Error("the one before ended: ", old.Err())
	default:
	}
}

// A newcomer waits for the command that is being taken, and leaves the commands
// where they are when it has waited for long enough.
func TestNewcomerWaits(t *testing.T) {
	c := newCloud(t, awsiottest.Options{})
	w := c.watch(t)
	p := newPool()
	var got commands
	free, offered := make(chan struct{}), make(chan struct{}, 10)
	old := open(t, p.dial(t, 0, c.with(t, nil)), 0)
	subscribe(t, old, func(ctx context.Context, cmd sluice.Command) error {
		offered <- struct{}{}
		<-free
		return got.take(ctx, cmd)
	})
	w.commands(t, "1")
	<-offered
	next := open(t, p.dial(t, 1, c.with(t, nil)), 0)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := next.(sluice.Subscriber).Subscribe(ctx, got.take); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Subscribe: %v", err)
	}
	closeSession(t, next)
	close(free)
	w.commands(t, "2")
	got.are(t, "1", "2")
	closeSession(t, old)
}

// A session that is closed while it waits for another's commands ends at once.
func TestCloseWhileWaiting(t *testing.T) {
	c := newCloud(t, awsiottest.Options{})
	w := c.watch(t)
	p := newPool()
	free, offered := make(chan struct{}), make(chan struct{}, 10)
	old := open(t, p.dial(t, 0, c.with(t, nil)), 0)
	subscribe(t, old, func(context.Context, sluice.Command) error {
		offered <- struct{}{}
		<-free
		return nil
	})
	w.commands(t, "1")
	<-offered
	next := open(t, p.dial(t, 1, c.with(t, nil)), 0)
	result := make(chan error, 1)
	go func() { result <- next.(sluice.Subscriber).Subscribe(within(t), new(commands).take) }()
	closeSession(t, next)
	if err := <-result; err == nil {
		t.Error("a closed session was subscribed")
	}
	close(free)
}

// Where neither can subscribe both say so.
func TestNobodyHasTheCommands(t *testing.T) {
	c := newCloud(t, awsiottest.Options{})
	w := c.watch(t)
	p := newPool()
	var got commands
	old := open(t, p.dial(t, 0, c.with(t, nil)), 0)
	subscribe(t, old, got.take)
	next := open(t, p.dial(t, 1, c.with(t, nil)), 0)
	c.RefuseConnects(0x97)
	err := next.(sluice.Subscriber).Subscribe(within(t), got.take)
	if f := failureOf(t, err); f.Reason != sluice.ReasonThrottled {
		t.Errorf("%+v", f)
	}
	<-old.Done()
	if f := failureOf(t, old.Err()); f.Reason != sluice.ReasonThrottled {
		t.Errorf("the one before: %+v", f)
	}
	c.RefuseConnects(0)
	closeSession(t, old)
	closeSession(t, next)
	w.commands(t, "1")
	subscribe(t, open(t, p.dial(t, 0, c.with(t, nil)), 0), got.take)
	got.are(t, "1")
}

// With other topics there is another session; End forgets the one before.
func TestOtherTopicsAreAnotherSession(t *testing.T) {
	c := newCloud(t, awsiottest.Options{})
	w := c.watch(t)
	p := newPool()
	var before, after commands
	old := open(t, p.dial(t, 0, c.with(t, nil)), 0)
	subscribe(t, old, before.take)
	next := open(t, p.dial(t, 1, c.with(t, map[string]any{"downlinkTopicPattern": "other/{DevEUI}"})), 0)
	subscribe(t, next, after.take)
	w.commands(t, "1")
	w.publish(t, "other/"+device, 1, []byte("2"))
	before.are(t, "1")
	after.are(t, "2")
	if n := len(c.inboxes()); n != 2 {
		t.Errorf("%d sessions", n)
	}
	endSession(t, old)
	await(t, "the session before is forgotten", func() bool { return len(c.inboxes()) == 1 })
	w.commands(t, "3")
	w.publish(t, "other/"+device, 1, []byte("4"))
	after.are(t, "2", "4")
}

// Where a policy refuses persistent sessions commands come all the same, but
// are not kept, and the missing permission is named.
func TestPersistentSessionRefused(t *testing.T) {
	c := newCloud(t, awsiottest.Options{})
	c.RefusePersistent(true)
	w := c.watch(t)
	r := newRig()
	d := r.dial(t, unpaced, c.with(t, nil))
	var got commands
	for i := range 2 {
		s := open(t, d, i)
		subscribe(t, s, got.take)
		w.commands(t, fmt.Sprint(i))
		got.are(t, []string{"0", "1"}[:i+1]...)
		closeSession(t, s)
	}
	events := r.events.Of("")
	if len(events) != 1 || events[0].Level != sluice.LevelWarning || !strings.Contains(events[0].Hint, "PersistentConnect") ||
		!strings.Contains(events[0].Hint, ":client/sluice-a1b2c3d4-8-commands-") {
		t.Errorf("events: %+v", events)
	}
	c.RefusePersistent(false)
	subscribe(t, open(t, d, 0), got.take)
	w.commands(t, "2")
	got.are(t, "0", "1", "2")
	if len(c.inboxes()) != 1 {
		t.Error("the persistent session was not tried again")
	}
}

// A command is acknowledged after take returned nil and not before: the cloud
// sees no acknowledgement of one that is being taken, and sends it again when
// the link ends meanwhile.
func TestAcknowledgedOnceTaken(t *testing.T) {
	for _, tc := range []struct {
		name string
		part func(t *testing.T, c *cloud, s sluice.Session)
	}{
		{"closed", func(t *testing.T, _ *cloud, s sluice.Session) {
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			_ = s.Close(ctx) // what we sent before the DISCONNECT is read before it
		}},
		{"cut", func(t *testing.T, c *cloud, s sluice.Session) {
			c.DisconnectAll(0x98)
			<-s.Done()
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			_ = s.Close(ctx)
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := newCloud(t, awsiottest.Options{})
			w := c.watch(t)
			d := newRig().dial(t, unpaced, c.with(t, nil))
			s := open(t, d, 0)
			offered := make(chan struct{}, 10)
			subscribe(t, s, func(ctx context.Context, _ sluice.Command) error {
				offered <- struct{}{}
				<-ctx.Done()
				return ctx.Err()
			})
			w.commands(t, "1")
			<-offered
			inbox := c.inboxes()[0]
			tc.part(t, c, s)
			await(t, "the link is gone", func() bool { return !c.ClientStats()[inbox].Connected })
			if n := c.ClientStats()[inbox].Acknowledged; n != 0 {
				t.Fatalf("%d acknowledged, none was taken", n)
			}
			var got commands
			subscribe(t, open(t, d, 0), got.take)
			got.are(t, "1")
			await(t, "it is acknowledged", func() bool { return c.ClientStats()[inbox].Acknowledged == 1 })
		})
	}
}
