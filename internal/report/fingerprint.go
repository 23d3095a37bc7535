package report

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"strings"
	"time"

	"sluice"
)

// Fingerprint is equal for two copies of one report and differs for any two
// others, as far as 128 bits can say: 22 characters. Copies are of the same
// device and kind, and have the same FCntUp, payload and MIC (Time where there
// is no MIC); a report without an FCntUp is a copy only when the whole document
// is. Copies are of the same network too, except uplinks with FCntUp, payload
// and MIC: those name one frame on the air, whichever network heard it.
func (r *Report) Fingerprint(network string, document []byte) string {
	var space [512]byte
	b := space[:0]
	if r.namesFrame() {
		// Servers write the hexadecimal digits in the case that they like.
		b = appendField(b, "")
		b = appendField(b, r.DevEUI)
		b = appendField(b, r.FCntUp)
		b = appendField(b, strings.ToLower(r.Payload))
		b = appendField(b, strings.ToLower(r.MIC))
		return printOf(b)
	}
	b = appendField(b, network)
	b = appendField(b, r.DevEUI)
	b = appendField(b, string(r.Kind))
	b = appendField(b, r.FCntUp)
	switch {
	case r.FCntUp == "":
		b = append(b, document...)
	case r.MIC != "":
		b = appendField(b, r.Payload)
		b = appendField(b, r.MIC)
	default:
		b = appendField(b, r.Payload)
		b = appendField(b, "")
		b = appendField(b, r.momentText())
	}
	return printOf(b)
}

// namesFrame reports whether the report says enough to know its frame again in
// what another network reports. The MIC, which is over the frame, its counter
// and the keys of the session, sets apart what a device sends with the same
// counter after it has joined anew.
func (r *Report) namesFrame() bool {
	return r.Kind == sluice.KindUplink && r.FCntUp != "" && r.Payload != "" && r.MIC != ""
}

func printOf(b []byte) string {
	sum := sha256.Sum256(b)
	return base64.RawURLEncoding.EncodeToString(sum[:16])
}

// momentText is Time in one form for all ways of writing it.
func (r *Report) momentText() string {
	if r.Time.IsZero() {
		return r.timeText
	}
	return r.Time.UTC().Format(time.RFC3339Nano)
}

// appendField appends a text with its length before it, so that no two lists
// of texts give the same bytes.
func appendField(b []byte, text string) []byte {
	b = binary.AppendUvarint(b, uint64(len(text)))
	return append(b, text...)
}
