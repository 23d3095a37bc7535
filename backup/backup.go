package backup

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"sluice"
)

// The streams that the order is about; see the package's comment.
const (
	positions = "BOOKS"
	entries   = "SLUICE"
)

// tries is how often a stream is copied whose messages are deleted meanwhile.
const tries = 20

// Journal is what is needed of the journal.
type Journal interface {
	// Hold keeps all that is in the journal there until release is called.
	// held ends, with a cause, when that cannot be any longer.
	Hold(ctx context.Context) (held context.Context, release func(), err error)
	// HoldBooks keeps the positions from being written until release is called.
	HoldBooks() (release func())
}

// Source is what is backed up.
type Source struct {
	Conn     *nats.Conn // for nothing else meanwhile
	Journal  Journal
	Dir      string // where temporary files may lie
	Version  string // of Sluice
	Instance string
	KeyID    string
	Summary  func() Summary
	Clock    sluice.Clock
}

// Write writes a backup to w. Errors that come before anything was written are
// [*sluice.Error]s.
func Write(ctx context.Context, w io.Writer, o Source) error {
	// First of all: what is accepted from now on may be missing.
	began := o.Clock().UTC()
	held, release, err := o.Journal.Hold(ctx)
	if err != nil {
		return err
	}
	defer release()
	js, err := jetstream.New(o.Conn)
	if err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	b := &backup{
		o: o, js: js, w: newWriter(w, began),
		manifest: Manifest{Format: Format, Sluice: o.Version, Time: began, Instance: o.Instance, KeyID: o.KeyID},
	}
	if err := b.run(held); err != nil {
		if cause := context.Cause(held); cause != nil {
			err = cause
		}
		return fmt.Errorf("backup: %w", err)
	}
	return nil
}

// backup is a run of Write.
type backup struct {
	o        Source
	js       jetstream.JetStream
	w        *writer
	manifest Manifest
}

func (b *backup) run(ctx context.Context) error {
	names, err := b.streams(ctx)
	if err != nil {
		return err
	}
	if err := b.w.json(headName, head{Format: Format, Sluice: b.o.Version, Time: b.manifest.Time}); err != nil {
		return err
	}
	for _, name := range names {
		s, err := b.stream(ctx, name)
		if err != nil {
			return fmt.Errorf("copy the stream %s: %w", name, err)
		}
		b.manifest.Streams = append(b.manifest.Streams, s)
	}
	b.manifest.Summary = b.o.Summary()
	if err := b.w.json(manifestName, b.manifest); err != nil {
		return err
	}
	return b.w.end()
}

// streams lists the streams in the order in which they are copied.
func (b *backup) streams(ctx context.Context) ([]string, error) {
	list := b.js.StreamNames(ctx)
	names := []string{}
	for name := range list.Name() {
		if name != positions && name != entries {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Concat([]string{positions}, names, []string{entries}), list.Err()
}

// stream copies a stream into the archive.
func (b *backup) stream(ctx context.Context, name string) (Stream, error) {
	p := &pieces{w: b.w, name: name}
	sum := &summer{hash: sha256.New()}
	to := io.MultiWriter(p, sum)
	var s Stream
	var err error
	if name == entries {
		// What is held is not deleted, so once is enough.
		s, err = b.once(ctx, name, to)
	} else {
		s, err = b.spooled(ctx, name, to)
	}
	if err == nil {
		err = p.flush()
	}
	s.Size, s.SHA256 = sum.size, hex.EncodeToString(sum.hash.Sum(nil))
	return s, err
}

// once copies a stream that must be whole then.
func (b *backup) once(ctx context.Context, name string, w io.Writer) (Stream, error) {
	s, err := snapshot(ctx, b.o.Conn, name, w)
	if err != nil {
		return s, err
	}
	ok, err := whole(ctx, b.js, s)
	if err == nil && !ok {
		err = errDeleting
	}
	return s, err
}

// errDeleting says that a stream cannot be copied for now.
var errDeleting = errors.New("entries were deleted from it meanwhile")

// spooled copies a stream to a temporary file until the copy is whole, and then
// to w: what w was given cannot be taken back, and w may be slow.
func (b *backup) spooled(ctx context.Context, name string, w io.Writer) (Stream, error) {
	f, err := os.CreateTemp(b.o.Dir, ".sluice-backup-*")
	if err != nil {
		return Stream{}, err
	}
	defer func() { _ = errors.Join(f.Close(), os.Remove(f.Name())) }()
	s, err := b.again(ctx, name, f)
	if err != nil {
		return s, err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return s, err
	}
	_, err = io.Copy(w, struct{ io.Reader }{f})
	return s, err
}

// again copies a stream to a file until the copy is whole.
func (b *backup) again(ctx context.Context, name string, f *os.File) (s Stream, err error) {
	if name == positions {
		defer b.o.Journal.HoldBooks()()
	}
	for range tries {
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return s, err
		}
		if err := f.Truncate(0); err != nil {
			return s, err
		}
		if s, err = b.once(ctx, name, f); !errors.Is(err, errDeleting) {
			return s, err
		}
		select {
		case <-ctx.Done():
			return s, context.Cause(ctx)
		case <-time.After(50 * time.Millisecond):
		}
	}
	return s, err
}

// summer sums and counts.
type summer struct {
	hash hash.Hash
	size int64
}

func (s *summer) Write(b []byte) (int, error) {
	s.size += int64(len(b))
	return s.hash.Write(b)
}
