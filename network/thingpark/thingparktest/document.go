package thingparktest

import (
	"encoding/binary"
	"encoding/hex"
	"math"
	"strconv"
	"strings"
	"time"

	"sluice"
)

// Form is how a document is written.
type Form int

// The forms that ThingPark offers.
const (
	Typed   Form = iota // JSON with numbers
	Untyped             // JSON in which every scalar is a string
	XML
)

func (f Form) contentType() string {
	if f == XML {
		return "application/xml"
	}
	return "application/json"
}

// Report is one report, ready to be posted.
type Report struct {
	Kind        sluice.Kind
	DevEUI      string // as the document has it, in upper case
	FCntUp      uint32
	Query       string // ThingPark's parameters, percent-encoded
	Body        []byte
	ContentType string
}

// JoinRequest is an uplink that Make makes without FCntUp. It is no kind of
// its own: its documents are DevEUI_uplink.
const JoinRequest sluice.Kind = "join request"

// Make makes the next report of a kind of device i, in a form. Uplinks and
// downlinks sent are counted.
func (f *Fleet) Make(kind sluice.Kind, form Form, i int) *Report {
	d := f.devices[i]
	d.mu.Lock()
	defer d.mu.Unlock()
	now := f.o.Clock()
	root := kind
	switch kind {
	case sluice.KindUplink:
		d.fCntUp++
	case JoinRequest:
		root = sluice.KindUplink
	case sluice.KindDownlinkSent:
		d.fCntDn++
	}
	w := &writer{form: form}
	w.begin(string(root))
	f.fields(w, kind, d, now)
	w.end(string(root))
	r := &Report{Kind: root, DevEUI: d.devEUI, FCntUp: d.fCntUp, Body: w.b, ContentType: form.contentType()}
	if kind == sluice.KindBSAlarm {
		r.DevEUI = baseStation(0)
	}
	r.Query = string(f.appendQuery(nil, kind, d, now))
	return r
}

// appendUplink appends the uplink that the device is at.
func (f *Fleet) appendUplink(b []byte, d *device, now time.Time) []byte {
	w := &writer{b: b, form: f.o.Form}
	w.begin(string(sluice.KindUplink))
	f.uplink(w, d, now)
	w.end(string(sluice.KindUplink))
	return w.b
}

// fields writes the fields of a kind. Their names and types are those of
// ThingPark X IoT Flow's documentation, "Message"; the values are invented.
func (f *Fleet) fields(w *writer, kind sluice.Kind, d *device, now time.Time) {
	switch kind {
	case sluice.KindUplink:
		f.uplink(w, d, now)
		return
	case JoinRequest:
		f.join(w, d, now)
		return
	case sluice.KindAlarm, sluice.KindBSAlarm:
		f.alarm(w, kind, d, now)
		return
	}
	w.time("Time", now)
	if kind == sluice.KindLocation {
		w.text("DevEUI", strings.ToLower(d.devEUI))
	} else {
		w.text("DevEUI", d.devEUI)
	}
	w.text("Lrcid", "00000B17")
	w.text("CustomerID", f.o.CustomerID)
	w.object("CustomerData", d.customer)
	switch kind {
	case sluice.KindDownlinkSent:
		w.whole("FPort", 7)
		w.whole("FCntDn", int64(d.fCntDn))
		w.whole("FCntUp", int64(d.fCntUp))
		w.whole("SpFact", 9)
		w.text("SubBand", "G1")
		w.text("Channel", "LC4")
		w.text("Lrrid", baseStation(1))
		w.whole("DeliveryStatus", 1)
		w.text("DeliveryFailedCause1", "00")
		w.text("DeliveryFailedCause2", "00")
		w.whole("TransmissionSlot", 1)
		w.real("Frequency", 867.3)
	case sluice.KindLocation:
		w.text("DevAddr", "0B1DFACE")
		w.text("ModelCfg", f.o.ModelCfg)
		w.real("DevLAT", 47.38217)
		w.real("DevLON", 8.54021)
		w.real("DevLocRadius", 85)
		w.whole("DevUlFCntUpUsed", int64(d.fCntUp))
	case sluice.KindNotification:
		w.text("DevAddr", "0B1DFACE")
		w.text("ModelCfg", f.o.ModelCfg)
		w.whole("FCntDn", int64(d.fCntDn))
		w.text("Type", "devstatusans")
		w.text("Var1", "214")
		w.text("Var2", "11")
	case sluice.KindMulticastSummary:
		w.whole("FPort", 7)
		w.whole("FCntDn", int64(d.fCntDn))
		w.text("TransmissionStatus", "COMPLETED")
		w.whole("LrrCnt", 5)
		w.whole("LrrSuccessCnt", 5)
		w.whole("LrrFailedCnt", 0)
	}
}

func (f *Fleet) alarm(w *writer, kind sluice.Kind, d *device, now time.Time) {
	w.whole("ID", 6)
	w.whole("State", 2)
	w.time("CreationTime", now.Add(-time.Minute))
	w.time("LastUpdateTime", now)
	w.whole("Occurrence", 3)
	w.whole("Acked", 0)
	w.text("AddInfo1", "42")
	w.text("CustomerID", f.o.CustomerID)
	if kind == sluice.KindBSAlarm {
		w.text("LrrID", baseStation(0))
		w.text("PartnerID", "sluice-np")
		w.object("BaseStationData", `{"doms":[{"n":"North","g":"Area"}],"name":"Roof of the mill"}`)
		return
	}
	w.text("DevEUI", d.devEUI)
	w.object("CustomerData", d.customer)
}

func (f *Fleet) join(w *writer, d *device, now time.Time) {
	w.time("Time", now)
	w.text("DevEUI", d.devEUI)
	w.text("rawJoinRequest", "00"+strings.Repeat("A7", 16)+"01C25D0E9F31")
	w.text("Lrrid", baseStation(0))
	w.whole("Chain", 0)
	w.text("Channel", "LC2")
	w.whole("Spfact", 10)
	w.text("SubBand", "G0")
	w.whole("MType", 0)
	w.text("mic_hex", "5d0e9f31")
	w.real("airtime", 0.411648)
	w.whole("Late", 0)
	w.text("CustomerID", f.o.CustomerID)
	w.object("CustomerData", d.customer)
	w.text("ModelCfg", f.o.ModelCfg)
}

// uplink is what varies from one uplink to the next, drawn from device and
// counter so that a report can be made again.
type uplink struct {
	draw   uint64
	fCntUp uint32
}

func uplinkOf(d *device) uplink {
	x := d.number*0x9E3779B97F4A7C15 + uint64(d.fCntUp)*0xBF58476D1CE4E5B9
	x ^= x >> 31
	x *= 0x94D049BB133111EB
	return uplink{draw: x ^ x>>29, fCntUp: d.fCntUp}
}

// appendPayload appends 12 bytes in hexadecimal digits: the counter and what
// was "measured".
func (u uplink) appendPayload(b []byte) []byte {
	var p [12]byte
	binary.BigEndian.PutUint32(p[:], u.fCntUp)
	binary.BigEndian.PutUint64(p[4:], u.draw)
	return hex.AppendEncode(b, p[:])
}

func (u uplink) appendMIC(b []byte) []byte {
	var m [4]byte
	binary.BigEndian.PutUint32(m[:], uint32(u.draw>>32)^0x5A5A5A5A)
	return hex.AppendEncode(b, m[:])
}

// radio returns how base station i heard the frame.
func (u uplink) radio(i int) (rssi, snr, esp float64) {
	x := u.draw >> (8 * i)
	rssi = -float64(58 + x%60)
	snr = float64(int64(x>>3%80))/4 - 8
	return rssi, snr, rssi + snr - 10*math.Log10(1+math.Pow(10, snr/10))
}

func (f *Fleet) uplink(w *writer, d *device, now time.Time) {
	u := uplinkOf(d)
	stations := 1 + int(u.draw%3)
	rssi, snr, esp := u.radio(0)
	w.time("Time", now)
	w.text("DevEUI", d.devEUI)
	w.text("DevAddr", d.devEUI[8:])
	w.whole("FPort", 7)
	w.whole("FCntUp", int64(u.fCntUp))
	w.whole("LostUplinksAS", 0)
	w.whole("ADRbit", 1)
	w.whole("ACKbit", 0)
	w.whole("AckRequested", 0)
	w.whole("MType", 2)
	w.whole("FCntDn", int64(d.fCntDn))
	w.bytes("payload_hex", u.appendPayload(w.space[:0]))
	w.whole("PayloadEncryption", 0)
	w.bytes("mic_hex", u.appendMIC(w.space[:0]))
	w.text("Lrcid", "00000B17")
	w.real("LrrRSSI", rssi)
	w.real("LrrSNR", snr)
	w.real("LrrESP", esp)
	w.whole("SpFact", 7+int64(u.draw>>5%6))
	w.text("SubBand", "G1")
	w.text("Channel", "LC4")
	w.whole("DevLrrCnt", int64(stations))
	w.text("Lrrid", baseStation(0))
	w.whole("Late", 0)
	w.real("LrrLAT", 47.378123)
	w.real("LrrLON", 8.540017)
	w.begin("Lrrs")
	w.beginList("Lrr")
	for i := range stations {
		rssi, snr, esp := u.radio(i)
		w.beginItem("Lrr")
		w.text("Lrrid", baseStation(i))
		w.whole("Chain", 0)
		w.real("LrrRSSI", rssi)
		w.real("LrrSNR", snr)
		w.real("LrrESP", esp)
		w.endItem("Lrr")
	}
	w.endList()
	w.end("Lrrs")
	w.text("CustomerID", f.o.CustomerID)
	w.object("CustomerData", d.customer)
	w.object("BaseStationData", `{"doms":[{"n":"North","g":"Area"}],"name":"Roof of the mill"}`)
	w.text("ModelCfg", f.o.ModelCfg)
	w.object("DriverCfg", `{"mod":{"pId":"sluice","mId":"weather","ver":"1"},"app":{"pId":"sluice","mId":"weather","ver":"1"}}`)
	w.real("InstantPER", 0)
	w.real("MeanPER", 0.002137)
	w.real("TxPower", 14)
	w.whole("NbTrans", 1)
	w.real("Frequency", 867.3)
	w.text("DynamicClass", "A")
	w.whole("MaxWaitASResps", 0)
	w.whole("BatteryLevel", 214)
	w.time("BatteryTime", now.Add(-time.Hour))
}

// customer makes the CustomerData of a device.
func customer(devEUI string, tags []string) string {
	var b strings.Builder
	b.WriteString(`{"loc":{"lat":"47.3769","lon":"8.5417"},"alr":{"pro":"SLUICE/WEATHER","ver":"1"},"tags":[`)
	for i, tag := range tags {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.Quote(tag))
	}
	return b.String() + `],"name":"Station ` + devEUI[8:] + `"}`
}

// baseStation is the LrrID of one of three base stations that exist nowhere
// else.
func baseStation(i int) string {
	return [...]string{"5E000010", "5E000011", "5E000012"}[i]
}
