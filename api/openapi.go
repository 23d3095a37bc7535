package api

import (
	"encoding/json"
	"net/http"
	"slices"
	"strconv"

	"github.com/danielgtaylor/huma/v2"

	"sluice"
)

const introduction = `Sluice takes the reports of LoRaWAN network servers and delivers them to the cloud, and brings commands back to devices.

Resources and properties are those of ThingPark X IoT Flow where it has them. The API is served at / and under /iot-flow/v1.

Errors have one form: ` + "`{\"code\",\"message\",\"hint\",\"fields\"}`" + `; *fields* names all problems of a request at once. Secrets are never returned: they are shown as ` + "`*****`" + `, and a PUT that sends ` + "`*****`" + ` back keeps the stored value.`

func (s *server) humaConfig() huma.Config {
	// The first is the one that /docs tries: the address that the reader is at
	// works also where the public one does not reach back.
	servers := []*huma.Server{{URL: "/"}}
	if s.PublicURL != "" {
		servers = append(servers, &huma.Server{URL: s.PublicURL, Description: "Public address"})
	}
	servers = append(servers, &huma.Server{URL: prefix, Description: "As ThingPark has it"})
	version := s.Version
	if version == "" {
		version = "development"
	}
	return huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI: "3.1.0",
			Info:    &huma.Info{Title: "Sluice", Version: version, Description: introduction, License: &huma.License{Name: "Apache-2.0", Identifier: "Apache-2.0"}},
			Servers: servers,
			Tags:    tags(),
			Components: &huma.Components{
				Schemas:   huma.NewMapRegistry("#/components/schemas/", schemaName),
				Responses: map[string]*huma.Response{},
				SecuritySchemes: map[string]*huma.SecurityScheme{
					"token": {Type: "http", Scheme: "bearer", Description: "The administrator's token, from the file admin.token in the data directory."},
				},
			},
		},
		// "json" is for application/problem+json, which huma asks for before
		// plainContext has a say.
		Formats:       map[string]huma.Format{"application/json": huma.DefaultJSONFormat, "json": huma.DefaultJSONFormat},
		DefaultFormat: "application/json",
		Transformers:  []huma.Transformer{plainErrors},
	}
}

func tags() []*huma.Tag {
	return []*huma.Tag{
		{Name: "Connectors", Description: "The kinds of clouds."},
		{Name: "Connections", Description: "Configured links to a cloud."},
		{Name: "Quarantine", Description: "What a connection could never deliver."},
		{Name: "Flows", Description: "Which devices go to which connections."},
		{Name: "Networks", Description: "Doors to network servers."},
		{Name: "Devices", Description: "What was seen of devices."},
		{Name: "Events", Description: "What happened."},
		{Name: "Messages", Description: "Reports in and commands in: open, the address is the secret. And what became of them."},
		{Name: "Backup", Description: "A copy of everything, made while it runs."},
		{Name: "Health", Description: "For machines that watch. Open."},
	}
}

// finishOpenAPI adds what huma does not know, and takes out what it adds of
// its own, once all routes are registered; it returns the document.
func (s *server) finishOpenAPI() []byte {
	doc := s.huma.OpenAPI()
	schemas := doc.Components.Schemas.Map()
	// The schema of huma's own errors, which nobody sees.
	delete(schemas, "ErrorModel")
	delete(schemas, "ErrorDetail")
	for _, item := range doc.Paths {
		for _, op := range []*huma.Operation{item.Get, item.Post, item.Put, item.Delete} {
			describeHeaders(op)
		}
	}
	for status, example := range errorExamples() {
		doc.Components.Responses["Error"+strconv.Itoa(status)] = s.errorResponse(status, example)
	}
	text, err := json.Marshal(doc)
	if err != nil {
		// It holds only what this package and the connectors' schemas, which
		// have compiled, put in.
		panic("api: OpenAPI document: " + err.Error())
	}
	return text
}

// describeHeaders puts the descriptions of headers where readers look for them:
// huma leaves them in the schema.
func describeHeaders(op *huma.Operation) {
	if op == nil {
		return
	}
	for _, r := range op.Responses {
		for _, h := range r.Headers {
			if h.Schema != nil && h.Description == "" {
				h.Description = h.Schema.Description
			}
		}
	}
}

func (s *server) errorResponse(status int, example errorView) *huma.Response {
	r := &huma.Response{
		Description: http.StatusText(status) + ": " + example.Message,
		Content: map[string]*huma.MediaType{"application/json": {
			Schema: schemaOf[errorView](s.huma.OpenAPI().Components.Schemas), Example: example,
		}},
	}
	header := map[int][2]string{
		http.StatusUnauthorized:       {"WWW-Authenticate", "Bearer"},
		http.StatusServiceUnavailable: {"Retry-After", "Seconds until it may be worth trying again."},
	}[status]
	if header[0] != "" {
		r.Headers = map[string]*huma.Param{header[0]: {Description: header[1], Schema: &huma.Schema{Type: "string"}}}
	}
	return r
}

// errorExamples are the errors that operations refer to.
func errorExamples() map[int]errorView {
	return map[int]errorView{
		http.StatusBadRequest: {
			Code: string(sluice.CodeInvalid), Message: "The connection is not right: 2 problems.",
			Hint: "Nothing was stored. Correct all that 'fields' names and send it again.",
			Fields: []problemView{
				{Path: "configuration.privateKey", Message: "Missing property 'privateKey'."},
				{Path: "configuration.regoin", Message: "Unknown property 'regoin'; did you mean 'region'?"},
			},
		},
		http.StatusUnauthorized: unauthorized().body,
		http.StatusNotFound: {
			Code: string(sluice.CodeNotFound), Message: `There is no connection with the id "99".`, Hint: "GET /connections lists them.",
		},
		http.StatusConflict: {
			Code: string(sluice.CodeConflict), Message: "The connection cannot be deleted: 12 reports wait for it; these flows refer to it: All devices to AWS.",
			Hint: "With ?force=true it is deleted all the same: the reports that wait for it are lost, and the flows lose it.",
		},
		http.StatusPreconditionFailed:    {Code: string(sluice.CodePrecondition), Message: "It was changed after you read it."},
		http.StatusRequestEntityTooLarge: {Code: string(sluice.CodeTooLarge), Message: "The body of the request is too large."},
		http.StatusUnsupportedMediaType:  {Code: string(codeMediaType), Message: "The body of the request must be JSON."},
		http.StatusInternalServerError:   internal().body,
		http.StatusServiceUnavailable:    {Code: string(sluice.CodeUnavailable), Message: "Sluice cannot do this now: try again later."},
	}
}

// refer refers to the errors of an operation.
func refer(op *huma.Operation, statuses []int) {
	if op.Responses == nil {
		op.Responses = map[string]*huma.Response{}
	}
	slices.Sort(statuses)
	for _, status := range slices.Compact(statuses) {
		code := strconv.Itoa(status)
		op.Responses[code] = &huma.Response{Ref: "#/components/responses/Error" + code}
	}
}
