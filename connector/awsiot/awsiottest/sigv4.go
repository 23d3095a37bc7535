package awsiottest

import (
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"sluice"
)

// Signature Version 4, seen from the service. Written from the IAM user
// guide ("AWS Signature Version 4 for API requests"), without the SDK's
// signer, so that the two check each other.

const (
	signingAlgorithm = "AWS4-HMAC-SHA256"
	signingDate      = "20060102T150405Z"
	signingSkew      = 5 * time.Minute
)

// The errors of the signature. The sentences about date, region and service
// are those of the IAM user guide ("Troubleshoot signed requests"); that the
// exceptions are these, with HTTP 403, is as reports of users show it for
// JSON services.
func invalidSignature(message string) *apiError {
	return &apiError{status: http.StatusForbidden, code: "InvalidSignatureException", message: message}
}

func unrecognizedClient() *apiError {
	return &apiError{status: http.StatusForbidden, code: "UnrecognizedClientException", message: "The security token included in the request is invalid."}
}

// expiredToken is about temporary credentials. Source: reports of users.
func expiredToken() *apiError {
	return &apiError{status: http.StatusForbidden, code: "ExpiredTokenException", message: "The security token included in the request is expired"}
}

func missingToken() *apiError {
	return &apiError{status: http.StatusForbidden, code: "MissingAuthenticationTokenException", message: "Missing Authentication Token"}
}

func incompleteSignature(message string) *apiError {
	return &apiError{status: http.StatusForbidden, code: "IncompleteSignatureException", message: message}
}

// authorization is a parsed Authorization header.
type authorization struct {
	accessKeyID            string
	date, region, service  string
	signedHeaders          []string
	signature              string
	credentialScopeWritten string
}

func parseAuthorization(header string) (a authorization, err *apiError) {
	if header == "" {
		return a, missingToken()
	}
	rest, ok := strings.CutPrefix(header, signingAlgorithm)
	if !ok {
		return a, incompleteSignature("Authorization header requires the algorithm " + signingAlgorithm)
	}
	for part := range strings.SplitSeq(rest, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		switch name {
		case "Credential":
			fields := strings.Split(value, "/")
			if len(fields) != 5 || fields[4] != "aws4_request" {
				return a, incompleteSignature("Credential must have five slash-delimited elements, KEYID/DATE/REGION/SERVICE/TERM, got '" + value + "'")
			}
			a.accessKeyID, a.date, a.region, a.service = fields[0], fields[1], fields[2], fields[3]
			a.credentialScopeWritten = strings.Join(fields[1:], "/")
		case "SignedHeaders":
			a.signedHeaders = strings.Split(value, ";")
		case "Signature":
			a.signature = value
		}
	}
	if a.accessKeyID == "" || a.signature == "" || len(a.signedHeaders) == 0 {
		return a, incompleteSignature("Authorization header requires 'Credential', 'SignedHeaders' and 'Signature' parameters")
	}
	return a, nil
}

// signer is what a signature must be made for.
type signer struct {
	keys     identities
	region   string
	services []string // the names that the service is known by
	clock    sluice.Clock
}

// verify checks the signature of a request and returns whose it is: of a key
// that is known, for the region and one of the services, at most five minutes
// old.
func (s signer) verify(r *http.Request, body []byte) (identity, *apiError) {
	a, bad := parseAuthorization(r.Header.Get("Authorization"))
	if bad != nil {
		return identity{}, bad
	}
	now := s.clock()
	who, ok := s.keys.identity(a.accessKeyID)
	switch {
	case !ok || r.Header.Get("X-Amz-Security-Token") != who.token:
		return identity{}, unrecognizedClient()
	case !who.expires.IsZero() && !now.Before(who.expires):
		return identity{}, expiredToken()
	}
	written := r.Header.Get("X-Amz-Date")
	signed, err := time.Parse(signingDate, written)
	if err != nil {
		return identity{}, incompleteSignature("Date must be in ISO-8601 'basic format'. Got '" + written + "'")
	}
	if bad := s.checkScope(a, written); bad != nil {
		return identity{}, bad
	}
	if bad := checkAge(signed, now); bad != nil {
		return identity{}, bad
	}
	return who, checkSignature(r, body, a, who.secret, written)
}

func checkSignature(r *http.Request, body []byte, a authorization, secret, written string) *apiError {
	sum := sha256.Sum256(body)
	payload := hex.EncodeToString(sum[:])
	if said := r.Header.Get("X-Amz-Content-Sha256"); said != "" && said != payload {
		return invalidSignature("The value of 'x-amz-content-sha256' does not match the payload.")
	}
	for _, required := range requiredHeaders(r) {
		if !slices.Contains(a.signedHeaders, required) {
			return invalidSignature("'" + required + "' must be a 'SignedHeader' in the AWS Authorization.")
		}
	}
	want := signature(secret, a, written, canonicalRequest(r, a.signedHeaders, payload))
	if !hmac.Equal([]byte(want), []byte(a.signature)) {
		return invalidSignature("The request signature we calculated does not match the signature you provided. " +
			"Check your AWS Secret Access Key and signing method. Consult the service documentation for details.")
	}
	return nil
}

func (s signer) checkScope(a authorization, written string) *apiError {
	switch {
	case a.region != s.region:
		return invalidSignature("Credential should be scoped to a valid Region, not '" + a.region + "'. ")
	case !slices.Contains(s.services, a.service):
		return invalidSignature("Credential should be scoped to correct service: '" + s.services[0] + "'. ")
	case !strings.HasPrefix(written, a.date+"T"):
		return invalidSignature("Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '" +
			a.date + "' != '" + written[:8] + "', from '" + written + "'.")
	}
	return nil
}

func checkAge(signed, now time.Time) *apiError {
	now = now.UTC()
	switch at := signed.Format(signingDate); {
	case now.Sub(signed) > signingSkew:
		limit := now.Add(-signingSkew)
		return invalidSignature("Signature expired: " + at + " is now earlier than " + limit.Format(signingDate) +
			" (" + now.Format(signingDate) + " - 5 min.)")
	case signed.Sub(now) > signingSkew:
		limit := now.Add(signingSkew)
		return invalidSignature("Signature not yet current: " + at + " is still later than " + limit.Format(signingDate) +
			" (" + now.Format(signingDate) + " + 5 min.)")
	}
	return nil
}

// requiredHeaders are those that must be signed: host and every x-amz-*.
// Names are in lower case.
func requiredHeaders(r *http.Request) []string {
	required := []string{"host"}
	for name := range r.Header {
		if lower := strings.ToLower(name); strings.HasPrefix(lower, "x-amz-") {
			required = append(required, lower)
		}
	}
	return required
}

func canonicalRequest(r *http.Request, signedHeaders []string, payload string) string {
	var b strings.Builder
	b.WriteString(r.Method + "\n" + canonicalPath(r.URL.EscapedPath()) + "\n" + canonicalQuery(r.URL.Query()) + "\n")
	for _, name := range signedHeaders {
		b.WriteString(name + ":" + canonicalValue(r, name) + "\n")
	}
	b.WriteString("\n" + strings.Join(signedHeaders, ";") + "\n" + payload)
	return b.String()
}

func canonicalValue(r *http.Request, name string) string {
	switch name {
	case "host":
		return r.Host
	case "content-length":
		// net/http takes this header out of the map.
		if values := r.Header.Values(name); len(values) == 0 {
			return strconv.FormatInt(r.ContentLength, 10)
		}
	}
	var values []string
	for _, v := range r.Header.Values(name) {
		values = append(values, strings.Join(strings.Fields(v), " "))
	}
	return strings.Join(values, ",")
}

// canonicalPath encodes the path as it came once more: every service but S3
// signs a path that is encoded twice.
func canonicalPath(escaped string) string {
	if escaped == "" {
		return "/"
	}
	return uriEncode(escaped, true)
}

func canonicalQuery(query url.Values) string {
	var pairs [][2]string
	for name, values := range query {
		for _, value := range values {
			pairs = append(pairs, [2]string{uriEncode(name, false), uriEncode(value, false)})
		}
	}
	slices.SortFunc(pairs, func(a, b [2]string) int { return cmp.Or(cmp.Compare(a[0], b[0]), cmp.Compare(a[1], b[1])) })
	var b strings.Builder
	for i, p := range pairs {
		if i > 0 {
			b.WriteByte('&')
		}
		b.WriteString(p[0] + "=" + p[1])
	}
	return b.String()
}

func uriEncode(s string, keepSlash bool) string {
	const hexDigits = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		switch {
		case c >= 'A' && c <= 'Z', c >= 'a' && c <= 'z', c >= '0' && c <= '9', strings.IndexByte("-._~", c) >= 0, c == '/' && keepSlash:
			b.WriteByte(c)
		default:
			b.WriteByte('%')
			b.WriteByte(hexDigits[c>>4])
			b.WriteByte(hexDigits[c&15])
		}
	}
	return b.String()
}

func signature(secret string, a authorization, date, canonical string) string {
	sum := sha256.Sum256([]byte(canonical))
	toSign := signingAlgorithm + "\n" + date + "\n" + a.credentialScopeWritten + "\n" + hex.EncodeToString(sum[:])
	key := []byte("AWS4" + secret)
	for _, part := range []string{a.date, a.region, a.service, "aws4_request", toSign} {
		h := hmac.New(sha256.New, key)
		h.Write([]byte(part))
		key = h.Sum(nil)
	}
	return hex.EncodeToString(key)
}
