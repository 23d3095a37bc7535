// Package networktest is the contract of a kind of network server as tests:
// whatever takes reports and hands out commands for Sluice passes [Run].
package networktest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"sluice"
)

// Subject is what the suite tests: one kind of network server, with a
// simulated server on the other side.
type Subject struct {
	Kind sluice.NetworkKind
	// Configuration is valid, and leads commands to the simulated server.
	Configuration json.RawMessage
	// Report makes the n-th report, as the server would post it to url: a new
	// request each time, for the same n the same report.
	Report func(n int, url string) *http.Request
	// Bad makes a request that must be refused with the status returned.
	Bad func(url string) (*http.Request, int)
	// Command makes a command for a device, n tells commands apart.
	Command func(n int) *sluice.Message
	// Delivered is how many commands the simulated server has queued.
	Delivered func() int
	// Refuse makes the simulated server refuse commands, or not.
	Refuse func(bool)
}

// Run tests a kind. make is called for each property, so that they do not
// share a simulated server; it may use t.Cleanup.
func Run(t *testing.T, make func(t *testing.T) Subject) {
	for _, property := range []struct {
		name string
		test func(*testing.T, *world)
	}{
		{"the kind describes itself", describes},
		{"a report is answered once it is held", answersWhenHeld},
		{"a report that is not held is not taken", answersUnavailable},
		{"a report keeps its identity", identity},
		{"copies have one fingerprint", fingerprints},
		{"a bad report is refused", refusesBad},
		{"only POST is taken", onlyPost},
		{"a command is delivered", delivers},
		{"a refused command is a permanent failure", rejection},
		{"a command ends with its context", endsWithContext},
		{"Close waits for reports", closeWaits},
	} {
		t.Run(property.name, func(t *testing.T) {
			w := open(t, make(t))
			property.test(t, w)
		})
	}
}

// world is an open network with what it was given.
type world struct {
	Subject
	network sluice.Network
	server  *httptest.Server // nil for a network that is not posted to
	events  *Events
	handle  func(context.Context, *sluice.Message) error

	mu  sync.Mutex
	got []*sluice.Message
}

const networkID = "c0ffee0ddba11"

func open(t *testing.T, s Subject) *world {
	t.Helper()
	w := &world{Subject: s, events: &Events{}}
	spec := sluice.NetworkSpec{
		NetworkConfig: sluice.NetworkConfig{ID: networkID, Kind: s.Kind.Kind(), Name: "test", Configuration: s.Configuration},
		Reports:       sluice.HandlerFunc(w.take),
		Events:        w.events,
		Sealer:        Sealer{},
		Clock:         time.Now,
		Log:           slog.New(slog.DiscardHandler),
	}
	if problems := s.Kind.Check(s.Configuration); len(problems) > 0 {
		t.Fatalf("the configuration has problems: %v", problems)
	}
	n, err := s.Kind.Open(spec)
	if err != nil {
		t.Fatal(err)
	}
	w.network = n
	t.Cleanup(n.Close)
	if h, ok := n.(http.Handler); ok {
		w.server = httptest.NewServer(h)
		t.Cleanup(w.server.Close)
	}
	return w
}

func (w *world) take(ctx context.Context, m *sluice.Message) error {
	w.mu.Lock()
	w.got = append(w.got, m)
	handle := w.handle
	w.mu.Unlock()
	if handle != nil {
		return handle(ctx, m)
	}
	return nil
}

func (w *world) taken() []*sluice.Message {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]*sluice.Message(nil), w.got...)
}

// posted skips a property that only a network that is posted to has.
func (w *world) posted(t *testing.T) {
	t.Helper()
	if w.server == nil || w.Report == nil {
		t.Skip("this kind is not posted to")
	}
}

// do sends a request and returns the answer with its body.
func (w *world) do(t *testing.T, r *http.Request) (*http.Response, string) {
	t.Helper()
	response, err := w.server.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response, string(body)
}

func describes(t *testing.T, w *world) {
	if w.Kind.Kind() == "" {
		t.Error("the kind has no name")
	}
	var schema struct {
		Type       string `json:"type"`
		Additional *bool  `json:"additionalProperties"`
		Properties map[string]struct{ Title, Description, Type string }
	}
	if err := json.Unmarshal(w.Kind.Schema(), &schema); err != nil {
		t.Fatal(err)
	}
	if schema.Type != "object" || schema.Additional == nil || *schema.Additional {
		t.Error("the schema must be that of an object without additional properties")
	}
	for name, p := range schema.Properties {
		if p.Title == "" || p.Description == "" || p.Type == "" {
			t.Errorf("the property %s has no title, description or type", name)
		}
	}
	if problems := w.Kind.Check(json.RawMessage(`[]`)); len(problems) == 0 {
		t.Error("a configuration that is no object is not refused")
	}
}

// Events is a recorder that remembers.
type Events struct {
	mu  sync.Mutex
	all []sluice.Event
}

var _ sluice.Recorder = (*Events)(nil)

// Record remembers an event.
func (e *Events) Record(event sluice.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.all = append(e.all, event)
}

// All returns the events so far.
func (e *Events) All() []sluice.Event {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]sluice.Event(nil), e.all...)
}

// Sealer is a sealer for tests: it turns the bytes round and marks them.
type Sealer struct{}

var _ sluice.Sealer = Sealer{}

// Seal turns the bytes round.
func (Sealer) Seal(clear []byte) ([]byte, error) {
	return append([]byte{'!'}, reversed(clear)...), nil
}

// Open turns them back; it refuses what Seal did not make.
func (Sealer) Open(sealed []byte) ([]byte, error) {
	if len(sealed) == 0 || sealed[0] != '!' {
		return nil, errors.New("this was sealed with another key")
	}
	return reversed(sealed[1:]), nil
}

func reversed(b []byte) []byte {
	r := make([]byte, len(b))
	for i, c := range b {
		r[len(b)-1-i] = c
	}
	return r
}

// Secret seals credentials with [Sealer], as a connection does.
func Secret(c sluice.Credentials) []byte {
	clear, err := json.Marshal(c)
	if err != nil {
		panic(fmt.Sprintf("credentials: %v", err)) // they are two texts
	}
	sealed, _ := Sealer{}.Seal(clear)
	return sealed
}
