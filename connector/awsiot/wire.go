package awsiot

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"golang.org/x/net/proxy"

	"sluice"
)

// wire makes TCP, through the proxy where there is one, and TLS.
func (d *dialer) wire(ctx context.Context, host, port string, alpn []string) (*tls.Conn, error) {
	tcp, err := d.tcp(ctx, net.JoinHostPort(host, port))
	if err != nil {
		return nil, err
	}
	c := d.tls.Clone()
	c.ServerName, c.NextProtos = host, alpn // AWS refuses who does not name it
	conn := tls.Client(tcp, c)
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = tcp.Close()
		return nil, d.tlsFailure(err)
	}
	return conn, nil
}

func (d *dialer) tcp(ctx context.Context, addr string) (net.Conn, error) {
	if d.cfg.Proxy == "" {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
		if err != nil {
			return nil, d.dialFailure(err)
		}
		return conn, nil
	}
	u, err := url.Parse(d.cfg.Proxy)
	if err != nil {
		return nil, notConnected(sluice.ReasonConfiguration, nil, "The address of the proxy cannot be read.", "")
	}
	dial := connectThrough
	if u.Scheme != "http" {
		dial = socksThrough
	}
	conn, err := dial(ctx, u, addr)
	if err != nil {
		return nil, proxyFailure(u.Host, addr, err)
	}
	return conn, nil
}

// proxyAddress is host:port of a proxy, with the port that its kind has by
// custom.
func proxyAddress(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80"}[u.Scheme]
	}
	if port == "" {
		port = "1080"
	}
	return net.JoinHostPort(u.Hostname(), port)
}

// socksThrough connects by SOCKS5. The proxy looks the name up.
func socksThrough(ctx context.Context, u *url.URL, addr string) (net.Conn, error) {
	var auth *proxy.Auth
	if u.User != nil {
		password, _ := u.User.Password()
		auth = &proxy.Auth{User: u.User.Username(), Password: password}
	}
	d, err := proxy.SOCKS5("tcp", proxyAddress(u), auth, new(net.Dialer))
	if err != nil {
		return nil, err
	}
	return d.(proxy.ContextDialer).DialContext(ctx, "tcp", addr)
}

// proxyAnswer is what an HTTP proxy said that is not 200.
type proxyAnswer struct{ status int }

func (a proxyAnswer) Error() string { return fmt.Sprintf("the proxy answered %d", a.status) }

// connectThrough connects by HTTP's CONNECT.
func connectThrough(ctx context.Context, u *url.URL, addr string) (_ net.Conn, err error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", proxyAddress(u))
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer func() {
		if !stop() && err == nil {
			err = ctx.Err()
		}
		if err != nil {
			_ = conn.Close()
		}
	}()
	r := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: addr}, Host: addr, Header: http.Header{}}
	if u.User != nil {
		password, _ := u.User.Password()
		token := base64.StdEncoding.EncodeToString([]byte(u.User.Username() + ":" + password))
		r.Header.Set("Proxy-Authorization", "Basic "+token)
	}
	if err := r.Write(conn); err != nil {
		return nil, err
	}
	in := bufio.NewReader(conn)
	answer, err := http.ReadResponse(in, r)
	if err != nil {
		return nil, err
	}
	_ = answer.Body.Close() // of CONNECT it is empty, or of no interest
	switch {
	case answer.StatusCode != http.StatusOK:
		return nil, proxyAnswer{answer.StatusCode}
	case in.Buffered() > 0:
		return nil, errors.New("the proxy said more than it should") // a TLS server waits for its client
	}
	return conn, nil
}

// proxyFailure tells why there is no way through the proxy. Its user and
// password are in no error.
func proxyFailure(at, addr string, err error) *sluice.Failure {
	f := notConnected(sluice.ReasonUnreachable, err, "", "Check that the proxy is up, and that it lets this machine connect to "+addr+".")
	a, answered := errors.AsType[proxyAnswer](err)
	switch {
	case answered && a.status == http.StatusProxyAuthRequired, strings.Contains(err.Error(), "authentication"): // x/net has no type for it (v0.60.0)
		f.Reason = sluice.ReasonAuthentication
		f.Message = "The proxy " + at + " does not accept who we are."
		f.Hint = "Write user and password in proxy, before the host: user:password@host:port."
	case answered:
		f.Message = fmt.Sprintf("The proxy %s does not connect to %s: it answers %d.", at, addr, a.status)
	case isTimeout(err):
		f.Message = "The proxy " + at + " does not answer."
	default:
		f.Message = fmt.Sprintf("There is no way through the proxy %s to %s.", at, addr)
	}
	return f
}

// newWebClient makes the client of AWS's APIs. Without a proxy of its own it
// goes by the environment, as the SDK does.
func newWebClient(c *config, pool *x509.CertPool) *http.Client {
	through := http.ProxyFromEnvironment
	if u, err := url.Parse(c.Proxy); err == nil && c.Proxy != "" {
		through = http.ProxyURL(u)
	}
	return &http.Client{Transport: &http.Transport{
		Proxy:               through,
		TLSClientConfig:     &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool},
		TLSHandshakeTimeout: callTimeout,
		MaxIdleConnsPerHost: connections,
		IdleConnTimeout:     time.Minute,
		ForceAttemptHTTP2:   true,
	}}
}
