package store

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"sluice"
)

// configBucket is the bucket of connections, flows, networks and the counters
// of their ids.
const configBucket = "CONFIG"

// writeTimeout bounds one write of the configuration.
const writeTimeout = 5 * time.Second

// bucket writes the configuration. A write is not cut off when its caller
// goes away: whether it has happened must be known.
type bucket struct {
	kv jetstream.KeyValue
}

func openBucket(ctx context.Context, js jetstream.JetStream) (*bucket, error) {
	kv, err := js.CreateOrUpdateKeyValue(ctx, jetstream.KeyValueConfig{
		Bucket:      configBucket,
		Description: "Sluice: connections, flows and networks",
		History:     1,
		Storage:     jetstream.FileStorage,
	})
	if err != nil {
		return nil, fmt.Errorf("open the bucket %s: %w", configBucket, err)
	}
	return &bucket{kv: kv}, nil
}

// load hands each key and value to take.
func (b *bucket) load(ctx context.Context, take func(key string, value []byte, revision uint64) error) error {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	w, err := b.kv.WatchAll(ctx, jetstream.IgnoreDeletes())
	if err != nil {
		return fmt.Errorf("read the bucket %s: %w", configBucket, err)
	}
	defer func() { _ = w.Stop() }()
	for {
		select {
		case <-ctx.Done():
			return fmt.Errorf("read the bucket %s: %w", configBucket, ctx.Err())
		case e, open := <-w.Updates():
			if !open {
				return fmt.Errorf("read the bucket %s: the connection was closed", configBucket)
			}
			if e == nil { // all that was there has come
				return nil
			}
			if err := take(e.Key(), e.Value(), e.Revision()); err != nil {
				return err
			}
		}
	}
}

// put writes a value in place of the given revision, 0 for a new key, and
// returns its own.
func (b *bucket) put(ctx context.Context, key string, value []byte, revision uint64) (uint64, error) {
	var written uint64
	err := bounded(ctx, writeTimeout, func(ctx context.Context) (err error) {
		if revision == 0 {
			written, err = b.kv.Create(ctx, key, value)
		} else {
			written, err = b.kv.Update(ctx, key, value, revision)
		}
		return err
	})
	return written, writeError(err)
}

// remove deletes a key that has the given revision.
func (b *bucket) remove(ctx context.Context, key string, revision uint64) error {
	return writeError(bounded(ctx, writeTimeout, func(ctx context.Context) error {
		return b.kv.Delete(ctx, key, jetstream.LastRevision(revision))
	}))
}

// get reads a key as it is stored; revision 0 means that it is not there.
func (b *bucket) get(ctx context.Context, key string) (value []byte, revision uint64, err error) {
	err = bounded(ctx, writeTimeout, func(ctx context.Context) error {
		e, err := b.kv.Get(ctx, key)
		if errors.Is(err, jetstream.ErrKeyNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		value, revision = e.Value(), e.Revision()
		return nil
	})
	return value, revision, err
}

// count raises a counter above its value and above least, and returns the new
// value: it is given to nobody else, ever.
func (b *bucket) count(ctx context.Context, key string, least uint64) (uint64, error) {
	text, revision, err := b.get(ctx, key)
	if err != nil {
		return 0, unavailable("be read", err)
	}
	number := uint64(0)
	if revision != 0 {
		if number, err = strconv.ParseUint(string(text), 10, 64); err != nil {
			return 0, unavailable("be read", fmt.Errorf("the counter %s: %w", key, err))
		}
	}
	number = max(number, least) + 1
	if _, err := b.put(ctx, key, strconv.AppendUint(nil, number, 10), revision); err != nil {
		return 0, err
	}
	return number, nil
}

// writeError makes the user's error of a write that has failed.
func writeError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, jetstream.ErrKeyExists), isWrongSequence(err):
		return &sluice.Error{
			Code:    sluice.CodePrecondition,
			Message: "it was changed meanwhile by another process",
			Hint:    "Read it again and repeat the change.",
			Err:     err,
		}
	default:
		return unavailable("be written", err)
	}
}

func isWrongSequence(err error) bool {
	api, ok := errors.AsType[*jetstream.APIError](err)
	return ok && api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence
}
