package awsiot

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/gorilla/websocket"

	"sluice"
)

// gatewayService is the name that AWS's data endpoint goes by in signatures.
// Source: AWS IoT Developer Guide, "MQTT over the WebSocket protocol".
const gatewayService = "iotdevicegateway"

// skewTold is from which difference on our clock is called wrong: AWS takes
// signatures for five minutes.
const skewTold = 4 * time.Minute

// maxAnswer is how much of an HTTP answer is read.
const maxAnswer = 4096

// now is the time as AWS has it, as far as it told.
func (d *dialer) now() time.Time { return d.o.Clock().Add(time.Duration(d.skew.Load())) }

// webSocketLife is how long the next session may live. The sessions of a pool
// are opened together, and are not to end together.
func (d *dialer) webSocketLife() time.Duration {
	return time.Duration(float64(d.o.WebSocketLife) * (1 - d.o.Rand()/10))
}

// upgrade makes a TLS connection one of MQTT over WebSocket. again is true where
// the clock was wrong and is set right now: then another connection may do.
func (d *dialer) upgrade(ctx context.Context, conn *tls.Conn) (ws net.Conn, again bool, err error) {
	address, err := d.signedURL(ctx)
	if err != nil {
		_ = conn.Close()
		return nil, false, d.identityFailure(err)
	}
	dialer := websocket.Dialer{
		NetDialTLSContext: func(context.Context, string, string) (net.Conn, error) { return conn, nil },
		Subprotocols:      []string{"mqtt"},
	}
	c, answer, err := dialer.DialContext(ctx, address, nil)
	if err == nil {
		return &wsConn{Conn: c}, false, nil
	}
	_ = conn.Close()
	if answer == nil {
		return nil, false, d.silentFailure(withoutURL(err), "a WebSocket")
	}
	body, _ := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	if answer.StatusCode == http.StatusForbidden && d.correctClock(answer.Header) {
		return nil, true, err
	}
	return nil, false, d.upgradeFailure(answer, body)
}

// withoutURL takes the address out of an error: there is a signature in it.
func withoutURL(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err
	}
	return err
}

// signedURL is the address of MQTT over WebSocket, signed now. The session
// token is no part of what is signed. Source: AWS IoT Developer Guide, "MQTT
// over the WebSocket protocol".
func (d *dialer) signedURL(ctx context.Context) (string, error) {
	creds, err := d.identity.Retrieve(ctx)
	if err != nil {
		return "", err
	}
	host, port := d.cfg.dataAddress()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "wss://"+hostPort(host, port)+"/mqtt", nil)
	if err != nil {
		return "", err
	}
	token := creds.SessionToken
	creds.SessionToken = ""
	nothing := sha256.Sum256(nil)
	signed, _, err := v4.NewSigner().PresignHTTP(ctx, creds, r, hex.EncodeToString(nothing[:]), gatewayService, d.cfg.Region, d.now())
	if err != nil {
		return "", err
	}
	if token != "" {
		signed += "&X-Amz-Security-Token=" + url.QueryEscape(token)
	}
	return signed, nil
}

// hostPort is what a request names as its host: port 443 is left out.
func hostPort(host, port string) string {
	if port == anyPort {
		if strings.Contains(host, ":") {
			return "[" + host + "]"
		}
		return host
	}
	return net.JoinHostPort(host, port)
}

// correctClock takes the time from an answer that refused a signature, and
// reports whether that makes a difference.
func (d *dialer) correctClock(h http.Header) bool {
	theirs, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		return false
	}
	if off := theirs.Sub(d.now()); off < skewTold && off > -skewTold {
		return false
	}
	skew := theirs.Sub(d.o.Clock())
	d.skew.Store(int64(skew))
	direction := "behind"
	if skew < 0 {
		direction, skew = "ahead of", -skew
	}
	d.tell(sluice.LevelWarning, sluice.EventConfigurationOdd, "Clock wrong", "clock", "", &sluice.Failure{
		Reason: sluice.ReasonAuthentication,
		Message: fmt.Sprintf("The clock of this machine is %s %s that of AWS, which refuses signatures for that. They are made with AWS's time now.",
			skew.Round(time.Minute), direction),
		Hint: "Set the clock, best by NTP.",
	})
	return true
}

// identityFailure tells why there are no credentials.
func (d *dialer) identityFailure(err error) *sluice.Failure {
	if f, ok := errors.AsType[*sluice.Failure](err); ok {
		return f
	}
	if errors.Is(err, context.Canceled) {
		return notConnected(sluice.ReasonDisconnected, err, "The opening was called off.", "")
	}
	return notConnected(sluice.ReasonAuthentication, err, "There is nothing to sign with: "+d.who+" cannot be had.", "")
}

// upgradeFailure tells why AWS did not let us open a WebSocket.
func (d *dialer) upgradeFailure(answer *http.Response, body []byte) *sluice.Failure {
	f := notConnected(sluice.ReasonRejected, nil, fmt.Sprintf("%s refused the WebSocket with HTTP %d.", d.host, answer.StatusCode), "")
	f.Status = answer.StatusCode
	switch {
	case answer.StatusCode == http.StatusForbidden, answer.StatusCode == http.StatusUnauthorized:
		f.Reason = sluice.ReasonAuthentication
		f.Message = fmt.Sprintf("%s does not accept %s.", d.host, d.who)
		f.Hint = "Check that the key is active, that it is of this account, and region and accountPrefix; and that its IAM policy allows iot:Connect."
	case answer.StatusCode == http.StatusTooManyRequests:
		f.Reason = sluice.ReasonThrottled
		f.Message = d.host + " takes no more connections at the moment."
	case answer.StatusCode >= 500:
		f.Reason = sluice.ReasonUnreachable
	}
	if says := answerMessage(body); says != "" {
		f.Message += " It says: " + says
	}
	return f
}

// answerMessage is the sentence in an error of AWS.
func answerMessage(body []byte) string {
	var e struct{ Message string }
	if json.Unmarshal(body, &e) != nil {
		return ""
	}
	return strings.TrimSpace(e.Message[:min(len(e.Message), 300)])
}

// wsConn makes a stream of the binary messages of a WebSocket. One goroutine
// reads; writes are one packet each, and the link's in turn.
type wsConn struct {
	*websocket.Conn
	reading io.Reader
}

var errNotBinary = errors.New("a WebSocket message is not binary")

func (c *wsConn) Read(p []byte) (int, error) {
	for {
		if c.reading == nil {
			kind, r, err := c.NextReader()
			if err != nil {
				return 0, lastWord(err)
			}
			if kind != websocket.BinaryMessage {
				return 0, errNotBinary
			}
			c.reading = r
		}
		n, err := c.reading.Read(p)
		if errors.Is(err, io.EOF) {
			c.reading, err = nil, nil
		}
		if n > 0 || err != nil {
			return n, lastWord(err)
		}
	}
}

// lastWord makes an orderly end of a WebSocket what it is of a stream.
func lastWord(err error) error {
	if _, ok := errors.AsType[*websocket.CloseError](err); ok {
		return fmt.Errorf("%w (%v)", io.EOF, err)
	}
	return err
}

func (c *wsConn) Write(p []byte) (int, error) {
	if err := c.WriteMessage(websocket.BinaryMessage, p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Close says goodbye, where that does not block for long, and closes.
func (c *wsConn) Close() error {
	bye := websocket.FormatCloseMessage(websocket.CloseNormalClosure, "")
	_ = c.WriteControl(websocket.CloseMessage, bye, time.Now().Add(lastWordTimeout))
	return c.Conn.Close()
}

// SetDeadline bounds reads and writes.
func (c *wsConn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}
