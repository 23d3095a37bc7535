package store

import "context"

// Flush writes what waits, as the last flush of Run does, and then tidies up.
func (s *Store) Flush(ctx context.Context) error {
	if err := s.flushState(ctx); err != nil {
		return err
	}
	if err := s.events.flush(ctx); err != nil {
		return err
	}
	return s.tidyState(ctx)
}

// SetSlack sets how much longer than need be the logs of devices and of a
// connection's things may be.
func (s *Store) SetSlack(connectionID string, slack int64) {
	s.devices.writer.log.slack = slack
	s.things.of(connectionID).log.slack = slack
}
