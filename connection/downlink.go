package connection

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/tidwall/gjson"

	"sluice"
	"sluice/internal/report"
)

const (
	// maxFPort is the highest port that is an application's. Source: LoRaWAN
	// 1.0.4, 4.3.2 "Port field".
	maxFPort = 224
	// maxPayload is the longest application payload that any LoRaWAN data rate
	// carries. Source: LoRaWAN Regional Parameters RP002.
	maxPayload = 242
)

// downlink is a command that has been read.
type downlink struct {
	devEUI      string
	source      string              // where it came from, for people
	credentials *sluice.Credentials // nil: the network's own
	correlated  bool                // it has a CorrelationID
	fingerprint string              // knows its redelivery again; "": it has none
	validity    string              // ValidityTime as written; "": no limit
	// document is the command's, without AS_ID and AS_KEY, with FPort and
	// DevEUI. Where nothing had to change it is what came.
	document []byte
}

// downlinkFields returns the fields of a DevEUI_downlink document, which may
// be XML, and the document as JSON; false when it is another document, or none.
func downlinkFields(document []byte) (fields gjson.Result, asJSON []byte, ok bool) {
	document = bytes.TrimPrefix(document, []byte("\ufeff"))
	if trimmed := bytes.TrimLeft(document, " \t\r\n"); len(trimmed) > 0 && trimmed[0] == '<' {
		converted, err := report.FromXML(document)
		if err != nil {
			return fields, nil, false
		}
		document = converted
	}
	if !gjson.ValidBytes(document) {
		return fields, nil, false
	}
	fields = gjson.GetBytes(document, string(sluice.KindDownlink))
	return fields, document, fields.IsObject()
}

// readDownlink reads the fields of a command. topicEUI is the device that the
// topic names, "" when it names none. All that is wrong is returned at once.
func readDownlink(document []byte, fields gjson.Result, topicEUI string, common sluice.Common) (*downlink, []sluice.Problem) {
	r := downlinkReader{fields: fields}
	d := &downlink{devEUI: r.device(topicEUI), correlated: r.text("CorrelationID") != "", validity: r.text("ValidityTime")}
	port, hasPort := r.port(common.DownlinkPort)
	r.payload()
	for _, name := range []string{"Confirmed", "FlushDownlinkQueue", "RetryIneligibleGateways"} {
		r.flag(name)
	}
	for _, name := range []string{"FCntDn", "AFCntDn"} {
		r.counter(name)
	}
	for _, name := range []string{"ValidityTime", "CorrelationID", "AS_ID", "AS_KEY"} {
		r.scalar(name)
	}
	if _, ok := report.ValidUntil(d.validity, time.Time{}); !ok {
		r.problem("ValidityTime", "%q is neither a number of seconds nor an ISO date such as 2026-03-01T10:00:00Z.", clip(d.validity))
	}
	if _, err := report.Parse(document); err != nil && len(r.problems) == 0 {
		// Two roots, a field that stands there twice: what two readers could
		// take differently.
		r.problem("", "%s", message(err))
	}
	if len(r.problems) > 0 {
		return d, r.problems
	}
	c := sluice.Credentials{ASID: first(r.text("AS_ID"), common.DownlinkASID), ASKey: first(r.text("AS_KEY"), common.DownlinkASKey)}
	if c != (sluice.Credentials{}) {
		d.credentials = &c
	}
	d.document = document
	additions := map[string]string{}
	if !hasPort {
		additions["FPort"] = strconv.Itoa(port)
	}
	if r.text("DevEUI") == "" {
		additions["DevEUI"] = `"` + d.devEUI + `"`
	}
	if len(additions) > 0 || fields.Get("AS_ID").Exists() || fields.Get("AS_KEY").Exists() {
		d.document = rewrite(fields, additions)
	}
	return d, nil
}

// rewrite makes the document anew, without the credentials, wherever they
// stand in it, and with the additions in place of what was missing or null.
// The text of every other member stays as it is.
func rewrite(fields gjson.Result, additions map[string]string) []byte {
	var out bytes.Buffer
	out.WriteString(`{"` + string(sluice.KindDownlink) + `":{`)
	n := 0
	member := func(key, value string) {
		if n++; n > 1 {
			out.WriteByte(',')
		}
		out.WriteString(key + ":" + value)
	}
	fields.ForEach(func(key, value gjson.Result) bool {
		if _, replaced := additions[key.Str]; replaced || key.Str == "AS_ID" || key.Str == "AS_KEY" {
			return true
		}
		member(key.Raw, value.Raw)
		return true
	})
	for _, name := range []string{"DevEUI", "FPort"} {
		if value, ok := additions[name]; ok {
			member(`"`+name+`"`, value)
		}
	}
	out.WriteString("}}")
	return out.Bytes()
}

// downlinkReader checks the fields of a command and collects what is wrong.
type downlinkReader struct {
	fields   gjson.Result
	problems []sluice.Problem
}

func (r *downlinkReader) problem(name, format string, args ...any) {
	path := string(sluice.KindDownlink)
	if name != "" {
		path += "." + name
	}
	r.problems = append(r.problems, sluice.Problem{Path: path, Message: fmt.Sprintf(format, args...)})
}

// text is the text of a field, number or string; "" when it is missing, null
// or no scalar.
func (r *downlinkReader) text(name string) string { return scalarText(r.fields.Get(name)) }

func (r *downlinkReader) has(name string) bool {
	v := r.fields.Get(name)
	return v.Exists() && v.Type != gjson.Null
}

// device returns the DevEUI in Sluice's form, from the document or else from
// the topic.
func (r *downlinkReader) device(topicEUI string) string {
	written := r.text("DevEUI")
	if written == "" {
		if r.has("DevEUI") {
			r.problem("DevEUI", "It is empty or no text.")
		} else if topicEUI == "" {
			r.problem("DevEUI", "It is missing, and the topic names no device either.")
		}
		return strings.ToUpper(topicEUI)
	}
	eui, ok := report.DevEUI(written)
	if !ok {
		r.problem("DevEUI", "%q is not 16 hexadecimal digits.", clip(written))
		return ""
	}
	if topicEUI != "" && !strings.EqualFold(eui, topicEUI) {
		r.problem("DevEUI", "The document is for device %s, but its topic for %s.", eui, clip(topicEUI))
		return ""
	}
	return eui
}

// port returns the port; false when it is the connection's and not the
// document's.
func (r *downlinkReader) port(fallback int) (int, bool) {
	if !r.has("FPort") {
		if fallback == 0 {
			r.problem("FPort", "It is missing, and the connection has no downlinkPort.")
		}
		return fallback, false
	}
	port, ok := wholeNumber(r.fields.Get("FPort"))
	if !ok || port < 1 || port > maxFPort {
		r.problem("FPort", "It must be a whole number from 1 to %d.", maxFPort)
	}
	return int(port), true
}

func (r *downlinkReader) payload() {
	hex := r.text("payload_hex")
	switch {
	case r.has("payload_hex") && r.has("payload"):
		r.problem("payload", "There is payload_hex too; a downlink has one of them.")
	case r.has("payload"):
		r.problem("payload", "Fields cannot be encoded yet, there are no drivers; send the bytes as payload_hex.")
	case !r.has("payload_hex"):
		r.problem("payload_hex", "It is missing: the bytes to send, in hexadecimal.")
	case hex == "" && r.fields.Get("payload_hex").Type != gjson.String || !isHex(hex) || len(hex)%2 != 0:
		r.problem("payload_hex", "It must be an even number of hexadecimal digits.")
	case len(hex) > 2*maxPayload:
		r.problem("payload_hex", "It has %d bytes; LoRaWAN carries at most %d.", len(hex)/2, maxPayload)
	}
}

func (r *downlinkReader) flag(name string) {
	if !r.has(name) {
		return
	}
	switch strings.ToLower(r.text(name)) {
	case "0", "1", "true", "false":
	default:
		r.problem(name, "It must be 0 or 1.")
	}
}

func (r *downlinkReader) counter(name string) {
	if !r.has(name) {
		return
	}
	if n, ok := wholeNumber(r.fields.Get(name)); !ok || n < 0 || n > 1<<32-1 {
		r.problem(name, "It must be a whole number from 0 to %d.", uint32(1<<32-1))
	}
}

func (r *downlinkReader) scalar(name string) {
	switch v := r.fields.Get(name); v.Type {
	case gjson.JSON, gjson.True, gjson.False:
		r.problem(name, "It must be a text or a number.")
	case gjson.Null, gjson.String, gjson.Number:
	}
}

// wholeNumber reads a number that may be written as a string.
func wholeNumber(v gjson.Result) (int64, bool) {
	n, err := strconv.ParseInt(scalarText(v), 10, 64)
	return n, err == nil
}

func scalarText(v gjson.Result) string {
	switch v.Type {
	case gjson.String:
		return strings.TrimSpace(v.Str)
	case gjson.Number, gjson.True, gjson.False:
		return v.Raw
	case gjson.Null, gjson.JSON:
	}
	return ""
}

func isHex(s string) bool {
	for i := range len(s) {
		c := s[i] | 0x20
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

func first(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// clip shortens what came from outside for a sentence.
func clip(s string) string {
	const most = 40
	if len(s) > most {
		return s[:most] + "..."
	}
	return s
}

// sealed are the credentials for the journal.
func (d *downlink) sealed(sealer sluice.Sealer) ([]byte, error) {
	if d.credentials == nil {
		return nil, nil
	}
	clear, err := json.Marshal(d.credentials)
	if err != nil {
		return nil, err
	}
	return sealer.Seal(clear)
}
