package store

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"
)

// The limits of one batch when a stream is read from its beginning.
const (
	readBatch   = 2000
	readBytes   = 8 << 20
	readTimeout = 30 * time.Second
)

// token writes any text as one token of a subject.
func token(s string) string { return "k" + base64.RawURLEncoding.EncodeToString([]byte(s)) }

// untoken reads what token has written behind a prefix.
func untoken(subject, prefix string) (string, error) {
	text, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(subject, prefix+"k"))
	if err != nil {
		return "", fmt.Errorf("read the subject %s: %w", subject, err)
	}
	return string(text), nil
}

// openStream makes a stream or brings it up to date with its configuration.
func openStream(ctx context.Context, js jetstream.JetStream, c jetstream.StreamConfig) (jetstream.Stream, error) {
	c.Storage = jetstream.FileStorage
	c.AllowDirect = true // readAll needs it
	s, err := js.CreateOrUpdateStream(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("open the stream %s: %w", c.Name, err)
	}
	return s, nil
}

// readAll hands each message of a stream to take, from the oldest to the
// newest that was there when it began.
func readAll(ctx context.Context, js jetstream.JetStream, s jetstream.Stream, take func(m *jetstream.RawStreamMsg) error) error {
	info, err := s.Info(ctx)
	if err != nil {
		return fmt.Errorf("read a stream: %w", err)
	}
	name, next, last := info.Config.Name, info.State.FirstSeq, info.State.LastSeq
	for next <= last && info.State.Msgs > 0 {
		reached, err := readSome(ctx, js, name, next, take)
		if errors.Is(err, jetstreamext.ErrNoMessages) {
			return nil // the rest was deleted or has aged out
		}
		if err != nil {
			return fmt.Errorf("read the stream %s from %d on: %w", name, next, err)
		}
		next = reached + 1
	}
	return nil
}

// readSome reads one batch and returns the sequence that it has reached.
func readSome(ctx context.Context, js jetstream.JetStream, name string, from uint64, take func(m *jetstream.RawStreamMsg) error) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	batch, err := jetstreamext.GetBatch(ctx, js, name, readBatch,
		jetstreamext.GetBatchSeq(from), jetstreamext.GetBatchMaxBytes(readBytes))
	if err != nil {
		return 0, err
	}
	reached := uint64(0)
	for m, err := range batch {
		if err != nil {
			return 0, err
		}
		if err := take(m); err != nil {
			return 0, err
		}
		reached = m.Sequence
	}
	if reached == 0 {
		return 0, jetstreamext.ErrNoMessages
	}
	return reached, nil
}
