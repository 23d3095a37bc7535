package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
)

// REST speaks the REST API of a Sluice, as an engineer's script would.
type REST struct {
	Base  string // "http://127.0.0.1:8080"
	Token string
}

// Do sends body as JSON (nil: none) and decodes the answer into out (nil: not
// looked at). An answer of 400 or more is an error with the answer's text.
func (r REST) Do(ctx context.Context, method, path string, body, out any) error {
	status, answer, err := r.Raw(ctx, method, path, body)
	if err != nil {
		return err
	}
	if status >= http.StatusBadRequest {
		return fmt.Errorf("%s %s: %d %s", method, path, status, answer)
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(answer, out)
}

// Raw sends body as JSON and returns the status and the answer as they are.
func (r REST) Raw(ctx context.Context, method, path string, body any) (status int, answer []byte, err error) {
	var reader io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return 0, nil, err
		}
		reader = bytes.NewReader(text)
	}
	request, err := http.NewRequestWithContext(ctx, method, r.Base+path, reader)
	if err != nil {
		return 0, nil, err
	}
	request.Header.Set("Authorization", "Bearer "+r.Token)
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, nil, err
	}
	defer response.Body.Close()
	answer, err = io.ReadAll(io.LimitReader(response.Body, 4<<20))
	return response.StatusCode, answer, err
}
