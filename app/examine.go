package app

import (
	"context"
	"encoding/json"
	"slices"

	"sluice"
	"sluice/connection"
	"sluice/internal/schema"
)

// Doctor examines configurations, and writes what the cloud must allow for
// them. It needs no running Sluice.
type Doctor struct {
	// Connectors default to all that Sluice knows.
	Connectors []sluice.Connector
	// Instance is that of the Sluice that the connections are of; "": none.
	Instance string
	Clock    sluice.Clock // nil: time.Now
}

// Examine tries the configuration of a connection, stored or not, and reports
// each step. It fails where that cannot be done at all.
func (d Doctor) Examine(ctx context.Context, c sluice.Connection, x sluice.Examination, report func(sluice.Step)) error {
	connector, err := d.connector(c)
	if err != nil {
		return err
	}
	examiner, ok := connector.(sluice.Examiner)
	if !ok {
		return sluice.Errorf(sluice.CodeInvalid, "Connections of the connector %s cannot be tested.", c.ConnectorID)
	}
	found, err := problemsOf(connector, c.Configuration)
	if err != nil {
		return err
	}
	x.Problems = slices.Concat(found, connection.CheckCommon(c.Configuration), x.Problems)
	examiner.Examine(ctx, d.spec(c), x, report)
	return nil
}

// Advise writes what the cloud must allow for a connection, stored or not.
func (d Doctor) Advise(c sluice.Connection, w sluice.Wish) (sluice.Advice, error) {
	connector, err := d.connector(c)
	if err != nil {
		return sluice.Advice{}, err
	}
	advisor, ok := connector.(sluice.Advisor)
	if !ok {
		return sluice.Advice{}, sluice.Errorf(sluice.CodeInvalid, "The connector %s needs no policies.", c.ConnectorID)
	}
	return advisor.Advise(d.spec(c), w)
}

func (d Doctor) connector(c sluice.Connection) (sluice.Connector, error) {
	all := d.Connectors
	if all == nil {
		all = Connectors()
	}
	i := slices.IndexFunc(all, func(k sluice.Connector) bool { return k.Info().ID == c.ConnectorID })
	if i < 0 {
		return nil, sluice.Errorf(sluice.CodeInvalid, "There is no connector %q.", c.ConnectorID)
	}
	return all[i], nil
}

// spec is what an examination is made from. What is wrong with the common
// properties is told as a problem, and the defaults hold.
func (d Doctor) spec(c sluice.Connection) sluice.DialerSpec {
	common, err := connection.ParseCommon(c.Configuration)
	if err != nil {
		common, _ = connection.ParseCommon(nil) // the defaults have no error
	}
	return sluice.DialerSpec{Connection: c, Common: common, Instance: d.Instance, Clock: d.Clock}
}

// problemsOf holds a configuration against its schema.
func problemsOf(connector sluice.Connector, configuration json.RawMessage) ([]sluice.Problem, error) {
	form, err := schema.Compile(connection.Schema(connector.Info()))
	if err != nil {
		return nil, err
	}
	return form.Validate(configuration, ""), nil
}
