package thingpark

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"strings"
	"unicode/utf8"

	"sluice"
	"sluice/internal/report"
)

// tokenCheck checks the Token of one report:
//
//	Token = hex(SHA-256(values of some fields of the body + query + key))
//
// all as text without separators. Which fields are signed depends on the kind.
// Sources: actility/thingpark-integrations (uplink), KPN's lora-reference
// (uplink, downlink_Sent, location); that an absent FPort counts as 0 and an
// absent payload as nothing is known from open code only.
type tokenCheck struct {
	want  [sha256.Size]byte
	query string
	keys  []string
}

// newTokenCheck returns false when the Token is no SHA-256 in hexadecimal
// digits, of either case.
func newTokenCheck(q *query, keys []string) (*tokenCheck, bool) {
	c := &tokenCheck{keys: keys}
	if len(q.token) != hex.EncodedLen(len(c.want)) {
		return nil, false
	}
	if _, err := hex.Decode(c.want[:], []byte(q.token)); err != nil {
		return nil, false
	}
	var space [256]byte
	c.query = string(q.appendSigned(space[:0]))
	return c, true
}

// tokenForm says why a Token is none.
func tokenForm(token string) string {
	const digits = 2 * sha256.Size
	if n := utf8.RuneCountInString(token); n != digits {
		return fmt.Sprintf("The Token must be %d hexadecimal digits; this has %d.", digits, n)
	}
	return fmt.Sprintf("The Token must be %d hexadecimal digits; this has other characters.", digits)
}

// report reports whether the Token signs the report. published is false when
// nobody published what is signed of its kind: it is then accepted when any of
// the known forms fits.
func (c *tokenCheck) report(r *report.Report) (ok, published bool) {
	switch {
	case r.Kind == sluice.KindUplink && r.FCntUp != "":
		return c.uplink(r), true
	case r.Kind == sluice.KindDownlinkSent:
		return c.sent(r), true
	case r.Kind == sluice.KindLocation || r.Kind == sluice.KindNotification:
		return c.device(r), true
	}
	// Join requests (uplinks without FCntUp), multicast summaries, alarms,
	// and what is not known at all.
	return c.uplink(r) || c.sent(r) || c.device(r), false
}

func (c *tokenCheck) uplink(r *report.Report) bool {
	fPort := r.FPort
	if fPort == "" {
		fPort = "0"
	}
	return c.signs(r.CustomerID, r.Device, fPort, r.FCntUp, r.Payload)
}

func (c *tokenCheck) sent(r *report.Report) bool {
	if c.signs(r.CustomerID, r.Device, r.FPort, r.FCntDn) {
		return true
	}
	return r.FPort == "" && c.signs(r.CustomerID, r.Device, "0", r.FCntDn)
}

// device checks the form of locations and notifications. The sources disagree
// whether the DevEUI is signed as written or in lower case.
func (c *tokenCheck) device(r *report.Report) bool {
	if c.signs(r.CustomerID, r.Device) {
		return true
	}
	if lower := strings.ToLower(r.Device); lower != r.Device && c.signs(r.CustomerID, lower) {
		return true
	}
	upper := strings.ToUpper(r.Device)
	return upper != r.Device && c.signs(r.CustomerID, upper)
}

// signs compares the Token with that of some values, in constant time for
// each, with each key.
func (c *tokenCheck) signs(values ...string) bool {
	var space [512]byte
	b := space[:0]
	for _, v := range values {
		b = append(b, v...)
	}
	b = append(b, c.query...)
	end := len(b)
	found := 0
	for _, key := range c.keys {
		b = append(b[:end], key...)
		sum := sha256.Sum256(b)
		found |= subtle.ConstantTimeCompare(sum[:], c.want[:])
	}
	return found == 1
}

// sign returns the Token of a downlink.
// Source: actility/thingpark-integrations, curl and Python samples.
func sign(query, key string) string {
	sum := sha256.Sum256([]byte(query + key))
	return hex.EncodeToString(sum[:])
}
