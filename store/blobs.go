package store

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"sync"

	"github.com/nats-io/nats.go/jetstream"

	"sluice"
)

const (
	blobSubject = "store.blobs."
	// maxBlob is the size of the largest blob: with its headers it must fit
	// into one message.
	maxBlob = 512 << 10
)

// blobs are small records that only their owner understands.
type blobs struct {
	js     jetstream.JetStream
	stream jetstream.Stream

	mu      sync.Mutex
	values  map[string][]byte
	unsaved map[string]struct{}
}

// PutBlob keeps a small opaque record under a key, in memory at once and
// written behind; nil removes it. A power cut may lose the last minutes of
// these. The value is copied. The error has CodeTooLarge, for over 512 KiB.
func (s *Store) PutBlob(key string, value []byte) error {
	if len(value) > maxBlob {
		return sluice.Errorf(sluice.CodeTooLarge, "a record of %d bytes is over %d", len(value), maxBlob)
	}
	b := s.blobs
	b.mu.Lock()
	defer b.mu.Unlock()
	if value == nil {
		delete(b.values, key)
	} else {
		b.values[key] = bytes.Clone(value)
	}
	b.unsaved[key] = struct{}{}
	return nil
}

// Blob returns a copy of the record under a key.
func (s *Store) Blob(key string) ([]byte, bool) {
	s.blobs.mu.Lock()
	defer s.blobs.mu.Unlock()
	value, ok := s.blobs.values[key]
	return bytes.Clone(value), ok
}

// openBlobs reads the blobs. They change often and matter little: the stream
// is the only one of the store that the server need not flush at each write.
func openBlobs(ctx context.Context, js jetstream.JetStream, log *slog.Logger) (*blobs, error) {
	stream, err := openStream(ctx, js, jetstream.StreamConfig{
		Name:              "BLOBS",
		Description:       "Sluice: small opaque records, by key",
		Subjects:          []string{blobSubject + "*"},
		MaxMsgsPerSubject: 1,
		PersistMode:       jetstream.AsyncPersistMode,
	})
	if err != nil {
		return nil, err
	}
	b := &blobs{js: js, stream: stream, values: make(map[string][]byte), unsaved: make(map[string]struct{})}
	err = readAll(ctx, js, stream, func(m *jetstream.RawStreamMsg) error {
		key, err := untoken(m.Subject, blobSubject)
		if err != nil {
			log.Error("a record cannot be read", "error", err)
			return nil
		}
		b.values[key] = bytes.Clone(m.Data)
		return nil
	})
	return b, err
}

// flush writes what has changed.
func (b *blobs) flush(ctx context.Context) error {
	for _, key := range b.changed() {
		if err := b.write(ctx, key); err != nil {
			return err
		}
	}
	return nil
}

func (b *blobs) changed() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	keys := make([]string, 0, len(b.unsaved))
	for key := range b.unsaved {
		keys = append(keys, key)
	}
	return keys
}

// write writes one blob; it stays on the list where that fails.
func (b *blobs) write(ctx context.Context, key string) error {
	b.mu.Lock()
	value, ok := b.values[key]
	delete(b.unsaved, key)
	b.mu.Unlock()
	subject := blobSubject + token(key)
	var err error
	if ok {
		_, err = b.js.Publish(ctx, subject, value)
	} else {
		err = b.stream.Purge(ctx, jetstream.WithPurgeSubject(subject))
	}
	if err == nil {
		return nil
	}
	b.mu.Lock()
	b.unsaved[key] = struct{}{}
	b.mu.Unlock()
	return fmt.Errorf("write %s: %w", subject, err)
}
