package api_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"sluice"
	"sluice/api"
)

func TestFlowLife(t *testing.T) {
	h := newHarness(t)
	h.create(connection)
	a := h.do("POST", "/flows", `{"name":"Paris","description":"All of it","driver":{"id":"actility:auto:1"},
		"matchers":[{"type":"thing","tags":["paris","TEMP"]},{"type":"key","key":"lora:0018B20000000b20"}],
		"connectors":[{"connectionId":"1","uplinkTimeValidity":"24h"}]}`).want(http.StatusCreated)
	equal(t, a.Header.Get("Location"), "/flows/2")
	want := map[string]any{
		"id": "2", "name": "Paris", "description": "All of it", "driver": map[string]any{"id": "actility:auto:1"},
		"matchers": []any{
			map[string]any{"type": "thing", "tags": []any{"paris", "TEMP"}}, map[string]any{"type": "key", "key": "lora:0018B20000000b20"},
		},
		"connectors": []any{map[string]any{"id": "actility-test-iot", "connectionId": "1", "uplinkTimeValidity": "24h"}},
	}
	equal(t, a.json(), want)
	got := h.do("GET", "/flows/2", "").want(http.StatusOK)
	equal(t, got.json(), want)
	equal(t, got.Header.Get("ETag"), a.Header.Get("ETag"))

	// What one gets can be put back.
	b := h.do("PUT", "/flows/2", strings.Replace(got.Body, "Paris", "Lyon", 1), "If-Match", got.Header.Get("ETag")).want(http.StatusOK)
	equal(t, b.json()["name"], any("Lyon"))
	h.do("PUT", "/flows/2", got.Body, "If-Match", got.Header.Get("ETag")).want(http.StatusPreconditionFailed)
	h.do("PUT", "/flows/3", got.Body).want(http.StatusNotFound)

	list := h.do("GET", "/flows?name=ly&perPage=1", "").want(http.StatusOK)
	equal(t, names(list.list(), "id"), []any{"2"})
	equal(t, list.Header.Get("X-Total"), "1")
	h.do("DELETE", "/flows/2", "", "If-Match", got.Header.Get("ETag")).want(http.StatusPreconditionFailed)
	h.do("DELETE", "/flows/2", "").want(http.StatusNoContent)
	h.do("DELETE", "/flows/2", "").want(http.StatusNotFound)
	h.do("GET", "/flows/2", "").want(http.StatusNotFound)
}

func TestFlowForAll(t *testing.T) {
	h := newHarness(t)
	h.create(connection)
	v := h.do("POST", "/flows", `{"name":"All","active":true,"connectors":[{"id":"actility-test-iot","connectionId":"1"}]}`).want(http.StatusCreated).json()
	equal(t, v["matchers"], any([]any{}))
}

func TestFlowProblems(t *testing.T) {
	h := newHarness(t)
	h.create(connection)
	a := h.do("POST", "/flows", `{"nam":"x","active":false,"driver":{"di":"x"},"matchers":[
		{"type":"tag","tags":["a"]},{"type":"thing"},{"type":"thing","tags":[],"key":"k"},{"type":"key","key":"0018b20000000b20"},
		{"type":"key","key":"lora:0018b20000000b2"},{"type":"key","key":"lora:0018b20000000b20","tags":["x"]},{"tags":["x",1]},
		{"type":"key","key":"LORA:0018b20000000b20"}],
		"connectors":[{"connectionId":"9"},{"connectionId":"1","id":"actility-azure-iot"},{"connectionId":"1","uplinkTimeValidity":"soon"},
		{"id":"actility-test-iot"},{"connectionId":"7","uplinkTimeValidity":"-1h","x":1}]}`).want(http.StatusBadRequest)
	const (
		key      = "must be 'lora:' and the 16 hexadecimal digits of a DevEUI, such as lora:0018b20000000b20"
		duration = "must be a duration above zero, such as 10m, 24h or 2h30m"
	)
	equal(t, a.fields(), map[string]string{
		"name": "missing property 'name'", "nam": "unknown property 'nam'; did you mean 'name'?",
		"active":    "a flow cannot be inactive yet; delete it, or take its connectors out",
		"driver.di": "unknown property 'di'; did you mean 'id'?", "driver.id": "missing property 'id'",
		"matchers[0].type":                 "must be one of thing, key",
		"matchers[1].tags":                 "a matcher of type thing needs at least one tag",
		"matchers[2].tags":                 "a matcher of type thing needs at least one tag",
		"matchers[2].key":                  "belongs to matchers of type key",
		"matchers[3].key":                  key,
		"matchers[4].key":                  key,
		"matchers[5].tags":                 "belong to matchers of type thing",
		"matchers[6].type":                 "missing property 'type'",
		"matchers[6].tags[1]":              "must be a string, not a number",
		"matchers[7].key":                  key,
		"connectors[0].connectionId":       "there is no connection with this id",
		"connectors[1].id":                 "connection 1 is of another connector: actility-test-iot",
		"connectors[2].connectionId":       "is the same connection as connectors[1]",
		"connectors[2].uplinkTimeValidity": duration,
		"connectors[3].connectionId":       "missing property 'connectionId'",
		"connectors[4].connectionId":       "there is no connection with this id",
		"connectors[4].uplinkTimeValidity": duration,
		"connectors[4].x":                  "unknown property 'x'",
	})
	equal(t, len(h.store.Flows()), 0)
}

func TestNetworkLife(t *testing.T) {
	h := newHarness(t)
	const body = `{"kind":"thingpark","name":"Europe","configuration":{"asId":"me","asKey":"SECRET-as","downlinkUrl":"http://lrc"}}`
	a := h.do("POST", "/networks", body).want(http.StatusCreated)
	want := map[string]any{
		"id": "net1", "kind": "thingpark", "name": "Europe", "state": "OPENED", "downlinksPending": 0.0, "created": "2026-03-01T12:00:00.120Z", "ingestPath": "/ingest/net1",
		"configuration": map[string]any{"asId": "me", "asKey": "*****", "downlinkUrl": "http://lrc"},
	}
	equal(t, a.json(), want)
	equal(t, a.Header.Get("Location"), "/networks/net1")
	equal(t, h.store.sealed, []string{"asKey"})
	got := h.do("GET", "/networks/net1", "").want(http.StatusOK)
	equal(t, got.json(), want)

	b := h.do("PUT", "/networks/net1", strings.Replace(got.Body, "Europe", "Asia", 1), "If-Match", got.Header.Get("ETag")).want(http.StatusOK)
	equal(t, b.json()["name"], any("Asia"))
	if n, _ := h.store.Network("net1"); !strings.Contains(string(n.Configuration), "SECRET-as") {
		t.Errorf("stored %s", n.Configuration)
	}
	// A changed secret changes the ETag, although it is not shown.
	c := h.do("PUT", "/networks/net1", strings.Replace(b.Body, "*****", "SECRET-new", 1)).want(http.StatusOK)
	equal(t, c.Body, b.Body)
	if c.Header.Get("ETag") == b.Header.Get("ETag") {
		t.Error("same ETag")
	}
	h.do("PUT", "/networks/net1", b.Body, "If-Match", b.Header.Get("ETag")).want(http.StatusPreconditionFailed)
	h.do("PUT", "/networks/nix", b.Body).want(http.StatusNotFound)
	equal(t, names(h.do("GET", "/networks?name=asia", "").want(http.StatusOK).list(), "id"), []any{"net1"})
	h.do("DELETE", "/networks/net1", "", "If-Match", `"x"`).want(http.StatusPreconditionFailed)
	h.do("DELETE", "/networks/net1", "").want(http.StatusNoContent)
	h.do("DELETE", "/networks/net1", "").want(http.StatusNotFound)
}

func TestClosedNetwork(t *testing.T) {
	const reason = "This network is closed: its asKey was lost with the key file. PUT /networks/{id} with the asKey again."
	closed := true
	h := newHarness(t, func(o *api.Options) {
		o.NetworkState = func(string) (bool, string) {
			if closed {
				return false, reason
			}
			return true, ""
		}
	})
	v := h.do("POST", "/networks", `{"kind":"thingpark","name":"Europe","configuration":{"asId":"me"}}`).want(http.StatusCreated).json()
	equal(t, v["state"], any("CLOSED"))
	got := h.do("GET", "/networks", "").want(http.StatusOK).list()[0]
	equal(t, got["state"], any("CLOSED"))
	equal(t, got["reason"], any(reason))

	a := h.do("POST", "/ingest/net1", "report", "Authorization", "-").want(http.StatusServiceUnavailable)
	equal(t, a.Header.Get("Retry-After"), "60")
	equal(t, a.json(), map[string]any{
		"code": "com-5003", "message": "This network is closed: it takes no reports now.", "hint": "GET /networks says why it is closed.",
	})
	h.do("POST", "/ingest/net2", "report", "Authorization", "-").want(http.StatusNotFound)

	closed = false
	one := h.do("GET", "/networks/net1", "").want(http.StatusOK)
	equal(t, one.json()["state"], any("OPENED"))
	if _, given := one.json()["reason"]; given {
		t.Errorf("an open network with a reason: %s", one.Body)
	}
	// What was read can be sent back as it is, in either state.
	h.do("PUT", "/networks/net1", one.Body).want(http.StatusOK)
	closed = true
	h.do("PUT", "/networks/net1", h.do("GET", "/networks/net1", "").Body).want(http.StatusOK)
}

func TestDeleteNetworkWithCommands(t *testing.T) {
	var pending uint64 = 2
	h := newHarness(t, func(o *api.Options) {
		o.NetworkCounters = func(string) sluice.Counters {
			return sluice.Counters{Received: 5, Delivered: 5 - pending, Pending: pending}
		}
	})
	h.do("POST", "/networks", `{"kind":"thingpark","name":"open"}`).want(http.StatusCreated)
	equal(t, h.do("GET", "/networks/net1", "").want(http.StatusOK).json()["downlinksPending"], any(2.0))
	v := h.do("DELETE", "/networks/net1", "").want(http.StatusConflict).json()
	equal(t, v, map[string]any{
		"code": "com-4009", "message": "The network cannot be deleted: 2 commands wait for it.",
		"hint": "With ?force=true it is deleted all the same: the commands that wait for it are lost.",
	})
	pending = 1
	v = h.do("DELETE", "/networks/net1?force=false", "").want(http.StatusConflict).json()
	equal(t, v["message"], any("The network cannot be deleted: one command waits for it."))
	h.do("DELETE", "/networks/net1?force=true", "").want(http.StatusNoContent)
	h.do("POST", "/networks", `{"kind":"thingpark","name":"open"}`).want(http.StatusCreated)
	pending = 0
	h.do("DELETE", "/networks/net2", "").want(http.StatusNoContent)
}

func TestNetworkProblems(t *testing.T) {
	h := newHarness(t)
	equal(t, h.do("POST", "/networks", `{"kind":"thingprak","name":"x","configuration":{"asKey":"*****"}}`).want(400).fields(),
		map[string]string{"kind": `there is no kind of network "thingprak". This Sluice has: thingpark`})
	equal(t, h.do("POST", "/networks", `{"kind":"thingpark","name":"","configuration":{"asKey":"*****","asld":"x"}}`).want(400).fields(),
		map[string]string{
			"name": "must not be empty", "configuration.asld": "unknown property 'asld'; did you mean 'asId'?",
			"configuration.asKey": "there is no stored value that '*****' could stand for: enter it",
		})
	// The configuration may be left out.
	h.do("POST", "/networks", `{"kind":"thingpark","name":"open"}`).want(http.StatusCreated)
	h.store.networks["net1"] = func() (n networkConfig) { n = h.store.networks["net1"]; n.Kind = "chirpstack"; return n }()
	equal(t, h.do("PUT", "/networks/net1", `{"kind":"thingpark","name":"open"}`).want(400).fields(),
		map[string]string{"kind": "cannot be changed from chirpstack; make a new network"})
	equal(t, h.do("GET", "/networks/net1", "").json()["configuration"], any(map[string]any{}))
	h.store.broken = errors.New("broken")
	h.do("POST", "/networks", `{"kind":"thingpark","name":"open"}`).want(http.StatusInternalServerError)
}
