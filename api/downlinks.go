package api

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/tidwall/gjson"

	"sluice"
)

// downlinkPath is the address of a connection for downlinks.
func downlinkPath(downlinkID string) string { return "/downlinkMessages/" + downlinkID }

// downlinkAboveVersion leads ThingPark's address of a downlink, which stands
// beside /iot-flow/v1 and not below it, to the route.
func (s *server) downlinkAboveVersion(w http.ResponseWriter, r *http.Request) {
	chi.RouteContext(r.Context()).RoutePath = strings.TrimPrefix(r.URL.Path, "/iot-flow")
	s.routes.ServeHTTP(w, r)
}

type downlinkInput struct {
	UUID string `path:"uuid" doc:"The unguessable part of the connection's downlinkUrl."`
}

type downlinkOutput struct {
	Body downlinkView
}

type downlinkView struct {
	ID string `json:"id" doc:"Id of the message that the command has become."`
}

// sendDownlink takes a command through a connection, as the documentation of
// ThingPark X IoT Flow has it: the address is the only secret.
func (s *server) sendDownlink(ctx context.Context, in *downlinkInput) (*downlinkOutput, error) {
	c, ok := s.downlinks.find(in.UUID, s.Connections, s.Clock())
	if !ok {
		return nil, sluice.Errorf(sluice.CodeNotFound, "There is no connection at this address.")
	}
	body, err := readBody(requestOf(ctx), maxCommand)
	if err != nil {
		return nil, err
	}
	switch enabled := gjson.GetBytes(c.Configuration, "downlinkEnabled"); {
	case strings.TrimSpace(string(body)) == "":
		return nil, sluice.Errorf(sluice.CodeInvalid, "The request has no body: a DevEUI_downlink document is wanted, as JSON or XML.")
	case !c.Active:
		return nil, &sluice.Error{Code: sluice.CodeConflict, Message: "The connection is not active.", Hint: "Set its 'active' to true."}
	case enabled.Exists() && !enabled.Bool():
		return nil, &sluice.Error{Code: sluice.CodeConflict, Message: "The connection takes no downlinks.", Hint: "Set its 'downlinkEnabled' to true."}
	}
	id, err := s.Supervisor.Command(ctx, c.ID, sluice.Command{Source: "POST /downlinkMessages", Document: body})
	if err != nil {
		return nil, err
	}
	return &downlinkOutput{Body: downlinkView{ID: id}}, nil
}

// downlinkIndex finds a connection by its address without looking through all.
type downlinkIndex struct {
	mu    sync.Mutex
	ids   map[string]string // downlink id to connection id
	built time.Time
}

// refresh is how often strangers can make the index be built anew by guessing.
const refresh = time.Second

// find returns the connection with a downlink id. An unknown one is looked for
// anew, at most once in a while: another node may have made the connection.
func (x *downlinkIndex) find(downlinkID string, in Connections, now time.Time) (sluice.Connection, bool) {
	x.mu.Lock()
	id, ok := x.ids[downlinkID]
	if !ok && (x.ids == nil || now.Sub(x.built).Abs() >= refresh) {
		x.ids, x.built = map[string]string{}, now
		for _, c := range in.Connections() {
			x.ids[c.DownlinkID] = c.ID
		}
		id, ok = x.ids[downlinkID]
	}
	x.mu.Unlock()
	if !ok || downlinkID == "" {
		return sluice.Connection{}, false
	}
	c, err := in.Connection(id)
	return c, err == nil && c.DownlinkID == downlinkID
}

// forget makes the next find build the index anew.
func (x *downlinkIndex) forget() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.ids = nil
}
