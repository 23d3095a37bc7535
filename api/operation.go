package api

import (
	"context"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// operation is what is said of a route in the OpenAPI document, and whether it
// needs the token.
type operation struct {
	id, tag, summary, about string
	open                    bool  // needs no token
	status                  int   // when it goes well; 0: 200 or 204
	errors                  []int // besides those that follow from the rest
	body                    *huma.RequestBody
}

// route registers a handler for "METHOD /path".
func route[I, O any](s *server, target string, o operation, handle func(context.Context, *I) (*O, error)) {
	method, path, _ := strings.Cut(target, " ")
	op := huma.Operation{
		Method: method, Path: path, OperationID: o.id, Tags: []string{o.tag}, Summary: o.summary, Description: o.about,
		DefaultStatus: o.status,
	}
	errors := append([]int{http.StatusInternalServerError}, o.errors...)
	if !o.open {
		op.Security = []map[string][]string{{"token": {}}}
		errors = append(errors, http.StatusUnauthorized)
	}
	if strings.Contains(path, "{") {
		errors = append(errors, http.StatusNotFound)
	}
	if o.body != nil {
		errors = append(errors, http.StatusBadRequest, http.StatusRequestEntityTooLarge)
		if len(o.body.Content) == 1 {
			errors = append(errors, http.StatusUnsupportedMediaType)
		}
	}
	if !o.open && method != http.MethodPost {
		errors = append(errors, http.StatusBadRequest) // its parameters
	}
	refer(&op, errors)
	huma.Register(s.huma, op, func(ctx context.Context, in *I) (*O, error) {
		if err := refuseUnknown(ctx); err != nil {
			return nil, err
		}
		out, err := handle(ctx, in)
		if err != nil {
			return nil, s.failureOf(ctx, err).hintAt(path)
		}
		return out, nil
	})
	if o.body != nil {
		// Only now: huma would read and check a body that it knows of.
		documented(s.huma.OpenAPI().Paths[path], method).RequestBody = o.body
	}
}

func documented(item *huma.PathItem, method string) *huma.Operation {
	switch method {
	case http.MethodPost:
		return item.Post
	case http.MethodPut:
		return item.Put
	case http.MethodDelete:
		return item.Delete
	default:
		return item.Get
	}
}

// commandBody describes the body of a downlink.
func commandBody() *huma.RequestBody {
	return &huma.RequestBody{
		Required: true, Description: "A DevEUI_downlink document of ThingPark, up to 16 KiB.",
		Content: map[string]*huma.MediaType{
			"application/json": {
				Schema:   &huma.Schema{Type: "object", AdditionalProperties: true},
				Examples: map[string]*huma.Example{"downlink": example("A downlink", exampleCommand)},
			},
			"application/xml": {Schema: &huma.Schema{Type: "string"}},
		},
	}
}

// describeIngest describes the door of the reports, which huma does not serve.
func (s *server) describeIngest() {
	text := func(description string) *huma.Response { return &huma.Response{Description: description} }
	op := &huma.Operation{
		Method: http.MethodPost, Path: "/ingest/{networkId}", OperationID: "ingest", Tags: []string{"Messages"},
		Summary: "Take a report of a network server",
		Description: "What ThingPark posts, as JSON or XML, with its query parameters. Needs no token: the id is unguessable, " +
			"and the report is signed where the network has a key. 200 only once the report is stored durably.",
		Parameters: []*huma.Param{
			{Name: "networkId", In: "path", Required: true, Description: "Id of the network.", Schema: &huma.Schema{Type: "string"}},
			{Name: "LrnDevEui", In: "query", Description: "DevEUI of the device.", Schema: &huma.Schema{Type: "string"}},
			{Name: "LrnFPort", In: "query", Description: "Port of the frame.", Schema: &huma.Schema{Type: "string"}},
			{Name: "LrnInfos", In: "query", Description: "The network server's own.", Schema: &huma.Schema{Type: "string"}},
			{Name: "AS_ID", In: "query", Description: "Id of the application server that the report is signed for.", Schema: &huma.Schema{Type: "string"}},
			{Name: "Time", In: "query", Description: "When the report was sent.", Schema: &huma.Schema{Type: "string"}},
			{Name: "Token", In: "query", Description: "The signature.", Schema: &huma.Schema{Type: "string"}},
		},
		RequestBody: &huma.RequestBody{Required: true, Description: "A report, up to 128 KiB.", Content: map[string]*huma.MediaType{
			"application/json": {Schema: &huma.Schema{Type: "object", AdditionalProperties: true}},
			"application/xml":  {Schema: &huma.Schema{Type: "string"}},
		}},
		Responses: map[string]*huma.Response{"200": text("The report is stored durably.")},
	}
	refer(op, []int{
		http.StatusBadRequest, http.StatusUnauthorized, http.StatusNotFound, http.StatusRequestEntityTooLarge,
		http.StatusInternalServerError, http.StatusServiceUnavailable,
	})
	op.Responses["401"] = text("The report's signature does not verify.")
	s.huma.OpenAPI().AddOperation(op)
}

func (s *server) describeMetrics() {
	s.huma.OpenAPI().AddOperation(&huma.Operation{
		Method: http.MethodGet, Path: "/metrics", OperationID: "getPrometheusMetrics", Tags: []string{"Health"},
		Summary: "Metrics for Prometheus",
		Responses: map[string]*huma.Response{"200": {
			Description: "In the text format of Prometheus.",
			Content:     map[string]*huma.MediaType{"text/plain": {Schema: &huma.Schema{Type: "string"}}},
		}},
	})
}
