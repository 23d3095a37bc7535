package api

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humachi"
	"github.com/go-chi/chi/v5"

	"sluice"
	"sluice/internal/schema"
)

// prefix is where ThingPark serves the same API.
const prefix = "/iot-flow/v1"

// server holds what the handlers share.
type server struct {
	Options
	token      [sha256.Size]byte
	connectors map[string]*connector
	kinds      map[string]*networkKind
	bodies     bodies
	downlinks  downlinkIndex

	routes *chi.Mux // what is served at / and under prefix
	huma   huma.API

	// writes makes changes one after another: what one request has checked
	// (a revision, that nothing refers to a connection) still holds when it
	// is stored.
	writes sync.Mutex
}

// connector is a connector with the schema of its connections.
type connector struct {
	sluice.Connector
	info   sluice.ConnectorInfo
	text   json.RawMessage
	schema *schema.Schema
}

// networkKind is a kind of network with the schema of its configuration.
type networkKind struct {
	sluice.NetworkKind
	text   json.RawMessage
	schema *schema.Schema
}

func newServer(o Options) *server {
	s := &server{
		Options:    o,
		token:      sha256.Sum256([]byte(o.Token)),
		connectors: map[string]*connector{},
		kinds:      map[string]*networkKind{},
		bodies:     newBodies(),
	}
	for _, c := range o.Connectors {
		info := c.Info()
		text := o.Schema(info)
		s.connectors[info.ID] = &connector{Connector: c, info: info, text: text, schema: mustCompile(info.ID, text)}
	}
	for _, k := range o.NetworkKinds {
		text := k.Schema()
		s.kinds[k.Kind()] = &networkKind{NetworkKind: k, text: text, schema: mustCompile(k.Kind(), text)}
	}
	return s
}

func mustCompile(name string, text json.RawMessage) *schema.Schema {
	compiled, err := schema.Compile(text)
	if err != nil {
		panic(fmt.Sprintf("api: schema of %s: %v", name, err))
	}
	return compiled
}

// handler wires the routes. The way of a report is as short as can be: its door
// stands before any router, which would cost as much as finding the report's
// connections. The outer router has what is not below both prefixes, and hands
// all else to the inner one with its middleware.
func (s *server) handler() http.Handler {
	s.routes = chi.NewMux()
	s.routes.Use(s.observe, s.recoverer, secure, headAsGet)
	s.routes.NotFound(s.unknownRoute)
	s.routes.MethodNotAllowed(s.unknownMethod)
	s.huma = huma.NewAPI(s.humaConfig(), adapter{humachi.NewAdapter(s.routes)})
	s.huma.UseMiddleware(s.admit)
	s.register()

	root := chi.NewMux()
	root.HandleFunc(ingestPath("{networkID}"), s.ingest)
	root.HandleFunc(prefix+ingestPath("{networkID}"), s.ingest)
	root.Mount(prefix, s.routes)
	root.HandleFunc("/iot-flow"+downlinkPath("{uuid}"), s.downlinkAboveVersion)
	root.Mount("/", s.routes)
	return &entrance{Mux: root, ingest: s.ingest}
}

// entrance is the outer router, with a shortcut for reports.
type entrance struct {
	*chi.Mux
	ingest http.HandlerFunc
}

func (e *entrance) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if id, ok := strings.CutPrefix(r.URL.Path, ingestPath("")); ok && id != "" && !strings.Contains(id, "/") {
		e.ingest(w, r)
		return
	}
	e.Mux.ServeHTTP(w, r)
}
