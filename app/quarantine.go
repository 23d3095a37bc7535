package app

import (
	"context"

	"sluice"
	"sluice/journal"
)

// quarantine fits the journal's quarantines to the API.
type quarantine struct{ journal *journal.Journal }

func (q quarantine) Quarantined(ctx context.Context, connection string, offset, limit int) ([]sluice.Quarantined, int, error) {
	return q.journal.Quarantined(ctx, journal.Up(connection), offset, limit)
}

func (q quarantine) QuarantinedMessage(ctx context.Context, connection string, number uint64) (*sluice.Quarantined, error) {
	return q.journal.QuarantinedMessage(ctx, journal.Up(connection), number)
}

func (q quarantine) Retry(ctx context.Context, connection string, number uint64) error {
	return q.journal.Retry(ctx, journal.Up(connection), number)
}

func (q quarantine) RetryAll(ctx context.Context, connection string) (int, error) {
	return q.journal.RetryAll(ctx, journal.Up(connection))
}

func (q quarantine) DeleteQuarantined(ctx context.Context, connection string, number uint64) error {
	return q.journal.DeleteQuarantined(ctx, journal.Up(connection), number)
}

func (q quarantine) DeleteAllQuarantined(ctx context.Context, connection string) (int, error) {
	return q.journal.DeleteAllQuarantined(ctx, journal.Up(connection))
}
