package journal

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// Headers and limits of JetStream. Source: NATS documentation, "Publish
// headers", and ADR-50 (atomic batch publishing).
const (
	headerExpectedLast  = "Nats-Expected-Last-Sequence"
	headerBatchID       = "Nats-Batch-Id"
	headerBatchSequence = "Nats-Batch-Sequence"
	headerBatchCommit   = "Nats-Batch-Commit"
	headerStatus        = "Status"

	// errCodeWrongLastSequence refuses a message for headerExpectedLast.
	// Source: nats-server, errors.json, JSStreamWrongLastSequenceErrF.
	errCodeWrongLastSequence = 10071

	// maxBatch is the most messages that an atomic batch may have.
	maxBatch = 1000
)

// errNoAnswer says that the outcome of a publish is not known.
var errNoAnswer = errors.New("no acknowledgement in time")

// outgoing is a message to publish; seq becomes its sequence in the stream,
// or err says why it has none.
type outgoing struct {
	subject string
	data    []byte
	seq     uint64
	err     error
}

// publisher publishes to a stream and waits for the acknowledgements. It is
// used by one goroutine at a time.
type publisher struct {
	nc      *nats.Conn
	inbox   string
	sub     *nats.Subscription
	answers chan *nats.Msg
	lost    chan nats.Status // the connection is, with all that is under way
	round   uint64
}

func newPublisher(nc *nats.Conn) (*publisher, error) {
	p := &publisher{nc: nc, inbox: nats.NewInbox(), answers: make(chan *nats.Msg, 2*maxBatch)}
	var err error
	if p.sub, err = nc.ChanSubscribe(p.inbox+".*.*", p.answers); err != nil {
		return nil, fmt.Errorf("journal: subscribe to acknowledgements: %w", err)
	}
	p.lost = nc.StatusChanged(nats.CLOSED, nats.RECONNECTING)
	return p, nil
}

func (p *publisher) close() {
	p.nc.RemoveStatusListener(p.lost)
	_ = p.sub.Unsubscribe() // fails only when the connection is gone
}

func (p *publisher) reply(i int) string {
	return p.inbox + "." + strconv.FormatUint(p.round, 36) + "." + strconv.Itoa(i)
}

// begin begins a round: what comes for an earlier one is not waited for.
func (p *publisher) begin() {
	p.round++
	for {
		select {
		case <-p.lost:
		default:
			return
		}
	}
}

// unknown says of all messages that nothing is known of them, those included
// that are never sent: what is not in the stream for certain is not.
func unknown(ms []outgoing) {
	for i := range ms {
		ms[i].seq, ms[i].err = 0, errNoAnswer
	}
}

// each publishes the messages one after another without waiting in between.
// With fenced, a message is taken only if the stream's last sequence is
// lastSeq when it arrives, the next one lastSeq+1, and so on: when one is
// refused, so are all that follow, and a message from an earlier round whose
// outcome was not known cannot slip in between.
func (p *publisher) each(ms []outgoing, fenced bool, lastSeq uint64, timeout time.Duration) {
	p.begin()
	unknown(ms)
	waiting := 0
	for i := range ms {
		m := &nats.Msg{Subject: ms[i].subject, Reply: p.reply(i), Data: ms[i].data}
		if fenced {
			m.Header = nats.Header{headerExpectedLast: {strconv.FormatUint(lastSeq+uint64(i), 10)}}
		}
		if err := p.nc.PublishMsg(m); err != nil {
			ms[i].err = err
			break
		}
		waiting++
	}
	p.await(waiting, timeout, func(i int, seq uint64, err error) {
		if i < len(ms) {
			ms[i].seq, ms[i].err = seq, err
		}
	})
}

// atomic publishes the messages as one batch, of which all or none are taken,
// under the same condition on lastSeq. There are at most maxBatch.
func (p *publisher) atomic(ms []outgoing, lastSeq uint64, timeout time.Duration) {
	p.begin()
	id := strings.TrimPrefix(p.inbox, nats.InboxPrefix) + strconv.FormatUint(p.round, 36)
	unknown(ms)
	for i := range ms {
		m := &nats.Msg{Subject: ms[i].subject, Data: ms[i].data, Header: nats.Header{
			headerBatchID:       {id},
			headerBatchSequence: {strconv.Itoa(i + 1)},
		}}
		if i == 0 {
			m.Header[headerExpectedLast] = []string{strconv.FormatUint(lastSeq, 10)}
		}
		if i == len(ms)-1 {
			m.Header[headerBatchCommit] = []string{"1"}
			m.Reply = p.reply(i)
		}
		if err := p.nc.PublishMsg(m); err != nil {
			ms[i].err = err
			return
		}
	}
	p.await(1, timeout, func(_ int, seq uint64, err error) {
		for i := range ms {
			ms[i].err = err
			if err == nil {
				ms[i].seq = seq - uint64(len(ms)-1-i)
			}
		}
	})
}

// await takes n answers of this round.
func (p *publisher) await(n int, timeout time.Duration, take func(i int, seq uint64, err error)) {
	if n == 0 {
		return
	}
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	prefix := p.inbox + "." + strconv.FormatUint(p.round, 36) + "."
	for n > 0 {
		select {
		case m := <-p.answers:
			i, err := strconv.Atoi(strings.TrimPrefix(m.Subject, prefix))
			if err != nil {
				continue // of an earlier round
			}
			seq, err := parseAck(m)
			take(i, seq, err)
			n--
		case <-p.lost:
			return
		case <-timer.C:
			return
		}
	}
}

// refusal is an answer that says that the message is not in the stream.
type refusal struct {
	Code        int    `json:"code"`
	ErrCode     int    `json:"err_code"`
	Description string `json:"description"`
}

func (r *refusal) Error() string { return fmt.Sprintf("%s (%d)", r.Description, r.ErrCode) }

func parseAck(m *nats.Msg) (uint64, error) {
	if s := m.Header.Get(headerStatus); s != "" {
		return 0, &refusal{Description: "no stream answers, status " + s}
	}
	var a struct {
		Seq   uint64   `json:"seq"`
		Error *refusal `json:"error"`
	}
	if err := json.Unmarshal(m.Data, &a); err != nil {
		return 0, fmt.Errorf("read an acknowledgement: %w", err)
	}
	if a.Error != nil {
		return 0, a.Error
	}
	return a.Seq, nil
}
