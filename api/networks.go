package api

import (
	"context"
	"encoding/json"
	"slices"
	"strings"

	"sluice"
)

// networkView is a network as the API shows it.
type networkView struct {
	ID            string `json:"id" doc:"Unguessable: it is part of the address that reports come in at." example:"01JQ5M8Z5T3K8V9W2R4X6Y7Z8A"`
	Kind          string `json:"kind" example:"thingpark"`
	Name          string `json:"name" example:"ThingPark Europe"`
	Configuration object `json:"configuration" doc:"The configuration; secrets are *****."`
	State         string `json:"state" enum:"OPENED,CLOSED" doc:"CLOSED: it takes no reports and no commands; reason says why."`
	Reason        string `json:"reason,omitempty" doc:"Why it is closed." example:"This network is closed: its asKey was lost with the key file. PUT /networks/{id} with the asKey again."`
	Pending       uint64 `json:"downlinksPending" doc:"How many commands wait for the network server." example:"0"`
	Created       Time   `json:"created"`
	IngestPath    string `json:"ingestPath" doc:"Where its reports come in, as a path." example:"/ingest/01JQ5M8Z5T3K8V9W2R4X6Y7Z8A"`
	IngestURL     string `json:"ingestUrl,omitempty" doc:"Where its reports come in; needs --public-url. Enter it in the network server as the destination."`
}

// The states of a network.
const (
	networkOpened = "OPENED"
	networkClosed = "CLOSED"
)

func (s *server) viewNetwork(n sluice.NetworkConfig) networkView {
	v := networkView{
		ID: n.ID, Kind: n.Kind, Name: n.Name, State: networkOpened, Created: At(n.Created), IngestPath: ingestPath(n.ID),
		Pending: s.commandsFor(n.ID),
	}
	if s.NetworkState != nil {
		if open, reason := s.NetworkState(n.ID); !open {
			v.State, v.Reason = networkClosed, reason
		}
	}
	if kind, ok := s.kinds[n.Kind]; ok {
		v.Configuration = object(mask(n.Configuration, kind.schema.Secrets()))
	} else {
		v.Configuration = object(maskAll(n.Configuration))
	}
	if s.PublicURL != "" {
		v.IngestURL = s.PublicURL + v.IngestPath
	}
	return v
}

type listNetworksInput struct {
	Paging
	Name string `query:"name" maxLength:"200" doc:"Only networks whose name holds this, in any case."`
}

type listNetworksOutput struct {
	PageHeaders
	Body []networkView `nullable:"false"`
}

func (s *server) listNetworks(ctx context.Context, in *listNetworksInput) (*listNetworksOutput, error) {
	all := slices.DeleteFunc(slices.Clone(s.Networks.Networks()), func(n sluice.NetworkConfig) bool {
		return !holds(n.Name, in.Name)
	})
	out := &listNetworksOutput{PageHeaders: in.headers(ctx, len(all)), Body: []networkView{}}
	for _, n := range pageOf(in.Paging, all) {
		out.Body = append(out.Body, s.viewNetwork(n))
	}
	return out, nil
}

type networkInput struct {
	ID string `path:"id" doc:"Id of the network."`
}

type networkOutput struct {
	ETag string `header:"ETag" doc:"For If-Match."`
	Body networkView
}

func (s *server) networkOutput(n sluice.NetworkConfig) *networkOutput {
	return &networkOutput{ETag: s.digest(n), Body: s.viewNetwork(n)}
}

func (s *server) getNetwork(_ context.Context, in *networkInput) (*networkOutput, error) {
	n, err := s.Networks.Network(in.ID)
	if err != nil {
		return nil, err
	}
	return s.networkOutput(n), nil
}

type createNetworkOutput struct {
	Location string `header:"Location" doc:"Where the network is."`
	ETag     string `header:"ETag" doc:"For If-Match."`
	Body     networkView
}

func (s *server) createNetwork(ctx context.Context, _ *struct{}) (*createNetworkOutput, error) {
	r := requestOf(ctx)
	d, err := readDraft(r, s.bodies.network)
	if err != nil {
		return nil, err
	}
	d.checkID("")
	kind := s.checkNetwork(d, sluice.NetworkConfig{})
	if err := d.err("network"); err != nil {
		return nil, err
	}
	s.writes.Lock()
	defer s.writes.Unlock()
	n, err := s.Networks.CreateNetwork(ctx, d.network(sluice.NetworkConfig{}), kind.schema.Secrets())
	if err != nil {
		return nil, err
	}
	return &createNetworkOutput{Location: location(r, "/networks", n.ID), ETag: s.digest(n), Body: s.viewNetwork(n)}, nil
}

type replaceNetworkInput struct {
	ID      string `path:"id" doc:"Id of the network."`
	IfMatch string `header:"If-Match" doc:"The ETag that the network must still have; else 412."`
}

func (s *server) replaceNetwork(ctx context.Context, in *replaceNetworkInput) (*networkOutput, error) {
	d, err := readDraft(requestOf(ctx), s.bodies.network)
	if err != nil {
		return nil, err
	}
	s.writes.Lock()
	defer s.writes.Unlock()
	stored, err := s.Networks.Network(in.ID)
	if err != nil {
		return nil, err
	}
	if err := match(in.IfMatch, s.digest(stored)); err != nil {
		return nil, err
	}
	d.checkID(in.ID)
	kind := s.checkNetwork(d, stored)
	if err := d.err("network"); err != nil {
		return nil, err
	}
	n, err := s.Networks.ReplaceNetwork(ctx, d.network(stored), kind.schema.Secrets())
	if err != nil {
		return nil, err
	}
	return s.networkOutput(n), nil
}

type deleteNetworkInput struct {
	ID      string `path:"id" doc:"Id of the network."`
	Force   bool   `query:"force" doc:"Delete it although commands wait for it, which are lost then."`
	IfMatch string `header:"If-Match" doc:"The ETag that the network must still have; else 412."`
}

// deleteNetwork deletes a network. Without force it is refused while commands
// wait for the network server, for they would be lost.
func (s *server) deleteNetwork(ctx context.Context, in *deleteNetworkInput) (*struct{}, error) {
	s.writes.Lock()
	defer s.writes.Unlock()
	stored, err := s.Networks.Network(in.ID)
	if err != nil {
		return nil, err
	}
	if err := match(in.IfMatch, s.digest(stored)); err != nil {
		return nil, err
	}
	if pending := s.commandsFor(stored.ID); pending > 0 && !in.Force {
		return nil, &sluice.Error{
			Code:    sluice.CodeConflict,
			Message: "The network cannot be deleted: " + waiting(pending, "command") + ".",
			Hint:    "With ?force=true it is deleted all the same: the commands that wait for it are lost.",
		}
	}
	return nil, s.Networks.DeleteNetwork(ctx, stored.ID)
}

// commandsFor is how many commands wait for a network.
func (s *server) commandsFor(id string) uint64 {
	if s.NetworkCounters == nil {
		return 0
	}
	return s.NetworkCounters(id).Pending
}

// checkNetwork is checkConnection for a network.
func (s *server) checkNetwork(d *draft, stored sluice.NetworkConfig) *networkKind {
	name := d.text("kind")
	kind := s.kinds[name]
	switch {
	case name == "":
	case kind == nil:
		d.problem("kind", "there is no kind of network %q. This Sluice has: %s.", name, strings.Join(s.kindNames(), ", "))
	case stored.Kind != "" && stored.Kind != name:
		d.problem("kind", "cannot be changed from %s; make a new network", stored.Kind)
		return kind
	}
	if _, given := d.doc["configuration"]; !given {
		d.doc["configuration"], d.fields["configuration"] = map[string]any{}, json.RawMessage("{}")
	}
	configuration, ok := d.doc["configuration"].(map[string]any)
	if kind == nil || !ok {
		return kind
	}
	d.unmask(stored.Configuration, kind.schema.Secrets())
	d.add(kind.schema.ValidateValue(configuration, "configuration"))
	d.add(within(kind.Check(d.fields["configuration"])))
	return kind
}

// network is the draft as it is to be stored, in place of stored.
func (d *draft) network(stored sluice.NetworkConfig) sluice.NetworkConfig {
	n := stored
	n.Kind, n.Name = d.text("kind"), d.text("name")
	n.Configuration = compact(d.fields["configuration"])
	return n
}

func (s *server) kindNames() []string {
	var names []string
	for name := range s.kinds {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
