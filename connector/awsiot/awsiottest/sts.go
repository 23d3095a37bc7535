package awsiottest

import (
	"encoding/xml"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"sluice/connector/awsiot/awsiottest/iam"
)

// The Security Token Service: the Query protocol, a form in and XML out.
// Source: AWS STS API Reference.

const stsNamespace = "https://sts.amazonaws.com/doc/2011-06-15/"

type stsError struct {
	XMLName xml.Name `xml:"ErrorResponse"`
	XMLNS   string   `xml:"xmlns,attr"`
	Error   struct {
		Type    string
		Code    string
		Message string
	}
	RequestID string `xml:"RequestId"`
}

type stsMetadata struct {
	RequestID string `xml:"RequestId"`
}

type assumeRoleResponse struct {
	XMLName     xml.Name `xml:"AssumeRoleResponse"`
	XMLNS       string   `xml:"xmlns,attr"`
	Credentials struct {
		AccessKeyID     string `xml:"AccessKeyId"`
		SecretAccessKey string
		SessionToken    string
		Expiration      string
	} `xml:"AssumeRoleResult>Credentials"`
	User struct {
		AssumedRoleID string `xml:"AssumedRoleId"`
		ARN           string `xml:"Arn"`
	} `xml:"AssumeRoleResult>AssumedRoleUser"`
	Metadata stsMetadata `xml:"ResponseMetadata"`
}

type callerIdentityResponse struct {
	XMLName  xml.Name    `xml:"GetCallerIdentityResponse"`
	XMLNS    string      `xml:"xmlns,attr"`
	ARN      string      `xml:"GetCallerIdentityResult>Arn"`
	UserID   string      `xml:"GetCallerIdentityResult>UserId"`
	Account  string      `xml:"GetCallerIdentityResult>Account"`
	Metadata stsMetadata `xml:"ResponseMetadata"`
}

func (p *controlPlane) serveSTS(w http.ResponseWriter, r *http.Request, body []byte) {
	out, bad := p.callSTS(r, body)
	if bad != nil {
		e := stsError{XMLNS: stsNamespace, RequestID: newUUID()}
		e.Error.Type, e.Error.Code, e.Error.Message = "Sender", bad.code, bad.message
		writeXML(w, p.options, bad.status, e)
		return
	}
	writeXML(w, p.options, http.StatusOK, out)
}

func writeXML(w http.ResponseWriter, o Options, status int, out any) {
	w.Header().Set("Content-Type", "text/xml")
	w.Header().Set("Date", o.Clock().UTC().Format(http.TimeFormat))
	w.WriteHeader(status)
	_ = xml.NewEncoder(w).Encode(out) // the client may have gone
}

func (p *controlPlane) callSTS(r *http.Request, body []byte) (any, *apiError) {
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, newError(http.StatusBadRequest, "MalformedInput", "the body is no form")
	}
	if isIAM(form.Get("Action")) {
		return p.callIAM(r, form, body)
	}
	s := signer{keys: p.account, region: p.options.Region, services: []string{"sts"}, clock: p.options.Clock}
	who, bad := s.verify(r, body)
	if bad != nil {
		return nil, inQueryWords(bad)
	}
	action := form.Get("Action")
	if bad := p.faults.take(r.Context(), action); bad != nil {
		return nil, bad
	}
	switch action {
	case "GetCallerIdentity": // needs no permission
		return callerIdentityResponse{
			XMLNS: stsNamespace, ARN: who.arn, UserID: who.userID, Account: p.account.ID(), Metadata: stsMetadata{newUUID()},
		}, nil
	case "AssumeRole":
		return p.assumeRole(r, form)
	}
	return nil, newError(http.StatusBadRequest, "InvalidAction", "Could not find operation %s for version %s", action, form.Get("Version"))
}

// inQueryWords is an error of the signature as services with the Query
// protocol name it.
func inQueryWords(e *apiError) *apiError {
	out := *e
	switch e.code {
	case "UnrecognizedClientException":
		out.code = "InvalidClientTokenId"
	case "InvalidSignatureException":
		out.code = "SignatureDoesNotMatch"
	case "ExpiredTokenException":
		out.code = "ExpiredToken"
	case "MissingAuthenticationTokenException":
		out.code = "MissingAuthenticationToken"
	case "IncompleteSignatureException":
		out.code = "IncompleteSignature"
	}
	return &out
}

func (p *controlPlane) assumeRole(r *http.Request, form url.Values) (any, *apiError) {
	a, bad := parseAuthorization(r.Header.Get("Authorization"))
	if bad != nil {
		return nil, inQueryWords(bad)
	}
	caller, _ := p.account.Lookup(a.accessKeyID)
	seconds := 0
	if s := form.Get("DurationSeconds"); s != "" {
		var err error
		if seconds, err = strconv.Atoi(s); err != nil || seconds == 0 {
			seconds = 1 // out of bounds
		}
	}
	role, failed := p.account.AssumeRole(caller, iam.AssumeRole{
		RoleARN: form.Get("RoleArn"), SessionName: form.Get("RoleSessionName"), ExternalID: form.Get("ExternalId"),
		Duration: time.Duration(seconds) * time.Second,
	})
	if failed != nil {
		return nil, newError(failed.Status, failed.Code, "%s", failed.Message)
	}
	out := assumeRoleResponse{XMLNS: stsNamespace, Metadata: stsMetadata{newUUID()}}
	out.Credentials.AccessKeyID, out.Credentials.SecretAccessKey, out.Credentials.SessionToken = role.ID, role.Secret, role.Token
	out.Credentials.Expiration = role.Expires.UTC().Format(time.RFC3339)
	out.User.ARN, out.User.AssumedRoleID = role.ARN, role.UserID
	return out, nil
}
