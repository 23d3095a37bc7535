package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/nats-io/nats.go/jetstream"

	"sluice"
	"sluice/internal/seal"
)

// openConfig reads the bucket.
func (s *Store) openConfig(ctx context.Context, js jetstream.JetStream) error {
	var err error
	if s.config, err = openBucket(ctx, js); err != nil {
		return unavailable("be opened", err)
	}
	var lost []loss
	err = s.config.load(ctx, func(key string, value []byte, revision uint64) error {
		kind, _, _ := strings.Cut(key, ".")
		var l loss
		var err error
		switch kind {
		case s.connections.kind:
			l, err = load(&s.connections, s.options.Sealer, key, value, revision)
		case s.flows.kind:
			l, err = load(&s.flows, s.options.Sealer, key, value, revision)
		case s.networks.kind:
			l, err = load(&s.networks, s.options.Sealer, key, value, revision)
		}
		if len(l.Secrets) > 0 {
			lost = append(lost, l)
		}
		return err
	})
	if err != nil {
		return unavailable("be read", err)
	}
	if len(lost) == 0 {
		return nil
	}
	slices.SortFunc(lost, func(a, b loss) int {
		if a.Kind != b.Kind {
			return strings.Compare(a.Kind, b.Kind)
		}
		return compareIDs(a.ID, b.ID)
	})
	if !s.options.ForgetSecrets {
		return lostError(s.options.Sealer, lost)
	}
	return s.forgetSecrets(ctx, lost)
}

// change runs f, which writes the configuration, while nobody else does, and
// then tells the watchers; also when f has failed, because its write may have
// happened all the same.
func (s *Store) change(f func() error) error {
	defer s.watch.tell()
	s.writing.Lock()
	defer s.writing.Unlock()
	return f()
}

// loss is what cannot be opened of one object.
type loss struct {
	MissingSecret
	err    error // why
	forget func(ctx context.Context, b *bucket, names []string) error
}

// load puts one record on its shelf.
func load[T any](s *shelf[T], sealer sluice.Sealer, key string, document []byte, revision uint64) (loss, error) {
	e, lost, err := s.decode(sealer, document)
	if err != nil {
		return loss{}, fmt.Errorf("the record %s: %w", loggedKey(key), err)
	}
	e.revision = revision
	s.put(e)
	return loss{
		MissingSecret: MissingSecret{s.kind, *s.id(&e.value), s.name(&e.value), lost.names},
		err:           lost.err,
		forget: func(ctx context.Context, b *bucket, names []string) error {
			return forget(ctx, s, b, document, e, names)
		},
	}, nil
}

// loggedKey is a key as it may be logged: the id of a network is as good as a
// password, so a part of its hash stands there for it.
func loggedKey(key string) string {
	id, ok := strings.CutPrefix(key, networkKind+".")
	if !ok {
		return key
	}
	sum := sha256.Sum256([]byte(id))
	return networkKind + "." + hex.EncodeToString(sum[:4])
}

// lostError is the error of Open for secrets that cannot be opened: for want
// of a key, with another one, or because they are damaged.
func lostError(sealer sluice.Sealer, lost []loss) error {
	e := &sluice.Error{
		Code:    sluice.CodeInternal,
		Message: "These secrets are damaged and cannot be read:",
		Hint:    "Restore the data directory from a copy, or start once with --forget-secrets and enter these secrets again.",
	}
	var why error
	for _, l := range lost {
		e.Fields = append(e.Fields, sluice.Problem{Path: l.subject(), Message: strings.Join(l.Secrets, ", ")})
		why = errors.Join(why, l.err)
	}
	switch {
	case errors.Is(why, seal.ErrNoKey):
		e.Message = "The key that the secrets were sealed with is not there; these cannot be read:"
		e.Hint = "Put the key file back, or start once with --forget-secrets and enter these secrets again."
	case errors.Is(why, seal.ErrOtherKey):
		e.Message = "The key" + inFile(sealer) + " is not the one that the secrets were sealed with; these cannot be read:"
		e.Hint = "Put the right key file there, or start once with --forget-secrets and enter these secrets again."
	}
	return e
}

// inFile says where a sealer has its key, if it has it in a file.
func inFile(sealer sluice.Sealer) string {
	if f, ok := sealer.(interface{ Path() string }); ok {
		return " in " + f.Path()
	}
	return ""
}

// forgetSecrets drops for good what cannot be opened.
func (s *Store) forgetSecrets(ctx context.Context, lost []loss) error {
	for _, l := range lost {
		if err := l.forget(ctx, s.config, l.Secrets); err != nil {
			return err
		}
		s.options.Log.Warn("secrets were dropped; enter them again", "what", l.String())
	}
	return nil
}

// forget rewrites a record without the named secrets; the sealed others stay
// as they are.
func forget[T any](ctx context.Context, s *shelf[T], b *bucket, document []byte, e entry[T], names []string) error {
	changed, missing, err := dropSecrets(document, names)
	if err != nil {
		return err
	}
	revision, err := b.put(ctx, s.key(*s.id(&e.value)), changed, e.revision)
	if err != nil {
		return err
	}
	e.revision, e.missing = revision, missing
	s.put(e)
	return nil
}
