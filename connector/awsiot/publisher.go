package awsiot

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"sluice"
)

// publishParallel is how many requests of one lane are under way at once, each
// on a connection of its own. HTTP/1.1 answers one after another: with so many,
// a round trip of 80 ms still leaves room for the pace of an MQTT client.
const publishParallel = 8

// publishIdle is how long a connection without a request is kept.
const publishIdle = 50 * time.Second

// publisher is a lane that publishes over HTTPS. It has no link that could be
// lost: it ends when a request finds that the endpoint is not there.
type publisher struct {
	id     string
	d      *dialer
	client *http.Client
	pace   *pacer
	slots  chan struct{}
	turns  *turns // of uplinks and shadows; nil: there are no shadows

	ctx     context.Context //nolint:containedctx // of the requests; ends when Close has no more patience
	cancel  func()
	closing chan struct{}
	one     sync.Once
	answers atomic.Int64 // so far

	endOne sync.Once
	done   chan struct{}
	err    error // set before done is closed
}

var _ sluice.Session = (*publisher)(nil)

// openPublisher opens a lane over HTTPS: one request finds out whether the
// endpoint is there and knows us.
func (d *dialer) openPublisher(ctx context.Context, lane int, authenticating func()) (sluice.Session, error) {
	ctx, cancel := context.WithTimeout(ctx, d.o.ConnectTimeout)
	defer cancel()
	p := d.newPublisher(d.clientID(lane), authenticating)
	if err := p.knock(ctx); err != nil {
		p.client.CloseIdleConnections()
		p.cancel()
		return nil, err
	}
	if d.presence != nil {
		d.presence.begin()
	}
	if d.shadows != nil {
		d.shadows.serve(d.shadows.posts(p))
	}
	if d.takes() {
		return d.taking(&commander{publisher: p, lane: lane}), nil
	}
	return p, nil
}

func (d *dialer) newPublisher(id string, authenticating func()) *publisher {
	p := &publisher{
		id: id, d: d, pace: newPacer(d.o.PublishRate), slots: make(chan struct{}, publishParallel),
		closing: make(chan struct{}), done: make(chan struct{}),
	}
	if d.shadows != nil {
		p.turns = newTurns()
	}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	var wired sync.Once
	p.client = &http.Client{Transport: &http.Transport{
		DialTLSContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			// The transport dials for whoever comes next, too: the request's
			// end does not end it.
			ctx, cancel := context.WithTimeout(ctx, d.o.ConnectTimeout)
			defer cancel()
			defer context.AfterFunc(p.ctx, cancel)()
			conn, err := d.wire(ctx, d.host, d.port, d.cfg.publishALPN())
			if err != nil {
				return nil, err
			}
			if authenticating != nil {
				wired.Do(authenticating)
			}
			return conn, nil
		},
		MaxConnsPerHost: publishParallel, MaxIdleConnsPerHost: publishParallel, IdleConnTimeout: publishIdle,
		DisableCompression: true,
	}}
	return p
}

// knockPath is what a lane asks for when it is opened: the shadows of a thing
// that hardly exists. Source: AWS IoT data plane API reference,
// ListNamedShadowsForThing.
const knockPath = "/api/things/shadow/ListNamedShadowsForThing/sluice"

// knock asks for something that needs no thing and changes nothing. Any answer,
// also that we may not, tells that the endpoint is there and knows us; but for
// one that tells that it does not.
func (p *publisher) knock(ctx context.Context) error {
	for range 2 {
		r, err := p.request(ctx, http.MethodGet, &url.URL{Path: knockPath}, nil, "")
		if err != nil {
			return p.d.identityFailure(err)
		}
		answer, err := p.send(r)
		switch {
		case err != nil:
			return p.transportFailure(err)
		case !answer.signatureRefused():
			return nil
		case !p.d.correctClock(answer.header):
			return p.d.signatureFailure(answer)
		}
	}
	return notConnected(sluice.ReasonAuthentication, nil, p.d.host+" does not accept the time of our signatures.", "Check the clock of this machine.")
}

// request makes a request to the endpoint, signed where no certificate is used.
func (p *publisher) request(ctx context.Context, method string, u *url.URL, body []byte, properties string) (*http.Request, error) {
	u.Scheme, u.Host = "https", hostPort(p.d.host, p.d.port)
	r, err := http.NewRequestWithContext(ctx, method, u.String(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if properties != "" {
		r.Header.Set("X-Amz-Mqtt5-User-Properties", properties)
	}
	if p.d.cfg.certified() {
		return r, nil
	}
	creds, err := p.d.identity.Retrieve(ctx)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(body)
	return r, v4.NewSigner().SignHTTP(ctx, creds, r, hex.EncodeToString(sum[:]), gatewayService, p.d.cfg.Region, p.d.now())
}

// answer is what came back.
type answer struct {
	status int
	header http.Header
	body   []byte
}

func (p *publisher) send(r *http.Request) (answer, error) {
	a, err := p.client.Do(r)
	if err != nil {
		return answer{}, withoutURL(err)
	}
	defer func() { _ = a.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(a.Body, maxAnswer))
	if err != nil {
		return answer{}, err
	}
	p.answers.Add(1)
	return answer{a.StatusCode, a.Header, body}, nil
}

// ID is what the lane would be called as an MQTT client.
func (p *publisher) ID() string { return p.id }

// Done is closed when the endpoint is not there, or after Close.
func (p *publisher) Done() <-chan struct{} { return p.done }

// Err tells why.
func (p *publisher) Err() error {
	select {
	case <-p.done:
		return p.err
	default:
		return nil
	}
}

func (p *publisher) end(err error) {
	p.endOne.Do(func() {
		p.err = err
		close(p.done)
	})
}

// Handle publishes a message and waits for the answer, which with QoS 1 means
// that AWS has it.
func (p *publisher) Handle(ctx context.Context, m *sluice.Message) error {
	topic, err := p.d.topic(m, 0)
	if err != nil {
		return err
	}
	if err := p.turn(ctx, packetSize(topic, m)); err != nil {
		return err
	}
	defer func() { <-p.slots }()
	m.Way.Write(topic, p.d.spec.Clock())
	if err := p.publish(ctx, topic, m); err != nil {
		return err
	}
	p.d.shadows.delivered(m)
	return nil
}

// turn waits for a place in flight, which the caller gives back, and for the
// pace.
func (p *publisher) turn(ctx context.Context, size int) error {
	gone := notConnected(sluice.ReasonDisconnected, nil, "The session is closed.", "")
	select {
	case <-p.done:
		return gone
	case <-p.closing:
		return gone
	default:
	}
	p.turns.enter()
	defer p.turns.leave()
	select {
	case p.slots <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	case <-p.done:
		return gone
	case <-p.closing:
		return gone
	}
	if p.pace.begin(ctx, size, p.done, p.closing) {
		p.pace.end()
		return nil
	}
	<-p.slots
	if err := ctx.Err(); err != nil {
		return err
	}
	return gone
}

func (p *publisher) publish(ctx context.Context, topic string, m *sluice.Message) error {
	bounded, cancel := context.WithTimeout(ctx, p.d.o.PubackTimeout)
	defer cancel()
	defer context.AfterFunc(p.ctx, cancel)()
	r, err := p.request(bounded, http.MethodPost, &url.URL{
		Path: "/topics/" + topic, RawPath: "/topics/" + url.PathEscape(topic),
		RawQuery: "contentType=application%2Fjson&qos=" + strconv.Itoa(p.d.cfg.UplinkQoS),
	}, m.Body(), userProperties(m))
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		f := p.d.identityFailure(err)
		f.Verdict, f.After = sluice.RetryAfter, notAuthorizedPause
		return f
	}
	// A kept connection that AWS has just closed is no reason to fail: the
	// transport may send it again on another. The header is not sent.
	r.Header["X-Idempotency-Key"] = nil
	before := p.answers.Load()
	a, err := p.send(r)
	switch {
	case err == nil:
		return p.judge(a, topic)
	case ctx.Err() != nil:
		return ctx.Err()
	}
	f := p.transportFailure(err)
	if f.Reason == sluice.ReasonTimeout && p.answers.Load() != before && p.ctx.Err() == nil {
		f.Verdict = sluice.Retry // others are answered: it is this one
		return f
	}
	p.end(f)
	return f
}

// userProperties are what a message carries, as the header for those of MQTT 5
// has them. Source: AWS IoT data plane API reference, Publish.
func userProperties(m *sluice.Message) string {
	list := []map[string]string{{messageIDProperty: m.ID}}
	if m.Replayed {
		list = append(list, map[string]string{replayedProperty: "true"})
	}
	text, _ := json.Marshal(list) // strings alone
	return base64.StdEncoding.EncodeToString(text)
}

// judge makes an answer into the error of Handle.
func (p *publisher) judge(a answer, topic string) error {
	if a.signatureRefused() && p.d.correctClock(a.header) {
		return &sluice.Failure{
			Verdict: sluice.RetryAfter, After: throttledPause, Reason: sluice.ReasonAuthentication, Status: a.status,
			Message: "The clock of this machine is wrong; the publish is signed again with AWS's time.",
		}
	}
	f := p.d.publishFailure(a, topic)
	if f == nil {
		return nil
	}
	if f.Verdict == sluice.RetryAfter {
		p.d.tell(sluice.LevelWarning, sluice.EventUplinkFailed, "Uplinks refused", string(f.Reason), "", f)
	}
	return f
}

// transportFailure is why there was no answer.
func (p *publisher) transportFailure(err error) *sluice.Failure {
	if f, ok := errors.AsType[*sluice.Failure](err); ok { // of the wire
		return f
	}
	if f := p.d.alertFailure(err); f != nil {
		return f
	}
	switch {
	case p.ctx.Err() != nil || errors.Is(err, context.Canceled):
		return notConnected(sluice.ReasonDisconnected, err, "The session is closed.", "")
	case isTimeout(err):
		return notConnected(sluice.ReasonTimeout, err, p.d.host+" did not answer in time.", "")
	}
	return notConnected(sluice.ReasonDisconnected, err, "The connection to "+p.d.host+" broke.", "")
}

// Close lets the requests that are under way finish; ctx bounds it.
func (p *publisher) Close(ctx context.Context) error {
	p.one.Do(func() { close(p.closing) })
	stop := context.AfterFunc(ctx, p.cancel)
	defer stop()
	for range cap(p.slots) { // with all slots taken nothing is under way
		p.slots <- struct{}{}
	}
	defer func() {
		for range cap(p.slots) {
			<-p.slots
		}
	}()
	p.cancel()
	p.client.CloseIdleConnections()
	p.end(nil)
	return nil
}
