package awsiottest

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// controlPlane is the registry API over HTTP. It implements [http.Handler].
type controlPlane struct {
	options  Options
	key      accessKey
	registry *registry
	faults   *faults
}

var _ http.Handler = (*controlPlane)(nil)

// call is a request of the API, its signature good.
type call struct {
	name      string // the variable part of the path, decoded
	query     url.Values
	principal string // the header x-amzn-principal
	body      []byte
}

// operation is one operation of the API.
type operation struct {
	method string
	// path has at most one variable part, written "*".
	path   string
	action string
	// resource is what the caller needs the permission on, as the end of an
	// ARN; "*" in it is the variable part.
	resource string
	run      func(*registry, *call) (any, *apiError)
}

func operations() []operation {
	return []operation{
		{"GET", "/things", "ListThings", "*", listThings},
		{"GET", "/things/*", "DescribeThing", "thing/*", describeThing},
		{"POST", "/things/*", "CreateThing", "thing/*", createThing},
		{"DELETE", "/things/*", "DeleteThing", "thing/*", deleteThing},
		{"GET", "/things/*/principals", "ListThingPrincipals", "thing/*", listThingPrincipals},
		{"PUT", "/things/*/principals", "AttachThingPrincipal", "thing/*", attachThingPrincipal},
		{"DELETE", "/things/*/principals", "DetachThingPrincipal", "thing/*", detachThingPrincipal},
		{"GET", "/thing-types", "ListThingTypes", "*", listThingTypes},
		{"GET", "/thing-types/*", "DescribeThingType", "thingtype/*", describeThingType},
		{"POST", "/thing-types/*", "CreateThingType", "thingtype/*", createThingType},
		{"POST", "/keys-and-certificate", "CreateKeysAndCertificate", "*", createKeysAndCertificate},
		{"GET", "/certificates/*", "DescribeCertificate", "cert/*", describeCertificate},
		{"PUT", "/certificates/*", "UpdateCertificate", "cert/*", updateCertificate},
		{"GET", "/endpoint", "DescribeEndpoint", "*", describeEndpoint},
	}
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

func find(r *http.Request) (op operation, name string, ok bool) {
	for _, op := range operations() {
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
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
	if err != nil {
		var tooLarge *http.MaxBytesError
		if errors.As(err, &tooLarge) {
			p.answer(w, r, "", nil, invalidRequest("the request is larger than %d bytes", maxRequest))
		}
		return // otherwise the client has gone
	}
	op, name, ok := find(r)
	if !ok {
		p.answer(w, r, "", nil, unknownOperation())
		return
	}
	if bad := verify(r, body, p.key, p.options.Region, p.options.Clock()); bad != nil {
		p.answer(w, r, op.action, nil, bad)
		return
	}
	if bad := p.faults.take(op.action, strings.ReplaceAll(op.resource, "*", name)); bad != nil {
		p.answer(w, r, op.action, nil, bad)
		return
	}
	out, bad := op.run(p.registry, &call{name: name, query: r.URL.Query(), principal: r.Header.Get("X-Amzn-Principal"), body: body})
	p.answer(w, r, op.action, out, bad)
}

func (p *controlPlane) answer(w http.ResponseWriter, r *http.Request, action string, out any, bad *apiError) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Amzn-Requestid", newUUID())
	// The SDK corrects its own clock by this date.
	w.Header().Set("Date", p.options.Clock().UTC().Format(http.TimeFormat))
	status := http.StatusOK
	if bad != nil {
		status = bad.status
		w.Header().Set("X-Amzn-Errortype", bad.code)
		out = errorBody{Message: bad.message, ResourceID: bad.resourceID, ResourceARN: bad.resourceARN}
		p.options.Log.Debug("registry call refused", "action", action, "path", r.URL.EscapedPath(), "status", status, "code", bad.code)
	}
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(out) // the client may have gone
}

type errorBody struct {
	Message     string `json:"message"`
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
	limit = pageSize
	if s := c.query.Get("maxResults"); s != "" {
		n, e := strconv.Atoi(s)
		if e != nil || n < 1 || n > pageSize {
			var check checker
			check.fail(s, "maxResults", "Member must have value between 1 and 250")
			return "", 0, check.err()
		}
		limit = n
	}
	if token := c.query.Get("nextToken"); token != "" {
		raw, e := base64.RawURLEncoding.DecodeString(token)
		if e != nil {
			return "", 0, invalidRequest("Invalid nextToken")
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
	t := base64.RawURLEncoding.EncodeToString([]byte(next))
	return &t
}
