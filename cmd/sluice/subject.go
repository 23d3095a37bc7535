package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"sluice"
)

// subject is the connection that a command is about: one of a Sluice that
// runs, or one in a file.
type subject struct {
	Connection string `arg:"" optional:"" help:"Id of a connection of the Sluice at --url."`
	File       string `placeholder:"FILE" help:"A file with what is sent to POST /connections, or the configuration alone; needs no Sluice that runs. - is the standard input."`
	URL        string `default:"http://127.0.0.1:8080" placeholder:"URL" help:"Where the Sluice answers (default ${default})."`
	Data       string `placeholder:"DIR" help:"Its data directory, to find the token in."`
	TokenFile  string `name:"token-file" placeholder:"FILE" help:"The administrator token (default: admin.token in the data directory)."`
}

func (s *subject) AfterApply() error {
	if (s.File == "") == (s.Connection == "") {
		return errors.New("name a connection by its id, or a file with --file")
	}
	if s.File != "" {
		return nil
	}
	u, err := publicURL(s.URL)
	switch {
	case err != nil || u == "":
		return errors.New("--url must be an http(s) URL such as http://127.0.0.1:8080")
	case s.TokenFile == "" && s.Data == "":
		return errors.New("name the data directory with --data, or the token with --token-file")
	}
	s.URL = u
	if s.TokenFile == "" {
		s.TokenFile = filepath.Join(s.Data, "admin.token")
	}
	return nil
}

// read reads the file: a connection, or a configuration alone.
func (s *subject) read() (sluice.Connection, error) {
	var text []byte
	var err error
	if s.File == "-" {
		text, err = io.ReadAll(os.Stdin)
	} else {
		text, err = os.ReadFile(s.File)
	}
	if err != nil {
		return sluice.Connection{}, &sluice.Error{Code: sluice.CodeInvalid, Message: s.File + " cannot be read", Err: err}
	}
	var c sluice.Connection
	if err := json.Unmarshal(text, &c); err != nil {
		return c, &sluice.Error{
			Code: sluice.CodeInvalid, Message: s.File + " is not JSON of the right form",
			Hint: "It holds what is sent to POST /connections: connectorId, name, configuration.",
			Err:  errors.New(syntaxOf(err)),
		}
	}
	if c.Configuration == nil {
		c.Configuration = text
	}
	if c.ConnectorID == "" {
		c.ConnectorID = "actility-aws-iot"
	}
	c.ID = "" // it is not stored
	return c, nil
}

// syntaxOf is what is wrong with a text, without any of the text.
func syntaxOf(err error) string {
	if s, ok := errors.AsType[*json.SyntaxError](err); ok {
		return fmt.Sprintf("a mistake at byte %d", s.Offset)
	}
	return "a value is of the wrong type"
}

// ask asks the Sluice about the connection.
func (s *subject) ask(ctx context.Context, method, what string, query url.Values, into any) error {
	token, err := os.ReadFile(s.TokenFile)
	if err != nil {
		return &sluice.Error{Code: sluice.CodeInvalid, Message: "the administrator token cannot be read", Hint: "Name its file with --token-file.", Err: err}
	}
	address := s.URL + "/connections/" + url.PathEscape(s.Connection) + what + "?" + query.Encode()
	request, err := http.NewRequestWithContext(ctx, method, address, nil)
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	client := &http.Client{Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		return &sluice.Error{Code: sluice.CodeUnavailable, Message: "no Sluice answers at " + s.URL, Hint: "Name its address with --url.", Err: err}
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return refused(response)
	}
	return json.NewDecoder(response.Body).Decode(into)
}

func indented(text json.RawMessage) string {
	var b bytes.Buffer
	if json.Indent(&b, text, "", "  ") != nil {
		return string(text)
	}
	return b.String()
}

// titleWidth is as wide as the longest title of a step.
const titleWidth = 41

// printStep prints one line, and what to do below it where something is wrong.
func printStep(w io.Writer, s sluice.Step) {
	mark := map[sluice.StepState]string{sluice.StepOK: "ok", sluice.StepWarning: "WARN", sluice.StepFailed: "FAIL", sluice.StepSkipped: "-"}[s.State]
	pad := strings.Repeat(" ", max(0, titleWidth-utf8.RuneCountInString(s.Title)))
	fmt.Fprintf(w, "%-4s  %s%s  %6.0f ms  %s\n", mark, s.Title, pad, s.Milliseconds, s.Detail)
}

// worstOf is the first step that failed, else the first with a warning.
func worstOf(steps []sluice.Step) *sluice.Step {
	for _, state := range []sluice.StepState{sluice.StepFailed, sluice.StepWarning} {
		for i := range steps {
			if steps[i].State == state {
				return &steps[i]
			}
		}
	}
	return nil
}

// printVerdict ends with what matters.
func printVerdict(w io.Writer, worst *sluice.Step, skipped int) {
	if worst == nil && skipped > 0 {
		fmt.Fprintf(w, "\nALL IS WELL, but %d not tried\n", skipped)
		return
	}
	if worst == nil {
		fmt.Fprintln(w, "\nALL IS WELL")
		return
	}
	word := "FAILED"
	if worst.State == sluice.StepWarning {
		word = "WARNING"
	}
	fmt.Fprintf(w, "\n%s: %s (%s)\n\n  %s\n", word, worst.Title, worst.Cause, worst.Detail)
	if worst.Hint != "" {
		fmt.Fprintf(w, "\nNEXT: %s\n", worst.Hint)
	}
}
