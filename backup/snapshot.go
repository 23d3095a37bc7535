package backup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/time/rate"
)

// The subjects of JetStream's API that its Go client does not speak.
const (
	snapshotSubject = "$JS.API.STREAM.SNAPSHOT."
	restoreSubject  = "$JS.API.STREAM.RESTORE."
)

const (
	// chunk and window are how much of a snapshot is sent at once, and how much
	// may be under way: it is what a slow reader costs in memory.
	chunk  = 256 << 10
	window = 4 << 20
	// stall is how long nothing may come. The server gives up by itself after
	// 5 s in which nothing was taken; it may also be restarted meanwhile.
	stall = 30 * time.Second
	// restoreRate and restoreBurst bound how many bytes of messages are restored
	// in a second, and at once: the server keeps what it has written in memory
	// for ten seconds, so a restore as fast as the disk would need gigabytes.
	restoreRate  = 24 << 20
	restoreBurst = 48 << 20
)

// apiError is an error as JetStream's API tells it.
type apiError struct {
	Error *jetstream.APIError `json:"error"`
}

// snapshotAnswer is what comes before a snapshot.
type snapshotAnswer struct {
	apiError
	Config json.RawMessage `json:"config"`
	State  json.RawMessage `json:"state"`
}

// snapshot copies a stream to w as JetStream sends it.
func snapshot(ctx context.Context, nc *nats.Conn, name string, w io.Writer) (Stream, error) {
	inbox := nats.NewInbox()
	sub, err := nc.SubscribeSync(inbox)
	if err != nil {
		return Stream{}, err
	}
	defer func() { _ = sub.Unsubscribe() }()             // the server then stops
	if err := sub.SetPendingLimits(-1, -1); err != nil { // window bounds it
		return Stream{}, err
	}
	var answer snapshotAnswer
	if err := ask(ctx, nc, snapshotSubject+name, map[string]any{
		"deliver_subject": inbox, "no_consumers": true, "chunk_size": chunk, "window_size": window,
	}, &answer); err != nil {
		return Stream{}, err
	}
	if answer.Error != nil {
		return Stream{}, answer.Error
	}
	s := Stream{Name: name, Config: answer.Config, State: answer.State}
	var state jetstream.StreamState
	if err := json.Unmarshal(answer.State, &state); err != nil {
		return Stream{}, err
	}
	s.Messages, s.First, s.Last = state.Msgs, state.FirstSeq, state.LastSeq
	return s, receive(ctx, sub, w)
}

// ask asks JetStream's API.
func ask(ctx context.Context, nc *nats.Conn, subject string, question, answer any) error {
	text, err := json.Marshal(question)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, stall)
	defer cancel()
	m, err := nc.RequestWithContext(ctx, subject, text)
	if err != nil {
		return err
	}
	return json.Unmarshal(m.Data, answer)
}

// receive writes the chunks of a snapshot to w. Each is acknowledged once it is
// written, so that no more than the window waits.
func receive(ctx context.Context, sub *nats.Subscription, w io.Writer) error {
	for {
		m, err := next(ctx, sub)
		if err != nil {
			return err
		}
		if len(m.Data) == 0 { // the end, with the reason where it is not a good one
			if status := m.Header.Get("Status"); status != "" && status != "204" {
				return fmt.Errorf("the snapshot ended early: %s %s", status, m.Header.Get("Description"))
			}
			return nil
		}
		if _, err := w.Write(m.Data); err != nil {
			return err
		}
		if m.Reply != "" {
			if err := m.Respond(nil); err != nil {
				return err
			}
		}
	}
}

func next(ctx context.Context, sub *nats.Subscription) (*nats.Msg, error) {
	bounded, cancel := context.WithTimeout(ctx, stall)
	defer cancel()
	m, err := sub.NextMsgWithContext(bounded)
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case errors.Is(err, context.DeadlineExceeded):
		return nil, errors.New("the snapshot stalled")
	}
	return m, err
}

// whole reports whether the copy of a stream has all that it is to have: a
// message that was deleted while it was made may be missing. A stream that
// sheds its oldest by a limit may have shed some.
func whole(ctx context.Context, js jetstream.JetStream, s Stream) (bool, error) {
	var before jetstream.StreamState
	if err := json.Unmarshal(s.State, &before); err != nil {
		return false, err
	}
	stream, err := js.Stream(ctx, s.Name)
	if err != nil {
		return false, err
	}
	info := stream.CachedInfo()
	c, now := info.Config, info.State
	if c.MaxMsgsPerSubject != 1 && (c.MaxAge > 0 || c.MaxBytes > 0 || c.MaxMsgs > 0) {
		return true, nil
	}
	return now.FirstSeq == before.FirstSeq && now.NumDeleted == before.NumDeleted, nil
}

// restoreAnswer is what comes before a stream is restored, and after it.
type restoreAnswer struct {
	apiError
	DeliverSubject string                `json:"deliver_subject"`
	State          jetstream.StreamState `json:"state"`
}

// restorer is an io.Writer that makes a stream of its copy.
type restorer struct {
	ctx     context.Context
	nc      *nats.Conn
	stream  Stream
	subject string
	pace    *rate.Limiter
	weight  float64 // bytes of messages in a byte of the copy, about
}

func beginRestore(ctx context.Context, nc *nats.Conn, s Stream, pace *rate.Limiter) (*restorer, error) {
	var state jetstream.StreamState
	if err := json.Unmarshal(s.State, &state); err != nil {
		return nil, err
	}
	var answer restoreAnswer
	question := map[string]any{"config": s.Config, "state": s.State}
	if err := ask(ctx, nc, restoreSubject+s.Name, question, &answer); err != nil {
		return nil, err
	}
	if answer.Error != nil {
		return nil, answer.Error
	}
	return &restorer{
		ctx: ctx, nc: nc, stream: s, subject: answer.DeliverSubject, pace: pace, weight: float64(state.Bytes) / float64(max(s.Size, 1)),
	}, nil
}

// Write sends a chunk and waits until it is taken.
func (r *restorer) Write(b []byte) (int, error) {
	n := len(b)
	for len(b) > 0 {
		k := min(len(b), chunk)
		if err := r.pace.WaitN(r.ctx, min(int(float64(k)*r.weight), restoreBurst)); err != nil {
			return 0, err
		}
		m, err := r.send(b[:k])
		if err != nil {
			return 0, err
		}
		var answer restoreAnswer
		if len(m.Data) > 0 && json.Unmarshal(m.Data, &answer) == nil && answer.Error != nil {
			return 0, answer.Error
		}
		b = b[k:]
	}
	return n, nil
}

func (r *restorer) send(b []byte) (*nats.Msg, error) {
	ctx, cancel := context.WithTimeout(r.ctx, stall)
	defer cancel()
	return r.nc.RequestWithContext(ctx, r.subject, b)
}

// end completes the stream, and compares it with what it was.
func (r *restorer) end() error {
	m, err := r.send(nil)
	if err != nil {
		return err
	}
	var answer restoreAnswer
	if err := json.Unmarshal(m.Data, &answer); err != nil {
		return err
	}
	if answer.Error != nil {
		return answer.Error
	}
	js, err := jetstream.New(r.nc)
	if err != nil {
		return err
	}
	stream, err := js.Stream(r.ctx, r.stream.Name)
	if err != nil {
		return err
	}
	// How many messages there are is not compared: those that a limit ends by
	// their age may end at once.
	if last := stream.CachedInfo().State.LastSeq; last != r.stream.Last {
		return fmt.Errorf("the stream ends at %d, not at %d", last, r.stream.Last)
	}
	return nil
}
