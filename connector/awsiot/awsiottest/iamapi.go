package awsiottest

import (
	"encoding/xml"
	"net/http"
	"net/url"

	"sluice/connector/awsiot/awsiottest/iam"
)

// The part of IAM's API that makes a user with a policy and a key: the Query
// protocol, as that of STS. Source: IAM API Reference.

const iamNamespace = "https://iam.amazonaws.com/doc/2010-05-08/"

type createUserResponse struct {
	XMLName  xml.Name    `xml:"CreateUserResponse"`
	XMLNS    string      `xml:"xmlns,attr"`
	Path     string      `xml:"CreateUserResult>User>Path"`
	Name     string      `xml:"CreateUserResult>User>UserName"`
	ID       string      `xml:"CreateUserResult>User>UserId"`
	ARN      string      `xml:"CreateUserResult>User>Arn"`
	Metadata stsMetadata `xml:"ResponseMetadata"`
}

type putUserPolicyResponse struct {
	XMLName  xml.Name    `xml:"PutUserPolicyResponse"`
	XMLNS    string      `xml:"xmlns,attr"`
	Metadata stsMetadata `xml:"ResponseMetadata"`
}

type createAccessKeyResponse struct {
	XMLName  xml.Name    `xml:"CreateAccessKeyResponse"`
	XMLNS    string      `xml:"xmlns,attr"`
	User     string      `xml:"CreateAccessKeyResult>AccessKey>UserName"`
	ID       string      `xml:"CreateAccessKeyResult>AccessKey>AccessKeyId"`
	Status   string      `xml:"CreateAccessKeyResult>AccessKey>Status"`
	Secret   string      `xml:"CreateAccessKeyResult>AccessKey>SecretAccessKey"`
	Metadata stsMetadata `xml:"ResponseMetadata"`
}

// iamRegion is where IAM's requests are signed for, wherever the caller is.
func iamRegion(o Options) string {
	switch o.partition() {
	case "aws-cn":
		return "cn-north-1"
	case "aws-us-gov":
		return "us-gov-west-1"
	}
	return "us-east-1"
}

// signedFor is the region that a request is to be signed for: IAM's own, but
// clients that are given an endpoint sign for the one that they are in.
func signedFor(r *http.Request, o Options) string {
	if a, bad := parseAuthorization(r.Header.Get("Authorization")); bad == nil && a.region == o.Region {
		return o.Region
	}
	return iamRegion(o)
}

// isIAM reports whether a request of the Query protocol is one of IAM's.
func isIAM(action string) bool {
	return action == "CreateUser" || action == "PutUserPolicy" || action == "CreateAccessKey"
}

func (p *controlPlane) callIAM(r *http.Request, form url.Values, body []byte) (any, *apiError) {
	s := signer{keys: p.account, region: signedFor(r, p.options), services: []string{"iam"}, clock: p.options.Clock}
	who, bad := s.verify(r, body)
	if bad != nil {
		return nil, inQueryWords(bad)
	}
	action, name := form.Get("Action"), form.Get("UserName")
	if bad := p.faults.take(r.Context(), action); bad != nil {
		return nil, bad
	}
	resource := "arn:" + p.options.partition() + ":iam::" + p.account.ID() + ":user/" + name
	if !who.allows("iam:"+action, resource) {
		return nil, newError(http.StatusForbidden, "AccessDenied", "%s", who.denied("iam:"+action, resource))
	}
	meta := stsMetadata{newUUID()}
	switch action {
	case "CreateUser":
		u, refused := p.account.CreateUser(name)
		return createUserResponse{XMLNS: iamNamespace, Path: "/", Name: u.Name, ID: u.ID, ARN: u.ARN, Metadata: meta}, asAPIError(refused)
	case "PutUserPolicy":
		document, err := iam.ParsePolicy(form.Get("PolicyDocument"))
		if err != nil {
			return nil, newError(http.StatusBadRequest, "MalformedPolicyDocument", "%s", err)
		}
		return putUserPolicyResponse{XMLNS: iamNamespace, Metadata: meta}, asAPIError(p.account.PutUserPolicy(name, form.Get("PolicyName"), document))
	}
	key, refused := p.account.CreateAccessKey(name)
	return createAccessKeyResponse{
		XMLNS: iamNamespace, User: name, ID: key.ID, Secret: key.Secret, Status: "Active", Metadata: meta,
	}, asAPIError(refused)
}

func asAPIError(r *iam.Refused) *apiError {
	if r == nil {
		return nil
	}
	return newError(r.Status, r.Code, "%s", r.Message)
}
