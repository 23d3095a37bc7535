package store

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"time"

	"sluice"
)

func connectionShelf() shelf[sluice.Connection] {
	return shelf[sluice.Connection]{
		kind:          "connection",
		id:            func(c *sluice.Connection) *string { return &c.ID },
		name:          func(c *sluice.Connection) string { return c.Name },
		configuration: func(c *sluice.Connection) *json.RawMessage { return &c.Configuration },
		clone: func(c sluice.Connection) sluice.Connection {
			c.Alarms = bytes.Clone(c.Alarms)
			c.Configuration = bytes.Clone(c.Configuration)
			return c
		},
		objects: make(map[string]entry[sluice.Connection]),
	}
}

// Connections returns all connections, sorted by id, with their secrets in clear.
func (s *Store) Connections() []sluice.Connection { return s.connections.list() }

// Connection returns a connection, with its secrets in clear. The error has
// CodeNotFound.
func (s *Store) Connection(id string) (sluice.Connection, error) { return s.connections.get(id) }

// ConnectionByDownlinkID finds the connection of a downlink address.
func (s *Store) ConnectionByDownlinkID(downlinkID string) (sluice.Connection, bool) {
	s.connections.mu.RLock()
	defer s.connections.mu.RUnlock()
	for _, e := range s.connections.objects {
		if e.value.DownlinkID == downlinkID && downlinkID != "" {
			return s.connections.clone(e.value), true
		}
	}
	return sluice.Connection{}, false
}

// CreateConnection stores a new connection and returns it as stored: with its
// ID (a number that no connection had before), DownlinkID, Created, Updated
// and Revision 1; what c says of these does not count. secrets are the names
// of the top-level properties of the configuration that are sealed. The
// configuration must be a JSON object; its properties come back sorted, their
// values unchanged.
func (s *Store) CreateConnection(ctx context.Context, c sluice.Connection, secrets []string) (sluice.Connection, error) {
	err := s.change(func() (err error) {
		c, err = s.createConnection(ctx, c, secrets)
		return err
	})
	return c, err
}

func (s *Store) createConnection(ctx context.Context, c sluice.Connection, secrets []string) (sluice.Connection, error) {
	if err := normalise(&c.Configuration); err != nil {
		return c, err
	}
	downlinkID, err := newUUID(s.options.Rand)
	if err != nil {
		return c, err
	}
	number, err := s.config.count(ctx, s.connections.counterKey(), s.connections.highest())
	if err != nil {
		return c, err
	}
	c.ID = strconv.FormatUint(number, 10)
	c.DownlinkID = downlinkID
	c.Created = s.now()
	c.Updated = c.Created
	c.Revision = 1
	return c, s.connections.store(ctx, s.config, s.options.Sealer, c, secrets, 0)
}

// ReplaceConnection stores a connection in place of the one with its ID and
// returns it as stored. ID, DownlinkID and Created stay. Where c.Revision is
// not 0 it must be that of the stored connection; else the error has
// CodePrecondition. CodeNotFound where there is none with this ID.
func (s *Store) ReplaceConnection(ctx context.Context, c sluice.Connection, secrets []string) (sluice.Connection, error) {
	err := s.change(func() (err error) {
		c, err = s.replaceConnection(ctx, c, secrets)
		return err
	})
	return c, err
}

func (s *Store) replaceConnection(ctx context.Context, c sluice.Connection, secrets []string) (sluice.Connection, error) {
	old, err := s.connections.entry(c.ID)
	if err != nil {
		return c, err
	}
	if c.Revision != 0 && c.Revision != old.value.Revision {
		return c, &sluice.Error{
			Code:    sluice.CodePrecondition,
			Message: fmt.Sprintf("the connection %s was changed meanwhile: it has revision %d, not %d", c.ID, old.value.Revision, c.Revision),
			Hint:    "Read it again and repeat the change.",
		}
	}
	if err := normalise(&c.Configuration); err != nil {
		return c, err
	}
	c.DownlinkID = old.value.DownlinkID
	c.Created = old.value.Created
	c.Updated = s.now()
	c.Revision = old.value.Revision + 1
	return c, s.connections.store(ctx, s.config, s.options.Sealer, c, secrets, old.revision)
}

// DeleteConnection deletes a connection and what it knows of things. The
// error has CodeNotFound where there is none.
func (s *Store) DeleteConnection(ctx context.Context, id string) error {
	return s.change(func() error {
		if err := s.connections.remove(ctx, s.config, s.options.Sealer, id); err != nil {
			return err
		}
		s.ForgetThings(id)
		return nil
	})
}

// now is the time to the millisecond, as it is shown.
func (s *Store) now() time.Time { return s.options.Clock().UTC().Truncate(time.Millisecond) }

// normalise gives a configuration the form that it has after a restart.
func normalise(configuration *json.RawMessage) error {
	properties, err := splitObject(*configuration)
	if err != nil {
		return err
	}
	*configuration = joinObject(properties)
	return nil
}

// newUUID makes a random UUID (version 4, RFC 9562).
func newUUID(random io.Reader) (string, error) {
	var b [16]byte
	if _, err := io.ReadFull(random, b[:]); err != nil {
		return "", fmt.Errorf("make a downlink id: %w", err)
	}
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:]), nil
}
