package api

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"strconv"
	"strings"

	"sluice"
)

// etag of a connection is its revision.
func etag(revision uint64) string { return strconv.Quote(strconv.FormatUint(revision, 10)) }

// digest is the etag of a resource without a revision. It covers secrets, so
// that a change of them is seen, and is keyed, so that it tells nothing of them.
func (s *server) digest(resource any) string {
	text, err := json.Marshal(resource)
	if err != nil {
		return ""
	}
	mac := hmac.New(sha256.New, s.token[:])
	mac.Write(text)
	return strconv.Quote(hex.EncodeToString(mac.Sum(nil)[:8]))
}

// match compares an If-Match header with the etag that is; an error when it has
// changed. An empty header matches. A weak tag is taken for a strong one: some
// proxies weaken tags.
func match(ifMatch, current string) error {
	if ifMatch == "" {
		return nil
	}
	for tag := range strings.SplitSeq(ifMatch, ",") {
		tag = strings.TrimPrefix(strings.TrimSpace(tag), "W/")
		if tag == "*" || tag == current {
			return nil
		}
	}
	return &sluice.Error{
		Code:    sluice.CodePrecondition,
		Message: "It was changed after you read it.",
		Hint:    "GET it again, make your change in what you get, and send the new ETag as If-Match.",
	}
}
