package connection

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/tidwall/gjson"

	"sluice"
)

// Fate is what becomes of a command, for those who count.
type Fate int

// The fates. A command is received, then queued, rejected or expired; one that
// came again is redelivered and nothing else.
const (
	FateReceived    Fate = iota
	FateRedelivered      // it came again from the cloud, and is the one before
	FateQueued           // the network server has taken it
	FateRejected         // it never will
	FateExpired          // its ValidityTime passed before
)

// The values of downlinkReports.
const (
	reportsAll      = "all"
	reportsRejected = "rejected"
	reportsNone     = "none"
)

func reportNames() []string { return []string{reportsAll, reportsRejected, reportsNone} }

// Tells reports whether a connection wants reports of a kind, Queued or
// Rejected, of its commands.
func Tells(c sluice.Common, kind sluice.Kind) bool {
	switch c.DownlinkReports {
	case reportsNone:
		return false
	case reportsRejected:
		return kind == sluice.KindDownlinkRejected
	default:
		return true
	}
}

// defaultRedelivery and maxRedelivery are of downlinkRedelivery. AWS keeps for
// an hour what was not acknowledged.
const (
	defaultRedelivery = 30 * time.Second
	maxRedelivery     = time.Hour
)

// parseRedelivery reads a duration from 0 to maxRedelivery; "" is the default.
func parseRedelivery(text string) (time.Duration, error) {
	if text == "" {
		return defaultRedelivery, nil
	}
	d, err := time.ParseDuration(text)
	if err == nil && (d < 0 || d > maxRedelivery) {
		err = fmt.Errorf("%s is not from 0s to %s", text, maxRedelivery)
	}
	return d, err
}

// timeLayout is how ThingPark writes times: RFC 3339 with milliseconds.
const timeLayout = "2006-01-02T15:04:05.000Z07:00"

// Queued makes the DevEUI_downlink_Queued report that tells an application that
// the network server has taken its command m. The document has the form of
// ThingPark's other reports of downlinks; DeliveryStatus is the server's
// status, 200.
func Queued(m *sluice.Message, now time.Time) *sluice.Message {
	return fateReport(m, sluice.KindDownlinkQueued, now, http.StatusOK, "")
}

// expiredCause begins the cause of a command whose time has passed: ThingPark's
// words for DeliveryFailedCause E3.
const expiredCause = "Validity time expired."

// Rejected makes the DevEUI_downlink_Rejected report that tells an application
// why its command m was refused, or that its time has passed. DeliveryStatus
// is the status that the network server gave, 0 where Sluice itself refused.
// Source: ThingPark X IoT Flow documentation, "Downlink message".
func Rejected(m *sluice.Message, f *sluice.Failure, now time.Time) *sluice.Message {
	cause := f.Message
	if f.Verdict == sluice.Expired {
		cause = expiredCause + " " + cause
	}
	return fateReport(m, sluice.KindDownlinkRejected, now, f.Status, cause)
}

// fateReport makes a report of what became of a command. CustomerID and
// CorrelationID are there when the command had them; CommandID, ours, is the
// id of the command's message in Sluice.
func fateReport(m *sluice.Message, kind sluice.Kind, now time.Time, status int, cause string) *sluice.Message {
	command := gjson.GetBytes(m.Document, string(sluice.KindDownlink))
	var fields bytes.Buffer
	add := func(name string, value any) {
		text, err := json.Marshal(value)
		if err != nil {
			return
		}
		if fields.Len() > 0 {
			fields.WriteByte(',')
		}
		fields.WriteString(`"` + name + `":`)
		fields.Write(text)
	}
	add("Time", now.UTC().Format(timeLayout))
	add("DevEUI", m.DevEUI)
	if port, ok := wholeNumber(command.Get("FPort")); ok {
		add("FPort", port)
	}
	add("DeliveryStatus", status)
	if kind == sluice.KindDownlinkRejected {
		add("DownlinkRejectionCause", cause)
	}
	for _, name := range []string{"CustomerID", "CorrelationID"} {
		if v := command.Get(name); v.Type == gjson.String || v.Type == gjson.Number {
			add(name, v.String())
		}
	}
	if m.ID != "" {
		add("CommandID", m.ID)
	}
	return &sluice.Message{
		ID:         newID(now),
		Kind:       kind,
		DevEUI:     m.DevEUI,
		Network:    m.Network,
		Connection: m.Connection,
		Received:   now,
		Time:       now,
		Document:   []byte(`{"` + string(kind) + `":{` + fields.String() + `}}`),
	}
}

// newID makes the id of a message.
func newID(now time.Time) string {
	return ulid.MustNew(ulid.Timestamp(now), rand.Reader).String()
}
