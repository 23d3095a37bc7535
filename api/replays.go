package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"sluice"
)

// replayBody is the schema of a replay as a user asks for it.
const replayBody = `{
  "title": "Replay to start",
  "type": "object",
  "additionalProperties": false,
  "required": ["from"],
  "properties": {
    "from": {"type": "string", "description": "Reports that were received from this time on (RFC 3339)."},
    "to": {"type": "string", "description": "And before this one; now, where it is missing or later."},
    "devices": {"type": "array", "maxItems": 1000, "items": {"type": "string"}, "description": "Only reports of these devices: DevEUIs, in any case. None: of every device."},
    "rate": {"type": "number", "minimum": 0, "exclusiveMinimum": true, "description": "Messages a second, at most. A quarter of what the connection can send, where it is missing; never more than it can."}
  }
}`

const exampleReplay = `{
  "from": "2026-03-01T08:00:00Z",
  "to": "2026-03-01T12:00:00Z",
  "devices": ["0018b20000000b20"]
}`

// replayView is a replay as the API shows it.
type replayView struct {
	ID           string             `json:"id"`
	ConnectionID string             `json:"connectionId" example:"1"`
	State        sluice.ReplayState `json:"state" enum:"running,waiting,stopped,done,failed" doc:"waiting: for the connection to take messages."`
	Reason       string             `json:"reason,omitempty" doc:"Why it waits, or has failed."`
	From         Time               `json:"from"`
	To           Time               `json:"to"`
	Devices      []string           `json:"devices,omitempty" nullable:"false"`
	Rate         float64            `json:"rate,omitempty" doc:"Messages a second, as asked for."`
	Pace         float64            `json:"pace,omitempty" doc:"Messages a second that are sent at most, at the moment."`
	Asked        Time               `json:"asked"`
	Started      *Time              `json:"started,omitempty" doc:"When the first message was sent."`
	Ended        *Time              `json:"ended,omitempty"`
	Reached      Time               `json:"reached" doc:"When the report was received that it has come to, between from and to."`
	History      *Time              `json:"history,omitempty" doc:"Where what the journal holds begins, if that is after from: what came before is not there any more."`
	Found        uint64             `json:"found" doc:"Reports to send, so far: found = sent + filtered + failed + those under way."`
	Sent         uint64             `json:"sent" doc:"Acknowledged by the cloud."`
	Filtered     uint64             `json:"filtered" doc:"Not wanted by the connection."`
	Failed       uint64             `json:"failed" doc:"Refused for good, or for ten minutes. They stay in the history."`
	Damaged      uint64             `json:"damaged" doc:"Entries of the journal on the way that cannot be read, whomever they were for."`
	Missing      uint64             `json:"missing" doc:"Entries on the way that are not there any more, whomever they were for."`
}

func viewReplay(r sluice.Replay) replayView {
	return replayView{
		ID: r.ID, ConnectionID: r.Connection, State: r.State, Reason: r.Reason, From: At(r.From), To: At(r.To), Devices: r.Devices,
		Rate: r.Rate, Pace: r.Pace, Asked: At(r.Asked), Started: atOrNone(r.Started), Ended: atOrNone(r.Ended), Reached: At(r.Reached),
		History: atOrNone(r.History), Found: r.Found, Sent: r.Sent, Filtered: r.Filtered, Failed: r.Failed, Damaged: r.Damaged, Missing: r.Missing,
	}
}

func atOrNone(t time.Time) *Time {
	if t.IsZero() {
		return nil
	}
	at := At(t)
	return &at
}

func (s *server) registerReplays() {
	const path = "/connections/{id}/replay"
	route(s, "POST "+path, operation{
		id: "startReplay", tag: "Connections", summary: "Send what was received again", status: http.StatusAccepted,
		errors: []int{http.StatusConflict, http.StatusServiceUnavailable},
		body:   s.bodyOf("ReplayToStart", replayBody, nil, map[string]*huma.Example{"some": example("A morning of one device", exampleReplay)}),
		about: "What the journal still holds of a time range is sent to the connection through the flows and the configuration of now: also what " +
			"other connections or no flow had taken. Each device's in order, marked as replayed (MQTT 5: user property `sluice-replayed`), with the " +
			"message id that it had. Live reports go first. It is not in the counters, but in `replayed`, and it survives a restart. " +
			"A connection has one replay at a time (409). What still waits for the connection is left to it.",
	}, s.startReplay)
	route(s, "GET "+path, operation{
		id: "getReplay", tag: "Connections", summary: "Read how far a replay is",
		about: "The one under way, or the last one.",
	}, s.getReplay)
	route(s, "DELETE "+path, operation{
		id: "stopReplay", tag: "Connections", summary: "Stop a replay", errors: []int{http.StatusServiceUnavailable},
		about: "For good. What was begun to be sent is finished. Where none is under way, nothing happens.",
	}, s.stopReplay)
}

type startReplayOutput struct {
	Location string `header:"Location" doc:"Where its progress is." example:"/connections/1/replay"`
	Body     replayView
}

func (s *server) startReplay(ctx context.Context, in *connectionInput) (*startReplayOutput, error) {
	r := requestOf(ctx)
	d, err := readDraft(r, s.bodies.replay)
	if err != nil {
		return nil, err
	}
	// Held so that the connection is not deleted meanwhile.
	s.writes.Lock()
	defer s.writes.Unlock()
	c, err := s.Connections.Connection(in.ID)
	if err != nil {
		return nil, err
	}
	q := d.replay(s.Clock())
	if err := d.err("replay"); err != nil {
		return nil, err
	}
	q.Connection = c.ID
	started, err := s.Replays.StartReplay(ctx, q)
	if err != nil {
		return nil, err
	}
	return &startReplayOutput{Location: location(r, "/connections", c.ID) + "/replay", Body: viewReplay(started)}, nil
}

// replay is the draft as a replay; what is wrong with it is among its problems.
func (d *draft) replay(now time.Time) sluice.Replay {
	var q sluice.Replay
	read := func(name string) time.Time {
		text, given := d.doc[name].(string)
		if !given {
			return time.Time{}
		}
		t, err := time.Parse(time.RFC3339, text)
		if err != nil {
			d.problem(name, "must be a time as in RFC 3339: 2026-03-01T12:00:00Z")
		}
		return t
	}
	q.From, q.To = read("from"), read("to")
	switch {
	case q.From.IsZero():
	case !q.From.Before(now):
		d.problem("from", "must lie in the past")
	case !q.To.IsZero() && !q.From.Before(q.To):
		d.problem("to", "must be after 'from'")
	}
	devices, _ := d.doc["devices"].([]any)
	for i, v := range devices {
		devEUI, ok := v.(string)
		if !ok {
			continue // the schema has told
		}
		if !isKey("lora:" + devEUI) {
			d.problem(fmt.Sprintf("devices[%d]", i), "must be the 16 hexadecimal digits of a DevEUI, such as 0018b20000000b20")
		}
		q.Devices = append(q.Devices, strings.ToUpper(devEUI))
	}
	if n, given := d.doc["rate"].(json.Number); given {
		rate, err := n.Float64()
		if err != nil {
			d.problem("rate", "must be a number of messages a second")
		}
		q.Rate = rate
	}
	return q
}

type replayOutput struct {
	Body replayView
}

func (s *server) getReplay(_ context.Context, in *connectionInput) (*replayOutput, error) {
	c, err := s.Connections.Connection(in.ID)
	if err != nil {
		return nil, err
	}
	r, ok := s.Replays.Replay(c.ID)
	if !ok {
		return nil, &sluice.Error{
			Code: sluice.CodeNotFound, Message: "There was no replay of the connection.",
			Hint: "POST /connections/{id}/replay starts one.",
		}
	}
	return &replayOutput{Body: viewReplay(r)}, nil
}

func (s *server) stopReplay(ctx context.Context, in *connectionInput) (*struct{}, error) {
	c, err := s.Connections.Connection(in.ID)
	if err != nil {
		return nil, err
	}
	return nil, s.Replays.StopReplay(ctx, c.ID)
}
