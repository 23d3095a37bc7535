package api

import (
	"context"
	"slices"

	"sluice"
)

// flowView is a flow as ThingPark shows it.
type flowView struct {
	ID          string              `json:"id" example:"1"`
	Name        string              `json:"name" example:"All devices to AWS"`
	Description string              `json:"description,omitempty"`
	Driver      *flowDriverView     `json:"driver,omitempty"`
	Matchers    []matcherView       `json:"matchers" nullable:"false" doc:"Which devices; none: every device."`
	Connectors  []flowConnectorView `json:"connectors" nullable:"false" doc:"Where the reports go."`
}

type flowDriverView struct {
	ID string `json:"id" example:"actility:auto:1"`
}

type matcherView struct {
	Type string   `json:"type" enum:"thing,key"`
	Tags []string `json:"tags,omitempty" nullable:"false"`
	Key  string   `json:"key,omitempty" example:"lora:0018b20000000b20"`
}

type flowConnectorView struct {
	ID                 string `json:"id" example:"actility-aws-iot"`
	ConnectionID       string `json:"connectionId" example:"1"`
	UplinkTimeValidity string `json:"uplinkTimeValidity,omitempty" example:"24h"`
}

func viewFlow(f sluice.Flow) flowView {
	v := flowView{
		ID: f.ID, Name: f.Name, Description: f.Description,
		Matchers: []matcherView{}, Connectors: []flowConnectorView{},
	}
	if f.Driver != nil {
		v.Driver = &flowDriverView{ID: f.Driver.ID}
	}
	for _, m := range f.Matchers {
		v.Matchers = append(v.Matchers, matcherView(m))
	}
	for _, c := range f.Connectors {
		v.Connectors = append(v.Connectors, flowConnectorView(c))
	}
	return v
}

type listFlowsInput struct {
	Paging
	Name string `query:"name" maxLength:"200" doc:"Only flows whose name holds this, in any case."`
}

type listFlowsOutput struct {
	PageHeaders
	Body []flowView `nullable:"false"`
}

func (s *server) listFlows(ctx context.Context, in *listFlowsInput) (*listFlowsOutput, error) {
	all := slices.DeleteFunc(slices.Clone(s.Flows.Flows()), func(f sluice.Flow) bool { return !holds(f.Name, in.Name) })
	out := &listFlowsOutput{PageHeaders: in.headers(ctx, len(all)), Body: []flowView{}}
	for _, f := range pageOf(in.Paging, all) {
		out.Body = append(out.Body, viewFlow(f))
	}
	return out, nil
}

type flowInput struct {
	ID string `path:"id" example:"1" doc:"Id of the flow."`
}

type flowOutput struct {
	ETag string `header:"ETag" doc:"For If-Match."`
	Body flowView
}

func (s *server) flowOutput(f sluice.Flow) *flowOutput {
	return &flowOutput{ETag: s.digest(f), Body: viewFlow(f)}
}

func (s *server) getFlow(_ context.Context, in *flowInput) (*flowOutput, error) {
	f, err := s.Flows.Flow(in.ID)
	if err != nil {
		return nil, err
	}
	return s.flowOutput(f), nil
}

type createFlowOutput struct {
	Location string `header:"Location" doc:"Where the flow is." example:"/flows/1"`
	ETag     string `header:"ETag" doc:"For If-Match."`
	Body     flowView
}

func (s *server) createFlow(ctx context.Context, _ *struct{}) (*createFlowOutput, error) {
	r := requestOf(ctx)
	d, err := readDraft(r, s.bodies.flow)
	if err != nil {
		return nil, err
	}
	s.writes.Lock()
	defer s.writes.Unlock()
	d.checkID("")
	flow := s.checkFlow(d)
	if err := d.err("flow"); err != nil {
		return nil, err
	}
	f, err := s.Flows.CreateFlow(ctx, flow)
	if err != nil {
		return nil, err
	}
	return &createFlowOutput{Location: location(r, "/flows", f.ID), ETag: s.digest(f), Body: viewFlow(f)}, nil
}

type replaceFlowInput struct {
	ID      string `path:"id" example:"1" doc:"Id of the flow."`
	IfMatch string `header:"If-Match" doc:"The ETag that the flow must still have; else 412."`
}

func (s *server) replaceFlow(ctx context.Context, in *replaceFlowInput) (*flowOutput, error) {
	d, err := readDraft(requestOf(ctx), s.bodies.flow)
	if err != nil {
		return nil, err
	}
	s.writes.Lock()
	defer s.writes.Unlock()
	stored, err := s.Flows.Flow(in.ID)
	if err != nil {
		return nil, err
	}
	if err := match(in.IfMatch, s.digest(stored)); err != nil {
		return nil, err
	}
	d.checkID(in.ID)
	flow := s.checkFlow(d)
	if err := d.err("flow"); err != nil {
		return nil, err
	}
	flow.ID = stored.ID
	f, err := s.Flows.ReplaceFlow(ctx, flow)
	if err != nil {
		return nil, err
	}
	return s.flowOutput(f), nil
}

func (s *server) deleteFlow(ctx context.Context, in *replaceFlowInput) (*struct{}, error) {
	s.writes.Lock()
	defer s.writes.Unlock()
	stored, err := s.Flows.Flow(in.ID)
	if err != nil {
		return nil, err
	}
	if err := match(in.IfMatch, s.digest(stored)); err != nil {
		return nil, err
	}
	return nil, s.Flows.DeleteFlow(ctx, stored.ID)
}
