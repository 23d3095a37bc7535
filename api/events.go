package api

import (
	"context"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

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

// Resolve finds what is wrong with the times; huma tells it together with what
// it has found itself.
func (in *listEventsInput) Resolve(huma.Context) []error {
	var wrong []error
	problem := func(name, message string) {
		wrong = append(wrong, &huma.ErrorDetail{Location: "query." + name, Message: message})
	}
	const want = "must be a time as in RFC 3339: 2026-03-01T12:00:00Z"
	from, err := readTime(in.From)
	if err != nil {
		problem("from", want)
	}
	to, err := readTime(in.To)
	if err != nil {
		problem("to", want)
	}
	if len(wrong) == 0 && !from.IsZero() && !to.IsZero() && to.Before(from) {
		problem("to", "must not be before 'from'")
	}
	return wrong
}

var _ huma.Resolver = (*listEventsInput)(nil)

type listEventsOutput struct {
	PageHeaders
	Body []eventView `nullable:"false"`
}

func (s *server) listEvents(ctx context.Context, in *listEventsInput) (*listEventsOutput, error) {
	// Resolve has found nothing wrong with them.
	from, _ := readTime(in.From)
	to, _ := readTime(in.To)
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

// readTime reads a time from the query, the zero time from none. A plus sign
// that was not escaped has become a space on the way.
func readTime(text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	return time.Parse(time.RFC3339, strings.ReplaceAll(text, " ", "+"))
}
