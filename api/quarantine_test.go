package api_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"sluice"
)

// quarantine is that of connection 1, in memory, the newest first.
type quarantine struct {
	lying  []sluice.Quarantined
	sent   []uint64
	refuse error
}

// lie puts messages into it.
func (q *quarantine) lie(numbers ...uint64) {
	for _, n := range numbers {
		q.lying = append([]sluice.Quarantined{{
			Message: &sluice.Message{
				ID: fmt.Sprint("id-", n), Number: n, Kind: sluice.KindUplink, DevEUI: "0018B20000000B20", Network: secretMark + "network",
				Received: time.Date(2026, 3, 1, 11, 0, 0, 0, time.UTC),
				Document: []byte(`{"DevEUI_uplink":{"AppSKey":"SECRET-key","FCntUp":7.10}}`),
			},
			Reason: sluice.ReasonTooLarge, Detail: "The message has 131073 bytes.", Hint: "Send less.", Status: 149,
			Time: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), Size: 55,
		}}, q.lying...)
	}
}

func (q *quarantine) find(number uint64) (int, error) {
	i := slices.IndexFunc(q.lying, func(l sluice.Quarantined) bool { return l.Message.Number == number })
	if i < 0 {
		return i, sluice.Errorf(sluice.CodeNotFound, "There is no message %d in quarantine.", number)
	}
	return i, q.refuse
}

func (q *quarantine) Quarantined(_ context.Context, _ string, offset, limit int) ([]sluice.Quarantined, int, error) {
	from := min(offset, len(q.lying))
	return q.lying[from:min(from+limit, len(q.lying))], len(q.lying), q.refuse
}

func (q *quarantine) QuarantinedMessage(_ context.Context, _ string, number uint64) (*sluice.Quarantined, error) {
	i, err := q.find(number)
	if err != nil {
		return nil, err
	}
	return &q.lying[i], nil
}

func (q *quarantine) Retry(_ context.Context, _ string, number uint64) error {
	_, err := q.find(number)
	if err == nil {
		q.sent = append(q.sent, number)
	}
	return err
}

func (q *quarantine) RetryAll(context.Context, string) (int, error) { return len(q.lying), q.refuse }

func (q *quarantine) DeleteQuarantined(_ context.Context, _ string, number uint64) error {
	i, err := q.find(number)
	if err == nil {
		q.lying = slices.Delete(q.lying, i, i+1)
	}
	return err
}

func (q *quarantine) DeleteAllQuarantined(context.Context, string) (int, error) {
	n := len(q.lying)
	q.lying = nil
	return n, q.refuse
}

func TestQuarantine(t *testing.T) {
	h := newHarness(t)
	h.create(connection)
	equal(t, len(h.do("GET", "/connections/1/quarantine", "").want(http.StatusOK).list()), 0)
	h.quarantine.lie(3, 5, 8)

	a := h.do("GET", "/connections/1/quarantine?perPage=2", "").want(http.StatusOK)
	equal(t, names(a.list(), "number"), []any{8.0, 5.0})
	equal(t, a.Header.Get("X-Total"), "3")
	want := map[string]any{
		"number": 8.0, "messageId": "id-8", "devEUI": "0018B20000000B20", "kind": "DevEUI_uplink", "reason": "too_large",
		"message": "The message has 131073 bytes.", "hint": "Send less.", "status": 149.0,
		"time": "2026-03-01T12:00:00.000Z", "received": "2026-03-01T11:00:00.000Z", "size": 55.0,
	}
	equal(t, a.list()[0], want)
	equal(t, names(h.do("GET", "/connections/1/quarantine?perPage=2&page=2", "").list(), "number"), []any{3.0})

	a = h.do("GET", "/connections/1/quarantine/8", "").want(http.StatusOK)
	want["document"] = map[string]any{"DevEUI_uplink": map[string]any{"AppSKey": "*****", "FCntUp": 7.1}}
	equal(t, a.json(), want)
	if !strings.Contains(a.Body, `"FCntUp":7.10`) {
		t.Errorf("a number is written otherwise: %s", a.Body)
	}

	equal(t, h.do("POST", "/connections/1/quarantine/5/retry", "").want(http.StatusOK).json(), map[string]any{"retried": 1.0})
	equal(t, h.quarantine.sent, []uint64{5})
	equal(t, h.do("POST", "/connections/1/quarantine/retry", "").want(http.StatusOK).json(), map[string]any{"retried": 3.0})
	h.do("DELETE", "/connections/1/quarantine/5", "").want(http.StatusNoContent)
	equal(t, h.do("DELETE", "/connections/1/quarantine", "").want(http.StatusOK).json(), map[string]any{"deleted": 2.0})
}

func TestQuarantineErrors(t *testing.T) {
	h := newHarness(t)
	h.create(connection)
	h.quarantine.lie(1, 2)
	for _, path := range []string{
		"GET /connections/2/quarantine", "GET /connections/2/quarantine/1", "POST /connections/2/quarantine/1/retry",
		"POST /connections/2/quarantine/retry", "DELETE /connections/2/quarantine", "DELETE /connections/2/quarantine/1",
		"GET /connections/1/quarantine/9", "POST /connections/1/quarantine/9/retry", "DELETE /connections/1/quarantine/9",
	} {
		method, at, _ := strings.Cut(path, " ")
		h.do(method, at, "").want(http.StatusNotFound)
		h.do(method, at, "", "Authorization", "-").want(http.StatusUnauthorized)
	}
	h.do("GET", "/connections/1/quarantine/x", "").want(http.StatusBadRequest)
	h.do("GET", "/connections/1/quarantine?perPage=101", "").want(http.StatusBadRequest)

	h.quarantine.refuse = sluice.Errorf(sluice.CodeUnavailable, "The disk is nearly full.")
	v := h.do("POST", "/connections/1/quarantine/retry", "").want(http.StatusServiceUnavailable).json()
	equal(t, v["message"], any("2 messages were sent again, the others lie in quarantine still. The disk is nearly full."))
	h.do("POST", "/connections/1/quarantine/1/retry", "").want(http.StatusServiceUnavailable)
	equal(t, len(h.quarantine.sent), 0)
}
