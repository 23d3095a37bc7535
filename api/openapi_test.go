package api_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/go-chi/chi/v5"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"sluice"
	"sluice/api"
)

// document is the OpenAPI document, as far as the tests read it.
type document struct {
	OpenAPI    string
	Info       struct{ Title, Version string }
	Servers    []struct{ URL string }
	Paths      map[string]map[string]operation
	Components struct {
		Schemas         map[string]any
		Responses       map[string]response
		SecuritySchemes map[string]map[string]any
	}
	Tags []struct{ Name string }
}

type operation struct {
	OperationID, Summary string
	Tags                 []string
	Security             []map[string][]string
	Parameters           []struct {
		Name, In, Description string
		Required              bool
	}
	RequestBody *struct {
		Content map[string]struct {
			Schema   any
			Examples map[string]struct{ Value any }
		}
	}
	Responses map[string]response
}

type response struct {
	Ref         string `json:"$ref"`
	Description string
	Headers     map[string]any
	Content     map[string]struct{ Schema, Example any }
}

// described is the document with a compiler for the schemas in it.
type described struct {
	document
	text     string
	compiler *jsonschema.Compiler
}

func describe(t *testing.T, h *harness) *described {
	t.Helper()
	a := h.do("GET", "/openapi.json", "").want(http.StatusOK)
	d := &described{text: a.Body, compiler: jsonschema.NewCompiler()}
	if err := json.Unmarshal([]byte(a.Body), &d.document); err != nil {
		t.Fatal(err)
	}
	whole, err := jsonschema.UnmarshalJSON(strings.NewReader(a.Body))
	if err != nil {
		t.Fatal(err)
	}
	d.compiler.DefaultDraft(jsonschema.Draft2020)
	if err := d.compiler.AddResource("urn:openapi", whole); err != nil {
		t.Fatal(err)
	}
	return d
}

// valid validates a document against a schema at a place of the OpenAPI document.
func (d *described) valid(t *testing.T, place, text string) {
	t.Helper()
	s, err := d.compiler.Compile("urn:openapi#" + place)
	if err != nil {
		t.Fatalf("%s: %v", place, err)
	}
	v, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	if err := s.Validate(v); err != nil {
		t.Errorf("%s: %v\n%s", place, err, text)
	}
}

func pointer(parts ...string) string {
	out := ""
	for _, p := range parts {
		out += "/" + strings.NewReplacer("~", "~0", "/", "~1", "{", "%7B", "}", "%7D").Replace(p)
	}
	return out
}

func TestOpenAPI(t *testing.T) {
	h := newHarness(t, func(o *api.Options) { o.PublicURL = "https://sluice.example.com" })
	d := describe(t, h)
	equal(t, d.OpenAPI, "3.1.0")
	equal(t, d.Info.Version, "1.2.3")
	// /docs tries the first: where the reader is.
	equal(t, d.Servers, []struct{ URL string }{{"/"}, {"https://sluice.example.com"}, {"/iot-flow/v1"}})
	equal(t, d.Components.SecuritySchemes["token"]["scheme"], any("bearer"))
	for _, m := range regexp.MustCompile(`"\$ref":"([^"]*)"`).FindAllStringSubmatch(d.text, -1) {
		if !d.resolves(m[1]) {
			t.Errorf("%s leads nowhere", m[1])
		}
	}
	for name := range d.Components.Schemas {
		if _, err := d.compiler.Compile("urn:openapi#" + pointer("components", "schemas", name)); err != nil {
			t.Errorf("schema %s: %v", name, err)
		}
		if name == "ErrorModel" || name == "ErrorDetail" {
			t.Errorf("%s is huma's", name)
		}
	}
}

func (d *described) resolves(ref string) bool {
	if name, ok := strings.CutPrefix(ref, "#/components/schemas/"); ok {
		return d.Components.Schemas[name] != nil
	}
	name, _ := strings.CutPrefix(ref, "#/components/responses/")
	return d.Components.Responses[name].Description != ""
}

func TestOpenAPIOperations(t *testing.T) {
	d := describe(t, newHarness(t))
	ids := map[string]bool{}
	open := map[string]bool{
		"sendDownlink": true, "ingest": true, "getHealth": true, "getReady": true, "getPrometheusMetrics": true,
	}
	for path, item := range d.Paths {
		for method, op := range item {
			where := method + " " + path
			if op.Summary == "" || len(op.Tags) != 1 || !strings.Contains(fmt.Sprint(d.Tags), op.Tags[0]) || ids[op.OperationID] {
				t.Errorf("%s: %+v", where, op)
			}
			ids[op.OperationID] = true
			if _, has401 := op.Responses["401"]; (len(op.Security) == 1) == open[op.OperationID] || !has401 && !open[op.OperationID] {
				t.Errorf("%s: security %v", where, op.Security)
			}
			for _, p := range op.Parameters {
				if p.Description == "" || (p.In == "path") != strings.Contains(path, "{"+p.Name+"}") {
					t.Errorf("%s: parameter %+v", where, p)
				}
			}
			for status, r := range op.Responses {
				if r.Ref == "" && r.Description == "" {
					t.Errorf("%s: %s has no description", where, status)
				}
			}
			if (method == "post" || method == "put") && !strings.HasPrefix(op.OperationID, "retry") && op.OperationID != "refreshThings" && (op.RequestBody == nil || len(op.RequestBody.Content) == 0) {
				t.Errorf("%s: no body", where)
			}
			if strings.HasPrefix(op.OperationID, "list") && path != "/connectors" && len(op.Responses["200"].Headers) != 7 {
				t.Errorf("%s: headers %v", where, op.Responses["200"].Headers)
			}
		}
	}
}

func TestOpenAPIHasEveryRoute(t *testing.T) {
	handler := api.New(api.Options{Connectors: []sluice.Connector{&cloud{}}, Prometheus: http.NotFoundHandler()})
	h := newHarness(t, func(o *api.Options) { o.Prometheus = http.NotFoundHandler() })
	d := describe(t, h)
	routes := 0
	err := chi.Walk(handler.(chi.Routes), func(method, route string, _ http.Handler, _ ...func(http.Handler) http.Handler) error {
		if strings.HasPrefix(route, "/iot-flow") || strings.HasPrefix(route, "/docs") || route == "/" || route == "/openapi.json" || strings.HasPrefix(route, "/ingest") {
			return nil
		}
		routes++
		if d.Paths[route][strings.ToLower(method)].OperationID == "" {
			t.Errorf("%s %s is not described", method, route)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	described := 0
	for _, item := range d.Paths {
		described += len(item)
	}
	equal(t, described, routes+1) // and ingest, which takes all methods
}

func TestOpenAPIExamples(t *testing.T) {
	d := describe(t, newHarness(t))
	for path, item := range d.Paths {
		for method, op := range item {
			if op.RequestBody == nil {
				continue
			}
			for contentType, content := range op.RequestBody.Content {
				for name, e := range content.Examples {
					text, _ := json.Marshal(e.Value)
					if path == "/connections" || path == "/connections/{id}" {
						// The example is of the AWS connector, which is not there.
						text = []byte(connection)
					}
					t.Log(method, path, name)
					d.valid(t, pointer("paths", path, method, "requestBody", "content", contentType, "schema"), string(text))
				}
			}
		}
	}
	for name, r := range d.Components.Responses {
		text, _ := json.Marshal(r.Content["application/json"].Example)
		d.valid(t, pointer("components", "responses", name, "content", "application/json", "schema"), string(text))
	}
	if !strings.Contains(d.text, "a2shubactigr-ats") {
		t.Error("the documented example of a connection is missing")
	}
}

// TestAnswersAreAsDescribed holds real answers against the document.
func TestAnswersAreAsDescribed(t *testing.T) {
	h := newHarness(t, func(o *api.Options) { o.PublicURL = "https://sluice.example.com" })
	h.cloud.warnings = []sluice.Problem{{Path: "region", Message: "looks odd"}}
	d := describe(t, h)
	h.store.devices = []sluice.Device{{DevEUI: "0018B20000000B20"}, {DevEUI: "0018B20000000B21", Name: "x", Tags: []string{"a"}}}
	h.store.things["0018B20000000B20"] = map[string]sluice.Thing{"1": {State: sluice.ThingPending}}
	h.quarantine.lie(1, 2)
	h.supervisor.status["1"] = sluice.Status{State: sluice.StateOpened, Since: h.clock.Now(), Sessions: []sluice.SessionStatus{{ID: "x"}}}
	for _, c := range []struct{ method, path, route, body string }{
		{"POST", "/connections", "/connections", connection},
		{"GET", "/connections", "/connections", ""},
		{"GET", "/connections/1", "/connections/{id}", ""},
		{"PUT", "/connections/1", "/connections/{id}", connection},
		{"GET", "/connections/1/metrics", "/connections/{id}/metrics", ""},
		{"POST", "/connections/1/replay", "/connections/{id}/replay", `{"from":"2026-03-01T08:00:00Z"}`},
		{"GET", "/connections/1/replay", "/connections/{id}/replay", ""},
		{"GET", "/connections/1/quarantine", "/connections/{id}/quarantine", ""},
		{"GET", "/connections/1/quarantine/2", "/connections/{id}/quarantine/{number}", ""},
		{"POST", "/connections/1/quarantine/2/retry", "/connections/{id}/quarantine/{number}/retry", ""},
		{"POST", "/connections/1/quarantine/retry", "/connections/{id}/quarantine/retry", ""},
		{"DELETE", "/connections/1/quarantine", "/connections/{id}/quarantine", ""},
		{"POST", "/connections/1/things/refresh", "/connections/{id}/things/refresh", ""},
		{"POST", "/flows", "/flows", `{"name":"x","matchers":[{"type":"thing","tags":["x"]}],"connectors":[{"connectionId":"1"}]}`},
		{"GET", "/flows", "/flows", ""},
		{"POST", "/networks", "/networks", `{"kind":"thingpark","name":"x"}`},
		{"GET", "/networks", "/networks", ""},
		{"GET", "/devices", "/devices", ""},
		{"GET", "/devices/0018B20000000B21", "/devices/{devEUI}", ""},
		{"GET", "/events", "/events", ""},
		{"GET", "/connectors", "/connectors", ""},
		{"GET", "/connectors/actility-test-iot", "/connectors/{id}", ""},
		{"POST", address, "/downlinkMessages/{uuid}", "{}"},
		{"GET", "/healthz", "/healthz", ""},
		{"GET", "/readyz", "/readyz", ""},
	} {
		a := h.do(c.method, c.path, c.body)
		if a.Status >= 300 {
			t.Fatalf("%s %s: %s", c.method, c.path, a.Body)
		}
		method, status := strings.ToLower(c.method), fmt.Sprint(a.Status)
		d.valid(t, pointer("paths", c.route, method, "responses", status, "content", "application/json", "schema"), a.Body)
		for name := range d.Paths[c.route][method].Responses[status].Headers {
			optional := name == "X-Next-Page" || name == "X-Prev-Page"
			if a.Header.Get(name) == "" && !optional {
				t.Errorf("%s %s: no header %s", c.method, c.path, name)
			}
		}
	}
}
