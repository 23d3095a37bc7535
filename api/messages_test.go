package api_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"sluice"
	"sluice/api"
)

const address = "/downlinkMessages/00000000-0000-4000-8000-000000000001"

func TestDownlink(t *testing.T) {
	h := newHarness(t)
	h.create(connection)
	const json, xml = `{"DevEUI_downlink":{"DevEUI":"0018B20000000B20"}}`, `<DevEUI_downlink/>`
	for _, prefix := range []string{"", "/iot-flow", "/iot-flow/v1"} {
		for body, contentType := range map[string]string{json: "application/json", xml: "application/xml"} {
			a := h.do("POST", prefix+address, body, "Authorization", "-", "Content-Type", contentType).want(http.StatusAccepted)
			equal(t, a.json(), map[string]any{"id": "message-for-1"})
		}
	}
	equal(t, len(h.supervisor.commands), 6)
	for _, c := range h.supervisor.commands {
		if c.DevEUI != "" || c.Source == "" || (string(c.Document) != json && string(c.Document) != xml) {
			t.Errorf("command %+v", c)
		}
	}
}

func TestDownlinkRefused(t *testing.T) {
	h := newHarness(t)
	h.create(connection)
	h.do("POST", "/downlinkMessages/00000000-0000-4000-8000-000000000009", `{}`).want(http.StatusNotFound)
	h.do("POST", "/downlinkMessages/1", `{}`).want(http.StatusNotFound)
	h.do("GET", address, "").want(http.StatusMethodNotAllowed)
	h.do("POST", address, strings.Repeat(" ", 16<<10+1)).want(http.StatusRequestEntityTooLarge)
	h.do("POST", address, " ").want(http.StatusBadRequest)

	h.supervisor.refuse = &sluice.Error{Code: sluice.CodeInvalid, Message: "No downlink.", Fields: []sluice.Problem{{Path: "DevEUI", Message: "is missing"}}}
	equal(t, h.do("POST", address, `{}`).want(http.StatusBadRequest).json(), map[string]any{
		"code": "com-4000", "message": "No downlink.", "fields": []any{map[string]any{"path": "DevEUI", "message": "Is missing."}},
	})
	h.supervisor.refuse = &sluice.Failure{Verdict: sluice.Permanent, Reason: sluice.ReasonUnknownDevice, Message: "No network has seen it.", Hint: "Wait."}
	equal(t, h.do("POST", address, `{}`).want(http.StatusBadRequest).json()["message"], any("No network has seen it."))
	h.supervisor.refuse = &sluice.Failure{Message: "Not now."}
	equal(t, h.do("POST", address, `{}`).want(http.StatusServiceUnavailable).Header.Get("Retry-After"), "5")
	h.supervisor.refuse = errors.New("broken")
	h.do("POST", address, `{}`).want(http.StatusInternalServerError)
	h.supervisor.refuse = nil

	h.do("PUT", "/connections/1", strings.Replace(connection, `"ratio"`, `"downlinkEnabled":false,"ratio"`, 1)).want(http.StatusOK)
	equal(t, h.do("POST", address, `{}`).want(http.StatusConflict).json()["message"], any("The connection takes no downlinks."))
	h.do("PUT", "/connections/1", strings.Replace(connection, `"name"`, `"active":false,"name"`, 1)).want(http.StatusOK)
	equal(t, h.do("POST", address, `{}`).want(http.StatusConflict).json()["message"], any("The connection is not active."))
	h.do("DELETE", "/connections/1", "").want(http.StatusNoContent)
	h.do("POST", address, `{}`).want(http.StatusNotFound)
	equal(t, len(h.supervisor.commands), 0)
}

// TestDownlinkAddressesAreLearnt: a connection that another node has made is
// found, but guessing does not make each request look through all.
func TestDownlinkAddressesAreLearnt(t *testing.T) {
	h := newHarness(t)
	h.create(connection)
	h.do("POST", "/downlinkMessages/guess", `{}`).want(http.StatusNotFound)
	h.store.connections["2"] = sluice.Connection{ID: "2", ConnectorID: "actility-test-iot", Active: true, DownlinkID: "from-another-node"}
	h.do("POST", "/downlinkMessages/from-another-node", `{}`).want(http.StatusNotFound)
	h.clock.advance(time.Second)
	h.do("POST", "/downlinkMessages/from-another-node", `{}`).want(http.StatusAccepted)
}

func TestIngest(t *testing.T) {
	door := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if string(body) == "panic" {
			panic("SECRETless")
		}
		w.Header().Set("X-Door", "yes")
		fmt.Fprint(w, r.URL.Query().Get("LrnDevEui"), " ", string(body))
	})
	h := newHarness(t, func(o *api.Options) {
		o.Ingest = func(id string) (http.Handler, bool) { return door, id == "net1" }
	})
	for _, prefix := range []string{"", "/iot-flow/v1"} {
		a := h.do("POST", prefix+"/ingest/net1?LrnDevEui=0018B20000000B20&Token=x", "report", "Authorization", "-").want(http.StatusOK)
		equal(t, a.Body, "0018B20000000B20 report")
		equal(t, h.do("POST", prefix+"/ingest/net2", "report").want(http.StatusNotFound).json()["code"], any("com-4004"))
		equal(t, h.do("GET", prefix+"/ingest/net1", "").want(http.StatusMethodNotAllowed).Header.Get("Allow"), "POST")
	}
	equal(t, h.do("POST", "/ingest/net1", "panic").want(http.StatusInternalServerError).json()["code"], any("com-5000"))
	if !strings.Contains(h.log.String(), "panic in a request") {
		t.Error("not logged")
	}
	if strings.Contains(h.log.String(), "Token") {
		t.Error("a query is logged")
	}
}

// TestIngestAllocations keeps the way of a report short: what is there besides
// the door is the router, whose context is pooled.
func TestIngestAllocations(t *testing.T) {
	door := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	handler := api.New(api.Options{Ingest: func(string) (http.Handler, bool) { return door, true }})
	r := httptest.NewRequest(http.MethodPost, "/ingest/01JQ5M8Z5T3K8V9W2R4X6Y7Z8A", nil)
	w := httptest.NewRecorder()
	// The router: a context value, a copy of the request, a path value and
	// their kin; seven when this was written.
	if n := testing.AllocsPerRun(200, func() { handler.ServeHTTP(w, r) }); n > 8 {
		t.Errorf("%v allocations a report", n)
	}
}

func BenchmarkIngest(b *testing.B) {
	door := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	handler := api.New(api.Options{Ingest: func(string) (http.Handler, bool) { return door, true }})
	r := httptest.NewRequest(http.MethodPost, "/ingest/01JQ5M8Z5T3K8V9W2R4X6Y7Z8A", nil)
	w := httptest.NewRecorder()
	b.ReportAllocs()
	for b.Loop() {
		handler.ServeHTTP(w, r)
	}
}
