package api

import "context"

type refreshOutput struct {
	Body refreshView
}

type refreshView struct {
	Things int `json:"things" doc:"How many things are being looked at."`
}

// refreshThings has the things of a connection be looked at in its cloud.
func (s *server) refreshThings(_ context.Context, in *connectionInput) (*refreshOutput, error) {
	c, err := s.Connections.Connection(in.ID)
	if err != nil {
		return nil, err
	}
	n, err := s.Supervisor.Refresh(c.ID)
	if err != nil {
		return nil, err
	}
	return &refreshOutput{Body: refreshView{Things: n}}, nil
}
