package api

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"sluice"
)

func TestBackup(t *testing.T) {
	asked := 0
	var fail error
	size := 3 << 20
	handler := New(Options{Token: "token", Clock: nil, Backup: func(_ context.Context, w io.Writer) error {
		asked++
		if size > 0 {
			if _, err := w.Write(make([]byte, size)); err != nil {
				return err
			}
		}
		return fail
	}})
	server := httptest.NewServer(handler)
	defer server.Close()
	get := func(method, path, token string) (*http.Response, string, error) {
		t.Helper()
		request, err := http.NewRequestWithContext(t.Context(), method, server.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Authorization", "Bearer "+token)
		response, err := server.Client().Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		return response, string(body), err
	}
	if r, _, _ := get("GET", "/backup", "wrong"); r.StatusCode != 401 || asked > 0 {
		t.Errorf("without the token: %d", r.StatusCode)
	}
	if r, _, _ := get("HEAD", "/backup", "token"); r.StatusCode != 200 || asked > 0 {
		t.Errorf("HEAD: %d, %d backups", r.StatusCode, asked)
	}
	if r, body, _ := get("GET", "/backup?key=1", "token"); r.StatusCode != 400 || !strings.Contains(body, "unknown query parameter 'key'") && !strings.Contains(body, "Unknown query parameter 'key'") {
		t.Errorf("with a parameter: %d %s", r.StatusCode, body)
	}
	r, body, err := get("GET", "/iot-flow/v1/backup", "token")
	if err != nil || len(body) != size || r.Header.Get("Content-Type") != "application/x-tar" || !strings.HasPrefix(r.Header.Get("Content-Disposition"), `attachment; filename="sluice-2`) {
		t.Errorf("%d bytes, %v, %v", len(body), r.Header, err)
	}
	fail = errors.New("broken")
	if _, _, err := get("GET", "/backup", "token"); err == nil {
		t.Error("a backup that was cut off looks whole")
	}
	size, fail = 0, sluice.Errorf(sluice.CodeConflict, "a backup is being made already")
	if r, body, _ := get("GET", "/backup", "token"); r.StatusCode != 409 || !strings.Contains(body, "A backup is being made already") {
		t.Errorf("a second one: %d %s", r.StatusCode, body)
	}
}
