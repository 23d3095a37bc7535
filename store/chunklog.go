package store

import (
	"context"
	"fmt"
	"iter"

	"github.com/nats-io/nats.go/jetstream"
)

// chunkLog is a log of chunks on one subject, in which a later record stands
// for an earlier one with the same key. When most of it is out of date it is
// written anew. It is used by one goroutine at a time.
//
// Why not a key a record: the server holds some hundred bytes of memory for
// each key, writes and flushes each by itself, and hands them back one by one.
type chunkLog struct {
	js      jetstream.JetStream
	stream  jetstream.Stream
	subject string
	size    int64 // bytes of the chunks in the log
	base    int64 // size after the log was last written anew
	slack   int64 // what the log may have beyond a multiple of what it says
}

const chunkSlack = 4 << 20

func newChunkLog(js jetstream.JetStream, stream jetstream.Stream, subject string) chunkLog {
	return chunkLog{js: js, stream: stream, subject: subject, slack: chunkSlack}
}

// chunkOverhead is about what the server adds to a chunk on disk.
const chunkOverhead = 64

// loaded counts a chunk that was found in the log.
func (l *chunkLog) loaded(chunk []byte) { l.size += int64(len(chunk)) + chunkOverhead }

// append writes a chunk and returns when the server holds it.
func (l *chunkLog) append(ctx context.Context, chunk []byte) error {
	_, err := l.publish(ctx, chunk)
	return err
}

func (l *chunkLog) publish(ctx context.Context, chunk []byte) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	ack, err := l.js.Publish(ctx, l.subject, chunk)
	if err != nil {
		return 0, fmt.Errorf("write to %s: %w", l.subject, err)
	}
	l.loaded(chunk)
	return ack.Sequence, nil
}

// worn reports whether the log is much larger than what it says, which would
// take about live bytes.
func (l *chunkLog) worn(live int64) bool { return l.size > l.slack+3*max(live, l.base) }

// rewrite writes all records anew and then removes what was there before. Cut
// short, it leaves a log that is longer than it need be, and right; it is then
// not worn until it has grown much more, so that a slow disk is not asked for
// the same again at once.
func (l *chunkLog) rewrite(ctx context.Context, chunks iter.Seq[[]byte]) error {
	defer func() { l.base = l.size }()
	before, first := l.size, uint64(0)
	for chunk := range chunks {
		seq, err := l.publish(ctx, chunk)
		if err != nil {
			return err
		}
		if first == 0 {
			first = seq
		}
	}
	options := []jetstream.StreamPurgeOpt{jetstream.WithPurgeSubject(l.subject)}
	if first != 0 {
		options = append(options, jetstream.WithPurgeSequence(first))
	}
	if err := l.stream.Purge(ctx, options...); err != nil {
		return fmt.Errorf("shorten %s: %w", l.subject, err)
	}
	l.size -= before
	return nil
}
