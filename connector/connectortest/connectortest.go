// Package connectortest holds the contract of a sluice.Connector as tests. A
// new connector starts by passing them:
//
//	func TestContract(t *testing.T) {
//		connectortest.Run(t, func(t *testing.T) connectortest.Cloud { ... })
//	}
//
// The cloud of the tests is a real server that speaks the real protocol, in
// the same process.
package connectortest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"maps"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sluice"
)

// Patience bounds every wait of the suite; no test depends on its value.
const Patience = 30 * time.Second

// Cloud is a connector with the cloud that it connects to.
type Cloud struct {
	Connector sluice.Connector
	// Configuration is one that the connector and the cloud accept, with two
	// sessions or more, and with downlinks where Send is set.
	Configuration json.RawMessage
	// Secrets are texts of the configuration that must never be shown.
	Secrets []string
	// Refused is a configuration that passes Check and that the cloud
	// refuses to open. Nil: not tested.
	Refused json.RawMessage
	// TooLarge is a size of a message in bytes that is not to be sent. 0: not
	// tested.
	TooLarge int
	// Received returns what the cloud has got so far.
	Received func() []Received
	// Cut ends all links, from the side of the cloud.
	Cut func()
	// Linkless says that a session has no link that could be lost: each message
	// is a request of its own.
	Linkless bool
	// Send sends a command for a device. Nil: not tested.
	Send func(devEUI string, document []byte) error
	// Keeps says that the cloud keeps commands while the connection is closed.
	Keeps bool
}

// Received is a message as the cloud got it.
type Received struct {
	DevEUI  string // as its address tells, such as the topic; in upper case
	ID      string // of the message, where it was sent along
	Payload []byte
}

// Run runs the contract. start makes a fresh cloud for each part, which ends
// with the part's test.
func Run(t *testing.T, start func(t *testing.T) Cloud) {
	for _, tc := range []struct {
		name string
		run  func(t *testing.T, f *fixture)
	}{
		{"describes itself", describes},
		{"accepts its configuration", accepts},
		{"acknowledges what the cloud has", acknowledges},
		{"sends the payload where there is one", sendsPayload},
		{"keeps the order of a device", keepsOrder},
		{"refuses what is too large, and goes on", refusesTooLarge},
		{"ends with the context", endsWithContext},
		{"tells of a lost link", tellsOfLoss},
		{"closes after what is under way", closesInOrder},
		{"opens lanes and generations side by side", opensSideBySide},
		{"tells why it was refused", tellsRefusal},
		{"takes commands", takesCommands},
		{"offers a command again that was not taken", offersAgain},
		{"takes the commands that were sent while it was closed", takesKept},
		{"leaves no commands with the cloud when it ends", forgets},
	} {
		t.Run(tc.name, func(t *testing.T) {
			ignore := goleak.IgnoreCurrent()
			t.Cleanup(func() { goleak.VerifyNone(t, ignore) }) // after the cloud has ended
			tc.run(t, &fixture{Cloud: start(t), Things: NewThings(), Events: &Events{}})
		})
	}
}

// fixture is a cloud with all that a Dialer wants.
type fixture struct {
	Cloud
	Things *Things
	Events *Events
}

func (f *fixture) spec(t *testing.T, configuration json.RawMessage, generation int) sluice.DialerSpec {
	t.Helper()
	common := sluice.Common{CreateDevices: true, DownlinkEnabled: true}
	if err := json.Unmarshal(configuration, &common); err != nil {
		t.Fatal(err)
	}
	return sluice.DialerSpec{
		Connection: sluice.Connection{ID: "8", ConnectorID: f.Connector.Info().ID, Name: "contract", Active: true, Configuration: configuration},
		Common:     common,
		Instance:   "a1b2c3d4",
		Generation: generation,
		Things:     f.Things,
		Events:     f.Events,
		Clock:      time.Now,
		Log:        slog.New(slog.DiscardHandler),
	}
}

// dial makes a Dialer that ends with the test.
func (f *fixture) dial(t *testing.T, configuration json.RawMessage, generation int) sluice.Dialer {
	t.Helper()
	d, err := f.Connector.Dialer(f.spec(t, configuration, generation))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	return d
}

// open opens a session that ends with the test.
func (f *fixture) open(t *testing.T) sluice.Session {
	t.Helper()
	return open(t, f.dial(t, f.Configuration, 0), 0)
}

func open(t *testing.T, d sluice.Dialer, lane int) sluice.Session {
	t.Helper()
	asked := false
	s, err := d.Open(within(t), lane, func() { asked = true })
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	if !asked {
		t.Error("Open did not tell that it is authenticating")
	}
	t.Cleanup(func() { _ = s.Close(within(t)) })
	return s
}

// within is a context that ends with the suite's patience.
func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	t.Cleanup(cancel)
	return ctx
}

// await waits until a condition holds.
func await(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for end := time.Now().Add(Patience); !condition(); {
		if time.Now().After(end) {
			t.Fatalf("waited in vain: %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// Uplink makes a report of a device.
func Uplink(devEUI string, fCntUp int) *sluice.Message {
	return &sluice.Message{
		ID:       fmt.Sprintf("01J%s%07d", devEUI, fCntUp),
		Kind:     sluice.KindUplink,
		DevEUI:   devEUI,
		Network:  "n",
		Received: time.Now(),
		Document: fmt.Appendf(nil, `{"DevEUI_uplink":{"DevEUI":%q,"FPort":2,"FCntUp":%d,"payload_hex":"0102"}}`, devEUI, fCntUp),
	}
}

// Things is a sluice.Things in memory.
type Things struct {
	mu sync.Mutex
	m  map[string]sluice.Thing
}

// NewThings makes an empty memory of things.
func NewThings() *Things { return &Things{m: map[string]sluice.Thing{}} }

var _ sluice.Things = (*Things)(nil)

// Get returns what is known of a thing.
func (t *Things) Get(devEUI string) (sluice.Thing, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	v, ok := t.m[devEUI]
	return v, ok
}

// Put remembers a thing.
func (t *Things) Put(devEUI string, v sluice.Thing) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.m[devEUI] = v
}

// All goes through a copy of all things.
func (t *Things) All() iter.Seq2[string, sluice.Thing] {
	t.mu.Lock()
	defer t.mu.Unlock()
	return maps.All(maps.Clone(t.m))
}

// Events is a sluice.Recorder in memory.
type Events struct {
	mu   sync.Mutex
	list []sluice.Event
}

var _ sluice.Recorder = (*Events)(nil)

// Record keeps an event.
func (e *Events) Record(v sluice.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.list = append(e.list, v)
}

// Of returns the events of a type, oldest first; all for "".
func (e *Events) Of(t sluice.EventType) []sluice.Event {
	e.mu.Lock()
	defer e.mu.Unlock()
	var list []sluice.Event
	for _, v := range e.list {
		if t == "" || v.Type == t {
			list = append(list, v)
		}
	}
	return list
}

// failure returns the Failure that err must be.
func failure(t *testing.T, what string, err error) *sluice.Failure {
	t.Helper()
	f, ok := errors.AsType[*sluice.Failure](err)
	if !ok {
		t.Fatalf("%s: %v (%T), want a *sluice.Failure", what, err, err)
	}
	if f.Reason == "" || f.Message == "" {
		t.Errorf("%s: a Failure without reason or message: %+v", what, f)
	}
	return f
}
