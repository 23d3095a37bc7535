package store

import (
	"bytes"
	"context"
	"encoding/base32"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"sluice"
)

// networkIDBytes is how much randomness is in the id of a network: it is all
// that guards an address which takes unsigned reports.
const networkIDBytes = 16

// networkKind begins the keys of networks, and is the noun in sentences.
const networkKind = "network"

func networkShelf() shelf[sluice.NetworkConfig] {
	return shelf[sluice.NetworkConfig]{
		kind:          networkKind,
		id:            func(n *sluice.NetworkConfig) *string { return &n.ID },
		name:          func(n *sluice.NetworkConfig) string { return n.Name },
		configuration: func(n *sluice.NetworkConfig) *json.RawMessage { return &n.Configuration },
		clone: func(n sluice.NetworkConfig) sluice.NetworkConfig {
			n.Configuration = bytes.Clone(n.Configuration)
			return n
		},
		objects: make(map[string]entry[sluice.NetworkConfig]),
	}
}

// Networks returns all networks, sorted by id, with their secrets in clear.
func (s *Store) Networks() []sluice.NetworkConfig { return s.networks.list() }

// Network returns a network, with its secrets in clear. The error has
// CodeNotFound.
func (s *Store) Network(id string) (sluice.NetworkConfig, error) { return s.networks.get(id) }

// CreateNetwork stores a new network and returns it as stored, with its ID
// (26 lower-case letters and digits that cannot be guessed) and Created.
// secrets are as in [Store.CreateConnection].
func (s *Store) CreateNetwork(ctx context.Context, n sluice.NetworkConfig, secrets []string) (sluice.NetworkConfig, error) {
	err := s.change(func() (err error) {
		n, err = s.createNetwork(ctx, n, secrets)
		return err
	})
	return n, err
}

func (s *Store) createNetwork(ctx context.Context, n sluice.NetworkConfig, secrets []string) (sluice.NetworkConfig, error) {
	if err := normalise(&n.Configuration); err != nil {
		return n, err
	}
	id, err := newNetworkID(s.options.Rand)
	if err != nil {
		return n, err
	}
	n.ID = id
	n.Created = s.now()
	return n, s.networks.store(ctx, s.config, s.options.Sealer, n, secrets, 0)
}

// ReplaceNetwork stores a network in place of the one with its ID. ID and
// Created stay. The error has CodeNotFound where there is none.
func (s *Store) ReplaceNetwork(ctx context.Context, n sluice.NetworkConfig, secrets []string) (sluice.NetworkConfig, error) {
	err := s.change(func() (err error) {
		n, err = s.replaceNetwork(ctx, n, secrets)
		return err
	})
	return n, err
}

func (s *Store) replaceNetwork(ctx context.Context, n sluice.NetworkConfig, secrets []string) (sluice.NetworkConfig, error) {
	old, err := s.networks.entry(n.ID)
	if err != nil {
		return n, err
	}
	if err := normalise(&n.Configuration); err != nil {
		return n, err
	}
	n.Created = old.value.Created
	return n, s.networks.store(ctx, s.config, s.options.Sealer, n, secrets, old.revision)
}

// DeleteNetwork deletes a network. The error has CodeNotFound where there is none.
func (s *Store) DeleteNetwork(ctx context.Context, id string) error {
	return s.change(func() error {
		return s.networks.remove(ctx, s.config, s.options.Sealer, id)
	})
}

// newNetworkID makes an id: 128 random bits in base 32.
func newNetworkID(random io.Reader) (string, error) {
	var b [networkIDBytes]byte
	if _, err := io.ReadFull(random, b[:]); err != nil {
		return "", fmt.Errorf("make a network id: %w", err)
	}
	return strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b[:])), nil
}
