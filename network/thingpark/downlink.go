package thingpark

import (
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/tidwall/gjson"

	"sluice"
	"sluice/internal/report"
)

// downlink is a command as a list of query parameters, in the order in which
// they are signed and sent.
type downlink struct {
	names, values []string
	err           error
}

func (d *downlink) add(name, value string) {
	d.names = append(d.names, name)
	d.values = append(d.values, value)
}

// signed is the query as it is signed: not encoded.
func (d *downlink) signed() string {
	var b strings.Builder
	for i, name := range d.names {
		if i > 0 {
			b.WriteByte('&')
		}
		b.WriteString(name)
		b.WriteByte('=')
		b.WriteString(d.values[i])
	}
	return b.String()
}

// encoded is the query as it is sent.
func (d *downlink) encoded() string {
	b := make([]byte, 0, 512)
	for i, name := range d.names {
		if i > 0 {
			b = append(b, '&')
		}
		b = append(b, name...)
		b = append(b, '=')
		b = appendEscaped(b, d.values[i])
	}
	return string(b)
}

// timeLayout is how Actility's samples write the Time of a downlink.
const timeLayout = "2006-01-02T15:04:05.000-07:00"

// newDownlink makes the request for a command, signed when there is a key. The
// order is that of Actility's samples; they are silent on FCntDn and AFCntDn,
// which follow FPort as in clients in the field, and on
// RetryIneligibleGateways. The token covers the parameters in the order sent.
func newDownlink(m *sluice.Message, c sluice.Credentials, now time.Time) (*downlink, error) {
	doc := gjson.GetBytes(m.Document, string(sluice.KindDownlink))
	if !gjson.ValidBytes(m.Document) || !doc.IsObject() {
		return nil, failMalformed("The command is not a DevEUI_downlink document.")
	}
	if m.DevEUI == "" {
		return nil, failMalformed("The downlink names no device.")
	}
	d := &downlink{}
	d.add("DevEUI", m.DevEUI)
	d.addPort(doc.Get("FPort"))
	d.addCounter("FCntDn", doc.Get("FCntDn"))
	d.addCounter("AFCntDn", doc.Get("AFCntDn"))
	d.addPayload(doc.Get("payload_hex"), doc.Get("payload"))
	// Options are left out rather than sent as 0, except the one whose
	// default is 1.
	d.addFlag("Confirmed", doc.Get("Confirmed"), "1")
	d.addFlag("FlushDownlinkQueue", doc.Get("FlushDownlinkQueue"), "1")
	d.addValidity(doc.Get("ValidityTime"), m.Received, now)
	d.addFlag("RetryIneligibleGateways", doc.Get("RetryIneligibleGateways"), "0")
	signed := c.ASID != "" && c.ASKey != ""
	if signed {
		d.add("AS_ID", c.ASID)
		d.add("Time", now.Format(timeLayout))
	}
	if id := text(doc.Get("CorrelationID")); id != "" {
		d.add("CorrelationID", id)
	}
	if d.err != nil {
		return nil, d.err
	}
	if signed {
		d.add("Token", sign(d.signed(), c.ASKey))
	}
	return d, nil
}

// fail keeps the first thing that is wrong.
func (d *downlink) fail(err error) {
	if d.err == nil {
		d.err = err
	}
}

func (d *downlink) addPort(v gjson.Result) {
	port, err := strconv.Atoi(text(v))
	switch {
	case text(v) == "":
		d.fail(failMalformed("The downlink has no FPort."))
	case err != nil || port < 1 || port > 224:
		d.fail(failMalformed("The FPort of the downlink is not a number from 1 to 224."))
	}
	d.add("FPort", strconv.Itoa(port))
}

// addCounter adds the counter that the application encrypted the payload with.
func (d *downlink) addCounter(name string, v gjson.Result) {
	s := text(v)
	if s == "" {
		return
	}
	if _, err := strconv.ParseUint(s, 10, 32); err != nil {
		d.fail(failMalformed("The " + name + " of the downlink is not a 32-bit number."))
	}
	d.add(name, s)
}

func (d *downlink) addPayload(hex, payload gjson.Result) {
	hasPayload := payload.Exists() && payload.Type != gjson.Null
	switch {
	case hex.Type == gjson.String && hasPayload:
		d.fail(failMalformed("The downlink has both payload_hex and payload; it must have one of them."))
	case hex.Type == gjson.String || hex.Type == gjson.Number:
		// A number is the text of an untidy sender's payload, such as 10.
		s := text(hex)
		if len(s)%2 != 0 || !isHex(s) {
			d.fail(failMalformed("The payload_hex of the downlink is not an even number of hexadecimal digits."))
		}
		d.add("Payload", s)
	case hasPayload:
		d.fail(&sluice.Failure{
			Verdict: sluice.Permanent, Reason: sluice.ReasonMalformed,
			Message: "The downlink has a payload of fields, which no driver has encoded.", Hint: "Send the bytes as payload_hex.",
		})
	default:
		d.fail(failMalformed("The downlink has no payload_hex."))
	}
}

// addFlag adds an option that is on or off, when it is not the default: only
// says which value is sent.
func (d *downlink) addFlag(name string, v gjson.Result, only string) {
	var value string
	switch strings.ToLower(text(v)) {
	case "":
		return
	case "0", "false":
		value = "0"
	case "1", "true":
		value = "1"
	default:
		d.fail(failMalformed("The " + name + " of the downlink is neither 0 nor 1."))
	}
	if value == only {
		d.add(name, value)
	}
}

// addValidity adds until when the downlink may wait in ThingPark's queue: a
// date, as it was written, or seconds. ThingPark counts seconds from when it
// takes the downlink, the application from when it sent the command, so what
// the command has waited here is taken off.
func (d *downlink) addValidity(v gjson.Result, received, now time.Time) {
	s := text(v)
	if received.IsZero() {
		received = now
	}
	until, ok := report.ValidUntil(s, received)
	switch {
	case !ok:
		d.fail(failMalformed("The ValidityTime of the downlink is neither a date nor a number of seconds."))
	case until.IsZero():
		return
	case !now.Before(until):
		d.fail(failExpired())
	}
	if _, err := strconv.ParseUint(s, 10, 32); err == nil {
		rest := min(until.Sub(now), until.Sub(received)) // the clock may have been set back
		s = strconv.FormatInt(int64((rest+time.Second-1)/time.Second), 10)
	}
	d.add("ValidityTime", s)
}

// credentials are those of the command, or the network's, field by field.
func (n *Network) credentials(m *sluice.Message) (sluice.Credentials, error) {
	own := sluice.Credentials{ASID: n.config.asID, ASKey: n.config.asKey()}
	if len(m.Credentials) == 0 {
		return own, nil
	}
	c, err := openCredentials(n.sealer, m.Credentials)
	if err != nil {
		return c, &sluice.Failure{
			Verdict: sluice.Permanent, Reason: sluice.ReasonConfiguration,
			Message: "The AS_ID and AS_KEY that came with the downlink cannot be opened.", Hint: "Send the downlink again.", Err: err,
		}
	}
	if c.ASID == "" {
		c.ASID = own.ASID
	}
	if c.ASKey == "" {
		c.ASKey = own.ASKey
	}
	return c, nil
}

// openCredentials opens sealed credentials. Its errors hold nothing of what
// was sealed.
func openCredentials(sealer sluice.Sealer, sealed []byte) (c sluice.Credentials, err error) {
	if sealer == nil {
		return c, errors.New("there is no key to open them with")
	}
	clear, err := sealer.Open(sealed)
	if err != nil {
		return c, err
	}
	if json.Unmarshal(clear, &c) != nil {
		return sluice.Credentials{}, errors.New("what was sealed is not a pair of AS_ID and AS_KEY")
	}
	return c, nil
}

// text is the text of a scalar, as written; "" for null and for what is none.
func text(v gjson.Result) string {
	switch v.Type {
	case gjson.String:
		return strings.TrimSpace(v.Str)
	case gjson.Number, gjson.True, gjson.False:
		return v.Raw
	}
	return ""
}

func isHex(s string) bool {
	for i := range len(s) {
		if _, ok := nibble(s[i]); !ok {
			return false
		}
	}
	return true
}

func failMalformed(message string) *sluice.Failure {
	return &sluice.Failure{Verdict: sluice.Permanent, Reason: sluice.ReasonMalformed, Message: message}
}

func failExpired() *sluice.Failure {
	return &sluice.Failure{Verdict: sluice.Expired, Reason: sluice.ReasonExpired, Message: "The ValidityTime of the downlink has passed."}
}
