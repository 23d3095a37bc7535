package api

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"strings"

	"sluice"
)

// authorized reports whether the request carries the administrator's token. It
// takes the same time whatever is wrong with it.
func (s *server) authorized(r *http.Request) bool {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	given := sha256.Sum256([]byte(strings.TrimSpace(token)))
	right := subtle.ConstantTimeCompare(given[:], s.token[:]) == 1
	return right && s.Token != "" && strings.EqualFold(scheme, "Bearer")
}

func unauthorized() *failure {
	return &failure{
		status: http.StatusUnauthorized,
		header: http.Header{"Www-Authenticate": {`Bearer realm="sluice"`}},
		body: errorView{
			Code:    string(sluice.CodeUnauthorized),
			Message: "The request carries no valid token.",
			Hint:    "Send the header 'Authorization: Bearer <token>'; the token is in the file admin.token of the data directory.",
		},
	}
}
