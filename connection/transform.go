package connection

import (
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
	common      sluice.Common
	validity    time.Duration // 0: no limit
	limiter     *rate.Limiter // nil: no limit
	downlinkURL string        // "": not put into uplinks
	strategy    strategy
}

// newSettings reads the settings of a connection. old is what was in force, or
// nil: a limiter whose rate did not change is kept, with what it has counted.
func newSettings(c sluice.Connection, common sluice.Common, publicURL string, old *settings) *settings {
	s := &settings{connectorID: c.ConnectorID, common: common, strategy: strategyOf(common.ReconnectStrategy)}
	if d, err := parseValidity(common.UplinkTimeValidity); err == nil {
		s.validity = d
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
	if !gjson.GetBytes(m.Document, string(sluice.KindUplink)).IsObject() {
		return m, nil // not ours to judge: it goes as it came
	}
	body := m.Document
	if s.downlinkURL != "" {
		// SetBytes copies the document and leaves all else of it untouched.
		set, err := sjson.SetBytes(body, string(sluice.KindUplink)+".downlinkUrl", s.downlinkURL)
		if err != nil {
			return nil, &sluice.Failure{
				Verdict: sluice.Permanent, Reason: sluice.ReasonMalformed,
				Message: "The address for downlinks cannot be written into the document.", Err: err,
			}
		}
		body = set
	}
	if s.common.SendMetadata {
		return withPayload(m, []byte(gjson.GetBytes(body, string(sluice.KindUplink)).Raw)), nil
	}
	if s.downlinkURL == "" {
		return m, nil
	}
	return withPayload(m, body), nil
}

func withPayload(m *sluice.Message, payload []byte) *sluice.Message {
	c := *m
	c.Payload = payload
	return &c
}
