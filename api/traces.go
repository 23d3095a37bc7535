package api

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"sluice"
)

// messageView is a message and what became of it.
type messageView struct {
	ID           string      `json:"id" example:"01JNG3M0C80000000000000000" doc:"Travels with the message: to AWS as the user property sluice-id."`
	Kind         sluice.Kind `json:"kind" example:"DevEUI_uplink" doc:"Root of its document; DevEUI_downlink is a command."`
	DevEUI       string      `json:"devEUI" example:"0018B20000000B20"`
	NetworkID    string      `json:"networkId,omitempty" doc:"The network that a report came from."`
	ConnectionID string      `json:"connectionId,omitempty" doc:"The connection that a command came from."`
	Source       string      `json:"source,omitempty" doc:"Where a command came from: its topic." example:"tpx/things/0018B20000000B20/downlink"`
	Received     *Time       `json:"received,omitempty" doc:"When it came in."`
	Journalled   *Time       `json:"journalled,omitempty" doc:"When it was durable: from then on it cannot be lost."`
	Ways         []wayView   `json:"ways" nullable:"false" doc:"One for each connection that a report is for, or for the network of a command. A report that no flow wanted has one without a connection."`
}

// wayView is the way of a message to one connection or network.
type wayView struct {
	ConnectionID string            `json:"connectionId,omitempty" example:"1" doc:"The connection that the report is for."`
	NetworkID    string            `json:"networkId,omitempty" doc:"The network that the command is for."`
	State        sluice.TraceState `json:"state" enum:"waiting,sent,delivered,queued,rejected,failed,expired,filtered,unmatched,unrecorded" doc:"waiting: it will be handed on. sent: on the wire, not acknowledged yet. delivered: acknowledged by the cloud. queued: the network server has taken the command. rejected: the command was refused. failed: it can never be delivered. expired: it was too old. filtered: the connection does not want it. unmatched: no flow wanted it. unrecorded: it is over, and how it ended was not recorded."`
	Topic        string            `json:"topic,omitempty" doc:"Where it was published to." example:"tpx/things/0018B20000000B20/uplink"`
	Session      string            `json:"session,omitempty" doc:"The session that it was last handed to: for MQTT the client id."`
	Sent         *Time             `json:"sent,omitempty" doc:"When it was last written to the wire."`
	Acknowledged *Time             `json:"acknowledged,omitempty" doc:"When the other side had it."`
	Over         *Time             `json:"over,omitempty" doc:"When it was given up."`
	Tries        int               `json:"tries,omitempty" doc:"How often it was handed to a session, or to the network server, since the start of Sluice."`
	Reason       sluice.Reason     `json:"reason,omitempty" doc:"One of a closed set of causes." example:"not_authorized"`
	Message      string            `json:"message,omitempty" doc:"Why it waits or was not delivered."`
	Hint         string            `json:"hint,omitempty" doc:"What to do next."`
	Status       int               `json:"status,omitempty" doc:"The status that the network server gave."`
	Replayed     bool              `json:"replayed,omitempty" doc:"It was sent again on request, beside the first time."`
}

func (s *server) registerTraces() {
	const kept = " Ways are kept for a day and up to 256 MiB, some millions of messages; the last quarter of a second before a crash may be missing. " +
		"A copy of a report that was recognised at the door has no way of its own."
	route(s, "GET /messages/{id}", operation{
		id: "getMessage", tag: "Messages", summary: "Read what became of a message",
		about: "When it was received and journalled, and for each connection: sent (topic, session), acknowledged, or why not." + kept,
	}, s.getMessage)
	route(s, "GET /devices/{devEUI}/messages", operation{
		id: "getMessagesOfDevice", tag: "Devices", summary: "Read what became of a device's last messages",
		about: "Reports and commands, those received last first." + kept,
	}, s.getMessages)
}

type messageInput struct {
	ID string `path:"id" example:"01JNG3M0C80000000000000000" doc:"Id of the message: messageId of an event, or the user property sluice-id in AWS."`
}

type messageOutput struct {
	Body messageView
}

func (s *server) getMessage(ctx context.Context, in *messageInput) (*messageOutput, error) {
	traced := Traced{Complete: true}
	if s.Messages != nil {
		var err error
		if traced, err = s.Messages.Message(ctx, strings.ToUpper(in.ID)); err != nil {
			return nil, err
		}
	}
	views := s.viewMessages(traced.Traces)
	if len(views) == 0 {
		return nil, &sluice.Error{
			Code: sluice.CodeNotFound, Message: fmt.Sprintf("Nothing is known of a message with the id %q.", in.ID) + " " + note(traced),
			Hint: "GET /devices/{devEUI}/messages lists the last messages of a device.",
		}
	}
	return &messageOutput{Body: views[0]}, nil
}

type messagesInput struct {
	DevEUI string `path:"devEUI" example:"0018B20000000B20" doc:"DevEUI of the device, in any case."`
	Limit  int    `query:"limit" minimum:"1" maximum:"100" default:"20" doc:"How many messages at most."`
}

// messagesView are the last messages of a device.
type messagesView struct {
	DevEUI   string        `json:"devEUI" example:"0018B20000000B20"`
	Messages []messageView `json:"messages" nullable:"false" doc:"Those received last first."`
	Note     string        `json:"note" doc:"How far back ways are known." example:"Ways are known since 2026-03-01T12:00:00.000Z."`
}

type messagesOutput struct {
	Body messagesView
}

func (s *server) getMessages(ctx context.Context, in *messagesInput) (*messagesOutput, error) {
	devEUI := strings.ToUpper(in.DevEUI)
	traced := Traced{Complete: true}
	if s.Messages != nil {
		var err error
		if traced, err = s.Messages.MessagesOf(ctx, devEUI, in.Limit); err != nil {
			return nil, err
		}
	}
	v := messagesView{DevEUI: devEUI, Messages: s.viewMessages(traced.Traces), Note: note(traced)}
	if len(v.Messages) == 0 {
		if _, err := s.getDevice(ctx, &deviceInput{DevEUI: in.DevEUI}); err != nil {
			return nil, err
		}
	}
	return &messagesOutput{Body: v}, nil
}

// note says how far back ways are known.
func note(t Traced) string {
	text := "Ways are known from now on."
	if !t.Since.IsZero() {
		text = "Ways are known since " + t.Since.UTC().Format(timeFormat) + "."
	}
	if !t.Complete {
		text += " It would have taken too long to look at all of them: older ones may be missing."
	}
	return text
}

// viewMessages puts the traces of each message together, those received last
// first.
func (s *server) viewMessages(ts []sluice.Trace) []messageView {
	ts = slices.Clone(ts)
	slices.SortFunc(ts, func(a, b sluice.Trace) int {
		return cmp.Or(
			b.Received.Compare(a.Received), cmp.Compare(b.Message, a.Message),
			// Ids are numbers as text: the shorter is the smaller.
			cmp.Compare(len(a.Connection), len(b.Connection)), cmp.Compare(a.Connection, b.Connection),
			a.Over.Compare(b.Over),
		)
	})
	views := []messageView{}
	for _, t := range ts {
		if n := len(views); n == 0 || views[n-1].ID != t.Message {
			v := messageView{ID: t.Message, Kind: t.Kind, DevEUI: t.DevEUI, Received: when(t.Received), Ways: []wayView{}}
			if t.Kind == sluice.KindDownlink {
				v.ConnectionID, v.Source = t.Connection, t.Source
			} else {
				v.NetworkID = t.Network
			}
			views = append(views, v)
		}
		v := &views[len(views)-1]
		if j := when(t.Journalled); j != nil && (v.Journalled == nil || j.Before(v.Journalled.Time)) {
			v.Journalled = j
		}
		v.Ways = append(v.Ways, s.viewWay(t))
	}
	return views
}

func when(t time.Time) *Time {
	if t.IsZero() {
		return nil
	}
	return &Time{t}
}

func (s *server) viewWay(t sluice.Trace) wayView {
	v := wayView{
		ConnectionID: t.Connection, State: t.State, Topic: t.Topic, Session: t.Session, Sent: when(t.Sent), Over: when(t.Over),
		Tries: t.Tries, Reason: t.Reason, Message: t.Text, Hint: t.Hint, Status: t.Status, Replayed: t.Replayed,
	}
	if t.Kind == sluice.KindDownlink {
		v.ConnectionID, v.NetworkID = "", t.Network
	}
	if v.State == sluice.TraceDelivered || v.State == sluice.TraceQueued {
		v.Acknowledged, v.Over = v.Over, nil
	}
	s.explain(&v)
	return v
}

// explain adds why, and what to do next, where the trace does not say.
func (s *server) explain(v *wayView) {
	say := func(message, hint string) {
		v.Message, v.Hint = cmp.Or(v.Message, message), cmp.Or(v.Hint, hint)
	}
	switch v.State {
	case sluice.TraceWaiting:
		s.explainWaiting(v)
	case sluice.TraceSent:
		say("It is on the wire; the acknowledgement is awaited.", "")
	case sluice.TraceUnmatched:
		say("It was journalled for no connection: no flow matched.",
			"GET /flows: check the matchers and the device's tags (GET /devices/{devEUI}). A flow without matchers takes every device.")
	case sluice.TraceUnrecorded:
		say("It is over: delivered or given up. How it ended was not recorded.",
			"GET /events says what was given up in numbers, and GET /connections/{id}/metrics how many. Look in the cloud for its id.")
	case sluice.TraceExpired:
		say("It was too old.", "The limit is the uplinkTimeValidity of the connection and of the flow, a command's ValidityTime, or 7 days.")
	case sluice.TraceFiltered:
		say("The connection does not want it.", "")
	case sluice.TraceFailed, sluice.TraceRejected:
		say("It cannot be delivered.", "GET /events says more.")
	}
}

// explainWaiting tells of a connection or network that does not stand: that is
// why all wait there, whatever each says itself.
func (s *server) explainWaiting(v *wayView) {
	if v.NetworkID != "" {
		if s.NetworkState == nil {
			return
		}
		if open, reason := s.NetworkState(v.NetworkID); !open {
			v.Message, v.Hint = cmp.Or(reason, "The network is not open."), "GET /networks says how it stands."
		}
		return
	}
	status, ok := s.Supervisor.Status(v.ConnectionID)
	if !ok || status.State == sluice.StateOpened {
		return
	}
	message := fmt.Sprintf("It waits in the journal: the connection is %s.", status.State)
	hint := "GET /connections/" + v.ConnectionID + " says how it stands. It is delivered once the connection is open."
	if status.State == sluice.StateDeactivated {
		hint = "Activate it: PUT /connections/" + v.ConnectionID + " with active true."
	}
	if status.Reason != "" {
		message += " " + status.Reason
	}
	v.Message, v.Hint = message, hint
}
