package awsiottest

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/base32"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"sluice"
)

// Options say how an emulator differs from the default one. The zero value
// listens on free ports of the loopback interface.
type Options struct {
	// Addr is where MQTT is served, with TLS; default "127.0.0.1:0".
	Addr string
	// Addr443 is where that is served which AWS has at port 443: MQTT with a
	// client certificate by ALPN, and MQTT over WebSocket with a signature;
	// default "127.0.0.1:0".
	Addr443 string
	// ControlAddr is where the registry API is served; default "127.0.0.1:0".
	ControlAddr string
	// ControlTLS serves the registry API with TLS, under the same authority
	// as MQTT (see [Server.CAPEM]); default plain HTTP.
	ControlTLS bool
	// Region is the region that requests must be signed for; default
	// "eu-central-1".
	Region string
	// AccountID is twelve digits; default "123456789012".
	AccountID string
	// Rate is how many publishes a second one connection may send; what is
	// more is discarded. 0 is AWS's 100; negative is no limit.
	Rate int
	// OutboundRate is how many messages a second one connection is sent; what
	// is more is discarded. AWS's is 100 here too, but 0, the default, is no
	// limit, so that one subscriber can watch all that arrives (on AWS a rule
	// would do that).
	OutboundRate int
	// Quotas are further limits.
	Quotas Quotas
	// Inferred are choices where it is not known what AWS does.
	Inferred Inferred
	// AllowNoSNI accepts clients whose TLS handshake does not name the server,
	// as those that dial an IP address; AWS refuses them.
	AllowNoSNI bool
	// KeyType is the type of the key pairs that the emulator makes for
	// devices; default RSA, as AWS. EC is quicker to make.
	KeyType KeyType
	// Clock is what signatures, publish rates and dates go by; default
	// time.Now. Certificates, keep-alives and expiries go by the real time.
	Clock sluice.Clock
	// Log takes the emulator's log, and the broker's at level debug; default
	// nothing is logged.
	Log *slog.Logger
}

func (o Options) withDefaults() Options {
	if o.Addr == "" {
		o.Addr = "127.0.0.1:0"
	}
	if o.Addr443 == "" {
		o.Addr443 = "127.0.0.1:0"
	}
	if o.ControlAddr == "" {
		o.ControlAddr = "127.0.0.1:0"
	}
	if o.Region == "" {
		o.Region = "eu-central-1"
	}
	if o.AccountID == "" {
		o.AccountID = "123456789012"
	}
	if o.Rate == 0 {
		o.Rate = publishRate
	}
	o.Quotas = o.Quotas.withDefaults(o.Rate)
	if o.KeyType == "" {
		o.KeyType = RSA
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

// Server is a running emulator. Its methods are safe for use by several
// goroutines.
type Server struct {
	options  Options
	key      accessKey
	ca       *authority // signs the server's certificate
	registry *registry
	broker   *broker
	faults   *faults

	control    *http.Server
	controlURL string
	served     sync.WaitGroup
	closeOnce  sync.Once

	configureOnce sync.Once
	configuration Configuration
}

type accessKey struct{ id, secret string }

// NewServer starts an emulator. The caller closes it.
func NewServer(o Options) (*Server, error) {
	o = o.withDefaults()
	ca, err := newAuthority("Sluice AWS IoT emulator root")
	if err != nil {
		return nil, err
	}
	leaf, err := ca.serverCertificate(serverNames(o)...)
	if err != nil {
		return nil, err
	}
	devices, err := newAuthority("Sluice AWS IoT emulator devices")
	if err != nil {
		return nil, err
	}
	s := &Server{options: o, key: newAccessKey(), ca: ca, faults: newFaults(o)}
	s.registry = newRegistry(o, devices)
	s.broker = newBroker(o, s.registry, oneKey{options: o, key: s.key})
	if err := s.broker.start(leaf, serverNames(o)); err != nil {
		return nil, err
	}
	s.registry.dataEndpoint = s.broker.addr()
	s.registry.deactivated = s.broker.dropPrincipal
	if err := s.startControl(leaf); err != nil {
		s.broker.close()
		return nil, err
	}
	return s, nil
}

// serverNames are the names that the server's certificate is valid for.
func serverNames(o Options) []string {
	names := []string{"localhost", "127.0.0.1", "::1", accountPrefix + ".iot." + o.Region + ".amazonaws.com", "iot." + o.Region + ".amazonaws.com"}
	for _, addr := range []string{o.Addr, o.Addr443, o.ControlAddr} {
		if host, _, err := net.SplitHostPort(addr); err == nil && host != "" {
			names = append(names, host)
		}
	}
	return names
}

func newAccessKey() accessKey {
	raw := make([]byte, 40)
	_, _ = rand.Read(raw) // never fails
	return accessKey{
		id:     "AKIA" + base32.StdEncoding.EncodeToString(raw[:10]),
		secret: base64.StdEncoding.EncodeToString(raw[10:40]),
	}
}

func (s *Server) startControl(leaf tls.Certificate) error {
	l, err := net.Listen("tcp", s.options.ControlAddr)
	if err != nil {
		return fmt.Errorf("listen for the registry API: %w", err)
	}
	s.controlURL = "http://" + reachable(l.Addr())
	if s.options.ControlTLS {
		s.controlURL = "https://" + reachable(l.Addr())
		l = tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{leaf}, MinVersion: tls.VersionTLS12})
	}
	s.control = &http.Server{
		Handler:           &controlPlane{options: s.options, key: s.key, registry: s.registry, faults: s.faults},
		ReadHeaderTimeout: 10 * time.Second,
		ErrorLog:          slog.NewLogLogger(s.options.Log.Handler(), slog.LevelDebug),
	}
	s.served.Go(func() {
		if err := s.control.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			s.options.Log.Error("the registry API stopped", "error", err)
		}
	})
	return nil
}

// reachable is an address that a client on this machine can use: a server
// that listens on all addresses is at localhost.
func reachable(a net.Addr) string {
	if tcp, ok := a.(*net.TCPAddr); ok && tcp.IP.IsUnspecified() {
		return net.JoinHostPort("localhost", strconv.Itoa(tcp.Port))
	}
	return a.String()
}

// Close disconnects every client (MQTT 5: DISCONNECT 0x8B), stops listening
// and waits until all is closed. A second call does nothing.
func (s *Server) Close() {
	s.closeOnce.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if err := s.control.Shutdown(ctx); err != nil {
			_ = s.control.Close()
		}
		s.served.Wait()
		s.broker.close()
	})
}

// MQTTAddr is host:port of the MQTT endpoint, what AWS has at port 8883. The
// host is "localhost", not an address, so that clients send it as the name of
// the server: without it they are refused.
func (s *Server) MQTTAddr() string { return s.broker.addr() }

// Addr443 is host:port of what AWS has at port 443: see [Options].
func (s *Server) Addr443() string { return s.broker.addr443() }

// ControlURL is the URL of the registry API, without a path.
func (s *Server) ControlURL() string { return s.controlURL }

// CAPEM is the certificate of the authority that signed the server's
// certificate: what a client trusts instead of the Amazon root CAs.
func (s *Server) CAPEM() string { return s.ca.pem }

// AccessKeyID is the one access key that the registry API knows.
func (s *Server) AccessKeyID() string { return s.key.id }

// SecretAccessKey is the secret of AccessKeyID.
func (s *Server) SecretAccessKey() string { return s.key.secret }

// Region is the region that requests must be signed for.
func (s *Server) Region() string { return s.options.Region }

// arn builds an Amazon resource name of the emulator's account.
func (o Options) arn(resource string) string {
	partition := "aws"
	switch {
	case strings.HasPrefix(o.Region, "cn-"):
		partition = "aws-cn"
	case strings.HasPrefix(o.Region, "us-gov-"):
		partition = "aws-us-gov"
	}
	return "arn:" + partition + ":iot:" + o.Region + ":" + o.AccountID + ":" + resource
}
