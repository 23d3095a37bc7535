package awsiottest

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"
)

// web serves the HTTP of port 443. MQTT over WebSocket is at /mqtt; all other
// paths are for others.
type web struct {
	broker *broker
	server *http.Server
	others http.Handler // tlsState has a client certificate where ALPN asked for x-amzn-http-ca
	conns  chan net.Conn
	closed chan struct{}

	mu    sync.Mutex
	peers map[net.Conn]*peer
	wait  sync.WaitGroup
}

type peerKey struct{}

func newWeb(b *broker) *web {
	w := &web{broker: b, others: http.NotFoundHandler(), conns: make(chan net.Conn), closed: make(chan struct{}), peers: map[net.Conn]*peer{}}
	w.server = &http.Server{
		Handler:           w,
		ReadHeaderTimeout: patience,
		ErrorLog:          slog.NewLogLogger(b.options.Log.Handler(), slog.LevelDebug),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(withTLS(ctx, c), peerKey{}, w.peer(c))
		},
		ConnState: func(c net.Conn, state http.ConnState) {
			if state == http.StateClosed {
				w.release(c)
			}
		},
	}
	return w
}

func (w *web) start() {
	w.wait.Go(func() { _ = w.server.Serve(w) }) // it returns when the server is closed
}

func (w *web) close() {
	_ = w.server.Close()
	w.wait.Wait()
}

// serve hands a connection to the HTTP server and returns when it is closed.
func (w *web) serve(p *peer, conn *tls.Conn) {
	_ = p.raw.SetDeadline(time.Time{})
	var c net.Conn = conn
	if conn.ConnectionState().NegotiatedProtocol == alpnHTTPS {
		c = hiddenTLS{conn}
	}
	w.mu.Lock()
	w.peers[c] = p
	w.mu.Unlock()
	select {
	case w.conns <- c:
		<-p.released
	case <-w.closed:
	}
}

func (w *web) peer(c net.Conn) *peer {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.peers[c]
}

func (w *web) release(c net.Conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if p := w.peers[c]; p != nil {
		delete(w.peers, c)
		close(p.released)
	}
}

// Accept, Close and Addr make web the HTTP server's listener.
func (w *web) Accept() (net.Conn, error) {
	select {
	case c := <-w.conns:
		return c, nil
	case <-w.closed:
		return nil, net.ErrClosed
	}
}

// Close is described at Accept.
func (w *web) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	select {
	case <-w.closed:
	default:
		close(w.closed)
	}
	return nil
}

// Addr is described at Accept.
func (w *web) Addr() net.Addr { return &net.TCPAddr{} }

func (w *web) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/mqtt" {
		w.others.ServeHTTP(rw, r)
		return
	}
	w.upgrade(rw, r)
}

// upgrade makes an HTTP request a connection of MQTT. Source: Developer Guide,
// "MQTT over the WebSocket protocol": the path is /mqtt, the subprotocol mqtt,
// the service iotdevicegateway.
func (w *web) upgrade(rw http.ResponseWriter, r *http.Request) {
	who, bad := verifyPresigned(r, w.broker.identities, w.broker.options)
	if bad != nil {
		w.broker.options.Log.Info("WebSocket refused", "reason", bad.message)
		forbid(rw, bad)
		return
	}
	if !websocket.IsWebSocketUpgrade(r) || !slices.Contains(websocket.Subprotocols(r), "mqtt") {
		forbid(rw, &apiError{status: http.StatusBadRequest, code: "InvalidRequestException", message: "A WebSocket with the subprotocol mqtt is expected"})
		return
	}
	up := websocket.Upgrader{Subprotocols: []string{"mqtt"}, CheckOrigin: func(*http.Request) bool { return true }}
	p := r.Context().Value(peerKey{}).(*peer)
	conn, err := up.Upgrade(rw, r, nil)
	if err != nil {
		return // it has answered
	}
	defer func() {
		_ = conn.Close()
		w.release(conn.NetConn())
	}()
	p.principal = principal{identity: &who, remote: hostOf(conn.RemoteAddr())}
	life := time.AfterFunc(w.broker.options.Quotas.WebSocketLife, func() { w.broker.outlived(p) })
	defer life.Stop()
	w.broker.listener.run(p, &wsConn{Conn: conn})
}

// forbid answers as the data plane does. Source of the form: responses that
// users quote (odelot/aws-mqtt-websockets issues 7 and 54: status 403, JSON,
// x-amzn-ErrorType "ForbiddenException:"); the sentences are those of the IAM
// user guide.
func forbid(w http.ResponseWriter, bad *apiError) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Amzn-Requestid", newUUID())
	w.Header().Set("X-Amzn-Errortype", bad.code+":")
	w.WriteHeader(bad.status)
	_ = json.NewEncoder(w).Encode(map[string]string{"message": bad.message, "traceId": newUUID()})
}

// wsConn makes a stream of the binary messages of a WebSocket.
type wsConn struct {
	*websocket.Conn
	reading io.Reader

	mu      sync.Mutex // of writing; the library wants one writer
	writeBy atomic.Int64
}

var errNotBinary = errors.New("a WebSocket message is not binary")

func (c *wsConn) Read(p []byte) (int, error) {
	for {
		if c.reading == nil {
			kind, r, err := c.NextReader()
			if err != nil {
				return 0, err
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
			return n, err
		}
	}
}

func (c *wsConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var by time.Time
	if at := c.writeBy.Load(); at != 0 {
		by = time.Unix(0, at)
	}
	_ = c.Conn.SetWriteDeadline(by) // it only notes it
	if err := c.WriteMessage(websocket.BinaryMessage, p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// SetDeadline bounds reads and writes.
func (c *wsConn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// SetWriteDeadline bounds the write that is under way, and those that follow.
func (c *wsConn) SetWriteDeadline(t time.Time) error {
	at := int64(0)
	if !t.IsZero() {
		at = t.UnixNano()
	}
	c.writeBy.Store(at)
	return c.NetConn().SetWriteDeadline(t)
}
