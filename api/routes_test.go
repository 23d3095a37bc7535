package api_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"sluice"
	"sluice/api"
)

func TestAuthorization(t *testing.T) {
	h := newHarness(t)
	for _, value := range []string{"-", "Bearer", "Bearer ", "Bearer wrong", "Basic " + token, token, "Bearer " + token + "x"} {
		for _, target := range []string{"GET /connections", "GET /iot-flow/v1/connections", "POST /connections", "DELETE /flows/1", "GET /devices", "GET /events", "GET /connectors", "GET /networks"} {
			method, path, _ := strings.Cut(target, " ")
			a := h.do(method, path, "", "Authorization", value).want(http.StatusUnauthorized)
			equal(t, a.Header.Get("WWW-Authenticate"), `Bearer realm="sluice"`)
			equal(t, a.json()["code"], any("com-4001"))
		}
	}
	h.do("GET", "/connections", "", "Authorization", "bearer "+token).want(http.StatusOK)
	for _, path := range []string{"/healthz", "/readyz", "/docs", "/docs/start.js", "/openapi.json", "/iot-flow/v1/healthz"} {
		h.do("GET", path, "", "Authorization", "-").want(http.StatusOK)
	}
}

func TestNoTokenLetsNobodyIn(t *testing.T) {
	h := newHarness(t, func(o *api.Options) { o.Token = "" })
	h.do("GET", "/connections", "", "Authorization", "Bearer ").want(http.StatusUnauthorized)
	h.do("GET", "/connections", "", "Authorization", "-").want(http.StatusUnauthorized)
}

func TestUnknownRoutes(t *testing.T) {
	h := newHarness(t)
	for _, path := range []string{"/nothing", "/iot-flow/v1/nothing", "/iot-flow", "/iot-flow/connections", "/ingest", "/connections/1/nothing", "/docs/index.html", "/docs/swagger-ui-bundle.js.map", "/metrics"} {
		a := h.do("GET", path, "", "Authorization", "-").want(http.StatusNotFound)
		equal(t, a.json()["code"], any("com-4004"))
	}
	for path, allow := range map[string]string{
		"/connections": "GET, POST, PUT", "/connections/1": "GET, PUT, DELETE", "/iot-flow/v1/flows/1": "GET, PUT, DELETE",
		"/healthz": "GET", "/iot-flow/v1/downlinkMessages/x": "POST", "/iot-flow/downlinkMessages/x": "POST",
	} {
		a := h.do("PATCH", path, "{}").want(http.StatusMethodNotAllowed)
		equal(t, a.Header.Get("Allow"), allow)
		equal(t, a.json()["code"], any("com-4005"))
	}
}

func TestRootLeadsToDocs(t *testing.T) {
	h := newHarness(t)
	for path, want := range map[string]string{
		"/": "/docs", "/iot-flow/v1": "/iot-flow/v1/docs", "/iot-flow/v1/": "/iot-flow/v1/docs",
	} {
		equal(t, h.do("GET", path, "", "Authorization", "-").want(http.StatusFound).Header.Get("Location"), want)
	}
}

// TestNotFound: wherever something is not there, a sentence says so and a hint
// says where to look, whatever words the store has for it.
func TestNotFound(t *testing.T) {
	h := newHarness(t)
	for collection, noun := range map[string]string{"connections": "connection", "flows": "flow", "networks": "network"} {
		for _, method := range []string{"GET", "DELETE"} {
			equal(t, h.do(method, "/"+collection+"/99", "").want(http.StatusNotFound).json(), map[string]any{
				"code": "com-4004", "message": `There is no ` + noun + ` with the id "99".`, "hint": "GET /" + collection + " lists them.",
			})
		}
	}
	equal(t, h.do("PUT", "/connections", `{"id":"99",`+connection[1:]).want(http.StatusNotFound).json()["hint"], any("GET /connections lists them."))
	equal(t, h.do("GET", "/connections/99/metrics", "").want(http.StatusNotFound).json()["hint"], any("GET /connections lists them."))
}

func TestHead(t *testing.T) {
	h := newHarness(t)
	h.create(connection)
	for _, path := range []string{"/connections", "/iot-flow/v1/connections/1", "/healthz", "/docs"} {
		a := h.do("HEAD", path, "").want(http.StatusOK)
		equal(t, a.Body, "")
	}
	equal(t, h.do("HEAD", "/connections", "").Header.Get("X-Total"), "1")
	h.do("HEAD", address, "").want(http.StatusMethodNotAllowed)
}

func TestAlwaysJSON(t *testing.T) {
	h := newHarness(t)
	for _, accept := range []string{"-", "text/html", "application/xml", "application/problem+json", "json", "*/*", "application/json;q=0"} {
		for _, path := range []string{"/connections", "/connections/9", "/connections?page=0", "/nothing"} {
			equal(t, h.do("GET", path, "", "Accept", accept).Header.Get("Content-Type"), "application/json")
		}
	}
}

func TestSecurityHeaders(t *testing.T) {
	h := newHarness(t)
	for _, path := range []string{"/connections", "/nothing", "/docs", "/openapi.json"} {
		a := h.do("GET", path, "", "Origin", "https://evil.example.com")
		equal(t, a.Header.Get("X-Content-Type-Options"), "nosniff")
		equal(t, a.Header.Get("X-Frame-Options"), "DENY")
		equal(t, a.Header.Get("Cache-Control"), "no-store")
		equal(t, a.Header.Get("Access-Control-Allow-Origin"), "")
		if !strings.HasPrefix(a.Header.Get("Content-Security-Policy"), "default-src 'none'") {
			t.Errorf("%s: policy %q", path, a.Header.Get("Content-Security-Policy"))
		}
	}
}

func TestPanic(t *testing.T) {
	h := newHarness(t)
	h.store.flows = nil // writing to it panics
	v := h.do("POST", "/flows", `{"name":"x","connectors":[]}`).want(http.StatusInternalServerError).json()
	equal(t, v["message"], any("Something went wrong inside Sluice."))
	if !strings.Contains(h.log.String(), "assignment to entry in nil map") {
		t.Error("the log does not say what happened")
	}
}

func TestHealth(t *testing.T) {
	var broken error
	h := newHarness(t, func(o *api.Options) {
		o.Ready = func() error { return broken }
		o.Prometheus = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "sluice_up 1\n") })
	})
	equal(t, h.do("GET", "/readyz", "").want(http.StatusOK).json(), map[string]any{"status": "ready"})
	broken = errors.Join(errors.New("the networks are not open yet"), fmt.Errorf("journal: %w", &sluice.Error{Message: "The disk is full.", Err: errors.New("detail")}))
	a := h.do("GET", "/readyz", "", "Authorization", "-").want(http.StatusServiceUnavailable)
	equal(t, a.json(), map[string]any{
		"code": "com-5003", "message": "Sluice is not ready: the networks are not open yet; The disk is full.",
	})
	equal(t, h.do("GET", "/healthz", "").want(http.StatusOK).json(), map[string]any{"status": "ok"})
	equal(t, h.do("GET", "/metrics", "", "Authorization", "-").want(http.StatusOK).Body, "sluice_up 1\n")
}

func TestLogOfRequests(t *testing.T) {
	h := newHarness(t)
	h.create(connection)
	h.do("POST", address, `{}`)
	h.do("GET", "/networks/unguessable", "")
	h.do("GET", "/events?devEUI=private", "")
	log := h.log.String()
	for _, secret := range []string{"00000000-0000", "unguessable", "private", "Bearer"} {
		if strings.Contains(log, secret) {
			t.Errorf("the log holds %q", secret)
		}
	}
	if !strings.Contains(log, `"path":"/connections","status":201`) {
		t.Errorf("log: %s", log)
	}
}

// TestErrorBodies compares errors of every kind with testdata/errors.json,
// which is rewritten when UPDATE_GOLDEN is set.
func TestErrorBodies(t *testing.T) {
	h := newHarness(t)
	h.create(connection)
	h.supervisor.counters["1"] = sluice.Counters{Received: 1, Pending: 1}
	type golden struct {
		Request string
		Status  int
		Body    json.RawMessage
	}
	var got []golden
	for _, c := range []struct {
		method, path, body string
		headers            []string
	}{
		{method: "GET", path: "/connections", headers: []string{"Authorization", "-"}},
		{method: "GET", path: "/nothing"},
		{method: "PATCH", path: "/connections"},
		{method: "GET", path: "/connections/9"},
		{method: "GET", path: "/connections?page=x&perPage=0"},
		{method: "GET", path: "/connections?sort=name"},
		{method: "POST", path: "/connections", body: "{"},
		{method: "POST", path: "/connections", body: "x=1", headers: []string{"Content-Type", "application/x-www-form-urlencoded"}},
		{method: "POST", path: "/connections", body: `{"connectorId":"actility-test-iot","name":5,"configuration":{"poolSize":99,"secretkey":"SECRET-1"}}`},
		{method: "PUT", path: "/connections/1", body: connection, headers: []string{"If-Match", `"7"`}},
		{method: "DELETE", path: "/connections/1"},
		{method: "POST", path: "/flows", body: `{"name":"x","connectors":[{"connectionId":"4"}]}`},
		{method: "POST", path: "/networks", body: `{"kind":"tts","name":"x"}`},
		{method: "POST", path: "/ingest/none", body: `{}`},
		{method: "POST", path: "/downlinkMessages/none", body: `{}`},
	} {
		a := h.do(c.method, c.path, c.body, c.headers...)
		equal(t, a.Header.Get("Content-Type"), "application/json")
		got = append(got, golden{c.method + " " + c.path, a.Status, json.RawMessage(a.Body)})
	}
	text, err := json.MarshalIndent(got, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join("testdata", "errors.json")
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(file, append(text, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, string(text)+"\n", string(want))
}

func TestDocs(t *testing.T) {
	h := newHarness(t)
	for _, prefix := range []string{"", "/iot-flow/v1"} {
		page := h.do("GET", prefix+"/docs", "").want(http.StatusOK)
		equal(t, page.Header.Get("Content-Type"), "text/html; charset=utf-8")
		for _, m := range regexp.MustCompile(`(?:src|href)="([^"]*)"`).FindAllStringSubmatch(page.Body, -1) {
			if strings.Contains(m[1], "//") || strings.HasPrefix(m[1], "/") {
				t.Errorf("%s is not a relative path", m[1])
			}
			a := h.do("GET", prefix+"/"+m[1], "").want(http.StatusOK)
			if len(a.Body) == 0 || a.Header.Get("X-Content-Type-Options") != "nosniff" {
				t.Errorf("%s: %v", m[1], a.Header)
			}
		}
		start := h.do("GET", prefix+"/docs/start.js", "").want(http.StatusOK)
		equal(t, start.Header.Get("Content-Type"), "text/javascript; charset=utf-8")
		if strings.Contains(start.Body, "//") || !strings.Contains(start.Body, `url: "openapi.json"`) {
			t.Errorf("start: %s", start.Body)
		}
		equal(t, h.do("GET", prefix+"/docs/", "").want(http.StatusMovedPermanently).Header.Get("Location"), prefix+"/docs")
		h.do("GET", prefix+"/openapi.json", "").want(http.StatusOK)
	}
}

func TestBrokenSchemaPanics(t *testing.T) {
	defer func() {
		if p := recover(); p == nil || !strings.Contains(fmt.Sprint(p), "actility-test-iot") {
			t.Errorf("panic: %v", p)
		}
	}()
	api.New(api.Options{
		Connectors: []sluice.Connector{&cloud{}},
		Schema:     func(sluice.ConnectorInfo) json.RawMessage { return json.RawMessage(`{"type":5}`) },
	})
}
