package load

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"time"
)

// httpWire posts over one connection that is kept open. It knows of HTTP what
// the answers of a bridge need: a status and a Content-Length.
type httpWire struct {
	conn    net.Conn
	timeout time.Duration
	head    []byte // of a request, up to the parameters
	tail    []byte // of a request, from the parameters to the length
	out, in []byte
	limit   time.Time
}

func dialHTTP(address string, timeout time.Duration) (Wire, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, err
	}
	conn, err := net.DialTimeout("tcp", u.Host, timeout)
	if err != nil {
		return nil, err
	}
	return &httpWire{
		conn: conn, timeout: timeout, in: make([]byte, 0, 4096),
		head: fmt.Appendf(nil, "POST %s?", u.EscapedPath()),
		tail: fmt.Appendf(nil, " HTTP/1.1\r\nHost: %s\r\nUser-Agent: ACTILITY-LRCLRN-DEVICE-AGENT/1.0\r\nAccept: */*\r\n"+
			"Content-Type: application/json\r\nContent-Length: ", u.Host),
	}, nil
}

// Close ends the connection.
func (w *httpWire) Close() { _ = w.conn.Close() }

// Post posts a report and waits for the answer.
func (w *httpWire) Post(_ string, query, body []byte) (bool, error) {
	// A deadline costs something to set, so it is moved once in a while.
	if now := time.Now(); w.limit.Sub(now) < w.timeout {
		w.limit = now.Add(2 * w.timeout)
		if err := w.conn.SetDeadline(w.limit); err != nil {
			return false, err
		}
	}
	b := append(w.out[:0], w.head...)
	b = append(b, query...)
	b = append(b, w.tail...)
	b = strconv.AppendInt(b, int64(len(body)), 10)
	b = append(b, "\r\n\r\n"...)
	w.out = append(b, body...)
	if _, err := w.conn.Write(w.out); err != nil {
		return false, err
	}
	status, err := w.answer()
	return status >= 200 && status < 300, err
}

// answer reads one answer.
func (w *httpWire) answer() (status int, err error) {
	w.in = w.in[:0]
	head := -1
	for head < 0 {
		if err := w.read(); err != nil {
			return 0, err
		}
		head = bytes.Index(w.in, []byte("\r\n\r\n"))
	}
	if len(w.in) < 12 || !bytes.HasPrefix(w.in, []byte("HTTP/1.1 ")) {
		return 0, errors.New("the answer is not HTTP/1.1")
	}
	if status, err = strconv.Atoi(string(w.in[9:12])); err != nil {
		return 0, err
	}
	length, gone, err := headers(w.in[:head+2])
	if err != nil {
		return 0, err
	}
	for len(w.in) < head+4+length {
		if err := w.read(); err != nil {
			return 0, err
		}
	}
	if gone {
		return status, errors.New("the connection is closed after this answer")
	}
	return status, nil
}

func (w *httpWire) read() error {
	if len(w.in) == cap(w.in) {
		return errors.New("the answer is too long")
	}
	n, err := w.conn.Read(w.in[len(w.in):cap(w.in)])
	w.in = w.in[:len(w.in)+n]
	return err
}

// headers finds what matters in a head: the length of the body, and whether the
// server closes the connection.
func headers(head []byte) (length int, gone bool, err error) {
	for line := range bytes.Lines(head) {
		name, value, _ := bytes.Cut(bytes.TrimSpace(line), []byte(":"))
		switch value = bytes.TrimSpace(value); {
		case bytes.EqualFold(name, []byte("Content-Length")):
			if length, err = strconv.Atoi(string(value)); err != nil {
				return 0, false, err
			}
		case bytes.EqualFold(name, []byte("Transfer-Encoding")):
			return 0, false, errors.New("the answer comes in chunks")
		case bytes.EqualFold(name, []byte("Connection")):
			gone = bytes.EqualFold(value, []byte("close"))
		}
	}
	return length, gone, nil
}
