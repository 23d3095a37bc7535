package thingparktest

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"strings"
	"time"

	"sluice"
)

// appendQuery appends the parameters of a report, percent-encoded and signed:
// the Token is the SHA-256 of some fields of the body, the parameters before
// it as they are before encoding, and the key. Source:
// actility/thingpark-integrations, "LRC to AS tunnel".
func (f *Fleet) appendQuery(b []byte, kind sluice.Kind, d *device, now time.Time, payload string) []byte {
	device, port := d.devEUI, "7"
	switch kind {
	case sluice.KindLocation:
		device, port = strings.ToLower(device), "0"
	case sluice.KindNotification, JoinRequest, sluice.KindAlarm:
		port = "0"
	case sluice.KindBSAlarm:
		device, port = baseStation(0), "0"
	}
	infos := "SLUICE_LAB-1-" + strconv.FormatUint(uint64(d.fCntUp), 10)
	plain := append(b, "LrnDevEui="...)
	plain = append(plain, device...)
	plain = append(append(plain, "&LrnFPort="...), port...)
	plain = append(append(plain, "&LrnInfos="...), infos...)
	if f.o.ASKey == "" {
		return plain
	}
	// What needs encoding is only in what follows.
	begin := len(plain)
	plain = append(append(plain, "&AS_ID="...), f.o.ASID...)
	plain = append(plain, "&Time="...)
	plain = now.AppendFormat(plain, "2006-01-02T15:04:05.000-07:00")

	var space [512]byte
	text := append(space[:0], f.o.CustomerID...)
	text = append(text, device...)
	switch kind {
	case sluice.KindUplink:
		text = append(text, port...)
		text = strconv.AppendUint(text, uint64(d.fCntUp), 10)
		text = append(text, payload...)
	case sluice.KindDownlinkSent:
		text = append(text, port...)
		text = strconv.AppendUint(text, uint64(d.fCntDn), 10)
	}
	text = append(append(text, plain[len(b):]...), f.o.ASKey...)
	sum := sha256.Sum256(text)

	tail := strings.NewReplacer("+", "%2B", ":", "%3A", " ", "%20", "#", "%23", "%", "%25").Replace(string(plain[begin:]))
	b = append(plain[:begin], tail...)
	b = append(b, "&Token="...)
	return hex.AppendEncode(b, sum[:])
}
