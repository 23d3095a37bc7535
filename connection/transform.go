package connection

import (
	"bytes"
	"strings"
	"time"

	"github.com/tidwall/gjson"
	"github.com/tidwall/sjson"
	"golang.org/x/time/rate"

	"sluice"
)

// settings are what deliveries and commands need of a connection apart from
// its sessions. They never change; a new value takes the place of the old.
type settings struct {
	connectorID string
	name        string // of the connection, for people
	common      sluice.Common
	validity    time.Duration // 0: no limit
	redelivery  time.Duration // of commands
	limiter     *rate.Limiter // nil: no limit
	downlinkURL string        // "": not put into uplinks
	strategy    strategy
}

// newSettings reads the settings of a connection. old is what was in force, or
// nil: a limiter whose rate did not change is kept, with what it has counted.
func newSettings(c sluice.Connection, common sluice.Common, publicURL string, old *settings) *settings {
	s := &settings{connectorID: c.ConnectorID, name: clip(c.Name), common: common, strategy: strategyOf(common.ReconnectStrategy)}
	if d, err := parseValidity(common.UplinkTimeValidity); err == nil {
		s.validity = d
	}
	if d, err := parseRedelivery(common.DownlinkRedelivery); err == nil {
		s.redelivery = d
	}
	if publicURL != "" && c.DownlinkID != "" {
		s.downlinkURL = publicURL + "/downlinkMessages/" + c.DownlinkID
	}
	if n := common.UplinkRateLimiter; n > 0 {
		if old != nil && old.limiter != nil && old.common.UplinkRateLimiter == n {
			s.limiter = old.limiter
		} else {
			s.limiter = rate.NewLimiter(rate.Limit(n), 1)
		}
	}
	return s
}

// form gives a message the form that the connection sends: the message itself
// where that is the document as it came, else a copy with a Payload. A
// [sluice.Failure] with verdict Filtered says that the connection does not
// want the message.
func (s *settings) form(m *sluice.Message) (*sluice.Message, error) {
	if s.common.SendMetadata && m.Kind != sluice.KindUplink {
		return nil, &sluice.Failure{
			Verdict: sluice.Filtered, Reason: sluice.ReasonFiltered,
			Message: "The connection sends uplinks only (sendMetadata).",
		}
	}
	if m.Kind != sluice.KindUplink {
		return m, nil
	}
	if s.common.SendRawDecodedFormat && !s.common.SendMetadata {
		if p := gjson.GetBytes(m.Document, string(sluice.KindUplink)+".payload"); p.IsObject() {
			return withPayload(m, []byte(p.Raw)), nil
		}
	}
	if s.downlinkURL == "" && !s.common.SendMetadata {
		return m, nil
	}
	body := m.Document
	if s.downlinkURL != "" {
		set, err := setDownlinkURL(body, s.downlinkURL)
		if err != nil {
			return nil, &sluice.Failure{
				Verdict: sluice.Permanent, Reason: sluice.ReasonMalformed,
				Message: "The address for downlinks cannot be written into the document.", Err: err,
			}
		}
		body = set
	}
	if s.common.SendMetadata {
		if root := gjson.GetBytes(body, string(sluice.KindUplink)); root.IsObject() {
			return withPayload(m, []byte(root.Raw)), nil
		}
	}
	return withPayload(m, body), nil
}

// setDownlinkURL puts the address for downlinks into an uplink and leaves all
// else of it untouched, byte for byte. What has no DevEUI_uplink object comes
// back as it is.
func setDownlinkURL(document []byte, url string) ([]byte, error) {
	if !bytes.Contains(document, []byte(`"downlinkUrl"`)) {
		if set, ok := appendMember(document, "downlinkUrl", url); ok {
			return set, nil
		}
	}
	if !gjson.GetBytes(document, string(sluice.KindUplink)).IsObject() {
		return document, nil
	}
	return sjson.SetBytes(document, string(sluice.KindUplink)+".downlinkUrl", url)
}

// appendMember adds a member at the end of the root's object, in a copy. It
// relies on the form that the door has made sure of: valid JSON with one
// member, which is an object, so that the last two brackets are its own and
// the document's. It is false for a document of another form, and for a value
// that needs escapes. sjson does the same in ten times the time.
func appendMember(document []byte, name, value string) ([]byte, bool) {
	const space = " \t\r\n"
	inner, ok := bytes.CutSuffix(bytes.TrimRight(document, space), []byte("}"))
	end := bytes.TrimRight(inner, space)
	head := bytes.TrimLeft(document, space)
	head = bytes.TrimLeft(bytes.TrimPrefix(head, []byte("{")), space)
	if !ok || !bytes.HasSuffix(end, []byte("}")) || !bytes.HasPrefix(head, []byte(`"`+string(sluice.KindUplink)+`"`)) ||
		strings.ContainsFunc(value, func(c rune) bool { return c < ' ' || c == '"' || c == '\\' }) {
		return nil, false
	}
	at := len(end) - 1 // of the object's closing bracket
	out := make([]byte, 0, len(document)+len(name)+len(value)+8)
	out = append(out, document[:at]...)
	if before := bytes.TrimRight(document[:at], space); !bytes.HasSuffix(before, []byte("{")) {
		out = append(out, ',')
	}
	out = append(out, '"')
	out = append(out, name...)
	out = append(out, `":"`...)
	out = append(out, value...)
	out = append(out, '"')
	return append(out, document[at:]...), true
}

func withPayload(m *sluice.Message, payload []byte) *sluice.Message {
	c := *m
	c.Payload = payload
	return &c
}
