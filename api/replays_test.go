package api_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	"sluice"
)

// replays starts what it is asked for, one a connection.
type replays struct {
	of      map[string]sluice.Replay
	stopped []string
	refuse  error
}

func (r *replays) StartReplay(_ context.Context, q sluice.Replay) (sluice.Replay, error) {
	if r.refuse != nil {
		return q, r.refuse
	}
	if r.of == nil {
		r.of = map[string]sluice.Replay{}
	}
	q.ID, q.State, q.Asked, q.Reached = "01J", sluice.ReplayRunning, q.To, q.From
	r.of[q.Connection] = q
	return q, nil
}

func (r *replays) Replay(id string) (sluice.Replay, bool) {
	v, ok := r.of[id]
	return v, ok
}

func (r *replays) StopReplay(_ context.Context, id string) error {
	r.stopped = append(r.stopped, id)
	return r.refuse
}

const replayPath = "/connections/1/replay"

func TestReplayIsStartedReadAndStopped(t *testing.T) {
	h := newHarness(t)
	for _, method := range []string{"POST", "GET", "DELETE"} {
		h.do(method, replayPath, map[string]string{"POST": `{"from":"2026-03-01T08:00:00Z"}`}[method]).want(http.StatusNotFound)
	}
	h.create(connection)
	v := h.do("GET", replayPath, "").want(http.StatusNotFound).json()
	equal(t, v["message"], any("There was no replay of the connection."))

	a := h.do("POST", "/iot-flow/v1"+replayPath,
		`{"from":"2026-03-01T08:00:00+01:00","to":"2026-03-01T09:00:00.5Z","devices":["0018b20000000b20"],"rate":2.5}`).want(http.StatusAccepted)
	equal(t, a.Header.Get("Location"), "/iot-flow/v1"+replayPath)
	want := sluice.Replay{
		ID: "01J", Connection: "1", From: time.Date(2026, 3, 1, 7, 0, 0, 0, time.UTC), To: time.Date(2026, 3, 1, 9, 0, 0, 500e6, time.UTC),
		Devices: []string{"0018B20000000B20"}, Rate: 2.5, State: sluice.ReplayRunning,
	}
	got := h.replays.of["1"]
	want.Asked, want.Reached = want.To, want.From
	equal(t, got.From.Equal(want.From) && got.To.Equal(want.To), true)
	got.From, got.To, got.Asked, got.Reached = want.From, want.To, want.Asked, want.Reached
	equal(t, got, want)

	now := h.clock.Now()
	got.Started, got.State, got.Reason, got.Found, got.Sent, got.Pace = now, sluice.ReplayWaiting, "Not open.", 7, 5, 25
	h.replays.of["1"] = got
	equal(t, h.do("GET", replayPath, "").want(http.StatusOK).json(), map[string]any{
		"id": "01J", "connectionId": "1", "state": "waiting", "reason": "Not open.",
		"from": "2026-03-01T07:00:00.000Z", "to": "2026-03-01T09:00:00.500Z", "devices": []any{"0018B20000000B20"}, "rate": 2.5, "pace": 25.0,
		"asked": "2026-03-01T09:00:00.500Z", "started": "2026-03-01T12:00:00.120Z", "reached": "2026-03-01T07:00:00.000Z",
		"found": 7.0, "sent": 5.0, "filtered": 0.0, "failed": 0.0, "damaged": 0.0, "missing": 0.0,
	})
	h.do("DELETE", replayPath, "").want(http.StatusNoContent)
	equal(t, h.replays.stopped, []string{"1"})
	h.replays.refuse = sluice.Errorf(sluice.CodeConflict, "One is under way.")
	h.do("POST", replayPath, `{"from":"2026-03-01T08:00:00Z"}`).want(http.StatusConflict)
}

func TestReplayIsChecked(t *testing.T) {
	h := newHarness(t)
	h.create(connection)
	const form = "must be a time as in RFC 3339: 2026-03-01T12:00:00Z"
	for body, want := range map[string]map[string]string{
		`{"from":"yesterday","to":"12:00","devices":["0018b20000000b20","x"],"rate":0,"speed":1}`: {
			"from": form, "to": form, "devices[1]": "must be the 16 hexadecimal digits of a DevEUI, such as 0018b20000000b20",
			"rate": "", "speed": "",
		},
		`{"to":"2026-03-01T08:00:00Z"}`:                               {"from": ""},
		`{"from":"2026-03-01T08:00:00Z","to":"2026-03-01T08:00:00Z"}`: {"to": "must be after 'from'"},
		`{"from":"2026-03-01T13:00:00Z"}`:                             {"from": "must lie in the past"},
	} {
		got := h.do("POST", replayPath, body).want(http.StatusBadRequest).fields()
		for path, message := range want {
			if m, told := got[path]; !told || message != "" && m != message {
				t.Errorf("%s: %s: %q, want %q", body, path, m, message)
			}
		}
		equal(t, len(got), len(want))
	}
	equal(t, len(h.replays.of), 0)
}
