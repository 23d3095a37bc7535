package api

import (
	"net/http"
	"strings"

	"sluice"
)

// ingest is the door of the reports, POST /ingest/{networkID}. It stands before
// the routers: no middleware, no huma, nothing allocated before the network
// has the request. The id in the path is what lets a report in; whether the
// report is genuine is for the network to say.
//
// All methods come in here, so that the router has one thing less to look up.
func (s *server) ingest(w http.ResponseWriter, r *http.Request) {
	defer s.recovered(w, r)
	if r.Method != http.MethodPost {
		s.refuse(w, r, wrongMethod(http.MethodPost))
		return
	}
	id := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
	door, ok := s.Ingest(id)
	if !ok {
		s.refuse(w, r, s.noDoor(id))
		return
	}
	door.ServeHTTP(w, r)
}

// noDoor is why there is no door at an address: there is no such network, or
// it is closed. Why it is closed is for the administrator, not for whoever
// posts. Neither is logged: it would be for each report.
func (s *server) noDoor(id string) *failure {
	if _, err := s.Networks.Network(id); err != nil {
		return &failure{status: http.StatusNotFound, body: errorView{
			Code:    string(sluice.CodeNotFound),
			Message: "There is no network at this address.",
			Hint:    "GET /networks lists the addresses as ingestPath.",
		}}
	}
	return &failure{
		status: http.StatusServiceUnavailable,
		header: http.Header{"Retry-After": {"60"}},
		body: errorView{
			Code:    string(sluice.CodeUnavailable),
			Message: "This network is closed: it takes no reports now.",
			Hint:    "GET /networks says why it is closed.",
		},
	}
}

// ingestPath is where a network's reports come in.
func ingestPath(id string) string { return "/ingest/" + id }
