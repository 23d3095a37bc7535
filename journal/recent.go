package journal

import (
	"context"
	"errors"
	"time"

	"sluice"
)

// LastEnd tells whether the journal had ended in order before it was opened,
// and, where it had not, when it wrote last.
func (j *Journal) LastEnd() (at time.Time, orderly bool) { return j.lastLife, !j.unclean }

// Recent calls f with the last entries of a place, at most n, oldest first:
// also those that are over, as far as history goes back. What is damaged is
// left out; a reader tells of it.
func (j *Journal) Recent(ctx context.Context, name Place, n int, f func(m *sluice.Message)) error {
	p := j.place(name)
	if p == nil {
		return nil
	}
	p.mu.Lock()
	last, lastSeq := p.last, p.lastSeq
	p.mu.Unlock()
	from := last - min(uint64(n), last) + 1
	_, seq, err := j.find(ctx, name, from, 1, lastSeq)
	if err != nil {
		return err
	}
	for seq = max(seq, 1); seq <= lastSeq; {
		got, err := j.entries.batch(ctx, string(name), seq, maxFetch, maxFetchBytes)
		if errors.Is(err, errNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		for _, s := range got {
			seq = s.seq + 1
			eachOf(s.data, from, f)
		}
	}
	return nil
}

// eachOf calls f with the entries of a bundle from a number on.
func eachOf(data []byte, from uint64, f func(m *sluice.Message)) {
	b, err := openBundle(data)
	if err != nil {
		return
	}
	for b.more() {
		number, body, err := b.take()
		if err != nil && number == 0 {
			return
		}
		m := &sluice.Message{}
		if err == nil && number >= from && decodeEntry(m, number, body) == nil {
			f(m)
		}
	}
}
