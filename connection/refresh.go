package connection

import "sluice"

// Refresh has a connection look whether all that it remembers of the cloud's
// registry is still there, and returns how many things that are. The error is
// a *[sluice.Error]: CodeNotFound for an unknown connection, CodeConflict where
// it keeps no things or does not run.
func (s *Supervisor) Refresh(connectionID string) (things int, err error) {
	r, ok := s.runner(connectionID)
	if !ok {
		return 0, sluice.Errorf(sluice.CodeNotFound, "There is no connection with id %s.", connectionID)
	}
	p := r.serving.Load()
	if p == nil {
		return 0, &sluice.Error{
			Code: sluice.CodeConflict, Message: "The connection is not active.",
			Hint: "Activate it first: set active to true.",
		}
	}
	refresher, ok := p.dialer.(sluice.Refresher)
	if !ok {
		return 0, &sluice.Error{Code: sluice.CodeConflict, Message: "The connection's cloud has no registry of things."}
	}
	return refresher.Refresh()
}
