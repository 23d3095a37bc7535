package awsiottest

import (
	"context"
	"crypto/tls"
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
	"sluice/connector/awsiot/awsiottest/iam"
	"sluice/connector/awsiot/awsiottest/policy"
)

// Options say how an emulator differs from the default one. The zero value
// listens on free ports of the loopback interface.
type Options struct {
	// Addr is where MQTT is served, with TLS; default "127.0.0.1:0".
	Addr string
	// Addr443 is where that is served which AWS has at port 443: MQTT and HTTPS
	// with a client certificate by ALPN, MQTT over WebSocket and HTTPS with a
	// signature; default "127.0.0.1:0".
	Addr443 string
	// ControlAddr is where the registry API is served; default "127.0.0.1:0".
	ControlAddr string
	// Addr8443 is where that is served which AWS has at port 8443: HTTPS with a
	// client certificate; default "127.0.0.1:0".
	Addr8443 string
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
	// APIRates replace AWS's rates of single actions of the HTTP APIs, such as
	// "CreateThing", in calls a second; "*" replaces them all. Negative is no
	// limit.
	APIRates map[string]int
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
	if o.Addr8443 == "" {
		o.Addr8443 = "127.0.0.1:0"
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
	key      iam.Key
	account  account
	ca       *authority // signs the server's certificate
	registry *registry
	broker   *broker
	faults   *faults
	throttle *apiThrottle
	shadows  *shadowService
	data     *dataPlane
	https    *httpsServer // as at 8443

	control    *http.Server
	controlURL string
	served     sync.WaitGroup
	closeOnce  sync.Once

	configureOnce sync.Once
	configuration Configuration
}

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
	s := &Server{options: o, ca: ca, faults: newFaults()}
	s.account = account{iam.NewAccount(o.partition(), o.AccountID, o.Clock), s.faults}
	s.key = s.account.AddUser("emulator", policy.AllowActions("*"))
	s.throttle = newAPIThrottle(o.Clock, o.APIRates)
	s.registry = newRegistry(o, devices)
	s.broker = newBroker(o, s.registry, s.account)
	s.shadows = newShadowService(o.Clock, s.broker.publishReserved)
	s.broker.serveReserved(shadowsPrefix, s.shadows)
	s.registry.policiesChanged = s.broker.policies.replace
	s.data = &dataPlane{
		options: o, registry: s.registry, broker: s.broker, account: s.account,
		faults: s.faults, throttle: s.throttle, shadows: s.shadows,
	}
	s.broker.web.others = s.data
	if err := s.broker.start(leaf, serverNames(o)); err != nil {
		return nil, err
	}
	s.registry.dataEndpoint = s.broker.addr()
	s.registry.deactivated = s.broker.dropPrincipal
	if err := s.startHTTP(leaf); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *Server) startHTTP(leaf tls.Certificate) error {
	config := s.broker.requireName(serverNames(s.options), s.broker.withCertificates(leaf))
	https, err := serveHTTPS(s.options.Addr8443, config, s.data, s.options.Log)
	if err != nil {
		return err
	}
	s.https = https
	return s.startControl(leaf)
}

// serverNames are the names that the server's certificate is valid for.
func serverNames(o Options) []string {
	names := []string{"localhost", "127.0.0.1", "::1", accountPrefix + ".iot." + o.Region + ".amazonaws.com", "iot." + o.Region + ".amazonaws.com"}
	for _, addr := range []string{o.Addr, o.Addr443, o.Addr8443, o.ControlAddr} {
		if host, _, err := net.SplitHostPort(addr); err == nil && host != "" {
			names = append(names, host)
		}
	}
	return names
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
		Handler: &controlPlane{
			options: s.options, registry: s.registry, account: s.account, faults: s.faults,
			throttle: s.throttle, operations: operations(),
		},
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
		s.shadows.stop()
		if s.https != nil {
			s.https.close()
		}
		if s.control != nil {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			if err := s.control.Shutdown(ctx); err != nil {
				_ = s.control.Close()
			}
		}
		s.served.Wait()
		s.broker.close()
		s.shadows.wait.Wait()
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

// Addr8443 is host:port of what AWS has at port 8443: see [Options].
func (s *Server) Addr8443() string { return s.https.addr() }

// CAPEM is the certificate of the authority that signed the server's
// certificate: what a client trusts instead of the Amazon root CAs.
func (s *Server) CAPEM() string { return s.ca.pem }

// AccessKeyID is the access key of a user who may do everything. [Server.CreateUser]
// makes others.
func (s *Server) AccessKeyID() string { return s.key.ID }

// SecretAccessKey is the secret of AccessKeyID.
func (s *Server) SecretAccessKey() string { return s.key.Secret }

// Region is the region that requests must be signed for.
func (s *Server) Region() string { return s.options.Region }

// partition is the first part of an Amazon resource name.
func (o Options) partition() string {
	switch {
	case strings.HasPrefix(o.Region, "cn-"):
		return "aws-cn"
	case strings.HasPrefix(o.Region, "us-gov-"):
		return "aws-us-gov"
	}
	return "aws"
}

// arn builds an Amazon resource name of the emulator's account.
func (o Options) arn(resource string) string {
	return "arn:" + o.partition() + ":iot:" + o.Region + ":" + o.AccountID + ":" + resource
}
