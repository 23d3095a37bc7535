package api

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"sluice"
	"sluice/internal/schema"
)

type createConnectionOutput struct {
	Location string `header:"Location" doc:"Where the connection is." example:"/connections/1"`
	ETag     string `header:"ETag" doc:"The revision, for If-Match."`
	Body     connectionView
}

func (s *server) createConnection(ctx context.Context, _ *struct{}) (*createConnectionOutput, error) {
	r := requestOf(ctx)
	d, err := readDraft(r, s.bodies.connection)
	if err != nil {
		return nil, err
	}
	d.checkID("")
	connector, warnings := s.checkConnection(d, sluice.Connection{})
	if err := d.err("connection"); err != nil {
		return nil, err
	}
	s.writes.Lock()
	defer s.writes.Unlock()
	c, err := s.Connections.CreateConnection(ctx, d.connection(sluice.Connection{}), connector.schema.Secrets())
	if err != nil {
		return nil, err
	}
	s.downlinks.forget()
	out := &createConnectionOutput{Location: location(r, "/connections", c.ID), ETag: etag(c.Revision), Body: s.viewConnection(c)}
	out.Body.Warnings = s.warn(c, warnings)
	return out, nil
}

type replaceConnectionInput struct {
	ID      string `path:"id" example:"1" doc:"Id of the connection."`
	IfMatch string `header:"If-Match" doc:"The ETag that the connection must still have; else 412."`
}

func (s *server) replaceConnection(ctx context.Context, in *replaceConnectionInput) (*connectionOutput, error) {
	d, err := readDraft(requestOf(ctx), s.bodies.connection)
	if err != nil {
		return nil, err
	}
	return s.replaceWith(ctx, d, in.ID, in.IfMatch)
}

type replaceNamedConnectionInput struct {
	IfMatch string `header:"If-Match" doc:"The ETag that the connection must still have; else 412."`
}

// replaceNamedConnection is PUT /connections, as some of ThingPark's pages
// write it: the id stands in the body.
func (s *server) replaceNamedConnection(ctx context.Context, in *replaceNamedConnectionInput) (*connectionOutput, error) {
	d, err := readDraft(requestOf(ctx), s.bodies.connection)
	if err != nil {
		return nil, err
	}
	id := d.text("id")
	if id == "" {
		d.problem("id", "missing property 'id': it says which connection to replace")
		return nil, d.err("connection")
	}
	return s.replaceWith(ctx, d, id, in.IfMatch)
}

func (s *server) replaceWith(ctx context.Context, d *draft, id, ifMatch string) (*connectionOutput, error) {
	s.writes.Lock()
	defer s.writes.Unlock()
	stored, err := s.Connections.Connection(id)
	if err != nil {
		return nil, err
	}
	if err := match(ifMatch, etag(stored.Revision)); err != nil {
		return nil, err
	}
	d.checkID(id)
	connector, warnings := s.checkConnection(d, stored)
	if err := d.err("connection"); err != nil {
		return nil, err
	}
	c, err := s.Connections.ReplaceConnection(ctx, d.connection(stored), connector.schema.Secrets())
	if err != nil {
		return nil, err
	}
	out := s.connectionOutput(c)
	out.Body.Warnings = s.warn(c, warnings)
	return out, nil
}

// checkID finds an id in the body that is not the one in the address.
func (d *draft) checkID(id string) {
	switch sent := d.text("id"); {
	case sent == "" || sent == id:
	case id == "":
		d.problem("id", "is given by Sluice: leave it out")
	default:
		d.problem("id", "is not the id in the address; leave it out, or send it to its own address")
	}
}

// checkConnection finds all that is wrong with a draft beyond the form of its
// outside, and puts the stored secrets where the draft asks for them. The
// connector is nil where it is not known; that is a problem of the draft then.
func (s *server) checkConnection(d *draft, stored sluice.Connection) (c *connector, warnings []sluice.Problem) {
	id := d.text("connectorId")
	c = s.connectors[id]
	switch {
	case id == "":
	case c == nil:
		d.problem("connectorId", "there is no connector %q. This Sluice has: %s.", id, strings.Join(s.connectorIDs(), ", "))
	case stored.ConnectorID != "" && stored.ConnectorID != id:
		d.problem("connectorId", "cannot be changed from %s; make a new connection", stored.ConnectorID)
		return c, nil
	}
	if s.CheckAlarms != nil {
		d.add(s.CheckAlarms(d.fields["alarms"]))
	}
	configuration, ok := d.doc["configuration"].(map[string]any)
	if c == nil || !ok {
		return c, nil
	}
	d.unmask(stored.Configuration, c.schema.Secrets())
	if k, ok := c.Connector.(sluice.Keeper); ok && stored.ConnectorID != "" {
		d.keep(stored.Configuration, k.Keeps(stored.Configuration, d.fields["configuration"]))
	}
	d.add(c.schema.ValidateValue(configuration, "configuration"))
	if s.CheckCommon != nil {
		d.add(within(s.CheckCommon(d.fields["configuration"])))
	}
	warnings, found := c.Check(d.fields["configuration"])
	d.add(within(found))
	return c, within(warnings)
}

// within puts the paths of problems of a configuration below it.
func within(ps []sluice.Problem) []sluice.Problem {
	out := make([]sluice.Problem, len(ps))
	for i, p := range ps {
		out[i] = sluice.Problem{Path: schema.Under("configuration", p.Path), Message: p.Message}
	}
	return out
}

// connection is the draft as it is to be stored, in place of stored.
func (d *draft) connection(stored sluice.Connection) sluice.Connection {
	c := stored
	c.ConnectorID, c.Name = d.text("connectorId"), d.text("name")
	active, given := d.doc["active"].(bool)
	c.Active = active || !given
	c.Alarms = compact(d.fields["alarms"])
	c.Configuration = compact(d.fields["configuration"])
	return c
}

// compact takes the white space out of JSON; number literals and the order of
// properties stay.
func compact(text json.RawMessage) json.RawMessage {
	var out bytes.Buffer
	if len(text) == 0 || json.Compact(&out, text) != nil {
		return nil
	}
	return out.Bytes()
}

// warn tells what looks odd in a configuration that was taken, as events and in
// the answer.
func (s *server) warn(c sluice.Connection, warnings []sluice.Problem) []problemView {
	for _, w := range warnings {
		s.Recorder.Record(sluice.Event{
			Level: sluice.LevelWarning, Type: sluice.EventConfigurationOdd, Label: "Configuration odd",
			Detail:     fmt.Sprintf("Connection %s with id %s: %s: %s", c.Name, c.ID, w.Path, sentence(w.Message)),
			Reason:     sluice.ReasonConfiguration,
			Connection: c.ID,
		})
	}
	return problems(warnings)
}

// location is the address of a new resource, below the prefix that the request
// came in at.
func location(r *http.Request, collection, id string) string {
	if strings.HasPrefix(r.URL.Path, prefix+"/") {
		collection = prefix + collection
	}
	return collection + "/" + id
}
