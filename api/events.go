package api

import (
	"context"
	"strings"
	"time"

	"sluice"
)

// eventView is an event as the API shows it.
type eventView struct {
	ID         string           `json:"id"`
	Time       Time             `json:"time"`
	Level      sluice.Level     `json:"level" enum:"info,warning,error"`
	Type       sluice.EventType `json:"type" example:"connection.opened"`
	Label      string           `json:"label" example:"Connection opened"`
	Detail     string           `json:"detail" doc:"A sentence for people. ThingPark shows '<label>: <detail>'."`
	Hint       string           `json:"hint,omitempty" doc:"What to do next."`
	Reason     sluice.Reason    `json:"reason,omitempty" doc:"One of a closed set of causes." example:"not_authorized"`
	Connection string           `json:"connectionId,omitempty" example:"1"`
	Network    string           `json:"networkId,omitempty"`
	DevEUI     string           `json:"devEUI,omitempty"`
	Message    string           `json:"messageId,omitempty"`
}

func viewEvent(e sluice.Event) eventView {
	return eventView{
		ID: e.ID, Time: At(e.Time), Level: e.Level, Type: e.Type, Label: e.Label, Detail: e.Detail, Hint: e.Hint,
		Reason: e.Reason, Connection: e.Connection, Network: e.Network, DevEUI: e.DevEUI, Message: e.Message,
	}
}

type listEventsInput struct {
	Paging
	From         string `query:"from" doc:"Only events from this time on (RFC 3339)." example:"2026-03-01T00:00:00Z"`
	To           string `query:"to" doc:"Only events before this time (RFC 3339)." example:"2026-03-02T00:00:00Z"`
	ConnectionID string `query:"connectionId" doc:"Only events of this connection."`
	DevEUI       string `query:"devEUI" doc:"Only events of this device, in any case."`
	Level        string `query:"level" enum:"info,warning,error" doc:"Only events of this level."`
	Type         string `query:"type" doc:"Only events of this type." example:"connection.opened"`
}

type listEventsOutput struct {
	PageHeaders
	Body []eventView `nullable:"false"`
}

func (s *server) listEvents(ctx context.Context, in *listEventsInput) (*listEventsOutput, error) {
	var wrong []sluice.Problem
	from := readTime("from", in.From, &wrong)
	to := readTime("to", in.To, &wrong)
	if len(wrong) == 0 && !from.IsZero() && !to.IsZero() && to.Before(from) {
		wrong = append(wrong, sluice.Problem{Path: "to", Message: "must not be before 'from'"})
	}
	if len(wrong) > 0 {
		return nil, &sluice.Error{Code: sluice.CodeInvalid, Message: "The parameters of the request are not right.", Fields: wrong}
	}
	events, total, err := s.Events.Events(ctx, EventQuery{
		From: from, To: to, Connection: in.ConnectionID, DevEUI: strings.ToUpper(in.DevEUI),
		Level: sluice.Level(in.Level), Type: sluice.EventType(in.Type), Offset: in.offset(), Limit: in.PerPage,
	})
	if err != nil {
		return nil, err
	}
	out := &listEventsOutput{PageHeaders: in.headers(ctx, total), Body: []eventView{}}
	for _, e := range events {
		out.Body = append(out.Body, viewEvent(e))
	}
	return out, nil
}

// readTime reads a time from the query. A plus sign that was not escaped has
// become a space on the way.
func readTime(name, text string, wrong *[]sluice.Problem) time.Time {
	if text == "" {
		return time.Time{}
	}
	t, err := time.Parse(time.RFC3339, strings.ReplaceAll(text, " ", "+"))
	if err != nil {
		*wrong = append(*wrong, sluice.Problem{Path: name, Message: "must be a time as in RFC 3339: 2026-03-01T12:00:00Z"})
	}
	return t
}
