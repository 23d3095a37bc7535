package thingpark

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"html"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"

	"sluice"
)

const (
	downlinkTime  = 10 * time.Second // for a downlink to be answered
	maxAnswer     = 16 << 10         // of the answer is read
	maxText       = 300              // characters of the answer are told
	maxRetryAfter = time.Hour
)

// newClient makes the client for one network. Downlinks are few; the pool is
// for bursts.
func newClient() *http.Client {
	dialer := &net.Dialer{Timeout: 5 * time.Second, KeepAlive: 30 * time.Second}
	return &http.Client{
		Transport: &http.Transport{
			Proxy:               http.ProxyFromEnvironment,
			DialContext:         dialer.DialContext,
			TLSClientConfig:     &tls.Config{MinVersion: tls.VersionTLS12},
			TLSHandshakeTimeout: 5 * time.Second,
			MaxIdleConnsPerHost: 16,
			MaxConnsPerHost:     64,
			IdleConnTimeout:     60 * time.Second,
			ForceAttemptHTTP2:   true,
		},
		// A signed request is for one address only.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// Handle hands a command to the LRC. nil means that the LRC has queued it. A
// [sluice.Failure] says whether it refused (Permanent, with its status and
// text) or could not be asked (Retry, RetryAfter), or that the command is too
// old (Expired).
func (n *Network) Handle(ctx context.Context, m *sluice.Message) error {
	if !n.gate.enter() {
		return &sluice.Failure{Verdict: sluice.NotConnected, Reason: sluice.ReasonUnknownNetwork, Message: "The network is being closed."}
	}
	defer n.gate.leave()
	if n.config.downlinkURL == "" {
		return &sluice.Failure{
			Verdict: sluice.Permanent, Reason: sluice.ReasonConfiguration,
			Message: "The network takes no downlinks: it has no downlinkUrl.",
			Hint:    "Set the network's downlinkUrl to ThingPark's downlink address, https://<platform>/thingpark/lrc/rest/downlink.",
		}
	}
	c, err := n.credentials(m)
	if err != nil {
		return err
	}
	d, err := newDownlink(m, c, n.clock())
	if err != nil {
		return err
	}
	return n.post(ctx, d, c)
}

// post sends a downlink and reads the verdict from the answer.
func (n *Network) post(ctx context.Context, d *downlink, c sluice.Credentials) error {
	bounded, cancel := context.WithTimeout(ctx, downlinkTime)
	defer cancel()
	request, err := n.request(bounded, d)
	if err != nil {
		return err
	}
	response, err := n.client.Do(request)
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return unreachable(err)
	}
	defer func() { _ = response.Body.Close() }()
	// An answer that breaks off is judged by its status.
	body, _ := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	a := lrcAnswer{status: response.StatusCode, page: isPage(string(body)), retryAfter: retryAfter(response.Header, n.clock())}
	a.text = plainText(redactText(string(body), c.ASKey, d.token()))
	failure := a.failure()
	if failure != nil {
		return failure
	}
	if !strings.Contains(a.text, "Request queued by LRC") {
		n.log.Info("downlink taken with an answer that is not documented", "status", a.status, "answer", a.text)
	}
	return nil
}

func (n *Network) request(ctx context.Context, d *downlink) (*http.Request, error) {
	address := n.config.downlinkURL
	switch {
	case !strings.Contains(address, "?"):
		address += "?"
	case !strings.HasSuffix(address, "?") && !strings.HasSuffix(address, "&"):
		address += "&"
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, address+d.encoded(), http.NoBody)
	if err != nil {
		return nil, &sluice.Failure{Verdict: sluice.Permanent, Reason: sluice.ReasonConfiguration, Message: "The network's downlinkUrl is not a URL."}
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Accept", "*/*")
	r.Header.Set("User-Agent", "Sluice")
	return r, nil
}

// token is the signature of the request, "" when it is not signed.
func (d *downlink) token() string {
	if last := len(d.names) - 1; d.names[last] == "Token" {
		return d.values[last]
	}
	return ""
}

// lrcAnswer is what the LRC answered to a downlink.
type lrcAnswer struct {
	status     int
	text       string // without its HTML and without secrets
	page       bool   // it is a web page, not the LRC's one sentence
	retryAfter time.Duration
}

// failure reads an answer; nil means that the downlink is queued. The LRC
// answers 200 when it is, and otherwise a status that is often its own, such
// as 350, with a sentence. Source: ThingPark X IoT Flow documentation,
// "Downlink message", and clients in the field.
func (a *lrcAnswer) failure() error {
	f := &sluice.Failure{Verdict: sluice.Permanent, Reason: sluice.ReasonRejected, Status: a.status, Message: a.text}
	if f.Message == "" {
		f.Message = fmt.Sprintf("The network server answered with status %d.", a.status)
	}
	switch {
	case a.status >= 200 && a.status < 300 && a.page:
		f.Reason = sluice.ReasonConfiguration
		f.Message = "The downlink address answered with a web page: " + f.Message
		f.Hint = "Check the network's downlinkUrl; ThingPark's ends in /thingpark/lrc/rest/downlink."
	case a.status >= 200 && a.status < 300:
		return nil
	case isRedirect(a.status):
		f.Reason = sluice.ReasonConfiguration
		f.Message = "The downlink address sends us on to another one."
		f.Hint = "Set the network's downlinkUrl to the address it sends to."
	case a.status == http.StatusTooManyRequests:
		f.Verdict, f.Reason = sluice.Retry, sluice.ReasonThrottled
	case a.status == http.StatusRequestTimeout:
		f.Verdict, f.Reason = sluice.Retry, sluice.ReasonTimeout
	case a.status >= 500:
		f.Verdict, f.Reason = sluice.Retry, sluice.ReasonUnreachable
	case a.status == http.StatusUnauthorized || a.status == http.StatusForbidden:
		f.Hint = "Compare AS_ID and key with the application server in ThingPark, and the clocks."
	case a.status == http.StatusNotFound:
		f.Hint = "Check the network's downlinkUrl; ThingPark's ends in /thingpark/lrc/rest/downlink."
	}
	if f.Verdict == sluice.Retry && a.retryAfter > 0 {
		f.Verdict, f.After = sluice.RetryAfter, a.retryAfter
	}
	return f
}

func isRedirect(status int) bool {
	switch status {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return true
	}
	return false
}

// unreachable makes the failure of a request that got no answer. The error of
// the client begins with the whole address, Token included: that part goes.
func unreachable(err error) error {
	f := &sluice.Failure{Verdict: sluice.Retry, Reason: sluice.ReasonUnreachable, Message: "The network server cannot be reached.", Err: err}
	if e, ok := errors.AsType[*url.Error](err); ok {
		f.Err = e.Err
	}
	var timeout net.Error
	var verification *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	switch {
	case errors.As(err, &timeout) && timeout.Timeout():
		f.Reason, f.Message = sluice.ReasonTimeout, "The network server did not answer in time."
	case errors.As(err, &verification) || errors.As(err, &record) || errors.Is(err, http.ErrSchemeMismatch):
		f.Reason, f.Message = sluice.ReasonTLS, "No secure connection to the network server could be made."
		f.Hint = "Check the network's downlinkUrl and the server's certificate."
	}
	return f
}

// retryAfter reads the header of that name: seconds or a date; 0 for none.
func retryAfter(h http.Header, now time.Time) time.Duration {
	v := h.Get("Retry-After")
	if v == "" {
		return 0
	}
	var d time.Duration
	if seconds, err := strconv.ParseUint(v, 10, 31); err == nil {
		d = time.Duration(seconds) * time.Second
	} else if t, err := http.ParseTime(v); err == nil {
		d = t.Sub(now)
	}
	return min(max(d, 0), maxRetryAfter)
}

// plainText takes the HTML off an answer and bounds it.
func plainText(body string) string {
	var b strings.Builder
	for body != "" {
		before, rest, isTag := strings.Cut(body, "<")
		b.WriteString(before)
		if !isTag {
			break
		}
		_, body, isTag = strings.Cut(rest, ">")
		if !isTag {
			b.WriteString("<" + rest) // a lone <
			break
		}
		b.WriteByte(' ')
	}
	text := strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == unicode.ReplacementChar {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(html.UnescapeString(b.String()), " "))
	return cut(strings.Join(strings.Fields(text), " "), maxText)
}

// isPage reports whether an answer has more HTML than the LRC's wrapper,
// <html><body>...</body></html>.
func isPage(body string) bool {
	body = strings.ToLower(body)
	for _, wrapper := range [...]string{"<html>", "</html>", "<body>", "</body>", "<head>", "</head>", "<head/>"} {
		body = strings.ReplaceAll(body, wrapper, "")
	}
	_, tag, ok := strings.Cut(body, "<")
	return ok && tag != "" && (tag[0] == '!' || tag[0] >= 'a' && tag[0] <= 'z') && strings.Contains(body, "</")
}

// redactText takes secrets out of what the server echoed.
func redactText(text string, secrets ...string) string {
	for _, s := range secrets {
		if s != "" {
			text = strings.ReplaceAll(text, s, "*****")
		}
	}
	return text
}

// cut bounds a text to a number of bytes, at a character.
func cut(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	return strings.ToValidUTF8(text[:limit], "") + "…"
}
