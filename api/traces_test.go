package api_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"sluice"
	"sluice/api"
)

// passages is what is known of messages, in memory.
type passages struct {
	api.Traced
	err   error
	asked string
	limit int
}

func (p *passages) Message(_ context.Context, id string) (api.Traced, error) {
	p.asked = id
	t := p.Traced
	t.Traces = nil
	for _, each := range p.Traces {
		if each.Message == id {
			t.Traces = append(t.Traces, each)
		}
	}
	return t, p.err
}

func (p *passages) MessagesOf(_ context.Context, devEUI string, limit int) (api.Traced, error) {
	p.limit = limit
	t := p.Traced
	t.Traces = nil
	for _, each := range p.Traces {
		if each.DevEUI == devEUI {
			t.Traces = append(t.Traces, each)
		}
	}
	return t, p.err
}

func TestMessages(t *testing.T) {
	known := &passages{}
	h := newHarness(t, func(o *api.Options) {
		o.Messages = known
		o.NetworkState = func(string) (bool, string) { return false, "It does not answer." }
	})
	const device = "0018B20000000B20"
	now := h.clock.Now()
	up := sluice.Trace{Message: "01M1", Kind: sluice.KindUplink, DevEUI: device, Network: "n", Received: now, Journalled: now.Add(time.Millisecond)}
	way := func(connection string, state sluice.TraceState) sluice.Trace {
		w := up
		w.Connection, w.State = connection, state
		return w
	}
	delivered := way("10", sluice.TraceDelivered)
	delivered.Over = now.Add(9 * time.Millisecond)
	delivered.Progress = sluice.Progress{Session: "s-1", Topic: "a/b", Sent: now.Add(5 * time.Millisecond), Tries: 1}
	failed := way("9", sluice.TraceFailed)
	failed.Over, failed.Reason, failed.Text, failed.Hint = now, sluice.ReasonTopic, "Too long.", "Shorten it."
	down := sluice.Trace{
		Message: "01M2", Kind: sluice.KindDownlink, DevEUI: device, Network: "n", Connection: "9", Received: now.Add(time.Second),
		State: sluice.TraceRejected, Status: 350, Over: now.Add(time.Second), Progress: sluice.Progress{Source: "a/down"}, Text: "No.", Hint: "Ask.",
	}
	known.Traced = api.Traced{Traces: []sluice.Trace{delivered, failed, down}, Since: now.Add(-time.Hour), Complete: true}

	report := map[string]any{
		"id": "01M1", "kind": "DevEUI_uplink", "devEUI": device, "networkId": "n",
		"received": "2026-03-01T12:00:00.120Z", "journalled": "2026-03-01T12:00:00.121Z", "ways": []any{
			map[string]any{
				"connectionId": "9", "state": "failed", "over": "2026-03-01T12:00:00.120Z", "reason": "topic", "message": "Too long.", "hint": "Shorten it.",
			},
			map[string]any{
				"connectionId": "10", "state": "delivered", "topic": "a/b", "session": "s-1", "tries": 1.0,
				"sent": "2026-03-01T12:00:00.125Z", "acknowledged": "2026-03-01T12:00:00.129Z",
			},
		},
	}
	equal(t, h.do("GET", "/messages/01m1", "").want(http.StatusOK).json(), report)
	command := map[string]any{
		"id": "01M2", "kind": "DevEUI_downlink", "devEUI": device, "connectionId": "9", "source": "a/down", "received": "2026-03-01T12:00:01.120Z",
		"ways": []any{map[string]any{
			"networkId": "n", "state": "rejected", "over": "2026-03-01T12:00:01.120Z", "status": 350.0, "message": "No.", "hint": "Ask.",
		}},
	}
	equal(t, h.do("GET", "/devices/0018b20000000b20/messages", "").want(http.StatusOK).json(), map[string]any{
		"devEUI": device, "messages": []any{command, report}, "note": "Ways are known since 2026-03-01T11:00:00.120Z.",
	})
	equal(t, known.limit, 20)
	h.do("GET", "/devices/0018b20000000b20/messages?limit=7", "").want(http.StatusOK)
	equal(t, known.limit, 7)

	t.Run("why", func(t *testing.T) { explained(t, h, known, way) })
	t.Run("nothing", func(t *testing.T) {
		known.Complete = false
		v := h.do("GET", "/messages/01M9", "").want(http.StatusNotFound).json()
		equal(t, v["message"], any(`Nothing is known of a message with the id "01M9". Ways are known since 2026-03-01T11:00:00.120Z. `+
			"It would have taken too long to look at all of them: older ones may be missing."))
		h.do("GET", "/devices/0018B200000000FF/messages", "").want(http.StatusNotFound)
		h.store.devices = []sluice.Device{{DevEUI: "0018B200000000FF"}}
		equal(t, h.do("GET", "/devices/0018B200000000FF/messages", "").want(http.StatusOK).json()["messages"], any([]any{}))
		for _, limit := range []string{"0", "101", "x"} {
			h.do("GET", "/devices/0018B20000000B20/messages?limit="+limit, "").want(http.StatusBadRequest)
		}
		h.do("GET", "/messages/01M1", "", "Authorization", "-").want(http.StatusUnauthorized)
		known.err = errors.New("broken")
		h.do("GET", "/messages/01M1", "").want(http.StatusInternalServerError)
		h.do("GET", "/devices/0018B20000000B20/messages", "").want(http.StatusInternalServerError)
	})
}

// explained wants a reason and a next step where the trace itself has none.
func explained(t *testing.T, h *harness, known *passages, way func(string, sluice.TraceState) sluice.Trace) {
	h.supervisor.status["1"] = sluice.Status{State: sluice.StateOpened}
	h.supervisor.status["2"] = sluice.Status{State: sluice.StateAuthenticationFailed, Reason: "The certificate is not active."}
	h.supervisor.status["3"] = sluice.Status{State: sluice.StateDeactivated}
	command := way("1", sluice.TraceWaiting)
	command.Kind = sluice.KindDownlink
	busy := way("1", sluice.TraceWaiting)
	busy.Text = "It waits for a place in a session."
	for name, c := range map[string]struct {
		trace         sluice.Trace
		message, hint string
	}{
		"no flow":         {way("", sluice.TraceUnmatched), "no flow matched", "GET /flows"},
		"crash":           {way("1", sluice.TraceUnrecorded), "not recorded", "GET /events"},
		"cloud refuses":   {way("2", sluice.TraceWaiting), "AUTHENTICATION_FAILED. The certificate is not active.", "GET /connections/2"},
		"deactivated":     {way("3", sluice.TraceWaiting), "DEACTIVATED", "PUT /connections/3"},
		"its turn":        {busy, "a place in a session", ""},
		"expired":         {way("1", sluice.TraceExpired), "too old", "uplinkTimeValidity"},
		"network is away": {command, "It does not answer.", "GET /networks"},
		"on the wire":     {way("1", sluice.TraceSent), "acknowledgement is awaited", ""},
	} {
		known.Traces = []sluice.Trace{c.trace}
		v := h.do("GET", "/messages/01M1", "").want(http.StatusOK).json()["ways"].([]any)[0].(map[string]any)
		message, _ := v["message"].(string)
		hint, _ := v["hint"].(string)
		if !strings.Contains(message, c.message) || !strings.Contains(hint, c.hint) {
			t.Errorf("%s: %q, %q", name, message, hint)
		}
	}
}
