package journal

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"sluice"
)

const (
	streamEntries = Stream
	streamBooks   = "BOOKS"
)

// Open opens the journal, and makes its streams when there are none. It knows
// afterwards where each place stands. Nothing is committed before Run runs.
func Open(ctx context.Context, o Options) (*Journal, error) {
	if o.Conn == nil {
		return nil, errors.New("journal: no connection given")
	}
	o = o.withDefaults()
	js, err := jetstream.New(o.Conn)
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	j := &Journal{
		o:        o,
		js:       js,
		entries:  newFetcher(o.Reads, streamEntries),
		places:   map[Place]*place{},
		unsure:   map[*place]struct{}{},
		queue:    queueOfAppends{signal: make(chan struct{}, 1)},
		removing: make(chan struct{}, 1),
		books:    bookkeeper{signal: make(chan struct{}, 1)},
		wards:    wards{entries: newFetcher(o.Reads, streamQuarantine), turn: make(chan struct{}, 1), retries: make(chan struct{}, 1)},
		diskFree: diskFree,
		replays:  replays{of: map[string]*replay{}, begin: make(chan struct{}, 1)},
		after: func(d time.Duration, f func()) func() bool {
			return time.AfterFunc(d, f).Stop
		},
	}
	if err := j.makeStreams(ctx); err != nil {
		return nil, err
	}
	if err := j.loadBooks(ctx); err != nil {
		return nil, err
	}
	if err := j.loadPlaces(ctx); err != nil {
		return nil, err
	}
	j.replays.j = j
	if err := j.loadReplays(ctx); err != nil {
		return nil, err
	}
	if err := j.loadQuarantine(ctx); err != nil {
		return nil, err
	}
	if err := j.checkState(ctx, j.cutOff()); err != nil {
		return nil, err
	}
	for _, d := range o.Damage {
		j.o.Events.Record(sluice.Event{
			Level: sluice.LevelError, Type: sluice.EventJournalGap, Label: "Journal damaged", Detail: d,
			Hint: "Check the disk of the data directory.",
		})
	}
	j.checkDisk()
	j.setShare()
	j.setWards()
	return j, nil
}

func (j *Journal) makeStreams(ctx context.Context) error {
	var err error
	j.stream, err = j.js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name:               streamEntries,
		Description:        "Sluice: reports and commands",
		Subjects:           []string{upPrefix + "*", downPrefix + "*"},
		Retention:          jetstream.LimitsPolicy,
		Storage:            jetstream.FileStorage,
		MaxMsgs:            -1,
		MaxBytes:           -1,
		MaxMsgsPerSubject:  -1,
		Replicas:           1,
		AllowDirect:        true,
		AllowAtomicPublish: true,
	})
	if err != nil {
		return fmt.Errorf("journal: make the stream %s: %w", streamEntries, err)
	}
	books, err := j.js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name:              streamBooks,
		Description:       "Sluice: positions and counters",
		Subjects:          []string{bookPrefix + ">", statePrefix + ">"},
		Retention:         jetstream.LimitsPolicy,
		Storage:           jetstream.FileStorage,
		MaxMsgs:           -1,
		MaxBytes:          -1,
		MaxMsgsPerSubject: 1,
		Replicas:          1,
		AllowDirect:       true,
		PersistMode:       jetstream.AsyncPersistMode,
	})
	if err != nil {
		return fmt.Errorf("journal: make the stream %s: %w", streamBooks, err)
	}
	for _, s := range []jetstream.Stream{j.stream, books} {
		if t := s.CachedInfo().State.LastTime; t.After(j.lastLife) {
			j.lastLife = t
		}
	}
	return j.makeQuarantine(ctx)
}

// loadPlaces compares what the books say with what is in the stream. Where
// the stream ends before a book does, p.last stays the book's: numbers are
// not given twice.
func (j *Journal) loadPlaces(ctx context.Context) error {
	info, err := j.stream.Info(ctx, jetstream.WithSubjectFilter(">"))
	if err != nil {
		return fmt.Errorf("journal: read the stream's state: %w", err)
	}
	j.lastSeq = info.State.LastSeq
	for subject := range info.State.Subjects {
		p, known := j.places[Place(subject)]
		if !known {
			p = newPlace(Place(subject))
		}
		if err := j.loadPlace(ctx, p, known); err != nil {
			return err
		}
		j.places[p.name] = p
	}
	for _, p := range j.places {
		if _, there := info.State.Subjects[string(p.name)]; !there {
			p.lastSeq = 0
			p.cut = p.last
		}
		p.seq = min(p.seq, j.lastSeq+1)
	}
	return nil
}

// cutOff is how many entries the books know as waiting that lie behind the end
// of the stream.
func (j *Journal) cutOff() (n uint64) {
	for _, p := range j.places {
		for k := p.last; k > p.last-p.cut && k > p.done.floor; k-- {
			if !p.done.has(k) {
				n++
			}
		}
	}
	return n
}

func (j *Journal) loadPlace(ctx context.Context, p *place, known bool) error {
	last, seq, err := j.lastOf(ctx, p.name)
	if errors.Is(err, errNotFound) || errors.Is(err, errDamaged) {
		last, seq, err = j.searchLast(ctx, p)
	}
	if err != nil {
		return err
	}
	if !known {
		p.ward.bookless = true
		if err := j.loadUnknown(ctx, p); err != nil {
			return err
		}
	}
	bookSeq := p.lastSeq
	if !known { // all that is there came after the book that there is not
		bookSeq = max(p.seq, 1) - 1
	}
	p.lastSeq = seq
	if last < p.last {
		p.cut = p.last - last
		return nil // the end is lost: a reader finds no message and counts it
	}
	before := p.last
	p.backlog += (last - before) * unknownEntry
	p.last = last
	if last > before && p.keepsFailures() {
		if err := j.loadRetries(ctx, p, before, bookSeq); err != nil {
			return err
		}
	}
	if p.sink {
		p.giveUp(last, seq+1, Filtered)
	}
	p.rewind()
	return nil
}

// searchLast looks for the last message of a place that can be read.
func (j *Journal) searchLast(ctx context.Context, p *place) (number, seq uint64, err error) {
	for from := uint64(1); from <= j.lastSeq; {
		got, err := j.entries.batch(ctx, string(p.name), from, maxFetch, maxFetchBytes)
		if errors.Is(err, errNotFound) {
			from++
			continue
		}
		if err != nil {
			return 0, 0, err
		}
		for _, s := range got {
			from = s.seq + 1
			if b, err := openBundle(s.data); err == nil && b.last() > number {
				number, seq = b.last(), s.seq
			}
		}
	}
	return number, seq, nil
}

// loadUnknown sets the position of a place that has entries and no book: it
// was just made, or its book is lost. What is there is delivered (again);
// what is not there any more has been, for all we know.
func (j *Journal) loadUnknown(ctx context.Context, p *place) error {
	s, err := j.entries.next(ctx, string(p.name), 1)
	if errors.Is(err, errNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	p.seq = s.seq
	if p.sink {
		return nil
	}
	b, err := openBundle(s.data)
	if err != nil || b.first == 1 {
		return nil //nolint:nilerr // the reader meets the damage and counts it
	}
	p.last = b.first - 1
	p.giveUp(p.last, s.seq, Delivered)
	j.gapEvent(p, fmt.Sprintf("The position of %s is lost. What is kept of it is delivered again, from entry %d on.", p.name.label(), b.first))
	return nil
}
