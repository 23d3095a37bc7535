package test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"sluice/app/demo"
)

// replayView is what GET /connections/{id}/replay tells.
type replayView struct {
	State, Reason                string
	Found, Sent, Failed, Damaged int
}

func (p *process) replay(id string) (v replayView) {
	p.t.Helper()
	if err := p.api.Do(p.t.Context(), "GET", "/connections/"+id+"/replay", nil, &v); err != nil {
		p.t.Fatal(err)
	}
	return v
}

// startReplay replays the last hour, with a number of messages a second.
func (p *process) startReplay(id string, rate float64) {
	p.t.Helper()
	if err := p.api.Do(p.t.Context(), "POST", "/connections/"+id+"/replay", map[string]any{
		"from": time.Now().Add(-time.Hour).UTC().Format(time.RFC3339), "rate": rate,
	}, nil); err != nil {
		p.t.Fatal(err)
	}
}

// replayed is the counter beside the law.
func (p *process) replayed(id string) int {
	p.t.Helper()
	var v struct{ Replayed int }
	if err := p.api.Do(p.t.Context(), "GET", "/connections/"+id+"/metrics", nil, &v); err != nil {
		p.t.Fatal(err)
	}
	return v.Replayed
}

// flowTo makes one flow of all flows.
func (p *process) flowTo(connection string, matchers ...any) {
	p.t.Helper()
	var flows []struct{ ID string }
	if err := p.api.Do(p.t.Context(), "GET", "/flows", nil, &flows); err != nil || len(flows) != 1 {
		p.t.Fatal(flows, err)
	}
	if matchers == nil {
		matchers = []any{}
	}
	if err := p.api.Do(p.t.Context(), "PUT", "/flows/"+flows[0].ID, map[string]any{
		"name": "the flow", "matchers": matchers, "connectors": []any{map[string]any{"connectionId": connection}},
	}, nil); err != nil {
		p.t.Fatal(err)
	}
}

// TestReplay journals reports for no connection and for another one, leads the
// flow to the connection and replays: each arrives once, marked and in order,
// and nothing of it is in the counters.
func TestReplay(t *testing.T) {
	const devices, each = 8, 25
	w, p := opened(t, devices, nil)
	id := w.ConnectionID
	var other struct{ ID string }
	if err := p.api.Do(t.Context(), "POST", "/connections", map[string]any{
		"connectorId": "actility-aws-iot", "name": "another", "active": false, "configuration": w.Configuration(nil),
	}, &other); err != nil {
		t.Fatal(err)
	}
	p.flowTo(other.ID, map[string]any{"type": "key", "key": "lora:" + strings.ToLower(w.DevEUI(0))})
	if err := w.Post(t.Context(), demo.Load{Count: devices * each}); err != nil {
		t.Fatal(err)
	}
	if a, b := p.counters(id), p.counters(other.ID); a != (counters{}) || b.Received == 0 || b.Received == devices*each {
		t.Fatalf("the connection has %+v, the other %+v", a, b)
	}
	if status, answer, err := p.api.Raw(t.Context(), "GET", "/connections/"+id+"/replay", nil); err != nil || status != http.StatusNotFound {
		t.Fatalf("%d %s %v", status, answer, err)
	}

	p.flowTo(id)
	p.startReplay(id, 1000)
	settled(t, w, false)
	wait(t, "the replay to end", func() bool { return p.replay(id).State == "done" })
	if r := p.replay(id); r != (replayView{State: "done", Found: devices * each, Sent: devices * each}) {
		t.Errorf("%+v", r)
	}
	if n := w.Replayed(); n != devices*each || p.replayed(id) != n {
		t.Errorf("%d arrived that were marked, %d are counted", n, p.replayed(id))
	}

	// Live reports besides are not marked, and counted as ever.
	if err := w.Post(t.Context(), demo.Load{Count: 10}); err != nil {
		t.Fatal(err)
	}
	settled(t, w, false)
	wait(t, "the counters", func() bool { return p.counters(id) == counters{Received: 10, Delivered: 10} })
	if n := w.Replayed(); n != devices*each {
		t.Errorf("%d are marked", n)
	}
	p.terminate()
}

// TestReplayIsDurable kills Sluice in the middle of a replay, which goes on
// after, and stops another one, which does not.
func TestReplayIsDurable(t *testing.T) {
	const devices, count = 8, 300
	w, p := opened(t, devices, nil)
	id := w.ConnectionID
	p.flowTo(id, map[string]any{"type": "key", "key": "lora:0000000000000001"})
	if err := w.Post(t.Context(), demo.Load{Count: count}); err != nil {
		t.Fatal(err)
	}
	p.flowTo(id)
	p.startReplay(id, 100)
	wait(t, "a third to be sent", func() bool { return p.replay(id).Sent >= count/3 })
	p.kill()
	if n := w.Replayed(); n >= count {
		t.Fatalf("%d have arrived already", n)
	}
	p = p.again()
	settled(t, w, true)
	wait(t, "the replay to end", func() bool { return p.replay(id).State == "done" })
	got := w.Totals()
	t.Logf("%d twice", got.Twice)
	// What was sent in the second and more before the kill is sent again.
	if got.Arrived != count || got.Twice > count/2 || got.Disordered > 0 {
		t.Errorf("%+v", got)
	}

	p.startReplay(id, 20)
	status, answer, err := p.api.Raw(t.Context(), "POST", "/connections/"+id+"/replay", map[string]any{"from": "2026-01-01T00:00:00Z"})
	if err != nil || status != http.StatusConflict {
		t.Errorf("a second one beside it: %d %s %v", status, answer, err)
	}
	wait(t, "some to be sent", func() bool { return p.replay(id).Sent >= 5 })
	for range 2 {
		if status, answer, err := p.api.Raw(t.Context(), "DELETE", "/connections/"+id+"/replay", nil); err != nil || status != http.StatusNoContent {
			t.Fatalf("%d %s %v", status, answer, err)
		}
	}
	stopped, arrived := p.replay(id), w.Replayed()
	if stopped.State != "stopped" || stopped.Sent >= count {
		t.Errorf("%+v", stopped)
	}
	for _, e := range []string{"replay.started", "replay.ended", "replay.stopped"} {
		if !strings.Contains(string(p.events("?type="+e)), e) {
			t.Errorf("no event %s", e)
		}
	}
	p.kill()
	p = p.again()
	p.opened(id)
	if r := p.replay(id); r != stopped || w.Replayed() != arrived {
		t.Errorf("after the restart %+v, before %+v; %d arrived, %d before", r, stopped, w.Replayed(), arrived)
	}
	if c := p.counters(id); c != (counters{}) {
		t.Errorf("%+v", c)
	}
	p.terminate()
}
