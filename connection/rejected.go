package connection

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/tidwall/gjson"

	"sluice"
)

// timeLayout is how ThingPark writes times: RFC 3339 with milliseconds.
const timeLayout = "2006-01-02T15:04:05.000Z07:00"

// Rejected makes the DevEUI_downlink_Rejected report that tells an application
// why its command m was refused. DeliveryStatus is the status that the network
// server gave, 0 where Sluice itself refused. CustomerID and CorrelationID are
// there when the command had them.
// Source: ThingPark X IoT Flow documentation, "Downlink message".
func Rejected(m *sluice.Message, f *sluice.Failure, now time.Time) *sluice.Message {
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
	add("DeliveryStatus", f.Status)
	add("DownlinkRejectionCause", f.Message)
	for _, name := range []string{"CustomerID", "CorrelationID"} {
		if v := command.Get(name); v.Type == gjson.String || v.Type == gjson.Number {
			add(name, v.String())
		}
	}
	return &sluice.Message{
		ID:         newID(now),
		Kind:       sluice.KindDownlinkRejected,
		DevEUI:     m.DevEUI,
		Network:    m.Network,
		Connection: m.Connection,
		Received:   now,
		Time:       now,
		Document:   []byte(`{"` + string(sluice.KindDownlinkRejected) + `":{` + fields.String() + `}}`),
	}
}

// newID makes the id of a message.
func newID(now time.Time) string {
	return ulid.MustNew(ulid.Timestamp(now), rand.Reader).String()
}
