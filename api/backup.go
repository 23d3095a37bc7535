package api

import (
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
)

// backupStall is how long a client may take nothing of a backup.
const backupStall = 30 * time.Second

// getBackup serves a backup. It is not huma's: how long the answer is shows at
// its end, and an error in its middle can only be told by cutting it off.
func (s *server) getBackup(w http.ResponseWriter, r *http.Request) {
	if !s.authorized(r) {
		s.refuse(w, r, unauthorized())
		return
	}
	if unknown := unknownParameters(&huma.Operation{}, r.URL.Query()); len(unknown) > 0 {
		f := &failure{status: http.StatusBadRequest, body: wrongParameters()}
		f.body.Fields = unknown
		s.refuse(w, r, f)
		return
	}
	body := &backupBody{w: w, control: http.NewResponseController(w), name: "sluice-" + s.Clock().UTC().Format("20060102T150405Z") + ".tar"}
	if r.Method == http.MethodHead { // it has no body, so none is made
		body.begin()
		return
	}
	err := s.Backup(r.Context(), body)
	_ = body.control.SetWriteDeadline(time.Time{}) // the connection may serve on
	switch {
	case err == nil:
	case !body.began:
		s.refuse(w, r, s.failureOf(r.Context(), err))
	default:
		s.Log.ErrorContext(r.Context(), "a backup was cut off", "error", err)
		panic(http.ErrAbortHandler)
	}
}

// backupBody begins the answer with the first byte, and bounds how long the
// client may take none.
type backupBody struct {
	w       http.ResponseWriter
	control *http.ResponseController
	name    string
	began   bool
}

func (b *backupBody) begin() {
	b.began = true
	h := b.w.Header()
	h.Set("Content-Type", "application/x-tar")
	h.Set("Content-Disposition", `attachment; filename="`+b.name+`"`)
}

func (b *backupBody) Write(p []byte) (int, error) {
	if !b.began {
		b.begin()
	}
	// Where it cannot be set the client's own end must do.
	_ = b.control.SetWriteDeadline(time.Now().Add(backupStall))
	return b.w.Write(p)
}

func (s *server) describeBackup() {
	op := &huma.Operation{
		Method: http.MethodGet, Path: "/backup", OperationID: "getBackup", Tags: []string{"Backup"},
		Summary: "Back up the data directory",
		Description: "A tar archive of the configuration, the journal, devices and events, as `sluice restore` takes it; made while Sluice runs. " +
			"The key of the secrets and the administrator's token are not in it. Everything accepted before the request is. " +
			"`sluice backup` also checks that it has come whole: its last entry is `end`. " +
			"One at a time (409), and none while the disk is nearly full (503).",
		Security: []map[string][]string{{"token": {}}},
		Responses: map[string]*huma.Response{"200": {
			Description: "The archive. Where it cannot be completed the connection is cut.",
			Content:     map[string]*huma.MediaType{"application/x-tar": {Schema: &huma.Schema{Type: "string", Format: "binary"}}},
		}},
	}
	refer(op, []int{
		http.StatusBadRequest, http.StatusUnauthorized, http.StatusConflict, http.StatusInternalServerError, http.StatusServiceUnavailable,
	})
	s.huma.OpenAPI().AddOperation(op)
}
