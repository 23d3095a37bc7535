package api

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"sluice"
)

// examineTimeout bounds an examination.
const examineTimeout = 2 * time.Minute

// Doctor examines connections that are stored or not; secrets are in clear.
type Doctor interface {
	// Examine reports each step; it fails where nothing can be examined.
	Examine(ctx context.Context, c sluice.Connection, x sluice.Examination, report func(sluice.Step)) error
	// Advise writes what the cloud must allow.
	Advise(c sluice.Connection, w sluice.Wish) (sluice.Advice, error)
}

// registerDoctor registers what looks into connections. body is that of a
// connection.
func (s *server) registerDoctor(body *huma.RequestBody) {
	if s.Doctor == nil {
		return
	}
	changes := *body
	changes.Required = false
	changes.Description = "None: the stored connection is tested. Or the whole connection as it is to be, with ***** for secrets that stay."
	const steps = "Step by step: what was found, how long it took, and the next thing to do. The first step that failed is the one to look at. " +
		"It harms nothing: it connects under client ids of its own, and leaves nothing behind. A test message goes to the topic of a device named `sluice-test`, " +
		"unless `silent` is true or `topic` names another; presence and shadows are tried where they are configured, and stay as they are; with `create` a thing is made and deleted again, to try those permissions."
	route(s, "POST /connections/{id}/test", operation{
		id: "testConnection", tag: "Connections", summary: "Test a connection, stored or with changes", body: &changes, about: steps,
	}, s.testConnection)
	route(s, "POST /connections/test", operation{
		id: "testNewConnection", tag: "Connections", summary: "Test a connection before it is stored", body: body, about: steps,
	}, s.testNewConnection)
	route(s, "GET /connections/{id}/aws-policy", operation{
		id: "getAWSPolicy", tag: "Connections", summary: "Write the least policies for a connection",
		about: "The IoT policy of the certificate, the IAM policy of the access key, and a CloudFormation template that makes both: exactly what this connection needs.",
	}, s.getAWSPolicy)
}

// Examining are the parameters of a test.
type Examining struct {
	Create bool   `query:"create" doc:"Make a thing named sluice-test-..., attach the certificate, and delete it again."`
	Topic  string `query:"topic" maxLength:"256" doc:"Where the test message is published and received."`
	Silent bool   `query:"silent" doc:"Publish nothing."`
}

type testConnectionInput struct {
	ID string `path:"id" example:"1" doc:"Id of the connection."`
	Examining
}

type testOutput struct {
	Body testView
}

type testView struct {
	OK     bool       `json:"ok" doc:"No step failed, and none has a warning."`
	Failed string     `json:"failed,omitempty" doc:"Id of the first step that failed, else of the first with a warning."`
	Steps  []stepView `json:"steps" nullable:"false"`
}

type stepView struct {
	ID           string           `json:"id" example:"port"`
	Title        string           `json:"title" example:"Port opens"`
	State        sluice.StepState `json:"state" enum:"ok,warning,failed,skipped"`
	Cause        string           `json:"cause,omitempty" example:"port_refused" doc:"For programs: what is wrong."`
	Milliseconds float64          `json:"milliseconds" doc:"It took."`
	Detail       string           `json:"detail" doc:"What was found."`
	Hint         string           `json:"hint,omitempty" doc:"The next thing to do."`
}

func (s *server) testConnection(ctx context.Context, in *testConnectionInput) (*testOutput, error) {
	stored, err := s.Connections.Connection(in.ID)
	if err != nil {
		return nil, err
	}
	r := requestOf(ctx)
	c := stored
	if r.ContentLength != 0 {
		if c, err = s.readTested(r, stored); err != nil {
			return nil, err
		}
	}
	return s.test(ctx, c, in.Examining)
}

func (s *server) testNewConnection(ctx context.Context, in *Examining) (*testOutput, error) {
	c, err := s.readTested(requestOf(ctx), sluice.Connection{})
	if err != nil {
		return nil, err
	}
	return s.test(ctx, c, *in)
}

// readTested reads a connection that is to be tested. Only what makes a test
// impossible is an error: what is wrong with the configuration is told by it.
func (s *server) readTested(r *http.Request, stored sluice.Connection) (sluice.Connection, error) {
	d, err := readDraft(r, s.bodies.connection)
	if err != nil {
		return stored, err
	}
	d.checkID(stored.ID)
	connector, known := s.connectors[d.text("connectorId")]
	switch {
	case d.text("connectorId") == "":
	case !known:
		d.problem("connectorId", "there is no connector %q. This Sluice has: %s.", d.text("connectorId"), strings.Join(s.connectorIDs(), ", "))
	case stored.ConnectorID != "" && stored.ConnectorID != connector.info.ID:
		d.problem("connectorId", "cannot be changed from %s; make a new connection", stored.ConnectorID)
	default:
		if k, ok := connector.Connector.(sluice.Keeper); ok && stored.ConnectorID != "" {
			d.keep(stored.Configuration, k.Keeps(stored.Configuration, d.fields["configuration"]))
		}
		d.unmask(stored.Configuration, connector.schema.Secrets())
	}
	if err := d.err("connection"); err != nil {
		return stored, err
	}
	return d.connection(stored), nil
}

// test examines. Its time is its own, not that of a usual request.
func (s *server) test(ctx context.Context, c sluice.Connection, in Examining) (*testOutput, error) {
	if w := writerOf(ctx); w != nil {
		_ = http.NewResponseController(w).SetReadDeadline(time.Time{}) // where it cannot be set, there is none
	}
	ctx, cancel := context.WithTimeout(ctx, examineTimeout)
	defer cancel()
	out := &testOutput{Body: testView{OK: true, Steps: []stepView{}}}
	x := sluice.Examination{Create: in.Create, Topic: in.Topic, Silent: in.Silent}
	err := s.Doctor.Examine(ctx, c, x, func(step sluice.Step) { out.Body.Steps = append(out.Body.Steps, stepView(step)) })
	if err != nil {
		return nil, err
	}
	for _, state := range []sluice.StepState{sluice.StepFailed, sluice.StepWarning} {
		for _, step := range out.Body.Steps {
			if step.State == state && out.Body.Failed == "" {
				out.Body.OK, out.Body.Failed = false, step.ID
			}
		}
	}
	return out, nil
}

type awsPolicyInput struct {
	ID      string `path:"id" example:"1" doc:"Id of the connection."`
	Account string `query:"account" pattern:"^[0-9]{12}$" doc:"Id of the AWS account, where certificateId does not tell it."`
	Doctor  bool   `query:"doctor" doc:"Also what the test of a connection needs to find out more."`
}

type awsPolicyOutput struct {
	Body policyView
}

type policyView struct {
	IoTPolicy      *object  `json:"iotPolicy,omitempty" doc:"To be attached to the certificate; none where no certificate is used."`
	IAMPolicy      *object  `json:"iamPolicy,omitempty" doc:"Of the user of the access key; none where there is no access key."`
	CloudFormation object   `json:"cloudFormation" doc:"A template that makes all of it, with a user and the thing type."`
	Notes          []string `json:"notes" nullable:"false" doc:"What is to be filled in or known."`
}

func (s *server) getAWSPolicy(_ context.Context, in *awsPolicyInput) (*awsPolicyOutput, error) {
	c, err := s.Connections.Connection(in.ID)
	if err != nil {
		return nil, err
	}
	advice, err := s.Doctor.Advise(c, sluice.Wish{Account: in.Account, Examine: in.Doctor})
	if err != nil {
		return nil, err
	}
	out := &awsPolicyOutput{Body: policyView{Notes: append([]string{}, advice.Notes...)}}
	for _, d := range advice.Documents {
		text := object(json.RawMessage(d.JSON))
		switch d.Name {
		case "iotPolicy":
			out.Body.IoTPolicy = &text
		case "iamPolicy":
			out.Body.IAMPolicy = &text
		case "cloudFormation":
			out.Body.CloudFormation = text
		}
	}
	return out, nil
}
