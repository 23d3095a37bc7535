package awsiottest

import (
	"crypto/tls"
	"slices"
)

// What clients ask for with ALPN at port 443. Source: Developer Guide,
// "Protocols, port mappings, and authentication".
const (
	alpnMQTT  = "x-amzn-mqtt-ca"
	alpnHTTPS = "x-amzn-http-ca"
)

// mqttDoor is what AWS has at port 8883: MQTT with client certificates.
func (b *broker) mqttDoor(addr string, leaf tls.Certificate, names []string) *door {
	return &door{
		addr: addr,
		tls:  b.requireName(names, b.withCertificates(leaf)),
		enter: func(p *peer, conn *tls.Conn) {
			p.principal = b.certified(conn)
			b.listener.run(p, conn)
		},
	}
}

// door443 is what AWS has at port 443: what comes in is told by ALPN. Without
// it, it is HTTP with a signature: publishing, shadows, and MQTT over
// WebSocket. A custom authorizer ("mqtt") is not emulated: the handshake fails.
func (b *broker) door443(addr string, leaf tls.Certificate, names []string) *door {
	plain := &tls.Config{
		Certificates:           []tls.Certificate{leaf},
		MinVersion:             tls.VersionTLS12,
		NextProtos:             []string{"http/1.1"},
		SessionTicketsDisabled: true,
	}
	certified := b.withCertificates(leaf)
	certified.NextProtos = []string{alpnMQTT, alpnHTTPS}
	chosen := &tls.Config{
		Certificates: []tls.Certificate{leaf},
		MinVersion:   tls.VersionTLS12,
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			if slices.Contains(hello.SupportedProtos, alpnMQTT) || slices.Contains(hello.SupportedProtos, alpnHTTPS) {
				return certified, nil
			}
			return plain, nil
		},
	}
	return &door{
		addr: addr,
		tls:  b.requireName(names, chosen),
		enter: func(p *peer, conn *tls.Conn) {
			if conn.ConnectionState().NegotiatedProtocol == alpnMQTT {
				p.principal = b.certified(conn)
				b.listener.run(p, conn)
				return
			}
			b.web.serve(p, conn)
		},
	}
}

func (b *broker) withCertificates(leaf tls.Certificate) *tls.Config {
	return &tls.Config{
		Certificates:           []tls.Certificate{leaf},
		MinVersion:             tls.VersionTLS12,
		ClientAuth:             tls.RequireAnyClientCert,
		SessionTicketsDisabled: true, // as AWS
		VerifyConnection: func(cs tls.ConnectionState) error {
			return b.verify(cs.PeerCertificates[0])
		},
	}
}

// requireName refuses clients that do not name the server. Source: Developer
// Guide, "Transport security in AWS IoT": connections without the right
// host_name of the Server Name Indication are refused. That the alert is
// unrecognized_name is inferred.
func (b *broker) requireName(names []string, c *tls.Config) *tls.Config {
	nobody := &tls.Config{MinVersion: tls.VersionTLS12} // without a certificate the alert is this one
	return &tls.Config{
		Certificates: c.Certificates,
		MinVersion:   tls.VersionTLS12,
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			if !slices.Contains(names, hello.ServerName) && !(hello.ServerName == "" && b.options.AllowNoSNI) {
				b.options.Log.Info("TLS handshake refused: the server is not named", "name", hello.ServerName)
				return nobody, nil
			}
			if c.GetConfigForClient != nil {
				return c.GetConfigForClient(hello)
			}
			return c, nil
		},
	}
}
