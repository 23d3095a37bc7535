package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"sluice"
)

// remote is a Sluice that runs, as a command asks it.
type remote struct {
	URL       string `default:"http://127.0.0.1:8080" placeholder:"URL" help:"Where the Sluice answers (default ${default})."`
	Data      string `placeholder:"DIR" help:"Its data directory, where the token is."`
	TokenFile string `name:"token-file" placeholder:"FILE" help:"The administrator token (default: admin.token in the data directory)."`
}

// check checks the flags, and finds the token.
func (r *remote) check() error {
	u, err := publicURL(r.URL)
	switch {
	case err != nil || u == "":
		return errors.New("--url must be an http(s) URL such as http://127.0.0.1:8080")
	case r.TokenFile == "" && r.Data == "":
		return errors.New("name the data directory with --data, or the token with --token-file")
	}
	r.URL = u
	if r.TokenFile == "" {
		r.TokenFile = filepath.Join(r.Data, "admin.token")
	}
	return nil
}

// call makes a request and returns its answer, which is 200, to be closed.
// absent is what else to do where no Sluice answers.
func (r *remote) call(ctx context.Context, method, path, absent string) (*http.Response, error) {
	token, err := os.ReadFile(r.TokenFile)
	if err != nil {
		return nil, &sluice.Error{Code: sluice.CodeInvalid, Message: "the administrator token cannot be read", Hint: "Name the data directory of the Sluice that runs with --data, or the file with --token-file.", Err: err}
	}
	request, err := http.NewRequestWithContext(ctx, method, r.URL+path, nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	client := &http.Client{Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		hint := strings.TrimSpace("Name its address with --url. " + absent)
		return nil, &sluice.Error{Code: sluice.CodeUnavailable, Message: "no Sluice answers at " + r.URL, Hint: hint, Err: err}
	}
	if response.StatusCode != http.StatusOK {
		defer response.Body.Close()
		return nil, refused(response)
	}
	return response, nil
}

// refused is what the API says.
func refused(response *http.Response) error {
	var body bytes.Buffer
	_, _ = io.Copy(&body, io.LimitReader(response.Body, 1<<16)) // what there is of it
	e := &sluice.Error{Code: sluice.CodeInternal}
	var said struct{ Code, Message, Hint string }
	if json.Unmarshal(body.Bytes(), &said) == nil && said.Message != "" {
		e.Code, e.Message, e.Hint = sluice.Code(said.Code), said.Message, said.Hint
		return e
	}
	e.Message = fmt.Sprintf("the answer is %s, and not one of a Sluice", response.Status)
	e.Hint = "Is there a Sluice at this --url?"
	return e
}
