package journal

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

const (
	bookPrefix = "book."
	// bookPause is how long changed books wait to be written together, and
	// maxBooks how many are written then: 500 places that are all busy have
	// theirs written once a second.
	bookPause = 250 * time.Millisecond
	maxBooks  = 128
)

// bookkeeper knows which books have changed since they were written.
type bookkeeper struct {
	mu     sync.Mutex
	dirty  []*place
	writes sync.Mutex    // held while books are written, or one is erased
	signal chan struct{} // of one
}

// changed notes that p has changed; fresh is what p.touch said.
func (b *bookkeeper) changed(p *place, fresh bool) {
	if !fresh {
		return
	}
	b.mu.Lock()
	b.dirty = append(b.dirty, p)
	b.mu.Unlock()
	select {
	case b.signal <- struct{}{}:
	default:
	}
}

// take returns up to n places whose books have changed, the longest waiting
// first, and whether there are more.
func (b *bookkeeper) take(n int) (ps []*place, more bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	n = min(n, len(b.dirty))
	ps = append(ps, b.dirty[:n]...)
	rest := copy(b.dirty, b.dirty[n:])
	clear(b.dirty[rest:])
	b.dirty = b.dirty[:rest]
	return ps, rest > 0
}

// keepBooks writes books until ctx ends. While nothing changes it sleeps.
func (j *Journal) keepBooks(ctx context.Context, pub *publisher) {
	timer := time.NewTimer(bookPause)
	defer timer.Stop()
	for more := false; ; {
		if !more {
			select {
			case <-j.books.signal:
			case <-ctx.Done():
				return
			}
		}
		timer.Reset(bookPause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		more = j.writeBooks(pub, false)
	}
}

// writeBooks writes changed books, up to maxBooks or all, and reports whether
// there are more.
func (j *Journal) writeBooks(pub *publisher, all bool) (more bool) {
	limit := maxBooks
	if all {
		limit = math.MaxInt
	}
	ps, more := j.books.take(limit)
	for some := range slices.Chunk(ps, maxBooks) {
		j.writeSome(pub, some)
	}
	return more
}

func (j *Journal) writeSome(pub *publisher, ps []*place) {
	j.books.writes.Lock()
	defer j.books.writes.Unlock()
	out := make([]outgoing, 0, len(ps))
	seqs := make([]uint64, 0, len(ps))
	written := make([]*place, 0, len(ps))
	for _, p := range ps {
		p.mu.Lock()
		p.dirty = false
		if !p.gone {
			out = append(out, outgoing{subject: bookPrefix + string(p.name), data: p.appendBook(nil)})
			seqs = append(seqs, p.oldest())
			written = append(written, p)
		}
		p.mu.Unlock()
	}
	pub.each(out, false, 0, commitTimeout)
	j.stats.books.Add(uint64(len(out)))
	for i, p := range written {
		p.mu.Lock()
		fresh := false
		if out[i].err == nil {
			p.written = seqs[i]
		} else {
			fresh = p.touch()
		}
		p.mu.Unlock()
		if out[i].err != nil {
			j.Doubt()
			j.o.Log.Error("a position could not be written", "place", p.name.label(), "error", out[i].err)
			j.books.changed(p, fresh)
		}
	}
}

// loadBooks reads all books.
func (j *Journal) loadBooks(ctx context.Context) error {
	books := newFetcher(j.o.Reads, streamBooks)
	for from := uint64(1); ; {
		got, err := books.batch(ctx, bookPrefix+">", from, maxFetch, maxFetchBytes)
		if errors.Is(err, errNotFound) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("journal: read the positions: %w", err)
		}
		for _, s := range got {
			from = s.seq + 1
			p := newPlace(Place(s.subject[len(bookPrefix):]))
			if err := p.readBook(s.data); err != nil {
				j.o.Log.Error("a position is damaged", "place", p.name.label())
				continue
			}
			p.written, p.trimmable = p.oldest(), p.oldest()
			j.places[p.name] = p
		}
	}
}

// eraseBook removes the book of a place.
func (j *Journal) eraseBook(ctx context.Context, p *place) error {
	s, err := j.js.Stream(ctx, streamBooks)
	if err != nil {
		return err
	}
	j.books.writes.Lock()
	defer j.books.writes.Unlock()
	return s.Purge(ctx, jetstream.WithPurgeSubject(bookPrefix+string(p.name)))
}
