package api

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"sluice"
)

// connectorView is a connector as ThingPark shows it.
type connectorView struct {
	ID          string              `json:"id" example:"actility-aws-iot"`
	ProducerID  string              `json:"producerId" example:"actility"`
	ModuleID    string              `json:"moduleId" example:"aws-iot"`
	Version     string              `json:"version" example:"2.0.0"`
	Name        string              `json:"name" example:"AWS IoT Core"`
	Description string              `json:"description"`
	Logo        string              `json:"logo" doc:"Empty: Sluice ships no logos."`
	Beta        bool                `json:"beta"`
	URLDoc      string              `json:"urlDoc" doc:"Where it is documented."`
	Connection  connectorConnection `json:"connection"`
	Flow        object              `json:"flow"`
}

type connectorConnection struct {
	ConfigurationSchema object `json:"configurationSchema" doc:"JSON Schema (draft-04) of the configuration of a connection. A property with the format 'password' is a secret."`
}

func (s *server) viewConnector(c *connector) connectorView {
	return connectorView{
		ID: c.info.ID, ProducerID: c.info.ProducerID, ModuleID: c.info.ModuleID, Version: c.info.Version,
		Name: c.info.Name, Description: c.info.Description, URLDoc: s.PublicURL + "/docs",
		Connection: connectorConnection{ConfigurationSchema: object(c.text)},
	}
}

type listConnectorsOutput struct {
	Body []connectorView `nullable:"false"`
}

func (s *server) listConnectors(context.Context, *struct{}) (*listConnectorsOutput, error) {
	out := &listConnectorsOutput{Body: []connectorView{}}
	for _, id := range s.connectorIDs() {
		out.Body = append(out.Body, s.viewConnector(s.connectors[id]))
	}
	return out, nil
}

type getConnectorInput struct {
	ID string `path:"id" example:"actility-aws-iot" doc:"Id of the connector."`
}

type getConnectorOutput struct {
	Body connectorView
}

func (s *server) getConnector(_ context.Context, in *getConnectorInput) (*getConnectorOutput, error) {
	c, ok := s.connectors[in.ID]
	if !ok {
		return nil, &sluice.Error{
			Code:    sluice.CodeNotFound,
			Message: fmt.Sprintf("There is no connector %q. This Sluice has: %s.", in.ID, strings.Join(s.connectorIDs(), ", ")),
		}
	}
	return &getConnectorOutput{Body: s.viewConnector(c)}, nil
}

func (s *server) connectorIDs() []string {
	ids := make([]string, 0, len(s.connectors))
	for id := range s.connectors {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}
