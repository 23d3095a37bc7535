package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"sluice"
	"sluice/internal/report"
)

// QuarantinedView is a message in quarantine as the API shows it.
// (Exported for huma, which reads embedded structs only so.)
type QuarantinedView struct {
	Number    uint64        `json:"number" doc:"What it is found by." example:"41"`
	MessageID string        `json:"messageId" doc:"Its id, which goes with it to the cloud (sluice-id), also when it is sent again."`
	DevEUI    string        `json:"devEUI" example:"0018B20000000B20"`
	Kind      sluice.Kind   `json:"kind" example:"DevEUI_uplink"`
	Reason    sluice.Reason `json:"reason" doc:"One of a closed set of causes." example:"too_large"`
	Message   string        `json:"message" doc:"Why it can never be delivered, in a sentence."`
	Hint      string        `json:"hint,omitempty" doc:"What to do next."`
	Status    int           `json:"status,omitempty" doc:"The cloud's own code, where it gave one."`
	Time      Time          `json:"time" doc:"When it came into quarantine."`
	Received  Time          `json:"received" doc:"When it came in at the door."`
	Size      int           `json:"size" doc:"Of the document, in bytes."`
}

func viewQuarantined(q *sluice.Quarantined) QuarantinedView {
	m := q.Message
	return QuarantinedView{
		Number: m.Number, MessageID: m.ID, DevEUI: m.DevEUI, Kind: m.Kind, Reason: q.Reason, Message: q.Detail, Hint: q.Hint,
		Status: q.Status, Time: At(q.Time), Received: At(m.Received), Size: q.Size,
	}
}

// quarantinedDocumentView is one with its document.
type quarantinedDocumentView struct {
	QuarantinedView
	Document object `json:"document" doc:"As it came, but for keys: they are shown as *****."`
}

func (s *server) registerQuarantine() {
	const tag = "Quarantine"
	route(s, "GET /connections/{id}/quarantine", operation{
		id: "listQuarantine", tag: tag, summary: "List what a connection could never deliver",
		about: "Newest first. A message that can never be delivered as things stand (its topic is refused, it is too large, a pattern does " +
			"not resolve) is kept here with the reason, and holds up nothing. It is counted as failed.",
	}, s.listQuarantine)
	route(s, "GET /connections/{id}/quarantine/{number}", operation{
		id: "getQuarantined", tag: tag, summary: "Read a message in quarantine", about: "With its document.",
	}, s.getQuarantined)
	route(s, "POST /connections/{id}/quarantine/retry", operation{
		id: "retryQuarantine", tag: tag, summary: "Send again all that lies in quarantine", errors: []int{http.StatusServiceUnavailable},
		about: "The oldest first, each as under the next. What fails another time comes into quarantine anew. Those that could not be sent, " +
			"as when the disk is full, lie there still.",
	}, s.retryQuarantine)
	route(s, "POST /connections/{id}/quarantine/{number}/retry", operation{
		id: "retryQuarantined", tag: tag, summary: "Send a message in quarantine again", errors: []int{http.StatusServiceUnavailable},
		about: "It goes through the connection as it is configured now, after what waits, with its own id, however old it is. " +
			"It leaves quarantine once that is durable, and counts as pending instead of failed.",
	}, s.retryQuarantined)
	route(s, "DELETE /connections/{id}/quarantine", operation{
		id: "clearQuarantine", tag: tag, summary: "Delete all that lies in quarantine", status: http.StatusOK,
		about: "They stay counted as failed.",
	}, s.clearQuarantine)
	route(s, "DELETE /connections/{id}/quarantine/{number}", operation{
		id: "deleteQuarantined", tag: tag, summary: "Delete a message in quarantine", about: "It stays counted as failed.",
	}, s.deleteQuarantined)
}

type listQuarantineInput struct {
	Paging
	ID string `path:"id" example:"1" doc:"Id of the connection."`
}

type listQuarantineOutput struct {
	PageHeaders
	Body []QuarantinedView `nullable:"false"`
}

func (s *server) listQuarantine(ctx context.Context, in *listQuarantineInput) (*listQuarantineOutput, error) {
	if _, err := s.Connections.Connection(in.ID); err != nil {
		return nil, err
	}
	qs, total, err := s.Quarantine.Quarantined(ctx, in.ID, in.offset(), in.PerPage)
	if err != nil {
		return nil, err
	}
	out := &listQuarantineOutput{PageHeaders: in.headers(ctx, total), Body: []QuarantinedView{}}
	for i := range qs {
		out.Body = append(out.Body, viewQuarantined(&qs[i]))
	}
	return out, nil
}

type quarantinedInput struct {
	ID     string `path:"id" example:"1" doc:"Id of the connection."`
	Number uint64 `path:"number" example:"41" doc:"Number of the message."`
}

type quarantinedOutput struct {
	Body quarantinedDocumentView
}

func (s *server) getQuarantined(ctx context.Context, in *quarantinedInput) (*quarantinedOutput, error) {
	if _, err := s.Connections.Connection(in.ID); err != nil {
		return nil, err
	}
	q, err := s.Quarantine.QuarantinedMessage(ctx, in.ID, in.Number)
	if err != nil {
		return nil, err
	}
	return &quarantinedOutput{Body: quarantinedDocumentView{viewQuarantined(q), report.Redact(q.Message.Document)}}, nil
}

// retriedView tells how many were sent again.
type retriedView struct {
	Retried int `json:"retried" doc:"How many were sent again."`
}

type retriedOutput struct {
	Body retriedView
}

func (s *server) retryQuarantine(ctx context.Context, in *connectionInput) (*retriedOutput, error) {
	if _, err := s.Connections.Connection(in.ID); err != nil {
		return nil, err
	}
	n, err := s.Quarantine.RetryAll(ctx, in.ID)
	if err != nil {
		return nil, afterSome(n, err)
	}
	return &retriedOutput{retriedView{n}}, nil
}

// afterSome adds to an error how many messages were sent before it.
func afterSome(n int, err error) error {
	e, ok := errors.AsType[*sluice.Error](err)
	if !ok || n == 0 {
		return err
	}
	told := *e
	told.Message = fmt.Sprintf("%d messages were sent again, the others lie in quarantine still. %s", n, e.Message)
	return &told
}

func (s *server) retryQuarantined(ctx context.Context, in *quarantinedInput) (*retriedOutput, error) {
	if _, err := s.Connections.Connection(in.ID); err != nil {
		return nil, err
	}
	if err := s.Quarantine.Retry(ctx, in.ID, in.Number); err != nil {
		return nil, err
	}
	return &retriedOutput{retriedView{1}}, nil
}

// deletedView tells how many were deleted.
type deletedView struct {
	Deleted int `json:"deleted" doc:"How many were deleted."`
}

type deletedOutput struct {
	Body deletedView
}

func (s *server) clearQuarantine(ctx context.Context, in *connectionInput) (*deletedOutput, error) {
	if _, err := s.Connections.Connection(in.ID); err != nil {
		return nil, err
	}
	n, err := s.Quarantine.DeleteAllQuarantined(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	return &deletedOutput{deletedView{n}}, nil
}

func (s *server) deleteQuarantined(ctx context.Context, in *quarantinedInput) (*struct{}, error) {
	if _, err := s.Connections.Connection(in.ID); err != nil {
		return nil, err
	}
	return nil, s.Quarantine.DeleteQuarantined(ctx, in.ID, in.Number)
}
