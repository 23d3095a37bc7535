package journal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
)

// errNotFound says that the stream has no such message.
var errNotFound = errors.New("journal: no such message")

// fetchTimeout bounds one request to the stream.
const fetchTimeout = 10 * time.Second

// stored is a message of a stream.
type stored struct {
	subject string
	seq     uint64
	at      time.Time // when it was stored; zero where the answer does not tell
	data    []byte
}

// fetcher reads a stream by direct get requests (ADR-31). It needs no consumer:
// what is read is said by each request, so there is nothing to lose, to
// recreate, or to keep alive for a place that is idle.
type fetcher struct {
	nc      *nats.Conn
	subject string // of the requests
}

func newFetcher(nc *nats.Conn, stream string) fetcher {
	return fetcher{nc: nc, subject: "$JS.API.DIRECT.GET." + stream}
}

// request is the body of a direct get.
type request struct {
	Seq       uint64     `json:"seq,omitempty"`
	LastFor   string     `json:"last_by_subj,omitempty"`
	NextFor   string     `json:"next_by_subj,omitempty"`
	Batch     int        `json:"batch,omitempty"`
	MaxBytes  int        `json:"max_bytes,omitempty"`
	StartTime *time.Time `json:"start_time,omitempty"`
}

// at returns the message with a sequence.
func (f fetcher) at(ctx context.Context, seq uint64) (stored, error) {
	return f.one(ctx, request{Seq: seq})
}

// last returns the last message of a subject.
func (f fetcher) last(ctx context.Context, subject string) (stored, error) {
	return f.one(ctx, request{LastFor: subject})
}

// next returns the first message of a subject from a sequence on.
func (f fetcher) next(ctx context.Context, subject string, seq uint64) (stored, error) {
	return f.one(ctx, request{NextFor: subject, Seq: max(seq, 1)})
}

// since returns the first message of a subject stored at a time or later.
func (f fetcher) since(ctx context.Context, subject string, t time.Time) (stored, error) {
	return f.one(ctx, request{NextFor: subject, StartTime: &t})
}

func (f fetcher) one(ctx context.Context, r request) (stored, error) {
	body, err := json.Marshal(r)
	if err != nil {
		return stored{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	m, err := f.nc.RequestWithContext(ctx, f.subject, body)
	if err != nil {
		return stored{}, fmt.Errorf("journal: read the stream: %w", err)
	}
	s, _, err := parseStored(m)
	return s, err
}

// batch returns messages of a subject (which may have wildcards) from a
// sequence on: at most n, and about maxBytes. errNotFound means that there is
// none, or that the next one cannot be read.
func (f fetcher) batch(ctx context.Context, subject string, seq uint64, n, maxBytes int) ([]stored, error) {
	body, err := json.Marshal(request{NextFor: subject, Seq: max(seq, 1), Batch: n, MaxBytes: maxBytes})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	inbox := f.nc.NewInbox()
	sub, err := f.nc.SubscribeSync(inbox)
	if err != nil {
		return nil, fmt.Errorf("journal: read the stream: %w", err)
	}
	defer func() { _ = sub.Unsubscribe() }() // fails only when the connection is gone
	if err := f.nc.PublishRequest(f.subject, inbox, body); err != nil {
		return nil, fmt.Errorf("journal: read the stream: %w", err)
	}
	var got []stored
	for {
		m, err := sub.NextMsgWithContext(ctx)
		if err != nil {
			return nil, fmt.Errorf("journal: read the stream: %w", err)
		}
		s, end, err := parseStored(m)
		switch {
		case err != nil && len(got) == 0:
			return nil, err
		case err != nil || end:
			return got, nil
		}
		got = append(got, s)
	}
}

// parseStored reads an answer to a direct get. end is true for the message
// that ends a batch.
func parseStored(m *nats.Msg) (s stored, end bool, err error) {
	switch status := m.Header.Get(headerStatus); status {
	case "":
	case "204":
		return stored{}, true, nil
	case "404":
		return stored{}, false, errNotFound
	default:
		return stored{}, false, fmt.Errorf("journal: read the stream: status %s %s", status, m.Header.Get("Description"))
	}
	seq, err := strconv.ParseUint(m.Header.Get("Nats-Sequence"), 10, 64)
	if err != nil {
		return stored{}, false, fmt.Errorf("journal: read the stream: an answer without a sequence: %w", err)
	}
	at, err := time.Parse(time.RFC3339Nano, m.Header.Get("Nats-Time-Stamp"))
	if err != nil {
		at = time.Time{}
	}
	return stored{subject: m.Header.Get("Nats-Subject"), seq: seq, at: at, data: m.Data}, false, nil
}
