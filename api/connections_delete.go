package api

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"sluice"
)

type deleteConnectionInput struct {
	ID      string `path:"id" example:"1" doc:"Id of the connection."`
	Force   bool   `query:"force" doc:"Delete it although reports wait for it, which are lost then, or flows refer to it, which lose it."`
	IfMatch string `header:"If-Match" doc:"The ETag that the connection must still have; else 412."`
}

// deleteConnection deletes a connection. Without force it is refused while
// reports wait for the connection, for they would be lost, and while flows
// refer to it.
func (s *server) deleteConnection(ctx context.Context, in *deleteConnectionInput) (*struct{}, error) {
	s.writes.Lock()
	defer s.writes.Unlock()
	c, err := s.Connections.Connection(in.ID)
	if err != nil {
		return nil, err
	}
	if err := match(in.IfMatch, etag(c.Revision)); err != nil {
		return nil, err
	}
	flows := s.flowsTo(c.ID)
	if !in.Force {
		if err := s.refuseDelete(c, flows); err != nil {
			return nil, err
		}
	}
	// Flows first: were the connection gone before them, a failure between
	// would leave flows that lead nowhere.
	for _, f := range flows {
		f.Connectors = slices.DeleteFunc(slices.Clone(f.Connectors), func(fc sluice.FlowConnector) bool {
			return fc.ConnectionID == c.ID
		})
		if _, err := s.Flows.ReplaceFlow(ctx, f); err != nil {
			return nil, err
		}
	}
	if err := s.Connections.DeleteConnection(ctx, c.ID); err != nil {
		return nil, err
	}
	s.downlinks.forget()
	return nil, nil
}

func (s *server) refuseDelete(c sluice.Connection, flows []sluice.Flow) error {
	var why, lost []string
	if pending := s.Metrics.Counters(c.ID).Pending; pending > 0 {
		why = append(why, waiting(pending, "report"))
		lost = append(lost, "the reports that wait for it are lost")
	}
	if len(flows) > 0 {
		lost = append(lost, "the flows lose it")
		names := make([]string, len(flows))
		for i, f := range flows {
			names[i] = f.Name
		}
		why = append(why, "these flows refer to it: "+strings.Join(names, ", "))
	}
	if len(why) == 0 {
		return nil
	}
	return &sluice.Error{
		Code:    sluice.CodeConflict,
		Message: "The connection cannot be deleted: " + strings.Join(why, "; ") + ".",
		Hint:    "With ?force=true it is deleted all the same: " + strings.Join(lost, ", and ") + ".",
	}
}

// waiting says how many of something wait for what is to be deleted.
func waiting(n uint64, noun string) string {
	if n == 1 {
		return "one " + noun + " waits for it"
	}
	return fmt.Sprintf("%d %ss wait for it", n, noun)
}

// flowsTo returns the flows that refer to a connection.
func (s *server) flowsTo(connectionID string) []sluice.Flow {
	var flows []sluice.Flow
	for _, f := range s.Flows.Flows() {
		if slices.ContainsFunc(f.Connectors, func(fc sluice.FlowConnector) bool { return fc.ConnectionID == connectionID }) {
			flows = append(flows, f)
		}
	}
	return flows
}
