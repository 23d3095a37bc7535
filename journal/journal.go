package journal

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"sluice"
)

// Defaults of [Options].
const (
	DefaultReserve   = 256 << 20
	DefaultHistory   = 24 * time.Hour
	DefaultRetention = 7 * 24 * time.Hour
	// Of the quarantine of a connection.
	DefaultQuarantined     = 10_000
	DefaultQuarantineBytes = 64 << 20
)

// Stream is the name of the stream that holds the entries.
const Stream = "SLUICE"

// Options are what [Open] needs.
type Options struct {
	// Conn publishes. Reads, when given, reads, so that a long read does not
	// stand before a commit on the same connection; nil: Conn does both.
	Conn, Reads *nats.Conn
	// Quarantine, when given, is what is written to quarantine by, so that
	// its fsyncs do not stand before a commit; nil: Conn.
	Quarantine *nats.Conn
	// Dir is a directory on the disk that the stream lies on; "": how full
	// the disk is is not checked.
	Dir string
	// Reserve is how many bytes stay free on that disk: below it, Append
	// refuses. A JetStream store that meets a full disk stops for good.
	// Default DefaultReserve.
	Reserve int64
	// History is how long entries are kept after they were appended, where
	// they are done. Default DefaultHistory.
	History time.Duration
	// HistoryBytes is a size of the stream over which history is kept for a
	// shorter time; 0 for no limit.
	HistoryBytes int64
	// Share is how many bytes a place may hold of entries that are not done,
	// about: one that holds more gives up its own oldest, which count as
	// expired. Default, where Dir is given, a quarter of what is free on the
	// disk at Open; negative for no limit.
	Share int64
	// Quarantined and QuarantineBytes are how many messages, and how many
	// bytes, the quarantine of a connection may hold: it gives up its oldest
	// then. Default DefaultQuarantined and DefaultQuarantineBytes.
	Quarantined     int
	QuarantineBytes int64
	// Retention is how old an entry may become, counted from when it was
	// received, before it expires. Default DefaultRetention.
	Retention time.Duration

	// Restart, if not nil, restarts the server that Conn leads to, with the
	// connections living on. It is called when the stream takes nothing
	// more although the disk has room: a store that has met a write error
	// refuses until it is opened again.
	Restart func(ctx context.Context) error
	// Restored says what the journal was restored from, where this is the first
	// Open since ("a backup of 2026-03-04 05:06 UTC"); else it is empty.
	Restored string
	// Names, if not nil, makes the names of the stream's files last. It is
	// called before anything is acknowledged, and is quick where none has
	// changed: a server syncs the blocks that it begins and not their folder.
	Names func() error
	// Damage are sentences on what was found damaged, and mended, before
	// the server started. Each becomes an event.
	Damage []string

	// Route tells, for a replay, whether a report goes to a connection by
	// the flows of now, and which driver decodes it. nil: the reports of the
	// connection's own place do.
	Route func(connection string, m *sluice.Message) (driver string, ok bool)
	// Pace tells how many messages a second a connection can send, 0 where
	// that is not known. nil: it never is.
	Pace func(connection string) float64

	Events sluice.Recorder
	Clock  sluice.Clock
	Log    *slog.Logger
	// Rand returns numbers in [0,1), for the jitter of retries.
	Rand func() float64
}

func (o Options) withDefaults() Options {
	if o.Reads == nil {
		o.Reads = o.Conn
	}
	if o.Quarantine == nil {
		o.Quarantine = o.Conn
	}
	if o.Quarantined == 0 {
		o.Quarantined = DefaultQuarantined
	}
	if o.QuarantineBytes == 0 {
		o.QuarantineBytes = DefaultQuarantineBytes
	}
	if o.Reserve == 0 {
		o.Reserve = DefaultReserve
	}
	if o.History == 0 {
		o.History = DefaultHistory
	}
	if o.Retention == 0 {
		o.Retention = DefaultRetention
	}
	if o.Names == nil {
		o.Names = func() error { return nil }
	}
	if o.Events == nil {
		o.Events = noEvents{}
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Rand == nil {
		o.Rand = rand.Float64
	}
	return o
}

type noEvents struct{}

func (noEvents) Record(sluice.Event) {}

// Journal is an open journal. Its methods are safe for use by several
// goroutines. There is one Journal on a stream at a time.
type Journal struct {
	o        Options
	entries  fetcher
	after    func(time.Duration, func()) (stop func() bool)
	diskFree func(dir string) (int64, error)

	js     jetstream.JetStream
	stream jetstream.Stream
	queue  queueOfAppends

	// committing is held while the stream is appended to, and guards what the
	// next commit goes by: the stream's last sequence, and the places of
	// which it is not known how a commit ended.
	committing sync.Mutex
	lastSeq    uint64
	unsure     map[*place]struct{}

	// removing is held by whoever takes entries out of the stream, and by a
	// Hold, so that nobody does.
	removing chan struct{} // of one
	hold     atomic.Pointer[hold]

	mu     sync.Mutex // guards places
	places map[Place]*place

	// Of the time before Open: when the journal wrote last, and whether it
	// ended in order. They never change.
	lastLife time.Time
	unclean  bool

	books   bookkeeper
	replays replays
	wards   wards
	readers atomic.Int64 // how many Reads run
	health  health
	stats   counts
}

// place returns the place with a name, or nil.
func (j *Journal) place(name Place) *place {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.places[name]
}

// makePlace returns the place with a name, which is made if there is none.
func (j *Journal) makePlace(name Place) *place {
	j.mu.Lock()
	defer j.mu.Unlock()
	p := j.places[name]
	if p == nil {
		p = newPlace(name)
		j.places[name] = p
	}
	return p
}

func newPlace(name Place) *place { return &place{name: name, sink: name == unrouted} }

// Places returns the places that have, or had, entries.
func (j *Journal) Places() []Place {
	j.mu.Lock()
	defer j.mu.Unlock()
	ps := make([]Place, 0, len(j.places))
	for name := range j.places {
		ps = append(ps, name)
	}
	return ps
}

// Counters returns the counters of a place, all as of one moment: zeros for
// one that nothing was appended to. Reports that no flow wanted count as
// filtered in their place.
func (j *Journal) Counters(name Place) sluice.Counters {
	p := j.place(name)
	if p == nil {
		return sluice.Counters{}
	}
	return p.counters()
}

// Run commits, writes books, trims and watches the disk, until ctx ends; then
// it commits what has been taken, writes the books a last time and returns nil.
// It returns an error when the connection to the stream is closed for good.
// What appends and what reads is to end before. Run is called once.
func (j *Journal) Run(ctx context.Context) error {
	c, err := newCommitter(j)
	if err != nil {
		return err
	}
	keeper, err := newPublisher(j.o.Conn)
	if err != nil {
		c.pub.close()
		return err
	}
	defer keeper.close()
	defer c.pub.close()
	closed := j.o.Conn.StatusChanged(nats.CLOSED)
	defer j.o.Conn.RemoveStatusListener(closed)

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	j.writeState(keeper, stateRunning)
	var wg sync.WaitGroup
	wg.Go(func() {
		select {
		case <-closed:
			cancel(errClosed)
		case <-ctx.Done():
		}
	})
	wg.Go(func() { j.keepBooks(ctx, keeper) })
	wg.Go(func() { j.keepHouse(ctx) })
	wg.Go(func() { j.replays.run(ctx) })
	c.run(ctx)
	wg.Wait()
	j.writeBooks(keeper, true)
	j.writeState(keeper, stateEnded)
	if errors.Is(context.Cause(ctx), errClosed) {
		return errClosed
	}
	return nil
}

// errClosed says that nothing can be appended or read any more.
var errClosed = errors.New("journal: the connection to the stream is closed")

// Stats are totals since Open.
type Stats struct {
	Commits  uint64 // groups that were committed
	Messages uint64 // messages of the stream that they made
	Batches  uint64 // groups that were committed as an atomic batch
	Entries  uint64 // entries in them
	Refused  uint64 // entries that Append refused or could not commit
	Hot      uint64 // entries that a reader was handed from memory
	Fetched  uint64 // entries that a reader read from the stream
	Lost     uint64 // entries that damage has cost
	Books    uint64 // books that were written
	Waiting  int    // entries that wait for a commit now
}

type counts struct {
	commits, messages, batches, entries, refused, hot, fetched, lost, books atomic.Uint64
}

// Stats returns the totals.
func (j *Journal) Stats() Stats {
	return Stats{
		Commits:  j.stats.commits.Load(),
		Messages: j.stats.messages.Load(),
		Batches:  j.stats.batches.Load(),
		Entries:  j.stats.entries.Load(),
		Refused:  j.stats.refused.Load(),
		Hot:      j.stats.hot.Load(),
		Fetched:  j.stats.fetched.Load(),
		Lost:     j.stats.lost.Load(),
		Books:    j.stats.books.Load(),
		Waiting:  j.queue.waiting(),
	}
}
