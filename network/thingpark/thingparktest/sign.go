package thingparktest

import (
	"crypto/sha256"
	"encoding/hex"
	"net/url"
	"strconv"
	"strings"
	"time"

	"sluice"
)

const timeLayout = "2006-01-02T15:04:05.000-07:00"

// appendQuery appends the parameters of a report, percent-encoded and signed:
// the Token is the SHA-256 of some fields of the body, the parameters before
// it as they are before encoding, and the key. Source:
// actility/thingpark-integrations, "LRC to AS tunnel".
func (f *Fleet) appendQuery(b []byte, kind sluice.Kind, d *device, now time.Time) []byte {
	device, port := d.devEUI, "7"
	switch kind {
	case sluice.KindLocation:
		device, port = strings.ToLower(device), "0"
	case sluice.KindNotification, JoinRequest, sluice.KindAlarm:
		port = "0"
	case sluice.KindBSAlarm:
		device, port = baseStation(0), "0"
	}
	plain := append(b, "LrnDevEui="...)
	plain = append(plain, device...)
	plain = append(append(plain, "&LrnFPort="...), port...)
	plain = strconv.AppendUint(append(plain, "&LrnInfos=SLUICE_LAB-1-"...), uint64(d.fCntUp), 10)
	if f.o.ASKey == "" {
		return plain
	}
	encoded := plain
	plain = append(append(plain, "&AS_ID="...), f.o.ASID...)
	plain = append(plain, "&Time="...)
	plain = now.AppendFormat(plain, timeLayout)

	var space [512]byte
	text := append(space[:0], f.o.CustomerID...)
	text = append(text, device...)
	switch kind {
	case sluice.KindUplink:
		text = append(text, port...)
		text = strconv.AppendUint(text, uint64(d.fCntUp), 10)
		text = uplinkOf(d).appendPayload(text)
	case sluice.KindDownlinkSent:
		text = append(text, port...)
		text = strconv.AppendUint(text, uint64(d.fCntDn), 10)
	}
	text = append(append(text, plain[len(b):]...), f.o.ASKey...)
	sum := sha256.Sum256(text)

	// Only what follows needs encoding; it is written over the plain text.
	encoded = append(append(encoded, "&AS_ID="...), url.QueryEscape(f.o.ASID)...)
	encoded = append(encoded, "&Time="...)
	var moment [32]byte
	for _, c := range now.AppendFormat(moment[:0], timeLayout) {
		switch c {
		case ':':
			encoded = append(encoded, "%3A"...)
		case '+':
			encoded = append(encoded, "%2B"...)
		default:
			encoded = append(encoded, c)
		}
	}
	return hex.AppendEncode(append(encoded, "&Token="...), sum[:])
}
