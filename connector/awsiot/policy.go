package awsiot

import (
	"encoding/json"
	"regexp"
	"strings"

	"sluice"
)

// statement is a statement of a policy, of IAM or of AWS IoT.
type statement struct {
	Sid       string         `json:"Sid"`
	Effect    string         `json:"Effect"`
	Action    []string       `json:"Action"`
	Resource  []string       `json:"Resource"`
	Condition map[string]any `json:"Condition,omitempty"`
}

type policyDocument struct {
	Version   string      `json:"Version"`
	Statement []statement `json:"Statement"`
}

// accountPlaceholder stands where the account is not known.
const accountPlaceholder = "<account id>"

// advisor writes the policies of one configuration.
type advisor struct {
	cfg      config
	uplink   *topic
	downlink *topic
	client   string // the beginning of client ids
	group    string // of those who share the commands, in the language of policies
	account  string
	wish     sluice.Wish
}

// Advise writes the IoT policy of the certificate, the IAM policy of the access
// key and a CloudFormation template of both.
func (c *Connector) Advise(spec sluice.DialerSpec, w sluice.Wish) (sluice.Advice, error) {
	a, notes, err := newAdvisor(spec, w)
	if err != nil {
		return sluice.Advice{}, err
	}
	var iotPolicy *policyDocument
	if a.cfg.certified() {
		iotPolicy = &policyDocument{"2012-10-17", a.iotStatements()}
	}
	out := sluice.Advice{Notes: notes}
	add := func(name, title string, v any) {
		raw, err := marshal(v)
		if name == "iotPolicy" && len(raw) > maxIoTPolicy {
			out.Notes = append(out.Notes, sizeNote(len(raw)))
		}
		if err == nil { // they are plain structures
			out.Documents = append(out.Documents, sluice.Document{Name: name, Title: title, JSON: raw})
		}
	}
	if iotPolicy != nil {
		add("iotPolicy", "IoT policy, to be attached to the certificate", iotPolicy)
	} else {
		out.Notes = append(out.Notes, "The connection uses no certificate: all stands in the IAM policy.")
	}
	var iam *policyDocument
	if a.cfg.registers() {
		iam = &policyDocument{"2012-10-17", a.iamStatements()}
		add("iamPolicy", "IAM policy, of the user of the access key", iam)
	} else {
		out.Notes = append(out.Notes, "The connection has no access key, so it needs no IAM policy.")
	}
	add("cloudFormation", "CloudFormation template that makes all of it", a.template(iotPolicy, iam))
	return out, nil
}

// marshal leaves <, > and & as they are.
func marshal(v any) (json.RawMessage, error) {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return json.RawMessage(strings.TrimSpace(b.String())), nil
}

func newAdvisor(spec sluice.DialerSpec, w sluice.Wish) (a *advisor, notes []string, err error) {
	cfg := readConfig(spec.Connection.Configuration)
	cfg.CreateDevices = spec.Common.CreateDevices
	a = &advisor{cfg: cfg, wish: w, client: clientPrefix(cfg.ClientIDPrefix, spec.Instance, spec.Connection.ID), account: w.Account}
	a.group = strings.TrimSuffix(a.client, "-")
	unstored := spec.Instance == "" || spec.Connection.ID == ""
	if unstored {
		a.group = a.client + "*"
	}
	if err := a.check(spec.Common.DownlinkEnabled); err != nil {
		return nil, nil, err
	}
	arn, known := parseCertificateARN(cfg.CertificateID)
	switch {
	case known && a.account != "" && a.account != arn.account:
		notes = append(notes, "The account is "+a.account+", but certificateId is one of the account "+arn.account+".")
	case known:
		a.account = arn.account
	case a.account == "":
		a.account = accountPlaceholder
		notes = append(notes, "Write the twelve digits of the account in the place of "+accountPlaceholder+": aws sts get-caller-identity --query Account --output text")
	}
	if unstored {
		notes = append(notes, "The client ids of any Sluice are allowed, client/"+a.client+"*: which one it will be is known once the connection is stored.")
	}
	return a, notes, nil
}

// check reads the topics, and tells all that is wrong with what the policies
// are made of.
func (a *advisor) check(takes bool) error {
	var fields []sluice.Problem
	problem := func(path string, texts []string) {
		for _, t := range texts {
			fields = append(fields, sluice.Problem{Path: path, Message: t})
		}
	}
	var wrong []string
	missing := a.cfg.without("uplinkTopicPattern region")
	for _, name := range missing {
		problem(name, []string{missingText(name)})
	}
	if a.cfg.given["uplinkTopicPattern"] {
		a.uplink, wrong = compileTopic(a.cfg.UplinkTopicPattern, true)
		problem("uplinkTopicPattern", wrong)
	}
	if a.cfg.DownlinkTopicPattern != "" && takes {
		a.downlink, wrong = compileTopic(a.cfg.DownlinkTopicPattern, false)
		problem("downlinkTopicPattern", wrong)
	}
	if !isPrefix(a.cfg.ClientIDPrefix) {
		problem("clientIdPrefix", []string{"It is not the beginning of client ids: letters, digits and : _ . - alone, at most 64."})
	}
	if a.cfg.given["region"] && !isRegion(a.cfg.Region) {
		problem("region", []string{"It is not a region, such as eu-central-1."})
	}
	if a.wish.Account != "" && !regexp.MustCompile(`^[0-9]{12}$`).MatchString(a.wish.Account) {
		problem("account", []string{"The id of an account is twelve digits."})
	}
	if len(fields) > 0 {
		hint := "Correct what is named."
		if len(missing) > 0 {
			hint += " " + setupHint
		}
		return &sluice.Error{Code: sluice.CodeInvalid, Message: "Policies cannot be written for this configuration.", Hint: hint, Fields: fields}
	}
	return nil
}

// policyPattern is a topic with * for each expression, in the language of
// policies.
func policyPattern(t *topic) string { return t.Map("*", escapePolicy) }

// escapePolicy writes text so that a policy takes it as it is.
// Source: IAM User Guide, "Special characters" of policy variables.
func escapePolicy(s string) string {
	return strings.NewReplacer("*", "${*}", "?", "${?}", "$", "${$}").Replace(s)
}

// escapeReserved is escapePolicy, but for the $ that begins AWS's own topics.
func escapeReserved(t *topic) string {
	p := policyPattern(t)
	if rest, ok := strings.CutPrefix(p, "${$}aws/"); ok {
		return "$aws/" + rest
	}
	return p
}

func (a *advisor) arn(resource string) string {
	return "arn:" + partition(a.cfg.Region) + ":iot:" + a.cfg.Region + ":" + a.account + ":" + resource
}

// iotStatements are those of the certificate.
func (a *advisor) iotStatements() []statement {
	connect := a.allow("Connect", "iot:Connect", "client/"+a.client+"*")
	if attributes := a.connectAttributes(); len(attributes) > 0 {
		// Of a set that may be empty: with this session or without.
		connect.Condition = map[string]any{"ForAllValues:StringEquals": map[string]any{"iot:ConnectAttributes": attributes}}
	}
	list := []statement{connect, a.allow("Publish", "iot:Publish", "topic/"+escapeReserved(a.uplink))}
	if a.downlink != nil {
		list = append(list,
			a.allow("Subscribe", "iot:Subscribe", a.commandFilters()...),
			a.allow("Receive", "iot:Receive", "topic/"+policyPattern(a.downlink)))
		if a.wish.Examine {
			list = append(list, a.allow("Examine", "iot:Publish", "topic/"+escapePolicy(testTopic(a.downlink))))
		}
	}
	return append(append(list, a.presenceStatements()...), a.shadowStatements()...)
}

// iamStatements are those of the access key's user.
// Source of the resources: Service Authorization Reference, "AWS IoT";
// AttachThingPrincipal and DescribeEndpoint have none. ListThings and
// ListPrincipalThings are left out: without them things are looked at one by
// one.
func (a *advisor) iamStatements() []statement {
	things := a.arn("thing/*")
	list := []statement{{Sid: "LookUpThings", Effect: "Allow", Action: []string{"iot:DescribeThing"}, Resource: []string{things}}}
	if a.cfg.CreateDevices {
		list = append(list, statement{Sid: "MakeThings", Effect: "Allow", Action: []string{"iot:CreateThing"}, Resource: []string{things}})
	}
	_, known := parseCertificateARN(a.cfg.CertificateID)
	if a.cfg.CreateDevices && known {
		list = append(list, statement{Sid: "AttachCertificate", Effect: "Allow", Action: []string{"iot:AttachThingPrincipal"}, Resource: []string{"*"}})
	}
	list = append(list, a.shapeStatements(things)...)
	if !a.cfg.certified() { // then what the certificate would need is the signer's
		for _, s := range a.iotStatements() {
			s.Condition = nil // IAM knows no iot:ConnectAttributes
			list = append(list, s)
		}
	}
	if !a.wish.Examine {
		return list
	}
	certificate := a.arn("cert/*")
	if known {
		certificate = a.cfg.CertificateID
	}
	list = append(list,
		statement{Sid: "ExamineAccount", Effect: "Allow", Action: []string{"iot:DescribeEndpoint", "iot:DetachThingPrincipal"}, Resource: []string{"*"}},
		statement{
			Sid: "ExamineCertificate", Effect: "Allow", Action: []string{"iot:DescribeCertificate", "iot:ListAttachedPolicies"},
			Resource: []string{certificate},
		},
		statement{Sid: "ExamineThings", Effect: "Allow", Action: []string{"iot:DeleteThing"}, Resource: []string{a.arn("thing/" + testDevice + "-*")}})
	if a.cfg.DeviceType != "" {
		list = append(list, statement{
			Sid: "ExamineType", Effect: "Allow", Action: []string{"iot:DescribeThingType"},
			Resource: []string{a.arn("thingtype/" + a.cfg.DeviceType)},
		})
	}
	return list
}

// shapeStatements are for attributes and groups, where any are configured.
func (a *advisor) shapeStatements(things string) []statement {
	var list []statement
	c := &a.cfg
	if len(c.ThingAttributes) > 0 || c.ThingTagAttribute != "" {
		list = append(list, statement{Sid: "KeepAttributes", Effect: "Allow", Action: []string{"iot:UpdateThing"}, Resource: []string{things}})
	}
	if len(c.ThingGroups) > 0 && c.CreateDevices {
		s := statement{Sid: "PutIntoGroups", Effect: "Allow", Action: []string{"iot:AddThingToThingGroup"}, Resource: []string{things}}
		for _, g := range c.ThingGroups {
			s.Resource = append(s.Resource, a.arn("thinggroup/"+g))
		}
		list = append(list, s)
	}
	if c.BillingGroup != "" && c.CreateDevices {
		list = append(list, statement{
			Sid: "PutIntoBillingGroup", Effect: "Allow", Action: []string{"iot:CreateThing", "iot:AddThingToBillingGroup"},
			Resource: []string{things, a.arn("billinggroup/" + c.BillingGroup)},
		})
	}
	return list
}

// template is a CloudFormation template of the policies, of the thing type and
// of a user. The certificate is given: CloudFormation makes none with a key.
// The key of the user is not made by it, since it would show its secret.
func (a *advisor) template(iotPolicy, iam *policyDocument) map[string]any {
	ref := func(name string) map[string]any { return map[string]any{"Ref": name} }
	parameter := map[string]any{
		"Type": "String", "Description": "ARN of the certificate that the connection uses (certificateId)",
		"AllowedPattern": "arn:aws[a-z-]*:iot:[a-z0-9-]+:[0-9]{12}:cert/[0-9a-fA-F]{64}",
	}
	if _, ok := parseCertificateARN(a.cfg.CertificateID); ok {
		parameter["Default"] = a.cfg.CertificateID
	}
	resources := map[string]any{}
	out := map[string]any{
		"AWSTemplateFormatVersion": "2010-09-09",
		"Description":              "What one connection of Sluice needs of AWS IoT Core, and no more.",
		"Resources":                resources,
	}
	if iotPolicy != nil {
		out["Parameters"] = map[string]any{"CertificateArn": parameter}
		resources["IoTPolicy"] = map[string]any{"Type": "AWS::IoT::Policy", "Properties": map[string]any{"PolicyDocument": a.substituted(*iotPolicy)}}
		resources["IoTPolicyAttachment"] = map[string]any{
			"Type":       "AWS::IoT::PolicyPrincipalAttachment",
			"Properties": map[string]any{"PolicyName": ref("IoTPolicy"), "Principal": ref("CertificateArn")},
		}
	}
	if iam == nil {
		return out
	}
	if a.cfg.DeviceType != "" && a.cfg.CreateDevices {
		resources["ThingType"] = map[string]any{
			"Type": "AWS::IoT::ThingType", "DeletionPolicy": "Retain",
			"Properties": map[string]any{"ThingTypeName": a.cfg.DeviceType},
		}
	}
	resources["User"] = map[string]any{"Type": "AWS::IAM::User", "Properties": map[string]any{
		"Policies": []any{map[string]any{"PolicyName": "sluice", "PolicyDocument": a.substituted(*iam)}},
	}}
	out["Outputs"] = map[string]any{"UserName": map[string]any{
		"Description": "Make its key: aws iam create-access-key --user-name <this>", "Value": ref("User"),
	}}
	return out
}

// substituted is a policy whose ARNs are of the account and region that the
// template is used in.
func (a *advisor) substituted(p policyDocument) map[string]any {
	own := "arn:" + partition(a.cfg.Region) + ":iot:" + a.cfg.Region + ":" + a.account + ":"
	list := make([]map[string]any, 0, len(p.Statement))
	for _, s := range p.Statement {
		var resources []any
		for _, r := range s.Resource {
			rest, ok := strings.CutPrefix(r, own)
			if !ok {
				resources = append(resources, r)
				continue
			}
			// ${!x} is ${x} once substituted.
			rest = strings.ReplaceAll(rest, "${", "${!")
			resources = append(resources, map[string]any{"Fn::Sub": "arn:${AWS::Partition}:iot:${AWS::Region}:${AWS::AccountId}:" + rest})
		}
		m := map[string]any{"Sid": s.Sid, "Effect": s.Effect, "Action": s.Action, "Resource": resources}
		if s.Condition != nil {
			m["Condition"] = s.Condition
		}
		list = append(list, m)
	}
	return map[string]any{"Version": p.Version, "Statement": list}
}
