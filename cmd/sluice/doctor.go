package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"sluice"
	"sluice/app"
)

type doctorCommand struct {
	subject
	Create bool   `help:"Make a thing named sluice-test-... and delete it again, to try those permissions."`
	Topic  string `placeholder:"TOPIC" help:"Publish and receive the test message here (default: the topic of a device named sluice-test)."`
	Silent bool   `help:"Publish nothing."`
	JSON   bool   `name:"json" help:"Print JSON: one line for each step."`
}

var errNotWell = errors.New("not all is well")

func (c *doctorCommand) Run(p *process) error {
	var steps []sluice.Step
	report := func(s sluice.Step) {
		steps = append(steps, s)
		if c.JSON {
			line, _ := json.Marshal(s) // a plain structure
			fmt.Fprintln(p.out, string(line))
			return
		}
		printStep(p.out, s)
	}
	if err := c.examine(p, report); err != nil {
		return err
	}
	if len(steps) == 0 || p.ctx.Err() != nil {
		return errors.New("the test was broken off")
	}
	worst := worstOf(steps)
	if !c.JSON {
		skipped := 0
		for _, s := range steps {
			if s.State == sluice.StepSkipped {
				skipped++
			}
		}
		printVerdict(p.out, worst, skipped)
	}
	if worst != nil {
		return errNotWell
	}
	return nil
}

func (c *doctorCommand) examine(p *process, report func(sluice.Step)) error {
	if c.File != "" {
		connection, err := c.read()
		if err != nil {
			return err
		}
		return app.Doctor{}.Examine(p.ctx, connection, sluice.Examination{Create: c.Create, Topic: c.Topic, Silent: c.Silent}, report)
	}
	query := url.Values{"create": {strconv.FormatBool(c.Create)}, "silent": {strconv.FormatBool(c.Silent)}}
	if c.Topic != "" {
		query.Set("topic", c.Topic)
	}
	var answer struct{ Steps []sluice.Step }
	if err := c.ask(p.ctx, http.MethodPost, "/test", query, &answer); err != nil {
		return err
	}
	for _, s := range answer.Steps {
		report(s)
	}
	return nil
}

type awsCommand struct {
	Policy awsPolicyCommand `cmd:"" help:"Write the least IoT and IAM policies that a connection needs, and a CloudFormation template."`
}

type awsPolicyCommand struct {
	subject
	Account string `placeholder:"ID" help:"Id of the AWS account, twelve digits, where certificateId does not tell it."`
	Doctor  bool   `help:"Also what sluice doctor needs to find out more."`
	Only    string `enum:"all,iot,iam,cloudformation" default:"all" placeholder:"KIND" help:"Print one document alone, to be redirected into a file: iot, iam or cloudformation."`
}

// advised is what the API answers.
type advised struct {
	IoTPolicy      json.RawMessage `json:"iotPolicy"`
	IAMPolicy      json.RawMessage `json:"iamPolicy"`
	CloudFormation json.RawMessage `json:"cloudFormation"`
	Notes          []string        `json:"notes"`
}

func (c *awsPolicyCommand) Run(p *process) error {
	a, err := c.advice(p)
	if err != nil {
		return err
	}
	for _, d := range []struct {
		only, title string
		text        json.RawMessage
	}{
		{"iot", "IoT policy, to be attached to the certificate", a.IoTPolicy},
		{"iam", "IAM policy, of the user of the access key", a.IAMPolicy},
		{"cloudformation", "CloudFormation template that makes all of it", a.CloudFormation},
	} {
		switch {
		case c.Only == d.only && d.text == nil:
			return &sluice.Error{Code: sluice.CodeInvalid, Message: "the connection needs no such policy", Hint: "It has no access key, so nothing is registered."}
		case c.Only == d.only:
			fmt.Fprintln(p.out, indented(d.text))
		case c.Only == "all" && d.text != nil:
			fmt.Fprintf(p.out, "# %s\n%s\n\n", d.title, indented(d.text))
		}
	}
	for _, note := range a.Notes {
		fmt.Fprintln(p.errOut, "→", note)
	}
	return nil
}

func (c *awsPolicyCommand) advice(p *process) (advised, error) {
	var a advised
	if c.File == "" {
		query := url.Values{"doctor": {strconv.FormatBool(c.Doctor)}}
		if c.Account != "" {
			query.Set("account", c.Account)
		}
		return a, c.ask(p.ctx, http.MethodGet, "/aws-policy", query, &a)
	}
	connection, err := c.read()
	if err != nil {
		return a, err
	}
	advice, err := app.Doctor{}.Advise(connection, sluice.Wish{Account: c.Account, Examine: c.Doctor})
	if err != nil {
		return a, err
	}
	a.Notes = advice.Notes
	for _, d := range advice.Documents {
		switch d.Name {
		case "iotPolicy":
			a.IoTPolicy = d.JSON
		case "iamPolicy":
			a.IAMPolicy = d.JSON
		case "cloudFormation":
			a.CloudFormation = d.JSON
		}
	}
	return a, nil
}
