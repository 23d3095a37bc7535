package thingparktest

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// wire posts reports over one connection that it keeps open. It costs a
// fraction of an http.Client, which matters where the fleet shares its
// processors with what is measured.
type wire struct {
	url     *url.URL
	timeout time.Duration
	conn    net.Conn
	reader  *bufio.Reader
	used    time.Time

	query, body, out []byte
}

// post posts body with query and returns the status of the answer.
func (w *wire) post(ctx context.Context, contentType string) (int, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	if err := w.open(ctx); err != nil {
		return 0, err
	}
	_ = w.conn.SetDeadline(time.Now().Add(w.timeout))
	w.request(contentType)
	if _, err := w.conn.Write(w.out); err != nil {
		w.close()
		return 0, err
	}
	response, err := http.ReadResponse(w.reader, nil)
	if err != nil {
		w.close()
		return 0, err
	}
	_, err = io.Copy(io.Discard, response.Body)
	_ = response.Body.Close()
	if err != nil || response.Close {
		w.close()
	}
	w.used = time.Now()
	return response.StatusCode, nil
}

// request builds the request as the LRC writes it.
func (w *wire) request(contentType string) {
	b := append(w.out[:0], "POST "...)
	b = append(b, cmp.Or(w.url.EscapedPath(), "/")...)
	b = append(b, '?')
	if w.url.RawQuery != "" {
		b = append(append(b, w.url.RawQuery...), '&')
	}
	b = append(b, w.query...)
	b = append(b, " HTTP/1.1\r\nHost: "...)
	b = append(b, w.url.Host...)
	b = append(b, "\r\nUser-Agent: ACTILITY-LRCLRN-DEVICE-AGENT/1.0\r\nAccept: */*\r\nContent-Type: "...)
	b = append(b, contentType...)
	b = append(b, "\r\nContent-Length: "...)
	b = strconv.AppendInt(b, int64(len(w.body)), 10)
	b = append(b, "\r\n\r\n"...)
	w.out = append(b, w.body...)
}

// open makes sure of a connection. One that has rested is looked at first: the
// server may have closed it.
func (w *wire) open(ctx context.Context) error {
	if w.conn != nil && time.Since(w.used) > time.Second {
		_ = w.conn.SetReadDeadline(time.Now().Add(time.Millisecond))
		if _, err := w.reader.Peek(1); !isTimeout(err) {
			w.close()
		}
	}
	if w.conn != nil {
		return nil
	}
	d := net.Dialer{Timeout: w.timeout}
	port := w.url.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[w.url.Scheme]
	}
	address := net.JoinHostPort(w.url.Hostname(), port)
	var err error
	if w.url.Scheme == "https" {
		w.conn, err = (&tls.Dialer{NetDialer: &d}).DialContext(ctx, "tcp", address)
	} else {
		w.conn, err = d.DialContext(ctx, "tcp", address)
	}
	if err != nil {
		w.conn = nil
		return err
	}
	w.reader = bufio.NewReaderSize(w.conn, 1024)
	return nil
}

func (w *wire) close() {
	if w.conn != nil {
		_ = w.conn.Close()
		w.conn = nil
	}
}

func isTimeout(err error) bool {
	timeout, ok := err.(net.Error)
	return ok && timeout.Timeout()
}
