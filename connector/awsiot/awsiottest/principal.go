package awsiottest

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net"
	"sync"
	"sync/atomic"

	"sluice/connector/awsiot/awsiottest/policy"
)

// principal is who a connection belongs to: a certificate, or an identity
// whose signature was good.
type principal struct {
	certificateID string
	certificate   *x509.Certificate
	identity      *identity
	remote        string // its IP address
}

func hostOf(a net.Addr) string {
	host, _, _ := net.SplitHostPort(a.String())
	return host
}

func (b *broker) certified(conn *tls.Conn) principal {
	c := conn.ConnectionState().PeerCertificates[0]
	return principal{certificateID: fingerprint(c.Raw), certificate: c, remote: hostOf(conn.RemoteAddr())}
}

// attached are the policies that are attached to a certificate.
type attached struct {
	documents atomic.Pointer[[]*policy.Document] // nil: everything is allowed
}

// policies are those of all certificates.
type policies struct {
	mu            sync.Mutex
	byCertificate map[string]*attached
}

func (p *policies) of(certificateID string) *attached {
	p.mu.Lock()
	defer p.mu.Unlock()
	a := p.byCertificate[certificateID]
	if a == nil {
		a = &attached{}
		p.byCertificate[certificateID] = a
	}
	return a
}

// replace sets the documents of a certificate as the registry has them: nil
// where it may do everything. They were checked when they were stored.
func (p *policies) replace(certificateID string, documents []string) {
	if documents == nil {
		p.of(certificateID).documents.Store(nil)
		return
	}
	parsed := []*policy.Document{}
	for _, text := range documents {
		if d, err := policy.Parse(text); err == nil {
			parsed = append(parsed, d)
		}
	}
	p.of(certificateID).documents.Store(&parsed)
}

// SetPolicies attaches IoT policies to a certificate, in the place of those it
// had. From now on it may do what they allow, and with none, nothing;
// connections that are open are held to them at once (on AWS within minutes).
// A certificate whose policies were never set may do everything.
func (s *Server) SetPolicies(certificateID string, documents ...string) error {
	parsed := []*policy.Document{}
	for i, text := range documents {
		if size := policy.Size(text); size > policy.SizeMax {
			return fmt.Errorf("policy %d has %d characters, the limit is %d", i+1, size, policy.SizeMax)
		}
		d, err := policy.Parse(text)
		if err != nil {
			return fmt.Errorf("policy %d: %w", i+1, err)
		}
		parsed = append(parsed, d)
	}
	s.broker.policies.of(certificateID).documents.Store(&parsed)
	return nil
}

// ResetPolicies lets a certificate do everything again.
func (s *Server) ResetPolicies(certificateID string) {
	s.broker.policies.of(certificateID).documents.Store(nil)
}

// guard decides what one connection may do.
type guard struct {
	options   Options
	sessionID string // of the connection, for events
	identity  *identity
	attached  *attached
	clientID  string
	values    policy.Values
}

// guardOf is made at CONNECT: what the policy variables are is settled there
// (inferred).
func (b *broker) guardOf(p principal, clientID string) *guard {
	g := &guard{options: b.options, sessionID: newUUID(), identity: p.identity, clientID: clientID}
	if p.identity != nil {
		return g
	}
	g.attached = b.policies.of(p.certificateID)
	g.values = policy.Values{"iot:ClientId": {clientID}, "iot:CertificateId": {p.certificateID}, "aws:SourceIp": {p.remote}}
	b.registry.describeAttached(g.values, clientID, b.options.arn("cert/"+p.certificateID))
	describe(g.values, "iot:Certificate.Subject.", p.certificate.Subject)
	describe(g.values, "iot:Certificate.Issuer.", p.certificate.Issuer)
	g.values["iot:Certificate.SerialNumber"] = []string{p.certificate.SerialNumber.String()}
	return g
}

// describeAttached sets the variables of the thing that a client is: the one
// whose name is its client id, if the certificate is attached to it. Source:
// Developer Guide, "Thing policy variables".
func (r *registry) describeAttached(v policy.Values, clientID, certificate string) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	t := r.things[clientID]
	if t == nil || !t.principals[certificate] {
		v["iot:Connection.Thing.IsAttached"] = []string{"false"}
		return
	}
	v["iot:Connection.Thing.IsAttached"] = []string{"true"}
	v["iot:Connection.Thing.ThingName"] = []string{t.Name}
	if t.TypeName != "" {
		v["iot:Connection.Thing.ThingTypeName"] = []string{t.TypeName}
	}
	for name, value := range t.Attributes {
		v["iot:Connection.Thing.Attributes["+name+"]"] = []string{value}
	}
}

// describe sets the variables of a name in a certificate. Source: Developer
// Guide, "X.509 certificate AWS IoT Core policy variables"; a part that is
// there several times is left out.
func describe(v policy.Values, prefix string, n pkix.Name) {
	for key, values := range map[string][]string{
		"CommonName": {n.CommonName}, "SerialNumber": {n.SerialNumber}, "Country": n.Country, "Organization": n.Organization,
		"OrganizationalUnit": n.OrganizationalUnit, "State": n.Province,
	} {
		if len(values) == 1 && values[0] != "" {
			v[prefix+key] = values
		}
	}
}

// may asks for an action on a resource.
func (g *guard) may(action, kind, name string) bool {
	if g.identity == nil && g.attached.documents.Load() == nil {
		return true // the hot path: no ARN is made
	}
	return g.allows("iot:"+action, g.options.arn(kind+name))
}

// allows is may for an action with its prefix and a whole ARN.
func (g *guard) allows(action, resource string) bool {
	if g.identity != nil {
		return g.identity.allows(action, resource)
	}
	documents := g.attached.documents.Load()
	return documents == nil || policy.Allows(*documents, policy.Request{Action: action, Resource: resource, Values: g.values})
}

// mayConnect checks a CONNECT with its attributes. lastWill is "" for none.
func (g *guard) mayConnect(persistent bool, lastWill string) bool {
	if g.identity != nil {
		return g.may("Connect", "client/", g.clientID)
	}
	documents := g.attached.documents.Load()
	if documents == nil {
		return true
	}
	r := policy.Request{Action: "iot:Connect", Resource: g.options.arn("client/" + g.clientID), Values: policy.Values{}}
	for key, values := range g.values {
		r.Values[key] = values
	}
	var attributes []string
	if persistent {
		attributes = append(attributes, "PersistentConnect")
	}
	if lastWill != "" {
		attributes = append(attributes, "LastWill")
		r.Values["iot:LastWillTopic"] = []string{g.options.arn("topic/" + lastWill)}
	}
	r.Values["iot:ConnectAttributes"] = attributes
	if len(attributes) > 0 && g.options.Inferred.AttributesNeedCondition && !policy.MentionsKey(*documents, r, "iot:ConnectAttributes") {
		return false
	}
	return policy.Allows(*documents, r)
}

func (g *guard) mayPublish(topic string, retain bool) bool {
	return g.may("Publish", "topic/", topic) && (!retain || g.may("RetainPublish", "topic/", topic))
}

// maySubscribe asks for a filter as it was written, with $share/... (inferred).
func (g *guard) maySubscribe(filter string) bool { return g.may("Subscribe", "topicfilter/", filter) }

func (g *guard) mayReceive(topic string) bool { return g.may("Receive", "topic/", topic) }
