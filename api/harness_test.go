package api_test

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluice"
	"sluice/api"
)

// token is the administrator's; every secret in these tests begins so, and no
// answer, log line or event may hold one.
const (
	secretMark = "SECRET-"
	token      = "SECRET-admin-token"
)

// cloud is a connector with a schema that has something of everything.
type cloud struct{ warnings, problems []sluice.Problem }

const cloudSchema = `{
  "$schema": "http://json-schema.org/draft-04/schema#",
  "title": "Test Cloud", "type": "object", "additionalProperties": false,
  "required": ["region", "privateKey"],
  "properties": {
    "description": {"type": "string"},
    "region": {"type": "string", "pattern": "^[a-z0-9-]+$"},
    "protocol": {"type": "string", "enum": ["SSL", "WSS"], "default": "SSL"},
    "poolSize": {"type": "integer", "minimum": 1, "maximum": 50, "default": 10},
    "downlinkEnabled": {"type": "boolean", "default": true},
    "privateKey": {"type": "string", "format": "password"},
    "accessKey": {"type": "string", "format": "password"},
    "ratio": {"type": "number"}
  }
}`

func (c *cloud) Info() sluice.ConnectorInfo {
	return sluice.ConnectorInfo{
		ID: "actility-test-iot", ProducerID: "actility", ModuleID: "test-iot", Version: "2.0.0",
		Name: "Test cloud", Description: "A cloud for tests", Schema: json.RawMessage(cloudSchema),
	}
}

func (c *cloud) Check(json.RawMessage) (warnings, problems []sluice.Problem) {
	return c.warnings, c.problems
}

func (c *cloud) Dialer(sluice.DialerSpec) (sluice.Dialer, error) { panic("not for the API to call") }

// door is a kind of network.
type door struct{ problems []sluice.Problem }

func (d *door) Kind() string { return "thingpark" }

func (d *door) Schema() json.RawMessage {
	return json.RawMessage(`{"type":"object","additionalProperties":false,"properties":{
		"asId":{"type":"string"},"asKey":{"type":"string","format":"password"},"downlinkUrl":{"type":"string"},
		"maxTimeDeviation":{"type":"string"}}}`)
}

func (d *door) Check(json.RawMessage) []sluice.Problem { return d.problems }

func (d *door) Open(sluice.NetworkSpec) (sluice.Network, error) { panic("not for the API to call") }

// harness is the API on a loopback server, with all that it needs in memory.
type harness struct {
	t          *testing.T
	url        string
	clock      *tick
	store      *memory
	supervisor *supervisor
	replays    *replays
	quarantine *quarantine
	cloud      *cloud
	door       *door
	log        *record
}

func newHarness(t *testing.T, change ...func(*api.Options)) *harness {
	t.Helper()
	clock := &tick{now: time.Date(2026, 3, 1, 12, 0, 0, 120e6, time.UTC)}
	h := &harness{
		t: t, clock: clock, replays: &replays{}, store: newMemory(clock.Now), cloud: &cloud{}, door: &door{}, log: &record{},
		supervisor: &supervisor{status: map[string]sluice.Status{}, counters: map[string]sluice.Counters{}},
		quarantine: &quarantine{},
	}
	o := api.Options{
		Token: token, Version: "1.2.3", Connectors: []sluice.Connector{h.cloud}, NetworkKinds: []sluice.NetworkKind{h.door},
		Connections: h.store, Flows: h.store, Networks: h.store, Devices: h.store, Events: h.store,
		Supervisor: h.supervisor, Metrics: h.supervisor, Replays: h.replays, Recorder: h.store, Quarantine: h.quarantine,
		Ingest: func(string) (http.Handler, bool) { return nil, false },
		Clock:  clock.Now, Log: slog.New(slog.NewJSONHandler(h.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	for _, f := range change {
		f(&o)
	}
	server := httptest.NewServer(api.New(o))
	h.url = server.URL
	t.Cleanup(func() {
		server.Close()
		h.keepsSecrets("the log", h.log.String())
		for _, e := range h.store.events {
			h.keepsSecrets("an event", e.Detail+e.Hint)
		}
	})
	return h
}

func (h *harness) keepsSecrets(where, text string) {
	h.t.Helper()
	if i := strings.Index(text, secretMark); i >= 0 {
		h.t.Errorf("%s holds a secret: ...%s", where, text[max(0, i-80):min(len(text), i+40)])
	}
}

// answer is the answer to a request.
type answer struct {
	t      *testing.T
	Status int
	Header http.Header
	Body   string
}

// do sends a request with the token. headers are names and values in turn; a
// value of "-" takes the header away.
func (h *harness) do(method, path, body string, headers ...string) *answer {
	h.t.Helper()
	r, err := http.NewRequestWithContext(h.t.Context(), method, h.url+path, strings.NewReader(body))
	if err != nil {
		h.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
		if headers[i+1] == "-" {
			r.Header.Del(headers[i])
		}
	}
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	defer client.CloseIdleConnections()
	response, err := client.Do(r)
	if err != nil {
		h.t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		h.t.Fatal(err)
	}
	a := &answer{t: h.t, Status: response.StatusCode, Header: response.Header, Body: string(text)}
	h.keepsSecrets(method+" "+path, a.Body)
	for name, values := range a.Header {
		h.keepsSecrets(name, strings.Join(values, " "))
	}
	return a
}

// want checks the status.
func (a *answer) want(status int) *answer {
	a.t.Helper()
	if a.Status != status {
		a.t.Fatalf("status %d, want %d; body: %s", a.Status, status, a.Body)
	}
	return a
}

// json reads the body.
func (a *answer) json() map[string]any {
	a.t.Helper()
	var v map[string]any
	if err := json.Unmarshal([]byte(a.Body), &v); err != nil {
		a.t.Fatalf("%v in %s", err, a.Body)
	}
	return v
}

// list reads a body that is a list.
func (a *answer) list() []map[string]any {
	a.t.Helper()
	var v []map[string]any
	if err := json.Unmarshal([]byte(a.Body), &v); err != nil {
		a.t.Fatalf("%v in %s", err, a.Body)
	}
	if v == nil {
		a.t.Fatalf("null instead of a list")
	}
	return v
}

// fields are the problems of an error: path to message. A message is a
// sentence; it is returned without its capital and its full stop.
func (a *answer) fields() map[string]string {
	a.t.Helper()
	var e struct {
		Fields []struct{ Path, Message string }
	}
	if err := json.Unmarshal([]byte(a.Body), &e); err != nil {
		a.t.Fatalf("%v in %s", err, a.Body)
	}
	fields := map[string]string{}
	for _, f := range e.Fields {
		if _, twice := fields[f.Path]; twice {
			a.t.Errorf("two problems at %s: %s", f.Path, a.Body)
		}
		if !regexp.MustCompile(`^[A-Z'"].*[.?]$`).MatchString(f.Message) {
			a.t.Errorf("%q is no sentence", f.Message)
		}
		fields[f.Path] = strings.ToLower(f.Message[:1]) + strings.TrimSuffix(f.Message[1:], ".")
	}
	return fields
}

// names gives one property of each element of a list.
func names(list []map[string]any, property string) []any {
	out := []any{}
	for _, v := range list {
		out = append(out, v[property])
	}
	return out
}

func equal(t *testing.T, got, want any) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
}

const connection = `{"connectorId":"actility-test-iot","name":"One","configuration":{
	"region":"eu-central-1","privateKey":"SECRET-key","ratio":1.50}}`

// create makes a connection and returns its id.
func (h *harness) create(body string) string {
	h.t.Helper()
	id, _ := h.do("POST", "/connections", body).want(http.StatusCreated).json()["id"].(string)
	return id
}

// record is a log that can be read while it is written.
type record struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (r *record) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.Write(p)
}

func (r *record) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.String()
}
