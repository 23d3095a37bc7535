package store

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"

	"sluice"
)

// shelf holds the objects of one kind in memory, with their secrets in clear.
type shelf[T any] struct {
	kind string // the first part of the keys in the bucket, and the noun in sentences
	// id, name and configuration lead into an object; configuration is nil
	// for a kind that has no secrets.
	id            func(*T) *string
	name          func(*T) string
	configuration func(*T) *json.RawMessage
	clone         func(T) T

	mu      sync.RWMutex
	objects map[string]entry[T]
}

// entry is an object and the revision of its key in the bucket.
type entry[T any] struct {
	value    T
	missing  []string // secrets that were dropped and not entered again
	revision uint64
}

func (s *shelf[T]) key(id string) string { return s.kind + "." + id }

func (s *shelf[T]) counterKey() string { return "counter." + s.kind }

func (s *shelf[T]) has(id string) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	_, ok := s.objects[id]
	return ok
}

// entry returns an object as it is held; it must not be changed.
func (s *shelf[T]) entry(id string) (entry[T], error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	e, ok := s.objects[id]
	if !ok {
		return entry[T]{}, sluice.Errorf(sluice.CodeNotFound, "There is no %s with the id %q.", s.kind, id)
	}
	return e, nil
}

// get returns a copy of an object.
func (s *shelf[T]) get(id string) (T, error) {
	e, err := s.entry(id)
	if err != nil {
		return e.value, err
	}
	return s.clone(e.value), nil
}

// list returns copies of all objects, sorted by id.
func (s *shelf[T]) list() []T {
	s.mu.RLock()
	defer s.mu.RUnlock()
	all := make([]T, 0, len(s.objects))
	for _, id := range slices.SortedFunc(maps.Keys(s.objects), compareIDs) {
		all = append(all, s.clone(s.objects[id].value))
	}
	return all
}

// put holds an object that is stored.
func (s *shelf[T]) put(e entry[T]) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.objects[*s.id(&e.value)] = e
}

func (s *shelf[T]) drop(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.objects, id)
}

// highest is the highest id that is a number.
func (s *shelf[T]) highest() uint64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	high := uint64(0)
	for id := range s.objects {
		var n uint64
		if _, err := fmt.Sscanf(id, "%d", &n); err == nil {
			high = max(high, n)
		}
	}
	return high
}

// compareIDs sorts numbers by value and ids of one length by letters.
func compareIDs(a, b string) int {
	return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b))
}

// store writes an object, with the named properties of its configuration
// sealed, and then holds it. The caller holds Store.writing.
func (s *shelf[T]) store(ctx context.Context, b *bucket, sealer sluice.Sealer, value T, secrets []string, revision uint64) error {
	id := *s.id(&value)
	document, err := s.encode(sealer, value, secrets, nil)
	if err != nil {
		return err
	}
	written, err := b.put(ctx, s.key(id), document, revision)
	if err != nil {
		s.refresh(ctx, b, sealer, id)
		return err
	}
	s.put(entry[T]{value: s.clone(value), revision: written})
	return nil
}

// remove deletes an object. The caller holds Store.writing.
func (s *shelf[T]) remove(ctx context.Context, b *bucket, sealer sluice.Sealer, id string) error {
	e, err := s.entry(id)
	if err != nil {
		return err
	}
	if err := b.remove(ctx, s.key(id), e.revision); err != nil {
		s.refresh(ctx, b, sealer, id)
		return err
	}
	s.drop(id)
	return nil
}

// refresh makes memory agree with the bucket after a write that has failed:
// it may have happened all the same, or another process may have been faster.
// Where the bucket cannot be read either, memory stays as it is, and the next
// write of this object fails by its revision and comes here again.
func (s *shelf[T]) refresh(ctx context.Context, b *bucket, sealer sluice.Sealer, id string) {
	document, revision, err := b.get(ctx, s.key(id))
	if err != nil {
		return
	}
	if revision == 0 {
		s.drop(id)
		return
	}
	if e, _, err := s.decode(sealer, document); err == nil {
		e.revision = revision
		s.put(e)
	}
}
