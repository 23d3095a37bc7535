package proxy_test

import (
	"io"
	"net"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sluice/test/faults/proxy"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// wire is a client, a server and the proxy between them.
type wire struct {
	*proxy.Proxy
	client, server net.Conn
	accepted       chan net.Conn
}

func open(t *testing.T) *wire {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{accepted: make(chan net.Conn, 8)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			w.accepted <- c
		}
	}()
	if w.Proxy, err = proxy.New(l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		w.Close()
		_ = l.Close()
		<-done
	})
	w.dial(t)
	w.server = <-w.accepted
	t.Cleanup(func() { _ = w.server.Close() })
	_ = w.server.SetDeadline(time.Now().Add(30 * time.Second))
	send(t, w.client, "hello") // from here on the link is known
	wants(t, w.server, "hello")
	return w
}

func (w *wire) dial(t *testing.T) {
	t.Helper()
	c, err := net.Dial("tcp", w.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	w.client = c
}

func send(t *testing.T, c net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
}

func wants(t *testing.T, c net.Conn, text string) {
	t.Helper()
	got := make([]byte, len(text))
	if n, err := io.ReadFull(c, got); err != nil || string(got) != text {
		t.Fatalf("read %q, %v; want %q", got[:n], err, text)
	}
}

func ends(t *testing.T, c net.Conn) {
	t.Helper()
	if n, err := io.Copy(io.Discard, c); n > 0 {
		t.Errorf("%d bytes before the end, %v", n, err)
	}
}

func TestPassesOn(t *testing.T) {
	w := open(t)
	send(t, w.client, "up")
	wants(t, w.server, "up")
	send(t, w.server, "down")
	wants(t, w.client, "down")
	w.Slow(time.Millisecond, 1000)
	send(t, w.client, "slow")
	wants(t, w.server, "slow")
}

func TestCut(t *testing.T) {
	w := open(t)
	w.Cut()
	ends(t, w.client)
	ends(t, w.server)
}

func TestRefuse(t *testing.T) {
	w := open(t)
	w.Refuse(true)
	ends(t, w.client)
	if c, err := net.Dial("tcp", w.Addr()); err == nil { // it may be reset before Dial has returned
		ends(t, c)
		_ = c.Close()
	}
	w.Refuse(false)
	w.dial(t)
	send(t, w.client, "x")
	server := <-w.accepted
	wants(t, server, "x")
	_ = server.Close()
}

// What is held back comes when the stall is over.
func TestStall(t *testing.T) {
	w := open(t)
	w.Stall(proxy.Up)
	send(t, w.client, "held")
	send(t, w.server, "down")
	wants(t, w.client, "down")
	_ = w.server.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	if n, err := w.server.Read(make([]byte, 1)); err == nil {
		t.Errorf("%d bytes came through a stall", n)
	}
	_ = w.server.SetReadDeadline(time.Now().Add(30 * time.Second))
	w.Stall(0)
	wants(t, w.server, "held")
}

// A client whose server has gone silently can write, and hears nothing.
func TestHalfOpen(t *testing.T) {
	w := open(t)
	w.HalfOpen()
	ends(t, w.server)
	for range 100 {
		send(t, w.client, "into the void")
	}
	_ = w.client.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	if _, err := w.client.Read(make([]byte, 1)); err == nil || err == io.EOF {
		t.Errorf("the client was told: %v", err)
	} else if e, ok := err.(net.Error); !ok || !e.Timeout() {
		t.Errorf("the client was told: %v", err)
	}
}

func TestCutAfter(t *testing.T) {
	w := open(t)
	w.CutAfter(3, proxy.Up)
	send(t, w.client, "ab")
	wants(t, w.server, "ab")
	send(t, w.client, "cd")
	ends(t, w.client)
	rest, _ := io.ReadAll(w.server) // a reset may take the last byte with it
	if string(rest) != "c" && string(rest) != "" {
		t.Errorf("the server got %q after ab, want c", rest)
	}
}
