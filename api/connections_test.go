package api_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"sluice"
	"sluice/api"
)

func TestCreateConnection(t *testing.T) {
	h := newHarness(t, func(o *api.Options) { o.PublicURL = "https://sluice.example.com" })
	a := h.do("POST", "/connections", connection).want(http.StatusCreated)
	equal(t, a.Header.Get("Location"), "/connections/1")
	equal(t, a.Header.Get("ETag"), `"1"`)
	want := map[string]any{
		"id": "1", "connectorId": "actility-test-iot", "name": "One", "active": true, "alarms": []any{},
		"configuration": map[string]any{"region": "eu-central-1", "privateKey": "*****", "ratio": 1.5},
		"state":         "CLOSED", "applied": false, "reason": "It is being taken up.",
		"sessions":    map[string]any{"open": 0.0, "wanted": 0.0, "size": 0.0},
		"downlinkUrl": "https://sluice.example.com/downlinkMessages/00000000-0000-4000-8000-000000000001",
		"created":     "2026-03-01T12:00:00.120Z", "updated": "2026-03-01T12:00:00.120Z", "revision": 1.0,
	}
	equal(t, a.json(), want)
	equal(t, h.do("GET", "/connections/1", "").want(http.StatusOK).json(), want)
	equal(t, h.store.sealed, []string{"accessKey", "privateKey"})
	if c, _ := h.store.Connection("1"); !strings.Contains(string(c.Configuration), `"SECRET-key"`) ||
		!strings.Contains(string(c.Configuration), `1.50`) {
		t.Errorf("stored %s", c.Configuration)
	}
}

func TestCreateConnectionBelowPrefix(t *testing.T) {
	h := newHarness(t)
	a := h.do("POST", "/iot-flow/v1/connections", connection).want(http.StatusCreated)
	equal(t, a.Header.Get("Location"), "/iot-flow/v1/connections/1")
	equal(t, h.do("GET", a.Header.Get("Location"), "").want(http.StatusOK).json()["name"], "One")
}

func TestConnectionShowsStatus(t *testing.T) {
	h := newHarness(t)
	h.create(connection)
	h.supervisor.status["1"] = sluice.Status{
		State: sluice.StateOpened, Since: h.clock.Now(), StartupTime: h.clock.Now().Add(-time.Hour), Applied: false,
		Reason: "The new sessions were refused.", Sessions: []sluice.SessionStatus{{ID: "a"}, {ID: "b"}}, Wanted: 4, Size: 10,
	}
	v := h.do("GET", "/connections/1", "").want(http.StatusOK).json()
	equal(t, v["state"], any("OPENED"))
	equal(t, v["stateSince"], any("2026-03-01T12:00:00.120Z"))
	equal(t, v["startupTime"], any("2026-03-01T11:00:00.120Z"))
	equal(t, v["applied"], any(false))
	equal(t, v["reason"], any("The new sessions were refused."))
	equal(t, v["sessions"], any(map[string]any{"open": 2.0, "wanted": 4.0, "size": 10.0}))
}

// Whatever GET shows of a connection may be sent back.
func TestAllThatIsShownIsTaken(t *testing.T) {
	h := newHarness(t)
	spec := h.do("GET", "/openapi.json", "").want(http.StatusOK).Body
	get := gjson.Get(spec, `paths./connections/{id}.get.responses.200.content.application/json.schema.$ref`).String()
	shown := gjson.Get(spec, "components.schemas."+get[strings.LastIndex(get, "/")+1:]+".properties")
	if len(shown.Map()) < 10 {
		t.Fatalf("shown: %s", shown)
	}
	h.create(connection)
	for name := range shown.Map() {
		if gjson.Get(connection, name).Exists() || name == "id" || name == "active" || name == "alarms" {
			continue // a type of its own is wanted
		}
		h.do("PUT", "/connections/1", strings.Replace(connection, `"name"`, `"`+name+`":"x","name"`, 1)).want(http.StatusOK)
	}
}

func TestInactiveConnection(t *testing.T) {
	h := newHarness(t)
	v := h.do("POST", "/connections", strings.Replace(connection, `"name"`, `"active":false,"name"`, 1)).want(http.StatusCreated).json()
	equal(t, v["active"], any(false))
	equal(t, v["state"], any("DEACTIVATED"))
}

func TestAllProblemsAtOnce(t *testing.T) {
	h := newHarness(t, func(o *api.Options) {
		o.CheckCommon = func(json.RawMessage) []sluice.Problem {
			return []sluice.Problem{{Path: "description", Message: "is dull"}}
		}
	})
	h.cloud.problems = []sluice.Problem{
		{Path: "accessKey", Message: "does not belong to the account"},
		{Path: "privateKey", Message: "is missing, says the connector too"},
	}
	a := h.do("POST", "/connections", `{"connectorId":"actility-test-iot","nmae":"x","active":"yes","configuration":{
		"regoin":"eu","region":"EU!","poolSize":0,"protocol":"TCP","ratio":"much","description":"x"}}`).want(http.StatusBadRequest)
	equal(t, a.fields(), map[string]string{
		"name":                      "missing property 'name'",
		"nmae":                      "unknown property 'nmae'; did you mean 'name'?",
		"active":                    "must be true or false, not a string",
		"configuration.regoin":      "unknown property 'regoin'",
		"configuration.region":      "must match the pattern '^[a-z0-9-]+$'",
		"configuration.poolSize":    "must be a number between 1 and 50",
		"configuration.protocol":    "must be one of SSL, WSS",
		"configuration.ratio":       "must be a number, not a string",
		"configuration.privateKey":  "missing property 'privateKey'",
		"configuration.description": "is dull",
		"configuration.accessKey":   "does not belong to the account",
	})
	equal(t, a.json()["message"], any("The connection is not right: 11 problems."))
	if len(h.store.Connections()) != 0 || len(h.store.events) != 0 {
		t.Error("something was stored or told")
	}
}

func TestUnknownConnector(t *testing.T) {
	h := newHarness(t)
	a := h.do("POST", "/connections", strings.Replace(connection, "test-iot", "test-iof", 1)).want(http.StatusBadRequest)
	equal(t, a.fields(), map[string]string{
		"connectorId": `there is no connector "actility-test-iof". This Sluice has: actility-test-iot`,
	})
}

func TestBadBodies(t *testing.T) {
	h := newHarness(t)
	for _, c := range []struct {
		name, body, message string
		headers             []string
		status              int
	}{
		{"empty", "", "The body of the request is empty: a JSON document is wanted.", nil, 400},
		{"syntax", "{\n  \"name\": \"x\",\n}", "at line 3, column 1.", nil, 400},
		{"cut", `{"name": "x`, "at line 1, column 11.", nil, 400},
		{"trailing", `{} {}`, "has more text after the JSON document, at line 1, column 4.", nil, 400},
		{"array", `[]`, "The body of the request must be a JSON object.", nil, 400},
		{"null", `null`, "The body of the request must be a JSON object.", nil, 400},
		{"form", connection, "The body of the request must be JSON.", []string{"Content-Type", "application/x-www-form-urlencoded"}, 415},
		{"large", `{"name":"` + strings.Repeat("x", 1<<20) + `"}`, "The body of the request is over 1024 KiB.", nil, 413},
	} {
		for _, target := range []string{"POST /connections", "POST /flows", "POST /networks", "PUT /connections"} {
			t.Run(c.name+" "+target, func(t *testing.T) {
				method, path, _ := strings.Cut(target, " ")
				a := h.do(method, path, c.body, c.headers...).want(c.status)
				if m, _ := a.json()["message"].(string); !strings.HasSuffix(m, c.message) {
					t.Errorf("message %q", m)
				}
				equal(t, a.json()["code"], any(fmt.Sprintf("com-4%03d", c.status-400)))
			})
		}
	}
}

func TestDuplicateProperty(t *testing.T) {
	h := newHarness(t)
	a := h.do("POST", "/connections", `{"connectorId":"actility-test-iot","name":"a","name":"b","configuration":{
		"region":"eu","region":"us","privateKey":"SECRET-x"}}`).want(http.StatusBadRequest)
	equal(t, a.fields(), map[string]string{"name": "is given twice", "configuration.region": "is given twice"})
}

func TestBodyWithoutContentType(t *testing.T) {
	h := newHarness(t)
	h.do("POST", "/connections", connection, "Content-Type", "-").want(http.StatusCreated)
	h.do("POST", "/connections", connection, "Content-Type", "application/merge-patch+json; charset=utf-8").want(http.StatusCreated)
}

func TestWarnings(t *testing.T) {
	h := newHarness(t)
	h.cloud.warnings = []sluice.Problem{{Path: "region", Message: "looks odd"}}
	a := h.do("POST", "/connections", connection).want(http.StatusCreated)
	equal(t, a.json()["warnings"], any([]any{map[string]any{"path": "configuration.region", "message": "Looks odd."}}))
	equal(t, h.store.events, []sluice.Event{{
		ID: "2", Time: h.clock.Now(), Level: sluice.LevelWarning, Type: sluice.EventConfigurationOdd, Label: "Configuration odd",
		Detail: "Connection One with id 1: configuration.region: Looks odd.", Reason: sluice.ReasonConfiguration, Connection: "1",
	}})
	if v := h.do("GET", "/connections/1", "").json(); v["warnings"] != nil {
		t.Error("warnings stay")
	}
}

func TestReplaceConnection(t *testing.T) {
	h := newHarness(t)
	h.create(connection)
	before, _ := h.store.Connection("1")
	got := h.do("GET", "/connections/1", "").want(http.StatusOK)
	h.clock.advance(time.Minute)
	// What one gets can be put back as it is: what Sluice sets is ignored, the
	// secret stays.
	a := h.do("PUT", "/connections/1", strings.Replace(got.Body, `"One"`, `"Two"`, 1)).want(http.StatusOK)
	equal(t, a.Header.Get("ETag"), `"2"`)
	equal(t, a.json()["name"], any("Two"))
	equal(t, a.json()["updated"], any("2026-03-01T12:01:00.120Z"))
	after, _ := h.store.Connection("1")
	equal(t, string(after.Configuration), string(before.Configuration))
	equal(t, after.DownlinkID, before.DownlinkID)

	// Another secret replaces it; one that is left out is gone.
	h.do("PUT", "/connections/1", strings.Replace(connection, "SECRET-key", "SECRET-other", 1)).want(http.StatusOK)
	after, _ = h.store.Connection("1")
	if !strings.Contains(string(after.Configuration), "SECRET-other") {
		t.Errorf("stored %s", after.Configuration)
	}
}

// keeper is a connector that keeps a secret and a plain property.
type keeper struct {
	cloud
	keeps []string
}

func (k *keeper) Keeps(stored, changed json.RawMessage) []string {
	if gjson.GetBytes(changed, "region").String() == gjson.GetBytes(stored, "region").String() {
		return nil
	}
	return k.keeps
}

func TestKeptProperties(t *testing.T) {
	h := newHarness(t, func(o *api.Options) {
		o.Connectors = []sluice.Connector{&keeper{keeps: []string{"privateKey", "ratio"}}}
	})
	h.create(connection)
	stored := func() string {
		c, _ := h.store.Connection("1")
		return string(c.Configuration)
	}
	put := func(configuration string) {
		t.Helper()
		h.do("PUT", "/connections/1", `{"connectorId":"actility-test-iot","name":"One","configuration":`+configuration+`}`).want(http.StatusOK)
	}
	put(`{"region":"us-east-1"}`)
	for _, want := range []string{`"SECRET-key"`, "1.50", "us-east-1"} {
		if !strings.Contains(stored(), want) {
			t.Errorf("%s is not kept: %s", want, stored())
		}
	}
	put(`{"region":"eu-west-1","privateKey":"","ratio":2}`) // what is given is not overruled
	equal(t, stored(), `{"region":"eu-west-1","privateKey":"","ratio":2}`)
	put(`{"region":"eu-west-1","privateKey":"x"}`) // where nothing is to be kept, what is left out is gone
	equal(t, stored(), `{"region":"eu-west-1","privateKey":"x"}`)
}

func TestReplaceConnectionByBody(t *testing.T) {
	h := newHarness(t)
	h.create(connection)
	got := h.do("GET", "/connections/1", "")
	v := h.do("PUT", "/connections", strings.Replace(got.Body, `"One"`, `"Two"`, 1)).want(http.StatusOK).json()
	equal(t, v["name"], any("Two"))
	equal(t, h.do("PUT", "/connections", connection).want(http.StatusBadRequest).fields()["id"],
		"missing property 'id': it says which connection to replace")
}

func TestMaskedSecretWithoutStored(t *testing.T) {
	h := newHarness(t)
	const problem = "there is no stored value that '*****' could stand for: enter it"
	a := h.do("POST", "/connections", strings.Replace(connection, "SECRET-key", "*****", 1)).want(http.StatusBadRequest)
	equal(t, a.fields(), map[string]string{"configuration.privateKey": problem})
	h.create(connection)
	a = h.do("PUT", "/connections/1", strings.Replace(connection, `"ratio"`, `"accessKey":"*****","ratio"`, 1)).want(http.StatusBadRequest)
	equal(t, a.fields(), map[string]string{"configuration.accessKey": problem})
	// Only for secrets do five stars mean anything.
	v := h.do("PUT", "/connections/1", strings.Replace(connection, `"ratio"`, `"description":"*****","ratio"`, 1)).want(http.StatusOK).json()
	equal(t, v["configuration"].(map[string]any)["description"], any("*****"))
}

func TestReplaceConnectionRefused(t *testing.T) {
	h := newHarness(t)
	h.do("PUT", "/connections/7", connection).want(http.StatusNotFound)
	h.create(connection)
	h.do("PUT", "/connections/1", connection, "If-Match", `"2"`).want(http.StatusPreconditionFailed)
	h.do("PUT", "/connections/1", connection, "If-Match", `"9", W/"1"`).want(http.StatusOK)
	h.do("PUT", "/connections/1", connection, "If-Match", `"1"`).want(http.StatusPreconditionFailed)
	h.do("PUT", "/connections/1", connection, "If-Match", `*`).want(http.StatusOK)
	a := h.do("PUT", "/connections/1", strings.Replace(connection, `"name"`, `"id":"2","name"`, 1)).want(http.StatusBadRequest)
	equal(t, a.fields()["id"], "is not the id in the address; leave it out, or send it to its own address")
	h.do("POST", "/connections", strings.Replace(connection, `"name"`, `"id":"2","name"`, 1)).want(http.StatusBadRequest)
}

func TestConnectorCannotChange(t *testing.T) {
	h := newHarness(t, func(o *api.Options) { o.Connectors = append(o.Connectors, &otherCloud{}) })
	h.create(connection)
	a := h.do("PUT", "/connections/1", strings.Replace(connection, "test-iot", "other-iot", 1)).want(http.StatusBadRequest)
	equal(t, a.fields(), map[string]string{"connectorId": "cannot be changed from actility-test-iot; make a new connection"})
}

// otherCloud is another connector.
type otherCloud struct{ cloud }

func (*otherCloud) Info() sluice.ConnectorInfo {
	info := (&cloud{}).Info()
	info.ID, info.ModuleID = "actility-other-iot", "other-iot"
	return info
}

func TestDeleteConnection(t *testing.T) {
	h := newHarness(t)
	h.do("DELETE", "/connections/1", "").want(http.StatusNotFound)
	h.create(connection)
	h.do("DELETE", "/connections/1", "", "If-Match", `"5"`).want(http.StatusPreconditionFailed)
	a := h.do("DELETE", "/connections/1", "").want(http.StatusNoContent)
	equal(t, a.Body, "")
	h.do("GET", "/connections/1", "").want(http.StatusNotFound)
}

func TestDeleteConnectionWithBacklog(t *testing.T) {
	h := newHarness(t)
	h.create(connection)
	h.supervisor.counters["1"] = sluice.Counters{Received: 15, Delivered: 3, Pending: 12}
	v := h.do("DELETE", "/connections/1", "").want(http.StatusConflict).json()
	equal(t, v["code"], any("com-4009"))
	equal(t, v["message"], any("The connection cannot be deleted: 12 reports wait for it."))
	equal(t, v["hint"], any("With ?force=true it is deleted all the same: the reports that wait for it are lost."))
	h.do("POST", "/flows", `{"name":"All","connectors":[{"connectionId":"1"}]}`).want(http.StatusCreated)
	v = h.do("DELETE", "/connections/1", "").want(http.StatusConflict).json()
	equal(t, v["hint"], any("With ?force=true it is deleted all the same: the reports that wait for it are lost, and the flows lose it."))
	h.do("DELETE", "/connections/1?force=false", "").want(http.StatusConflict)
	h.do("DELETE", "/connections/1?force=true", "").want(http.StatusNoContent)
}

func TestDeleteConnectionInFlows(t *testing.T) {
	h := newHarness(t)
	h.create(connection)
	h.create(connection)
	h.do("POST", "/flows", `{"name":"Both","connectors":[{"connectionId":"1"},{"connectionId":"2"}]}`).want(http.StatusCreated)
	h.do("POST", "/flows", `{"name":"Second","connectors":[{"connectionId":"2"}]}`).want(http.StatusCreated)
	v := h.do("DELETE", "/connections/2", "").want(http.StatusConflict).json()
	equal(t, v["message"], any("The connection cannot be deleted: these flows refer to it: Both, Second."))
	equal(t, v["hint"], any("With ?force=true it is deleted all the same: the flows lose it."))
	h.do("DELETE", "/connections/2?force=true", "").want(http.StatusNoContent)
	flows := h.do("GET", "/flows", "").list()
	equal(t, flows[0]["connectors"], any([]any{map[string]any{"id": "actility-test-iot", "connectionId": "1"}}))
	equal(t, flows[1]["connectors"], any([]any{}))
}

func TestListConnections(t *testing.T) {
	h := newHarness(t)
	equal(t, len(h.do("GET", "/connections", "").want(http.StatusOK).list()), 0)
	for i := range 12 {
		h.create(strings.Replace(connection, "One", fmt.Sprintf("Cloud %d", i+1), 1))
	}
	a := h.do("GET", "/connections?page=2&perPage=5&name=CLOUD", "").want(http.StatusOK)
	equal(t, names(a.list(), "id"), []any{"6", "7", "8", "9", "10"})
	for name, want := range map[string]string{
		"X-Total": "12", "X-Total-Pages": "3", "X-Per-Page": "5", "X-Page": "2", "X-Next-Page": "3", "X-Prev-Page": "1",
		"Link": `</connections?name=CLOUD&page=1&perPage=5>; rel="first", </connections?name=CLOUD&page=1&perPage=5>; rel="prev", ` +
			`</connections?name=CLOUD&page=3&perPage=5>; rel="next", </connections?name=CLOUD&page=3&perPage=5>; rel="last"`,
	} {
		equal(t, a.Header.Get(name), want)
	}
	equal(t, names(h.do("GET", "/connections?name=cloud%2012", "").list(), "id"), []any{"12"})
	a = h.do("GET", "/iot-flow/v1/connections?page=9", "").want(http.StatusOK)
	equal(t, len(a.list()), 0)
	equal(t, a.Header.Get("Link"), `</iot-flow/v1/connections?page=1&perPage=20>; rel="first", `+
		`</iot-flow/v1/connections?page=1&perPage=20>; rel="prev", </iot-flow/v1/connections?page=1&perPage=20>; rel="last"`)
}

func TestListParameters(t *testing.T) {
	h := newHarness(t)
	a := h.do("GET", "/connections?page=0&perPage=101", "").want(http.StatusBadRequest)
	equal(t, a.fields(), map[string]string{"page": "must be a number not below 1", "perPage": "must be a number not above 100"})
	equal(t, a.Header.Get("Content-Type"), "application/json")
	equal(t, a.json()["code"], any("com-4000"))
	a = h.do("GET", "/connections?prePage=3", "").want(http.StatusBadRequest)
	equal(t, a.fields(), map[string]string{"prePage": "unknown query parameter 'prePage'; did you mean 'perPage'?"})
	h.do("GET", "/connections?perPage=many", "").want(http.StatusBadRequest)
}

func TestConnectionOfRemovedConnector(t *testing.T) {
	h := newHarness(t)
	h.store.connections["5"] = sluice.Connection{
		ID: "5", ConnectorID: "gone", Name: "Old", Configuration: json.RawMessage(`{"password":"SECRET-p","nested":{"key":"SECRET-n"}}`),
		Alarms: json.RawMessage(`null`),
	}
	v := h.do("GET", "/connections/5", "").want(http.StatusOK).json()
	equal(t, v["configuration"], any(map[string]any{"password": "*****", "nested": "*****"}))
	equal(t, v["alarms"], any([]any{}))
}

func TestAlarmsAreKept(t *testing.T) {
	h := newHarness(t)
	v := h.do("POST", "/connections", strings.Replace(connection, `"name"`, `"alarms":[{"uplinkRateMinPerHour":5}],"name"`, 1)).want(http.StatusCreated).json()
	equal(t, v["alarms"], any([]any{map[string]any{"uplinkRateMinPerHour": 5.0}}))
}

func TestStoreFails(t *testing.T) {
	h := newHarness(t)
	h.create(connection)
	h.store.broken = errors.New("disk on fire at /var/data")
	for _, target := range []string{"POST /connections", "PUT /connections/1"} {
		method, path, _ := strings.Cut(target, " ")
		a := h.do(method, path, connection).want(http.StatusInternalServerError)
		equal(t, a.json(), map[string]any{
			"code": "com-5000", "message": "Something went wrong inside Sluice.", "hint": "The log of Sluice says more.",
		})
	}
	if !strings.Contains(h.log.String(), "disk on fire") {
		t.Error("the log does not say why")
	}
	h.store.broken = &sluice.Error{Code: sluice.CodeUnavailable, Message: "The disk is full.", Hint: "Make room.", Err: errors.New("ENOSPC")}
	a := h.do("POST", "/connections", connection).want(http.StatusServiceUnavailable)
	equal(t, a.json(), map[string]any{"code": "com-5003", "message": "The disk is full.", "hint": "Make room."})
	equal(t, a.Header.Get("Retry-After"), "5")
}
