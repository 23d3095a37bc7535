package api

import (
	"encoding/json"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// register registers all routes but those of ingest, which are in handler.
func (s *server) register() {
	s.registerConnectors()
	s.registerConnections()
	s.registerReplays()
	s.registerQuarantine()
	s.registerFlows()
	s.registerNetworks()
	s.registerReading()
	s.registerMessages()
	s.registerTraces()
	s.registerHealth()

	document := s.finishOpenAPI()
	s.routes.Get("/openapi.json", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		s.write(w, document)
	})
	s.routes.Get("/", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, strings.TrimSuffix(r.URL.Path, "/")+"/docs", http.StatusFound)
	})
	s.routes.Get("/docs", s.docs)
	s.routes.Get("/docs/", s.docs)
	s.routes.Get("/docs/{file}", s.docsFile)
}

func (s *server) registerConnectors() {
	route(s, "GET /connectors", operation{
		id: "listConnectors", tag: "Connectors", summary: "List the connectors",
		about: "Each with the JSON Schema (draft-04) of the configuration of its connections.",
	}, s.listConnectors)
	route(s, "GET /connectors/{id}", operation{
		id: "getConnector", tag: "Connectors", summary: "Read a connector",
	}, s.getConnector)
}

func (s *server) registerConnections() {
	forms := map[string]json.RawMessage{}
	for id, c := range s.connectors {
		forms[id] = c.text
	}
	body := s.bodyOf("ConnectionToSet", connectionBody, forms, map[string]*huma.Example{
		"aws": example("AWS IoT Core", exampleConnection),
	})
	route(s, "GET /connections", operation{
		id: "listConnections", tag: "Connections", summary: "List the connections",
	}, s.listConnections)
	route(s, "POST /connections", operation{
		id: "createConnection", tag: "Connections", summary: "Create a connection", status: http.StatusCreated, body: body,
		about: "The answer comes once the connection is stored; it is opened after that: see its state. " +
			"What looks odd but may be right is taken, and told as warnings and as events.",
	}, s.createConnection)
	route(s, "GET /connections/{id}", operation{
		id: "getConnection", tag: "Connections", summary: "Read a connection",
	}, s.getConnection)
	route(s, "PUT /connections/{id}", operation{
		id: "replaceConnection", tag: "Connections", summary: "Replace a connection", body: body,
		errors: []int{http.StatusPreconditionFailed},
		about: "The whole connection is sent again, with its whole configuration; a secret may be ***** to keep the stored value. " +
			"What a connector hides under another protocol (certificates) is kept where it is left out; an empty text does away with it. " +
			"The answer comes once it is stored. The old sessions deliver until the new ones are open, and go on if those fail: " +
			"`applied` is false then, and `reason` says why.",
	}, s.replaceConnection)
	route(s, "PUT /connections", operation{
		id: "replaceNamedConnection", tag: "Connections", summary: "Replace the connection whose id is in the body", body: body,
		errors: []int{http.StatusNotFound, http.StatusPreconditionFailed},
		about:  "As PUT /connections/{id}, for clients that follow those pages of ThingPark that write it so.",
	}, s.replaceNamedConnection)
	route(s, "DELETE /connections/{id}", operation{
		id: "deleteConnection", tag: "Connections", summary: "Delete a connection",
		errors: []int{http.StatusConflict, http.StatusPreconditionFailed},
		about: "Refused (409) while reports wait for it or flows refer to it, unless `force` is true: " +
			"then those reports are lost, and the flows lose the connection.",
	}, s.deleteConnection)
	route(s, "GET /connections/{id}/metrics", operation{
		id: "getConnectionMetrics", tag: "Connections", summary: "Read what a connection has done",
		about: "In all, in the last hour and in the last day.",
	}, s.getMetrics)
	route(s, "POST /connections/{id}/things/refresh", operation{
		id: "refreshThings", tag: "Connections", summary: "Look at a connection's things in its cloud", status: http.StatusAccepted,
		errors: []int{http.StatusConflict},
		about: "Looks at each thing that the connection remembers, in the background, as it otherwise does once a day. " +
			"One that was deleted in the cloud is told in an event and made again with its device's next uplink; uplinks do not wait for this.",
	}, s.refreshThings)
	s.registerDoctor(body)
}

func (s *server) registerFlows() {
	body := s.bodyOf("FlowToSet", flowBody, nil, map[string]*huma.Example{
		"some": example("Some devices", exampleFlow),
		"all":  example("All devices", exampleFlowAll),
	})
	route(s, "GET /flows", operation{
		id: "listFlows", tag: "Flows", summary: "List the flows",
	}, s.listFlows)
	route(s, "POST /flows", operation{
		id: "createFlow", tag: "Flows", summary: "Create a flow", status: http.StatusCreated, body: body,
	}, s.createFlow)
	route(s, "GET /flows/{id}", operation{
		id: "getFlow", tag: "Flows", summary: "Read a flow",
	}, s.getFlow)
	route(s, "PUT /flows/{id}", operation{
		id: "replaceFlow", tag: "Flows", summary: "Replace a flow", body: body, errors: []int{http.StatusPreconditionFailed},
	}, s.replaceFlow)
	route(s, "DELETE /flows/{id}", operation{
		id: "deleteFlow", tag: "Flows", summary: "Delete a flow", errors: []int{http.StatusPreconditionFailed},
	}, s.deleteFlow)
}

func (s *server) registerNetworks() {
	forms := map[string]json.RawMessage{}
	for name, k := range s.kinds {
		forms[name] = k.text
	}
	body := s.bodyOf("NetworkToSet", networkBody, forms, map[string]*huma.Example{
		"thingpark": example("ThingPark", exampleNetwork),
	})
	route(s, "GET /networks", operation{
		id: "listNetworks", tag: "Networks", summary: "List the networks",
	}, s.listNetworks)
	route(s, "POST /networks", operation{
		id: "createNetwork", tag: "Networks", summary: "Create a network", status: http.StatusCreated, body: body,
		about: "Enter the answer's ingestUrl (or ingestPath, below Sluice's public address) in the network server as the destination of its reports.",
	}, s.createNetwork)
	route(s, "GET /networks/{id}", operation{
		id: "getNetwork", tag: "Networks", summary: "Read a network",
	}, s.getNetwork)
	route(s, "PUT /networks/{id}", operation{
		id: "replaceNetwork", tag: "Networks", summary: "Replace a network", body: body, errors: []int{http.StatusPreconditionFailed},
		about: "The whole network is sent again; a secret may be ***** to keep the stored value. Its address stays.",
	}, s.replaceNetwork)
	route(s, "DELETE /networks/{id}", operation{
		id: "deleteNetwork", tag: "Networks", summary: "Delete a network", errors: []int{http.StatusConflict, http.StatusPreconditionFailed},
		about: "Refused (409) while commands wait for it, unless `force` is true: then those commands are lost. " +
			"Its reports are refused from then on, and its devices get no downlinks until another network has seen them.",
	}, s.deleteNetwork)
}

func (s *server) registerReading() {
	route(s, "GET /devices", operation{
		id: "listDevices", tag: "Devices", summary: "List the devices", about: "Sorted by DevEUI.",
	}, s.listDevices)
	route(s, "GET /devices/{devEUI}", operation{
		id: "getDevice", tag: "Devices", summary: "Read a device",
	}, s.getDevice)
	route(s, "GET /events", operation{
		id: "listEvents", tag: "Events", summary: "List the events", about: "Newest first.",
	}, s.listEvents)
}

func (s *server) registerMessages() {
	route(s, "POST /downlinkMessages/{uuid}", operation{
		id: "sendDownlink", tag: "Messages", summary: "Send a downlink through a connection", status: http.StatusAccepted, open: true,
		errors: []int{http.StatusConflict, http.StatusServiceUnavailable}, body: commandBody(),
		about: "The address is a connection's downlinkUrl, and needs no token. Also served at /iot-flow/downlinkMessages/{uuid}. " +
			"202: the command is held durably, and goes to the network where the device was last seen. What becomes of it is reported to the connection, with this id as CommandID, as its downlinkReports says.",
	}, s.sendDownlink)
	s.describeIngest()
}

func (s *server) registerHealth() {
	route(s, "GET /healthz", operation{
		id: "getHealth", tag: "Health", summary: "Does the process serve requests?", open: true,
	}, s.getHealth)
	route(s, "GET /readyz", operation{
		id: "getReady", tag: "Health", summary: "Can reports be taken?", open: true, errors: []int{http.StatusServiceUnavailable},
	}, s.getReady)
	if s.Backup != nil {
		s.routes.Get("/backup", s.getBackup)
		s.describeBackup()
	}
	if s.Prometheus == nil {
		return
	}
	// Open, as Prometheus expects it: numbers are no secrets.
	s.routes.Method(http.MethodGet, "/metrics", s.Prometheus)
	s.describeMetrics()
}
