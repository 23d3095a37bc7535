package awsiottest

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Signature Version 4 in the query string, as MQTT over WebSocket has it.
// Sources: IAM User Guide, "Query parameters"; Developer Guide, "MQTT over the
// WebSocket protocol", whose example adds X-Amz-Security-Token after signing:
// it is no part of what is signed.

const (
	gatewayService = "iotdevicegateway"
	// presignedLife is how long a signed address is good, at most. Source: the
	// same. That it is as long where X-Amz-Expires is missing is inferred.
	presignedLife = 24 * time.Hour
)

func forbidden(message string) *apiError {
	return &apiError{status: http.StatusForbidden, code: "ForbiddenException", message: message}
}

// verifyPresigned checks the signature in the query of a request and returns
// who signed it.
func verifyPresigned(r *http.Request, known identities, o Options) (identity, *apiError) {
	query := r.URL.Query()
	a, written, bad := parsePresigned(query)
	if bad != nil {
		return identity{}, bad
	}
	who, ok := known.identity(a.accessKeyID)
	if !ok || query.Get("X-Amz-Security-Token") != who.token {
		return identity{}, forbidden("The security token included in the request is invalid.")
	}
	if !who.expires.IsZero() && !o.Clock().Before(who.expires) {
		return identity{}, forbidden(expiredToken().message)
	}
	if bad := checkPresignedScope(a, written, o.Region); bad != nil {
		return identity{}, bad
	}
	if bad := checkPresignedAge(query, written, o.Clock()); bad != nil {
		return identity{}, bad
	}
	signed := url.Values{}
	for name, values := range query {
		if name != "X-Amz-Signature" && name != "X-Amz-Security-Token" {
			signed[name] = values
		}
	}
	nothing := sha256.Sum256(nil)
	canonical := r.Method + "\n" + canonicalPath(r.URL.EscapedPath()) + "\n" + canonicalQuery(signed) + "\n"
	for _, name := range a.signedHeaders {
		canonical += name + ":" + canonicalValue(r, name) + "\n"
	}
	canonical += "\n" + strings.Join(a.signedHeaders, ";") + "\n" + hex.EncodeToString(nothing[:])
	if want := signature(who.secret, a, written, canonical); !hmac.Equal([]byte(want), []byte(a.signature)) {
		return identity{}, forbidden("The request signature we calculated does not match the signature you provided. " +
			"Check your AWS Secret Access Key and signing method. Consult the service documentation for details.")
	}
	return who, nil
}

func parsePresigned(query url.Values) (a authorization, written string, bad *apiError) {
	if query.Get("X-Amz-Algorithm") != signingAlgorithm {
		return a, "", forbidden("Missing Authentication Token")
	}
	fields := strings.Split(query.Get("X-Amz-Credential"), "/")
	if len(fields) != 5 || fields[4] != "aws4_request" {
		return a, "", forbidden("Credential must have five slash-delimited elements, KEYID/DATE/REGION/SERVICE/TERM")
	}
	a.accessKeyID, a.date, a.region, a.service = fields[0], fields[1], fields[2], fields[3]
	a.credentialScopeWritten = strings.Join(fields[1:], "/")
	a.signedHeaders = strings.Split(query.Get("X-Amz-SignedHeaders"), ";")
	a.signature = query.Get("X-Amz-Signature")
	hostSigned := false
	for _, name := range a.signedHeaders {
		hostSigned = hostSigned || name == "host"
	}
	if !hostSigned || a.signature == "" {
		return a, "", forbidden("'Host' must be a 'SignedHeader' in the AWS Authorization, and the request needs an 'X-Amz-Signature'.")
	}
	return a, query.Get("X-Amz-Date"), nil
}

func checkPresignedScope(a authorization, written, region string) *apiError {
	switch {
	case a.region != region:
		return forbidden("Credential should be scoped to a valid Region, not '" + a.region + "'. ")
	case a.service != gatewayService:
		return forbidden("Credential should be scoped to correct service: '" + gatewayService + "'. ")
	case !strings.HasPrefix(written, a.date+"T"):
		return forbidden("Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP")
	}
	return nil
}

func checkPresignedAge(query url.Values, written string, now time.Time) *apiError {
	signed, err := time.Parse(signingDate, written)
	if err != nil {
		return forbidden("Date must be in ISO-8601 'basic format'. Got '" + written + "'")
	}
	life := presignedLife
	if expires := query.Get("X-Amz-Expires"); expires != "" {
		seconds, err := strconv.Atoi(expires)
		if err != nil || seconds < 1 || time.Duration(seconds)*time.Second > presignedLife {
			return forbidden("X-Amz-Expires must be between 1 and 86400 seconds")
		}
		life = time.Duration(seconds) * time.Second
	}
	now = now.UTC()
	switch {
	case now.After(signed.Add(life)):
		return forbidden("Signature expired: " + written + " is now earlier than " + now.Add(-life).Format(signingDate))
	case signed.Sub(now) > signingSkew:
		return forbidden("Signature not yet current: " + written + " is still later than " + now.Add(signingSkew).Format(signingDate))
	}
	return nil
}
