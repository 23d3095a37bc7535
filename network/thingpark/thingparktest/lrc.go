package thingparktest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"sluice"
)

// LRCPath is where ThingPark takes downlinks.
const LRCPath = "/thingpark/lrc/rest/downlink"

// LRCOptions say what an LRC knows and allows.
type LRCOptions struct {
	// Keys are the keys of the application servers by AS_ID. Without any,
	// downlinks need no signature.
	Keys map[string]string
	// MaxTimeDeviation bounds how far the Time of a signed downlink may lie
	// from the clock; default 60 s, negative: not checked.
	MaxTimeDeviation time.Duration
	Clock            sluice.Clock   // default time.Now
	OnDownlink       func(Downlink) // called for each downlink that is queued, before it is answered
	Keep             int            // how many downlinks are remembered; default 100,000
	Address          string         // to listen at; default 127.0.0.1:0
}

// Downlink is one downlink that the LRC has queued.
type Downlink struct {
	DevEUI             string
	FPort              int
	Payload            string // hexadecimal digits as sent
	Confirmed          bool
	FlushDownlinkQueue bool
	ValidityTime       string
	CorrelationID      string
	FCntDn, AFCntDn    string
	ASID               string // "" for an unsigned one
	Query              string // as it came, Token included
	Received           time.Time
}

// Answer is what the LRC answers instead of queueing a downlink.
type Answer struct {
	Status     int           // 350, 403, 500, ...; 0: queue it
	Text       string        // the sentence inside the HTML
	Body       string        // the whole body instead
	RetryAfter string        // the header, if not empty
	Delay      time.Duration // before the answer, also of one that queues
}

// LRC is a server that takes downlinks as ThingPark's LRC does: POST with
// everything in the query. It answers 200 "Request queued by LRC", or 403 with
// a sentence when the signature is wrong, 400 when the request is.
type LRC struct {
	o      LRCOptions
	server *http.Server
	url    string
	done   chan struct{} // the server has ended
	quit   chan struct{} // ends delays

	mu        sync.Mutex
	changed   chan struct{} // closed and replaced at each downlink
	answer    Answer
	downlinks []Downlink
	total     int
	refused   int
}

// NewLRC starts an LRC. Close ends it.
func NewLRC(o LRCOptions) (*LRC, error) {
	if o.MaxTimeDeviation == 0 {
		o.MaxTimeDeviation = time.Minute
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Keep <= 0 {
		o.Keep = 100_000
	}
	if o.Address == "" {
		o.Address = "127.0.0.1:0"
	}
	listener, err := net.Listen("tcp", o.Address)
	if err != nil {
		return nil, err
	}
	l := &LRC{
		o: o, url: "http://" + listener.Addr().String() + LRCPath,
		done: make(chan struct{}), quit: make(chan struct{}), changed: make(chan struct{}),
	}
	mux := http.NewServeMux()
	mux.HandleFunc(LRCPath, l.serve)
	l.server = &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go func() {
		defer close(l.done)
		_ = l.server.Serve(listener)
	}()
	return l, nil
}

// URL is the address for downlinks.
func (l *LRC) URL() string { return l.url }

// Close ends the LRC and waits for it. Delays end at once.
func (l *LRC) Close() {
	close(l.quit)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if l.server.Shutdown(ctx) != nil {
		_ = l.server.Close()
	}
	<-l.done
}

// Set makes the LRC answer so from now on; the zero Answer makes it queue.
func (l *LRC) Set(a Answer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.answer = a
}

// Downlinks returns the downlinks that are remembered, oldest first.
func (l *LRC) Downlinks() []Downlink {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]Downlink(nil), l.downlinks...)
}

// Count returns how many downlinks were queued and how many were not.
func (l *LRC) Count() (queued, refused int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.total, l.refused
}

// Wait waits until at least n requests were answered, queued or refused.
func (l *LRC) Wait(ctx context.Context, n int) error {
	for {
		l.mu.Lock()
		enough, changed := l.total+l.refused >= n, l.changed
		l.mu.Unlock()
		if enough {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (l *LRC) serve(w http.ResponseWriter, r *http.Request) {
	l.mu.Lock()
	a := l.answer
	l.mu.Unlock()
	if a.Delay > 0 {
		t := time.NewTimer(a.Delay)
		defer t.Stop()
		select {
		case <-t.C:
		case <-l.quit:
		case <-r.Context().Done():
		}
	}
	d, err := l.read(r)
	if err == nil && a.Status != 0 {
		err = &refusal{a.Status, a.Text}
	}
	l.keep(d, err == nil)
	w.Header().Set("Content-Type", "text/html")
	if a.RetryAfter != "" {
		w.Header().Set("Retry-After", a.RetryAfter)
	}
	text, status := "Request queued by LRC", http.StatusOK
	var no *refusal
	if errors.As(err, &no) {
		text, status = no.text, no.status
	}
	body := "<html><body>" + text + "</body></html>"
	if a.Body != "" {
		body = a.Body
	}
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body)
}

func (l *LRC) keep(d Downlink, queued bool) {
	if queued && l.o.OnDownlink != nil {
		l.o.OnDownlink(d)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if queued {
		l.total++
		if len(l.downlinks) >= l.o.Keep {
			l.downlinks = append(l.downlinks[:0], l.downlinks[l.o.Keep/2:]...)
		}
		l.downlinks = append(l.downlinks, d)
	} else {
		l.refused++
	}
	close(l.changed)
	l.changed = make(chan struct{})
}

// refusal is an answer other than 200.
type refusal struct {
	status int
	text   string
}

func (r *refusal) Error() string { return r.text }

func bad(text string) error { return &refusal{http.StatusBadRequest, text} }

// read reads and checks a request.
func (l *LRC) read(r *http.Request) (Downlink, error) {
	raw := r.URL.RawQuery
	d := Downlink{Query: raw, Received: l.o.Clock()}
	if r.Method != http.MethodPost {
		return d, &refusal{http.StatusMethodNotAllowed, "Method not allowed"}
	}
	if n, _ := io.Copy(io.Discard, r.Body); n > 0 {
		return d, bad("The body is not empty")
	}
	if r.Header.Get("Content-Type") != "application/x-www-form-urlencoded" {
		return d, bad("Unexpected content type")
	}
	before, token, _ := strings.Cut(raw, "&Token=")
	text, err := url.PathUnescape(before) // a + stays
	if err != nil {
		return d, bad("The query cannot be decoded")
	}
	p := map[string]string{}
	for pair := range strings.SplitSeq(before, "&") {
		name, value, _ := strings.Cut(pair, "=")
		if _, twice := p[name]; twice {
			return d, bad("Parameter given twice: " + name)
		}
		p[name], _ = url.PathUnescape(value)
	}
	if err := d.fill(p); err != nil {
		return d, err
	}
	return d, l.verify(p, text, token)
}

// fill takes the parameters.
func (d *Downlink) fill(p map[string]string) error {
	var err error
	for name, value := range p {
		switch name {
		case "DevEUI":
			d.DevEUI = value
		case "FPort":
			if d.FPort, err = strconv.Atoi(value); err != nil || d.FPort < 1 || d.FPort > 224 {
				return bad("Bad FPort")
			}
		case "Payload":
			if _, err := hex.DecodeString(value); err != nil {
				return bad("Bad Payload")
			}
			d.Payload = value
		case "Confirmed":
			d.Confirmed = value == "1"
		case "FlushDownlinkQueue":
			d.FlushDownlinkQueue = value == "1"
		case "ValidityTime":
			d.ValidityTime = value
		case "CorrelationID":
			d.CorrelationID = value
		case "FCntDn":
			d.FCntDn = value
		case "AFCntDn":
			d.AFCntDn = value
		case "AS_ID":
			d.ASID = value
		case "Time", "RetryIneligibleGateways":
		default:
			return bad("Unknown parameter " + name)
		}
	}
	if len(d.DevEUI) != 16 || d.FPort == 0 {
		return bad("DevEUI or FPort is missing")
	}
	return nil
}

// verify checks the signature: the SHA-256 of the decoded query before the
// Token, in the order in which it came, and the key.
func (l *LRC) verify(p map[string]string, text, token string) error {
	if len(l.o.Keys) == 0 {
		return nil
	}
	no := func(format string, args ...any) error {
		return &refusal{http.StatusForbidden, "Security Check. " + fmt.Sprintf(format, args...)}
	}
	key, ok := l.o.Keys[p["AS_ID"]]
	if !ok {
		return no("bad AS_ID")
	}
	t, err := time.Parse(time.RFC3339, p["Time"])
	if err != nil {
		return no("bad Time")
	}
	if d := l.o.Clock().Sub(t).Abs(); l.o.MaxTimeDeviation >= 0 && d > l.o.MaxTimeDeviation {
		return no("time deviation %s", d)
	}
	sum := sha256.Sum256([]byte(text + key))
	if token != hex.EncodeToString(sum[:]) {
		return no("bad Token")
	}
	return nil
}
