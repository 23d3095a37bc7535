package api

import (
	"net/http"
	"strings"

	"sluice"
)

// ingest is the door of the reports, POST /ingest/{networkID}. It stands on the
// router itself: no middleware, no huma, nothing allocated before the network
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
		s.refuse(w, r, &sluice.Error{
			Code:    sluice.CodeNotFound,
			Message: "There is no network at this address.",
			Hint:    "GET /networks lists the addresses as ingestPath.",
		})
		return
	}
	door.ServeHTTP(w, r)
}

// ingestPath is where a network's reports come in.
func ingestPath(id string) string { return "/ingest/" + id }
