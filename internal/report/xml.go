package report

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"

	"github.com/tidwall/gjson"
)

// Bounds of an XML document. ThingPark's nest 3 deep (report, Lrrs, Lrr,
// field) and have about 60 elements; one with many base stations some hundred.
const (
	maxXMLDepth    = 16
	maxXMLElements = 8192
)

// isXML tells XML from JSON by the first character, as content types are not
// to be relied on.
func isXML(body []byte) bool {
	body = bytes.TrimLeft(body, " \t\r\n")
	return len(body) > 0 && body[0] == '<'
}

// FromXML turns a document in ThingPark's XML form into the typed JSON that
// ThingPark sends for the same document:
//
//   - the root element is the root member; namespaces are left out;
//   - an element with elements in it becomes an object, any other a string;
//   - fields that are numbers in the typed form become numbers with the text
//     they have, unless that text is no JSON number;
//   - CustomerData and its like, whose text is a JSON object, become that object;
//   - Lrr is always an array; any other element that is repeated becomes one;
//   - attributes other than namespaces become strings named "-" and the name.
//
// Document types, and with them entities of their own, are refused.
func FromXML(body []byte) ([]byte, error) {
	root, err := readXML(body)
	if err != nil {
		return nil, err
	}
	b := make([]byte, 0, len(body))
	b = append(b, '{')
	b = appendString(b, root.name)
	b = append(b, ':')
	b = root.appendObject(b)
	return append(b, '}'), nil
}

// element is a part of an XML document.
type element struct {
	name       string
	text       []byte
	attributes []xml.Attr
	children   []*element
}

func readXML(body []byte) (*element, error) {
	d := xml.NewDecoder(bytes.NewReader(body))
	var root *element
	var open []*element
	count := 0
	for {
		token, err := d.RawToken()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, refuse("The document is not XML that can be read.")
		}
		switch t := token.(type) {
		case xml.StartElement:
			if count++; count > maxXMLElements || len(open) == maxXMLDepth {
				return nil, refuse("The XML document has too many elements or nests too deep.")
			}
			e := &element{name: t.Name.Local, attributes: t.Copy().Attr}
			switch {
			case len(open) > 0:
				parent := open[len(open)-1]
				parent.children = append(parent.children, e)
			case root != nil:
				return nil, refuse("The XML document has more than one root.")
			default:
				root = e
			}
			open = append(open, e)
		case xml.EndElement:
			// RawToken leaves it to us that tags match.
			if len(open) == 0 || open[len(open)-1].name != t.Name.Local {
				return nil, refuse("The tags of the XML document do not match.")
			}
			open = open[:len(open)-1]
		case xml.CharData:
			if len(open) > 0 {
				e := open[len(open)-1]
				e.text = append(e.text, t...)
			} else if len(bytes.TrimSpace(t)) > 0 {
				return nil, refuse("The XML document has text outside its root.")
			}
		case xml.Directive:
			return nil, refuse("The XML document has a document type, which is not allowed.")
		}
	}
	if root == nil || len(open) > 0 {
		return nil, refuse("The XML document is not complete.")
	}
	return root, nil
}

// appendObject appends an element as a JSON object.
func (e *element) appendObject(b []byte) []byte {
	b = append(b, '{')
	comma := false
	member := func(name string) {
		if comma {
			b = append(b, ',')
		}
		comma = true
		b = append(appendString(b, name), ':')
	}
	for _, a := range e.attributes {
		if a.Name.Local == "xmlns" || a.Name.Space == "xmlns" || a.Name.Space == "xsi" {
			continue
		}
		member("-" + a.Name.Local)
		b = appendString(b, a.Value)
	}
	groups := make(map[string][]*element, len(e.children))
	for _, c := range e.children {
		groups[c.name] = append(groups[c.name], c)
	}
	for _, c := range e.children {
		group, ok := groups[c.name]
		if !ok {
			continue // it went with the first of its name
		}
		delete(groups, c.name)
		member(c.name)
		if len(group) == 1 && c.name != "Lrr" {
			b = c.appendValue(b)
			continue
		}
		b = append(b, '[')
		for i, g := range group {
			if i > 0 {
				b = append(b, ',')
			}
			b = g.appendValue(b)
		}
		b = append(b, ']')
	}
	return append(b, '}')
}

// appendValue appends what an element holds.
func (e *element) appendValue(b []byte) []byte {
	if len(e.children) > 0 || e.name == "Lrr" || e.name == "Lrrs" {
		return e.appendObject(b)
	}
	trimmed := bytes.TrimSpace(e.text)
	switch {
	case isNumberField(e.name) && isNumber(trimmed):
		return append(b, trimmed...)
	case isObjectField(e.name) && isObject(trimmed):
		return append(b, trimmed...)
	}
	return appendString(b, string(e.text))
}

func isNumber(text []byte) bool {
	return len(text) > 0 && (text[0] == '-' || '0' <= text[0] && text[0] <= '9') && gjson.ValidBytes(text)
}

func isObject(text []byte) bool {
	return len(text) > 0 && text[0] == '{' && !tooDeep(text) && gjson.ValidBytes(text)
}

// isObjectField tells the fields that are JSON inside XML.
func isObjectField(name string) bool {
	switch name {
	case "CustomerData", "DriverCfg", "BaseStationData", "payload":
		return true
	}
	return false
}

// isNumberField tells the fields that are numbers in typed JSON. Others that
// look like numbers (CustomerID, payload_hex, Lrcid, Var1, AddInfo1) are
// strings there. Source: the typed samples and the syntax column of ThingPark
// X IoT Flow's documentation, "Message", and thingpark-integrations.
func isNumberField(name string) bool {
	switch name {
	case "FPort", "FCntUp", "FCntDn", "AFCntDn", "LostUplinksAS", "ADRbit", "ACKbit", "AckRequested", "MType",
		"PayloadEncryption", "Late", "LrrRSSI", "LrrSNR", "LrrESP", "SpFact", "Spfact", "Frequency", "Chain",
		"DevLrrCnt", "LrrLAT", "LrrLON", "InstantPER", "MeanPER", "TxPower", "NbTrans", "ClassBPeriodicity",
		"MaxWaitASResps", "UplinkDC", "UplinkDCSubBand", "BatteryLevel", "airtime",
		// DevEUI_location, and the location part of an uplink
		"DevLAT", "DevLON", "DevAlt", "DevLocRadius", "DevAltRadius", "DevLocDilution", "DevAltDilution",
		"DevNorthVel", "DevEastVel", "DevUlFCntUpUsed", "NwGeolocAlgo", "NwGeolocAlgoUsed", "NwGeolocTdoaOpt",
		// DevEUI_downlink_Sent, DevEUI_downlink_Rejected, DevEUI_multicast_summary
		"DeliveryStatus", "TransmissionSlot", "LrrCnt", "LrrSuccessCnt", "LrrFailedCnt",
		// DevEUI_alarm, BS_alarm
		"ID", "State", "Occurrence", "Acked",
		// DevEUI_downlink
		"Confirmed", "FlushDownlinkQueue", "RetryIneligibleGateways":
		return true
	}
	return false
}

// appendString appends text as a JSON string. Texts from XML are valid UTF-8.
func appendString(b []byte, text string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	for i := range len(text) {
		switch c := text[i]; {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c < 0x20:
			b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		default:
			b = append(b, c)
		}
	}
	return append(b, '"')
}
