package store

import (
	"context"
	"slices"
	"strconv"

	"sluice"
)

func flowShelf() shelf[sluice.Flow] {
	return shelf[sluice.Flow]{
		kind:    "flow",
		id:      func(f *sluice.Flow) *string { return &f.ID },
		name:    func(f *sluice.Flow) string { return f.Name },
		clone:   cloneFlow,
		objects: make(map[string]entry[sluice.Flow]),
	}
}

func cloneFlow(f sluice.Flow) sluice.Flow {
	if f.Driver != nil {
		driver := *f.Driver
		f.Driver = &driver
	}
	f.Matchers = slices.Clone(f.Matchers)
	for i := range f.Matchers {
		f.Matchers[i].Tags = slices.Clone(f.Matchers[i].Tags)
	}
	f.Connectors = slices.Clone(f.Connectors)
	return f
}

// Flows returns all flows, sorted by id.
func (s *Store) Flows() []sluice.Flow { return s.flows.list() }

// Flow returns a flow. The error has CodeNotFound.
func (s *Store) Flow(id string) (sluice.Flow, error) { return s.flows.get(id) }

// CreateFlow stores a new flow and returns it with its ID, a number that no
// flow had before.
func (s *Store) CreateFlow(ctx context.Context, f sluice.Flow) (sluice.Flow, error) {
	err := s.change(func() (err error) {
		f, err = s.createFlow(ctx, f)
		return err
	})
	return f, err
}

func (s *Store) createFlow(ctx context.Context, f sluice.Flow) (sluice.Flow, error) {
	number, err := s.config.count(ctx, s.flows.counterKey(), s.flows.highest())
	if err != nil {
		return f, err
	}
	f.ID = strconv.FormatUint(number, 10)
	return f, s.flows.store(ctx, s.config, s.options.Sealer, f, nil, 0)
}

// ReplaceFlow stores a flow in place of the one with its ID. The error has
// CodeNotFound where there is none.
func (s *Store) ReplaceFlow(ctx context.Context, f sluice.Flow) (sluice.Flow, error) {
	err := s.change(func() error {
		old, err := s.flows.entry(f.ID)
		if err != nil {
			return err
		}
		return s.flows.store(ctx, s.config, s.options.Sealer, f, nil, old.revision)
	})
	return f, err
}

// DeleteFlow deletes a flow. The error has CodeNotFound where there is none.
func (s *Store) DeleteFlow(ctx context.Context, id string) error {
	return s.change(func() error {
		return s.flows.remove(ctx, s.config, s.options.Sealer, id)
	})
}
