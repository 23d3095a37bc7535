package api

import (
	"context"
	"encoding/json"
	"slices"
	"strings"

	"sluice"
)

// connectionView is a connection as the API shows it: ThingPark's properties,
// and from stateSince on ours.
type connectionView struct {
	ID                 string        `json:"id" example:"1"`
	ConnectorID        string        `json:"connectorId" example:"actility-aws-iot"`
	Name               string        `json:"name" example:"Test AWS Connection"`
	Active             bool          `json:"active" doc:"false: stopped; what arrives for it is kept."`
	Alarms             []object      `json:"alarms" nullable:"false" doc:"As they were sent."`
	Configuration      object        `json:"configuration" doc:"The configuration; secrets are *****."`
	StartupTime        Time          `json:"startupTime,omitzero" doc:"When it was last opened."`
	State              sluice.State  `json:"state" enum:"CLOSED,OPENING,AUTHENTICATING,AUTHENTICATION_FAILED,OPENED,CLOSING,DEACTIVATED"`
	StateSince         Time          `json:"stateSince,omitzero" doc:"Since when it is in this state."`
	Applied            bool          `json:"applied" doc:"false while this configuration is not the one in force; reason says why."`
	Reason             string        `json:"reason,omitempty" doc:"Why the configuration is not in force, or why the connection is not open."`
	Sessions           sessionsView  `json:"sessions"`
	CertificateExpires Time          `json:"certificateExpires,omitzero" doc:"When the certificate in the configuration expires."`
	DownlinkURL        string        `json:"downlinkUrl" doc:"The address for downlinks of this connection. It is as good as a password."`
	Created            Time          `json:"created"`
	Updated            Time          `json:"updated"`
	Revision           uint64        `json:"revision" doc:"Counts the changes; also the ETag."`
	Warnings           []problemView `json:"warnings,omitempty" nullable:"false" doc:"What looks odd in the configuration that was just sent, and was taken all the same."`
}

type sessionsView struct {
	Open   int `json:"open" doc:"How many sessions are open." example:"4"`
	Wanted int `json:"wanted" doc:"How many are to be, for the present load." example:"4"`
	Size   int `json:"size" doc:"How many there may be." example:"10"`
}

func (s *server) viewConnection(c sluice.Connection) connectionView {
	status, known := s.Supervisor.Status(c.ID)
	if !known {
		status = sluice.Status{State: sluice.StateClosed, Reason: "It is being taken up."}
		if !c.Active {
			status = sluice.Status{State: sluice.StateDeactivated, Applied: true}
		}
	}
	view := connectionView{
		ID: c.ID, ConnectorID: c.ConnectorID, Name: c.Name, Active: c.Active,
		Alarms: alarms(c.Alarms), Configuration: object(s.maskConnection(c)),
		StartupTime: At(status.StartupTime), State: status.State, StateSince: At(status.Since),
		Applied: status.Applied, Reason: status.Reason,
		Sessions:    sessionsView{Open: len(status.Sessions), Wanted: status.Wanted, Size: status.Size},
		DownlinkURL: s.PublicURL + downlinkPath(c.DownlinkID),
		Created:     At(c.Created), Updated: At(c.Updated), Revision: c.Revision,
	}
	if connector, ok := s.connectors[c.ConnectorID]; ok {
		view.CertificateExpires = connector.expires(c.Configuration)
	}
	return view
}

// expires is when a configuration's certificate expires; zero where it has
// none.
func (c *connector) expires(configuration json.RawMessage) Time {
	if x, ok := c.Connector.(sluice.Expirer); ok {
		if at, ok := x.Expires(configuration); ok {
			return At(at)
		}
	}
	return Time{}
}

// alarms are those that are stored, as they were sent.
func alarms(stored json.RawMessage) []object {
	var each []json.RawMessage
	_ = json.Unmarshal(stored, &each) // none, where there are none
	list := make([]object, len(each))
	for i, a := range each {
		list[i] = object(a)
	}
	return list
}

func (s *server) maskConnection(c sluice.Connection) json.RawMessage {
	connector, ok := s.connectors[c.ConnectorID]
	if !ok {
		return maskAll(c.Configuration)
	}
	return mask(c.Configuration, connector.schema.Secrets())
}

type listConnectionsInput struct {
	Paging
	Name string `query:"name" maxLength:"200" doc:"Only connections whose name holds this, in any case."`
}

type listConnectionsOutput struct {
	PageHeaders
	Body []connectionView `nullable:"false"`
}

func (s *server) listConnections(ctx context.Context, in *listConnectionsInput) (*listConnectionsOutput, error) {
	all := slices.DeleteFunc(slices.Clone(s.Connections.Connections()), func(c sluice.Connection) bool {
		return !holds(c.Name, in.Name)
	})
	out := &listConnectionsOutput{PageHeaders: in.headers(ctx, len(all)), Body: []connectionView{}}
	for _, c := range pageOf(in.Paging, all) {
		out.Body = append(out.Body, s.viewConnection(c))
	}
	return out, nil
}

// holds reports whether text holds part, in any case.
func holds(text, part string) bool {
	return part == "" || strings.Contains(strings.ToLower(text), strings.ToLower(part))
}

type connectionInput struct {
	ID string `path:"id" example:"1" doc:"Id of the connection."`
}

type connectionOutput struct {
	ETag string `header:"ETag" doc:"The revision, for If-Match."`
	Body connectionView
}

func (s *server) connectionOutput(c sluice.Connection) *connectionOutput {
	return &connectionOutput{ETag: etag(c.Revision), Body: s.viewConnection(c)}
}

func (s *server) getConnection(_ context.Context, in *connectionInput) (*connectionOutput, error) {
	c, err := s.Connections.Connection(in.ID)
	if err != nil {
		return nil, err
	}
	return s.connectionOutput(c), nil
}
