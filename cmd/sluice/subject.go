package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"

	"sluice"
)

// subject is the connection that a command is about: one of a Sluice that
// runs, or one in a file.
type subject struct {
	Connection string `arg:"" optional:"" help:"Id of a connection of the Sluice at --url."`
	File       string `placeholder:"FILE" help:"A file with what is sent to POST /connections, or the configuration alone; needs no Sluice that runs. - is the standard input."`
	remote
}

func (s *subject) AfterApply() error {
	if (s.File == "") == (s.Connection == "") {
		return errors.New("name a connection by its id, or a file with --file")
	}
	if s.File != "" {
		return nil
	}
	return s.check()
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
	response, err := s.call(ctx, method, "/connections/"+url.PathEscape(s.Connection)+what+"?"+query.Encode(), "")
	if err != nil {
		return err
	}
	defer response.Body.Close()
	return json.NewDecoder(response.Body).Decode(into)
}

func indented(text json.RawMessage) string {
	var b bytes.Buffer
	if json.Indent(&b, text, "", "  ") != nil {
		return string(text)
	}
	return b.String()
}
