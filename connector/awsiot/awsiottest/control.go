package awsiottest

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// controlPlane is the registry API over HTTP, and beside it the Security
// Token Service. It implements [http.Handler].
type controlPlane struct {
	options    Options
	registry   *registry
	account    account
	faults     *faults
	throttle   *apiThrottle
	operations []operation
}

var _ http.Handler = (*controlPlane)(nil)

// call is a request of an API, its signature good.
type call struct {
	name      string // the variable part of the path, decoded
	query     url.Values
	principal string // the header x-amzn-principal or x-amzn-iot-principal
	body      []byte
}

// operation is one operation of an API.
type operation struct {
	method string
	// path has at most one variable part, written "*".
	path   string
	action string
	// resource is what the caller needs the permission on.
	resource func(Options, *call) string
	run      func(*registry, *call) (any, *apiError)
}

// anything is the resource of an action that knows no single ones.
func anything(Options, *call) string { return "*" }

// onPath is the resource that the path names, of a kind such as "thing".
func onPath(kind string) func(Options, *call) string {
	return func(o Options, c *call) string { return o.arn(kind + "/" + c.name) }
}

// match compares a path as it came, still encoded, with a pattern: a name may
// hold encoded slashes.
func match(pattern, escaped string) (name string, ok bool) {
	want, got := strings.Split(pattern, "/"), strings.Split(escaped, "/")
	if len(want) != len(got) {
		return "", false
	}
	for i := range want {
		switch {
		case want[i] == "*":
			var err error
			if name, err = url.PathUnescape(got[i]); err != nil || name == "" {
				return "", false
			}
		case want[i] != got[i]:
			return "", false
		}
	}
	return name, true
}

func find(operations []operation, r *http.Request) (op operation, name string, ok bool) {
	for _, op := range operations {
		if op.method == r.Method {
			if name, ok := match(op.path, r.URL.EscapedPath()); ok {
				return op, name, true
			}
		}
	}
	return op, "", false
}

const maxRequest = 1 << 20

func (p *controlPlane) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, bad, ok := readBody(w, r, maxRequest)
	if !ok {
		return
	}
	if r.URL.Path == "/" && r.Method == http.MethodPost {
		p.serveSTS(w, r, body)
		return
	}
	op, name, found := find(p.operations, r)
	if !found {
		bad = unknownOperation()
	}
	if bad != nil {
		p.answer(w, r, op.action, nil, bad)
		return
	}
	c := &call{name: name, query: r.URL.Query(), body: body, principal: r.Header.Get("X-Amzn-Principal") + r.Header.Get("X-Amzn-Iot-Principal")}
	if bad := p.admit(r, op, c); bad != nil {
		p.answer(w, r, op.action, nil, bad)
		return
	}
	out, bad := op.run(p.registry, c)
	p.answer(w, r, op.action, out, bad)
}

// admit decides whether a call is done at all: its signature, the faults that
// were asked for, its rate and the permission, in this order (inferred).
func (p *controlPlane) admit(r *http.Request, op operation, c *call) *apiError {
	who, bad := signer{keys: p.account, region: p.options.Region, services: []string{"iot"}, clock: p.options.Clock}.verify(r, c.body)
	if bad != nil {
		return bad
	}
	if bad := p.faults.take(r.Context(), op.action); bad != nil {
		return bad
	}
	if !p.throttle.take(op.action) {
		return throttled()
	}
	action, resource := "iot:"+op.action, op.resource(p.options, c)
	if !who.allows(action, resource) {
		return accessDenied(who.denied(action, resource))
	}
	return nil
}

func (p *controlPlane) answer(w http.ResponseWriter, r *http.Request, action string, out any, bad *apiError) {
	if bad != nil {
		p.options.Log.Debug("registry call refused", "action", action, "path", r.URL.EscapedPath(), "status", bad.status, "code", bad.code)
	}
	answerJSON(w, p.options, out, bad)
}

// answerJSON writes an answer, or an error, as the REST-JSON services do.
func answerJSON(w http.ResponseWriter, o Options, out any, bad *apiError) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Amzn-Requestid", newUUID())
	// The SDK corrects its own clock by this date.
	w.Header().Set("Date", o.Clock().UTC().Format(http.TimeFormat))
	status := http.StatusOK
	if bad != nil {
		status = bad.status
		w.Header().Set("X-Amzn-Errortype", bad.code)
		out = errorBody{Message: bad.message, TraceID: bad.traceID, ResourceID: bad.resourceID, ResourceARN: bad.resourceARN}
	}
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(out) // the client may have gone
}

type errorBody struct {
	Message     string `json:"message"`
	TraceID     string `json:"traceId,omitempty"`
	ResourceID  string `json:"resourceId,omitempty"`
	ResourceARN string `json:"resourceArn,omitempty"`
}

// read decodes the body of a request; an empty one is an empty object.
// Unknown members are ignored, as AWS does.
func (c *call) read(into any) *apiError {
	if len(c.body) == 0 {
		return nil
	}
	if err := json.Unmarshal(c.body, into); err != nil {
		return &apiError{status: http.StatusBadRequest, code: "SerializationException", message: "the body is no JSON of the right form"}
	}
	return nil
}

// pageSize is the default and the largest page of a list: AWS documents 250
// as the largest and does not say the default.
const pageSize = 250

// page reads maxResults and nextToken.
func (c *call) page() (after string, limit int, err *apiError) {
	return c.pageBy("maxResults", "nextToken", pageSize)
}

// markedPage reads pageSize and marker, which older lists have.
func (c *call) markedPage() (after string, limit int, err *apiError) {
	return c.pageBy("pageSize", "marker", pageSize)
}

func (c *call) pageBy(sizeName, tokenName string, most int) (after string, limit int, err *apiError) {
	limit = most
	if s := c.query.Get(sizeName); s != "" {
		n, e := strconv.Atoi(s)
		if e != nil || n < 1 || n > most {
			var check checker
			check.fail(s, sizeName, "Member must have value between 1 and "+strconv.Itoa(most))
			return "", 0, check.err()
		}
		limit = n
	}
	if token := c.query.Get(tokenName); token != "" {
		raw, e := base64.StdEncoding.DecodeString(token)
		if e != nil {
			return "", 0, invalidRequest("Invalid %s", tokenName)
		}
		after = string(raw)
	}
	return after, limit, nil
}

// token makes a nextToken; nil, JSON's null, at the end.
func token(next string) *string {
	if next == "" {
		return nil
	}
	t := base64.StdEncoding.EncodeToString([]byte(next))
	return &t
}
