package load

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strconv"
	"time"

	"sluice"
	"sluice/bench/ledger"
	"sluice/network/thingpark/thingparktest"
)

// The application server that signs the reports, and who they belong to.
const (
	ASID       = "TWA_100009731.1.AS"
	ASKey      = "0f1e2d3c4b5a69788796a5b4c3d2e1f0"
	customerID = "100009731"
)

// FirstDevEUI is the DevEUI of device 0; the others follow.
const FirstDevEUI = 0x0251C0DE00000001

const timeLayout = "2006-01-02T15:04:05.000-07:00"

// document is the report of a device, which is changed in place from one
// posting to the next: counter, time, payload. The payload holds the counter
// and the time of posting, by which the sink knows it again (see [Read]).
type document struct {
	number uint64
	devEUI string
	fCnt   uint32
	body   []byte
	query  []byte

	atTime, atFCnt, atPayload int
}

// newDocuments makes the reports of devices [first, first+n) out of those of a
// thingparktest.Fleet.
func newDocuments(first, n int, tags []string) ([]*document, error) {
	fleet, err := thingparktest.NewFleet(thingparktest.FleetOptions{
		URL: "http://127.0.0.1/", Devices: n, First: FirstDevEUI + uint64(first), CustomerID: customerID, Tags: tags,
	})
	if err != nil {
		return nil, err
	}
	all := make([]*document, n)
	for i := range all {
		r := fleet.Make(sluice.KindUplink, thingparktest.Typed, i)
		d := &document{number: FirstDevEUI + uint64(first+i), devEUI: r.DevEUI, fCnt: ledger.FirstFCnt - 1}
		d.body = bytes.Replace(r.Body, []byte(`"FCntUp":1,`), fmt.Appendf(nil, `"FCntUp":%d,`, ledger.FirstFCnt), 1)
		for _, f := range []struct {
			name string
			at   *int
		}{{`"Time":"`, &d.atTime}, {`"FCntUp":`, &d.atFCnt}, {`"payload_hex":"`, &d.atPayload}} {
			at := bytes.Index(d.body, []byte(f.name))
			if at < 0 {
				return nil, fmt.Errorf("the simulated ThingPark's report has no %s", f.name)
			}
			*f.at = at + len(f.name)
		}
		all[i] = d
	}
	return all, nil
}

// next makes the next report, posted at now.
func (d *document) next(now time.Time) {
	d.fCnt++
	var moment [len(timeLayout)]byte
	clock := now.UTC().AppendFormat(moment[:0], timeLayout)
	copy(d.body[d.atTime:], clock)
	strconv.AppendUint(d.body[:d.atFCnt], uint64(d.fCnt), 10)
	payload := d.body[d.atPayload : d.atPayload+24]
	var b [12]byte
	binary.BigEndian.PutUint32(b[:], d.fCnt)
	binary.BigEndian.PutUint64(b[4:], uint64(now.UnixNano()))
	hex.Encode(payload, b[:])
	d.sign(clock, payload)
}

// sign makes the parameters of the address, signed as ThingPark signs them:
// see thingparktest, whose form this is.
func (d *document) sign(clock, payload []byte) {
	q := append(d.query[:0], "LrnDevEui="...)
	q = append(q, d.devEUI...)
	q = append(q, "&LrnFPort=7&LrnInfos=SLUICE_LAB-1-"...)
	q = strconv.AppendUint(q, uint64(d.fCnt), 10)
	q = append(q, "&AS_ID="+ASID+"&Time="...)

	var space [512]byte
	text := append(space[:0], customerID...)
	text = append(text, d.devEUI...)
	text = append(text, '7')
	text = strconv.AppendUint(text, uint64(d.fCnt), 10)
	text = append(text, payload...)
	text = append(text, q...)
	text = append(text, clock...)
	sum := sha256.Sum256(append(text, ASKey...))

	for _, c := range clock {
		switch c {
		case ':':
			q = append(q, "%3A"...)
		case '+':
			q = append(q, "%2B"...)
		default:
			q = append(q, c)
		}
	}
	d.query = hex.AppendEncode(append(q, "&Token="...), sum[:])
}

// Read finds in a report that arrived which it is and when it was posted.
func Read(body []byte) (devEUI uint64, fCnt uint32, posted time.Time, ok bool) {
	var eui [8]byte
	var payload [12]byte
	rest, ok := after(body, `"DevEUI":"`)
	if !ok || len(rest) < 16 {
		return 0, 0, time.Time{}, false
	}
	if _, err := hex.Decode(eui[:], rest[:16]); err != nil {
		return 0, 0, time.Time{}, false
	}
	if rest, ok = after(rest, `"payload_hex":"`); !ok || len(rest) < 24 {
		return 0, 0, time.Time{}, false
	}
	if _, err := hex.Decode(payload[:], rest[:24]); err != nil {
		return 0, 0, time.Time{}, false
	}
	posted = time.Unix(0, int64(binary.BigEndian.Uint64(payload[4:])))
	return binary.BigEndian.Uint64(eui[:]), binary.BigEndian.Uint32(payload[:]), posted, true
}

func after(b []byte, name string) ([]byte, bool) {
	at := bytes.Index(b, []byte(name))
	if at < 0 {
		return nil, false
	}
	return b[at+len(name):], true
}
