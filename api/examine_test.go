package api_test

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"sluice"
	"sluice/api"
)

// physician notes what it is asked, and says what it is told to.
type physician struct {
	connection sluice.Connection
	asked      sluice.Examination
	wish       sluice.Wish
	steps      []sluice.Step
	err        error
}

func (p *physician) Examine(_ context.Context, c sluice.Connection, x sluice.Examination, report func(sluice.Step)) error {
	p.connection, p.asked = c, x
	for _, s := range p.steps {
		report(s)
	}
	return p.err
}

func (p *physician) Advise(c sluice.Connection, w sluice.Wish) (sluice.Advice, error) {
	p.connection, p.wish = c, w
	return sluice.Advice{
		Documents: []sluice.Document{{Name: "iotPolicy", JSON: []byte(`{"a":1}`)}, {Name: "cloudFormation", JSON: []byte(`{"b":2}`)}},
		Notes:     []string{"Mind the gap."},
	}, p.err
}

func newPhysician(t *testing.T) (*harness, *physician) {
	p := &physician{steps: []sluice.Step{
		{ID: "name", Title: "Name resolves", State: sluice.StepOK, Milliseconds: 1.5, Detail: "It does."},
		{ID: "clock", Title: "Clock", State: sluice.StepWarning, Cause: "clock_skew", Detail: "Off.", Hint: "NTP."},
		{ID: "port", Title: "Port opens", State: sluice.StepFailed, Cause: "port_refused", Detail: "Refused.", Hint: "Open it."},
	}}
	return newHarness(t, func(o *api.Options) { o.Doctor = p }), p
}

// A stored connection is tested with its secrets; nothing is changed by it.
func TestTestConnection(t *testing.T) {
	h, p := newPhysician(t)
	h.create(connection)
	v := h.do("POST", "/connections/1/test?create=true&topic=a/b&silent=true", "").want(http.StatusOK).json()
	equal(t, v, map[string]any{"ok": false, "failed": "port", "steps": []any{
		map[string]any{"id": "name", "title": "Name resolves", "state": "ok", "milliseconds": 1.5, "detail": "It does."},
		map[string]any{"id": "clock", "title": "Clock", "state": "warning", "milliseconds": 0.0, "cause": "clock_skew", "detail": "Off.", "hint": "NTP."},
		map[string]any{"id": "port", "title": "Port opens", "state": "failed", "milliseconds": 0.0, "cause": "port_refused", "detail": "Refused.", "hint": "Open it."},
	}})
	equal(t, p.asked, sluice.Examination{Create: true, Topic: "a/b", Silent: true})
	if p.connection.ID != "1" || !strings.Contains(string(p.connection.Configuration), `"SECRET-key"`) {
		t.Errorf("examined %s: %s", p.connection.ID, p.connection.Configuration)
	}
	p.steps = p.steps[:2]
	v = h.do("POST", "/connections/1/test", "").want(http.StatusOK).json()
	equal(t, []any{v["ok"], v["failed"]}, []any{false, "clock"})
	p.steps = p.steps[:1]
	v = h.do("POST", "/connections/1/test", "").want(http.StatusOK).json()
	equal(t, []any{v["ok"], v["failed"]}, []any{true, nil})
	h.do("POST", "/connections/9/test", "").want(http.StatusNotFound)
	h.do("POST", "/connections/1/test?creat=true", "").want(http.StatusBadRequest)
	h.do("POST", "/connections/1/test", "", "Authorization", "-").want(http.StatusUnauthorized)
	p.err = sluice.Errorf(sluice.CodeInvalid, "It cannot be tested.")
	h.do("POST", "/connections/1/test", "").want(http.StatusBadRequest)
}

// Changes are tested without being stored, and ***** is the stored secret.
func TestTestChanges(t *testing.T) {
	h, p := newPhysician(t)
	h.create(connection)
	h.do("POST", "/connections/1/test", strings.NewReplacer("eu-central-1", "us-east-1", "SECRET-key", "*****").Replace(connection)).want(http.StatusOK)
	if c := string(p.connection.Configuration); !strings.Contains(c, `"us-east-1"`) || !strings.Contains(c, `"SECRET-key"`) || p.connection.ID != "1" {
		t.Errorf("examined %s: %s", p.connection.ID, c)
	}
	stored := h.do("GET", "/connections/1", "").want(http.StatusOK).json()
	equal(t, stored["configuration"].(map[string]any)["region"], any("eu-central-1"))
	// What is wrong with the configuration is the doctor's to say.
	h.do("POST", "/connections/1/test", `{"connectorId":"actility-test-iot","name":"One","configuration":{"region":7}}`).want(http.StatusOK)
	equal(t, h.do("POST", "/connections/1/test", `{"connectorId":"other","configuration":{}}`).want(http.StatusBadRequest).fields(), map[string]string{
		"name": "missing property 'name'", "connectorId": `there is no connector "other". This Sluice has: actility-test-iot`,
	})
}

// A connection is tested before there is one.
func TestTestNewConnection(t *testing.T) {
	h, p := newPhysician(t)
	h.do("POST", "/connections/test", connection).want(http.StatusOK)
	if p.connection.ID != "" || p.connection.ConnectorID != "actility-test-iot" || len(h.do("GET", "/connections", "").list()) != 0 {
		t.Errorf("examined %+v", p.connection)
	}
	equal(t, h.do("POST", "/connections/test", strings.Replace(connection, "SECRET-key", "*****", 1)).want(http.StatusBadRequest).fields(), map[string]string{
		"configuration.privateKey": "there is no stored value that '*****' could stand for: enter it",
	})
	h.do("POST", "/connections/test", "").want(http.StatusBadRequest)
}

func TestAWSPolicy(t *testing.T) {
	h, p := newPhysician(t)
	h.create(connection)
	v := h.do("GET", "/connections/1/aws-policy?account=123456789012&doctor=true", "").want(http.StatusOK).json()
	equal(t, v, map[string]any{"iotPolicy": map[string]any{"a": 1.0}, "cloudFormation": map[string]any{"b": 2.0}, "notes": []any{"Mind the gap."}})
	equal(t, p.wish, sluice.Wish{Account: "123456789012", Examine: true})
	h.do("GET", "/connections/1/aws-policy?account=12", "").want(http.StatusBadRequest)
	h.do("GET", "/connections/9/aws-policy", "").want(http.StatusNotFound)
}

// The document describes what the doctor answers.
func TestTestIsDescribed(t *testing.T) {
	h, _ := newPhysician(t)
	h.create(connection)
	d := describe(t, h)
	for _, c := range []struct{ method, path, route string }{
		{"POST", "/connections/1/test", "/connections/{id}/test"}, {"GET", "/connections/1/aws-policy", "/connections/{id}/aws-policy"},
	} {
		a := h.do(c.method, c.path, "").want(http.StatusOK)
		d.valid(t, pointer("paths", c.route, strings.ToLower(c.method), "responses", "200", "content", "application/json", "schema"), a.Body)
	}
}
