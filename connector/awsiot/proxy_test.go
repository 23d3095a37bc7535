package awsiot_test

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"

	"sluice"
	"sluice/connector/awsiot"
	"sluice/connector/awsiot/awsiottest"
	"sluice/connector/connectortest"
)

// aProxy is a small proxy that wants a user and a password.
type aProxy struct {
	listener net.Listener
	serve    func(c net.Conn) (to net.Conn, in io.Reader) // nil: refused

	mu    sync.Mutex
	asked map[string]int // addresses
	open  map[net.Conn]bool
	wait  sync.WaitGroup
}

const (
	proxyUser     = "sluice"
	proxyPassword = "p@ss/word:1"
	proxyInURL    = "sluice:p%40ss%2Fword%3A1@"
)

func newProxy(tb testing.TB, kind string) *aProxy {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	p := &aProxy{listener: l, asked: map[string]int{}, open: map[net.Conn]bool{}}
	p.serve = map[string]func(net.Conn) (net.Conn, io.Reader){"http": p.http, "socks5": p.socks}[kind]
	p.wait.Go(p.accept)
	tb.Cleanup(func() {
		_ = l.Close()
		p.mu.Lock()
		for c := range p.open {
			_ = c.Close()
		}
		p.mu.Unlock()
		p.wait.Wait()
	})
	return p
}

func (p *aProxy) accept() {
	for {
		c, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.keep(c)
		p.wait.Go(func() {
			defer c.Close()
			to, in := p.serve(c)
			if to == nil {
				return
			}
			p.keep(to)
			defer to.Close()
			p.wait.Go(func() {
				_, _ = io.Copy(to, in)
				_ = to.Close()
			})
			_, _ = io.Copy(c, to)
		})
	}
}

func (p *aProxy) keep(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open[c] = true
}

func (p *aProxy) connect(addr string) net.Conn {
	p.mu.Lock()
	p.asked[addr]++
	p.mu.Unlock()
	to, err := net.Dial("tcp", addr)
	if err != nil {
		return nil
	}
	return to
}

func (p *aProxy) count(addr string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.asked[addr]
}

func (p *aProxy) http(c net.Conn) (net.Conn, io.Reader) {
	in := bufio.NewReader(c)
	r, err := http.ReadRequest(in)
	if err != nil {
		return nil, nil
	}
	want := "Basic " + base64.StdEncoding.EncodeToString([]byte(proxyUser+":"+proxyPassword))
	switch {
	case r.Header.Get("Proxy-Authorization") != want:
		_, _ = io.WriteString(c, "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n")
		return nil, nil
	case r.Method != http.MethodConnect:
		_, _ = io.WriteString(c, "HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\n\r\n")
		return nil, nil
	}
	to := p.connect(r.Host)
	if to == nil {
		_, _ = io.WriteString(c, "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
		return nil, nil
	}
	_, _ = io.WriteString(c, "HTTP/1.1 200 Connection established\r\n\r\n")
	return to, in
}

// socks speaks SOCKS5 (RFC 1928) with user and password (RFC 1929).
func (p *aProxy) socks(c net.Conn) (net.Conn, io.Reader) {
	in := bufio.NewReader(c)
	text := func() string {
		n, _ := in.ReadByte()
		b := make([]byte, n)
		_, _ = io.ReadFull(in, b)
		return string(b)
	}
	_, _ = in.ReadByte() // version
	if methods := text(); !strings.Contains(methods, "\x02") {
		_, _ = c.Write([]byte{5, 0xff})
		return nil, nil
	}
	_, _ = c.Write([]byte{5, 2})
	_, _ = in.ReadByte() // version
	if user, password := text(), text(); user != proxyUser || password != proxyPassword {
		_, _ = c.Write([]byte{1, 1})
		return nil, nil
	}
	_, _ = c.Write([]byte{1, 0})
	head := make([]byte, 4)
	_, _ = io.ReadFull(in, head)
	host := ""
	switch head[3] {
	case 1:
		b := make([]byte, 4)
		_, _ = io.ReadFull(in, b)
		host = net.IP(b).String()
	case 3:
		host = text()
	}
	port := make([]byte, 2)
	_, _ = io.ReadFull(in, port)
	to := p.connect(net.JoinHostPort(host, strconv.Itoa(int(port[0])<<8|int(port[1]))))
	answer := []byte{5, 0, 0, 1, 0, 0, 0, 0, 0, 0}
	if to == nil {
		answer[1] = 5
	}
	_, _ = c.Write(answer)
	return to, in
}

// Every protocol, and the registry, goes through the proxy and nothing beside
// it; a command comes back the same way.
func TestProxy(t *testing.T) {
	for _, kind := range []string{"http", "socks5"} {
		for _, name := range []string{"SSL", "WSS", "HTTPS", "HTTPS by access"} {
			t.Run(kind+" "+name, func(t *testing.T) {
				c := newCloud(t, awsiottest.Options{ControlTLS: true})
				proxy := newProxy(t, kind)
				changes := c.protocols()[name]
				changes["proxy"] = kind + "://" + proxyInURL + proxy.listener.Addr().String()
				w := c.watch(t, "tpx/things/+/uplink")
				d := newRig().dial(t, awsiot.Options{}, c.with(t, changes))
				if err := d.(sluice.Prober).Probe(within(t)); err != nil {
					t.Errorf("Probe: %v", err)
				}
				s := open(t, d, 0)
				m := connectortest.Uplink("20635F0108000496", 1)
				if err := d.(sluice.Preparer).Prepare(within(t), m); err != nil {
					t.Fatal(err)
				}
				if err := s.Handle(within(t), m); err != nil {
					t.Fatal(err)
				}
				await(t, "the uplink", func() bool { return len(w.all()) == 1 })
				taken := make(chan sluice.Command, 1)
				if err := s.(sluice.Subscriber).Subscribe(within(t), func(_ context.Context, c sluice.Command) error { taken <- c; return nil }); err != nil {
					t.Fatal(err)
				}
				w.publish(t, "tpx/things/20635F0108000496/downlink", 1, []byte("{}"))
				<-taken
				if _, ok := c.Thing("20635F0108000496"); !ok {
					t.Error("the thing was not made")
				}
				control := strings.TrimPrefix(c.ControlURL(), "https://")
				if proxy.count(control) == 0 {
					t.Errorf("the registry was not reached through the proxy: %v", proxy.asked)
				}
				for _, addr := range map[string][]string{
					"SSL": {c.MQTTAddr()}, "WSS": {c.Addr443()}, "HTTPS": {c.Addr8443(), c.MQTTAddr()}, "HTTPS by access": {c.Addr443()},
				}[name] {
					if proxy.count(addr) == 0 {
						t.Errorf("%s was not reached through the proxy: %v", addr, proxy.asked)
					}
				}
			})
		}
	}
}

// A proxy that refuses is told of, and neither user nor password.
func TestProxyRefuses(t *testing.T) {
	c := newCloud(t, awsiottest.Options{})
	closed := newProxy(t, "http")
	_ = closed.listener.Close()
	for _, tc := range []struct {
		name, url, endpoint string
		reason              sluice.Reason
		says                string
	}{
		{"http, wrong password", "http://sluice:SECRET@" + newProxy(t, "http").listener.Addr().String(), "", sluice.ReasonAuthentication, "user"},
		{"http, none", "http://" + newProxy(t, "http").listener.Addr().String(), "", sluice.ReasonAuthentication, "user"},
		{"http, no way on", "http://" + proxyInURL + newProxy(t, "http").listener.Addr().String(), "127.0.0.1:1", sluice.ReasonUnreachable, "502"},
		{"socks, wrong password", "socks5://sluice:SECRET@" + newProxy(t, "socks5").listener.Addr().String(), "", sluice.ReasonAuthentication, "user"},
		{"socks, none", "socks5://" + newProxy(t, "socks5").listener.Addr().String(), "", sluice.ReasonAuthentication, "user"},
		{"not there", "http://" + proxyInURL + closed.listener.Addr().String(), "", sluice.ReasonUnreachable, "through"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			changes := map[string]any{"proxy": tc.url}
			if tc.endpoint != "" {
				changes["dataEndpoint"] = tc.endpoint
			}
			_, err := newRig().dial(t, awsiot.Options{}, c.with(t, changes)).Open(within(t), 0, func() {})
			f, ok := errors.AsType[*sluice.Failure](err)
			if !ok || f.Reason != tc.reason || !strings.Contains(f.Message+f.Hint, tc.says) {
				t.Errorf("%v (%+v)", err, f)
			}
			for _, secret := range []string{"SECRET", "p@ss", "p%40ss", base64.StdEncoding.EncodeToString([]byte(proxyUser + ":"))[:8]} {
				if strings.Contains(err.Error()+f.Hint, secret) {
					t.Errorf("it tells the secret: %v %s", err, f.Hint)
				}
			}
		})
	}
}
