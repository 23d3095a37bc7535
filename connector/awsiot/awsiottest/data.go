package awsiottest

import (
	"net"
	"net/http"
	"net/url"
	"strings"

	"sluice/connector/awsiot/awsiottest/shadow"
)

// dataPlane is publishing and shadows over HTTP: at port 8443 and, with ALPN,
// 443 with a client certificate, at 443 without it with Signature Version 4.
// It implements [http.Handler]. Sources: the service model of iot-data
// (2015-05-28); Developer Guide, "HTTPS publish" and "Device Shadow REST API".
type dataPlane struct {
	options  Options
	registry *registry
	broker   *broker
	account  account
	faults   *faults
	throttle *apiThrottle
	shadows  *shadowService
}

var _ http.Handler = (*dataPlane)(nil)

// dataCall is a request of the data plane.
type dataCall struct {
	*http.Request
	action string
	// resource is what the permission is needed on, as the end of an ARN; "*"
	// is everything.
	resource string
	body     []byte
	allows   func(action, resource string) bool
	run      func(*dataPlane, *dataCall) (any, *apiError)

	topic string
	id    shadow.ID
}

// raw is an answer that is JSON already.
type raw []byte

// MarshalJSON returns what it is.
func (r raw) MarshalJSON() ([]byte, error) { return r, nil }

func (p *dataPlane) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, bad, ok := readBody(w, r, payloadSize)
	if !ok {
		return
	}
	var out any
	if bad == nil {
		out, bad = p.do(r, body)
	}
	if bad != nil {
		bad.traceID = newUUID()
		p.options.Log.Debug("data call refused", "method", r.Method, "status", bad.status, "code", bad.code, "message", bad.message)
	}
	answerJSON(w, p.options, out, bad)
}

func (p *dataPlane) do(r *http.Request, body []byte) (any, *apiError) {
	c := &dataCall{Request: r, body: body}
	if bad := c.route(); bad != nil {
		return nil, bad
	}
	if bad := p.identify(c); bad != nil {
		return nil, bad
	}
	if bad := p.faults.take(r.Context(), c.action); bad != nil {
		return nil, bad
	}
	if !p.throttle.take(c.action) {
		return nil, dataThrottled()
	}
	if !p.allows(c, c.action, c.resource) {
		return nil, dataForbidden()
	}
	return c.run(p, c)
}

// identify finds out who calls: the certificate of the connection, or the key
// of the signature.
func (p *dataPlane) identify(c *dataCall) *apiError {
	if state := tlsState(c.Request); state != nil && len(state.PeerCertificates) > 0 {
		// It may have been deactivated since the handshake.
		certificate := state.PeerCertificates[0]
		id, err := p.registry.authorize(certificate)
		if err != nil {
			return dataForbidden()
		}
		host, _, _ := net.SplitHostPort(c.RemoteAddr)
		// There is no client id over HTTPS.
		g := p.broker.guardOf(principal{certificateID: id, certificate: certificate, remote: host}, "")
		c.allows = g.allows
		return nil
	}
	// The SDK signs for iotdata; the guide's words about HTTPS name
	// iotdevicegateway. That both are taken is inferred.
	who, bad := signer{
		keys: p.account, region: p.options.Region, services: []string{"iotdata", "iotdevicegateway"}, clock: p.options.Clock,
	}.verify(c.Request, c.body)
	c.allows = who.allows
	return bad
}

func (p *dataPlane) allows(c *dataCall, action, resource string) bool {
	if resource != "*" {
		resource = p.options.arn(resource)
	}
	return c.allows("iot:"+action, resource)
}

func dataForbidden() *apiError {
	return newError(http.StatusForbidden, "ForbiddenException", "Forbidden")
}

func dataThrottled() *apiError {
	return newError(http.StatusTooManyRequests, "ThrottlingException", "Rate exceeded")
}

func methodNotAllowed() *apiError {
	return newError(http.StatusMethodNotAllowed, "MethodNotAllowedException", "Method Not Allowed")
}

// route finds the operation of a path. A topic may come with its slashes
// encoded, as the SDK sends it, or plain (inferred).
func (c *dataCall) route() *apiError {
	path := c.URL.EscapedPath()
	if rest, ok := strings.CutPrefix(path, "/topics/"); ok {
		return c.routeTopic(rest, http.MethodPost, "Publish", publishHTTP)
	}
	if rest, ok := strings.CutPrefix(path, "/retainedMessage/"); ok && rest != "" {
		return c.routeTopic(rest, http.MethodGet, "GetRetainedMessage", getRetained)
	}
	if strings.TrimSuffix(path, "/") == "/retainedMessage" {
		c.action, c.resource, c.run = "ListRetainedMessages", "*", listRetained
		return c.only(http.MethodGet)
	}
	if name, ok := match("/things/*/shadow", path); ok {
		return c.routeShadow(name)
	}
	if name, ok := match("/api/things/shadow/ListNamedShadowsForThing/*", path); ok {
		c.id.Thing = name
		c.action, c.resource, c.run = "ListNamedShadowsForThing", "thing/"+name, listShadows
		return c.only(http.MethodGet)
	}
	return newError(http.StatusNotFound, "ResourceNotFoundException", "Not Found")
}

func (c *dataCall) only(method string) *apiError {
	if c.Method != method {
		return methodNotAllowed()
	}
	return nil
}

func (c *dataCall) routeTopic(escaped, method, action string, run func(*dataPlane, *dataCall) (any, *apiError)) *apiError {
	topic, err := url.PathUnescape(escaped)
	if err != nil || topic == "" {
		return invalidRequest("Invalid topic")
	}
	c.topic, c.action, c.resource, c.run = topic, action, "topic/"+topic, run
	return c.only(method)
}

func (c *dataCall) routeShadow(thing string) *apiError {
	c.id = shadow.ID{Thing: thing, Name: c.URL.Query().Get("name")}
	c.resource = "thing/" + thing
	if c.id.Name != "" {
		c.resource += "/" + c.id.Name
	}
	op := ""
	switch c.Method {
	case http.MethodGet:
		c.action, op = "GetThingShadow", opGet
	case http.MethodPost:
		c.action, op = "UpdateThingShadow", opUpdate
	case http.MethodDelete:
		c.action, op = "DeleteThingShadow", opDelete
	default:
		return methodNotAllowed()
	}
	c.run = func(p *dataPlane, c *dataCall) (any, *apiError) { return p.shadow(c, op) }
	return nil
}

func (p *dataPlane) shadow(c *dataCall, op string) (any, *apiError) {
	var check checker
	check.name("thingName", c.id.Thing)
	if c.id.Name != "" || c.URL.Query().Has("name") {
		check.shadowName(c.id.Name)
	}
	if err := check.err(); err != nil {
		return nil, err
	}
	body := c.body
	if op != opUpdate {
		body = nil
	}
	out, bad := p.shadows.overHTTP(c.Context(), c.id, op, body)
	if bad != nil {
		return nil, shadowError(bad)
	}
	return raw(out), nil
}

// shadowError is a rejection as HTTP tells it: the exceptions are those of the
// service model.
func shadowError(e *shadow.Error) *apiError {
	code := map[int]string{
		400: "InvalidRequestException", 404: "ResourceNotFoundException", 409: "ConflictException", 413: "RequestEntityTooLargeException",
		415: "UnsupportedDocumentEncodingException", 429: "ThrottlingException",
	}[e.Code]
	return newError(e.Code, code, "%s", e.Message)
}

// listShadows needs a thing that exists, unlike a shadow itself. Source: the
// service model names ResourceNotFoundException; inferred.
func listShadows(p *dataPlane, c *dataCall) (any, *apiError) {
	var check checker
	check.name("thingName", c.id.Thing)
	if err := check.err(); err != nil {
		return nil, err
	}
	query := call{query: c.URL.Query()}
	after, limit, err := query.pageBy("pageSize", "nextToken", 100)
	if err != nil {
		return nil, err
	}
	if _, err := p.registry.describeThing(c.id.Thing); err != nil {
		return nil, err
	}
	names, next := p.shadows.store.Names(c.id.Thing, after, limit)
	out := map[string]any{"results": append([]string{}, names...), "timestamp": p.options.Clock().Unix()}
	if next != "" {
		out["nextToken"] = token(next)
	}
	return out, nil
}
