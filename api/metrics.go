package api

import (
	"context"

	"sluice"
)

// Metrics is what a connection has done: in all, in the last hour, in the last
// day. ConnectionID and Sessions are filled in by the API.
type Metrics struct {
	ConnectionID string `json:"connectionId" example:"1"`
	Time         Time   `json:"time" doc:"The moment of the total."`
	// Total obeys the law of [sluice.Counters].
	Total Counters `json:"total" doc:"Since the connection was made: received = delivered + pending + expired + failed + filtered."`
	// Duplicates are counted beside the law.
	Duplicates uint64 `json:"duplicates" doc:"Copies of reports that were recognised at the door, answered, and delivered once. Not in received."`
	Replayed   uint64 `json:"replayed" doc:"Messages that replays have sent. Not in received nor delivered."`
	// Those in quarantine are counted as failed.
	Quarantined uint64        `json:"quarantined" doc:"Messages that lie in quarantine now. They are counted as failed."`
	Retried     uint64        `json:"retried" doc:"Messages that were sent again out of quarantine. They are in failed no more."`
	Dropped     uint64        `json:"quarantineDropped" doc:"Messages that a full quarantine has given up. They stay counted as failed."`
	Commands    Commands      `json:"commands" doc:"What became of the commands that came from the cloud, or through the connection's downlinkUrl, since the connection was made."`
	LastHour    Window        `json:"lastHour" doc:"The last hour, by the minute."`
	LastDay     Window        `json:"lastDay" doc:"The last day, by the quarter of an hour."`
	Sessions    []SessionView `json:"sessions" nullable:"false" doc:"The sessions that are open."`
}

// Counters are the counters of a connection; a [sluice.Counters] converts to it.
type Counters struct {
	Received  uint64 `json:"received" doc:"Reports journalled for the connection."`
	Delivered uint64 `json:"delivered" doc:"Acknowledged by the cloud."`
	Pending   uint64 `json:"pending" doc:"Waiting or under way. In a window or a point: at its end."`
	Expired   uint64 `json:"expired" doc:"Too old to be delivered, or pushed out by the connection's share of the disk."`
	Failed    uint64 `json:"failed" doc:"Can never be delivered, or their thing is missing."`
	Filtered  uint64 `json:"filtered" doc:"Not wanted by the connection."`
}

// Commands counts commands from the cloud to devices. Those received that are
// none of queued, rejected and expired wait for the network server; after a
// crash, what was counted in the minutes before it is missing.
type Commands struct {
	Received uint64 `json:"received" doc:"Taken from the cloud, each once."`
	Queued   uint64 `json:"queued" doc:"Taken by the network server."`
	Rejected uint64 `json:"rejected" doc:"Refused for good, by the network server or by Sluice."`
	Expired  uint64 `json:"expired" doc:"Their ValidityTime passed before the network server took them."`
	// Rate is filled in by the API.
	Rate        float64 `json:"rate" doc:"How many a second the cloud has sent the busiest session that takes them, over the last 5 seconds; 0 where that is not known. AWS sends one at most 100."`
	Redelivered uint64  `json:"redelivered" doc:"Came again from the cloud around a reconnect, and were sent once. Not in received."`
}

// Window is what happened between two times. Its law is
// pendingBefore + received + retried = delivered + expired + failed + filtered + pending.
type Window struct {
	From          Time     `json:"from"`
	To            Time     `json:"to"`
	ActiveDevices int      `json:"activeDevices" doc:"Devices of which a report was received for the connection."`
	Uplinks       Outcomes `json:"uplinks" doc:"Reports to the cloud."`
	Downlinks     Outcomes `json:"downlinks" doc:"Commands from the cloud."`
	PendingBefore uint64   `json:"pendingBefore" doc:"What was pending at the start: pendingBefore + received + retried = delivered + expired + failed + filtered + pending."`
	Retried       uint64   `json:"retried" doc:"Sent again out of quarantine. They had failed, in this window or before."`
	Counters      Counters `json:"counters" doc:"What was counted between from and to."`
	Points        []Point  `json:"points" nullable:"false" doc:"The same in steps, oldest first."`
}

// Outcomes counts what went well and what did not.
type Outcomes struct {
	OK     uint64 `json:"ok"`
	Failed uint64 `json:"failed"`
}

// Point is one step of a window.
type Point struct {
	Time      Time   `json:"time" doc:"The start of the step."`
	Received  uint64 `json:"received"`
	Delivered uint64 `json:"delivered"`
	Failed    uint64 `json:"failed"`
	Expired   uint64 `json:"expired"`
	Filtered  uint64 `json:"filtered"`
	Pending   uint64 `json:"pending" doc:"At the end of the step."`
	Retried   uint64 `json:"retried" doc:"Sent again out of quarantine."`
}

// SessionView is a session as the API shows it.
type SessionView struct {
	ID        string `json:"id" doc:"For MQTT the client id."`
	Opened    Time   `json:"opened"`
	Delivered uint64 `json:"delivered" doc:"Since it was opened."`
	Rate      int    `json:"rate" doc:"Deliveries in the last whole second."`
	InFlight  int    `json:"inFlight" doc:"Sent, and not yet acknowledged."`
}

type metricsOutput struct {
	Body Metrics
}

func (s *server) getMetrics(_ context.Context, in *connectionInput) (*metricsOutput, error) {
	c, err := s.Connections.Connection(in.ID)
	if err != nil {
		return nil, err
	}
	m, err := s.Metrics.Metrics(c.ID)
	if err != nil {
		return nil, err
	}
	m.ConnectionID = c.ID
	m.LastHour.Points = orEmpty(m.LastHour.Points)
	m.LastDay.Points = orEmpty(m.LastDay.Points)
	m.Sessions = []SessionView{}
	status, _ := s.Supervisor.Status(c.ID)
	m.Commands.Rate = status.CommandRate
	for _, session := range status.Sessions {
		m.Sessions = append(m.Sessions, viewSession(session))
	}
	return &metricsOutput{Body: m}, nil
}

func viewSession(s sluice.SessionStatus) SessionView {
	return SessionView{ID: s.ID, Opened: At(s.Opened), Delivered: s.Delivered, Rate: s.Rate, InFlight: s.InFlight}
}

// orEmpty keeps a list from being written as null.
func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}
