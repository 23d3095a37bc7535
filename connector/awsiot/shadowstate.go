package awsiot

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tidwall/gjson"

	"sluice"
)

// members are members of state.reported that are to be set: JSON values.
type members map[string]json.RawMessage

// merge sets those of newer over those of m.
func (m members) merge(newer members) members {
	if m == nil {
		return newer
	}
	for name, v := range newer {
		m[name] = v
	}
	return m
}

func (m members) size() int {
	n := 0
	for name, v := range m {
		n += len(name) + len(v) + len(`"":,`)
	}
	return n
}

// radio are the values that are reported of an uplink without decoded ones,
// and whether each is a number, which "untyped" reports write as a text.
func radio() map[string]bool {
	return map[string]bool{
		"LrrRSSI": true, "LrrSNR": true, "SpFact": true, "FCntUp": true, "FPort": true, "BatteryLevel": true, "Time": false,
	}
}

// reported are the values of an uplink that its shadow tells.
func (c *shadowConfig) reported(m *sluice.Message) members {
	root := gjson.GetBytes(m.Document, string(m.Kind))
	if len(c.Fields) > 0 {
		out := members{}
		for name, path := range c.Fields {
			if v := root.Get(plainPath(path)); v.Exists() {
				out[name] = json.RawMessage(v.Raw)
			}
		}
		return out
	}
	out := members{}
	if payload := root.Get("payload"); payload.IsObject() {
		payload.ForEach(func(name, v gjson.Result) bool {
			if !c.Desired || !reservedInShadow(name.Str) {
				out[name.Str] = json.RawMessage(v.Raw)
			}
			return true
		})
		return out
	}
	for name, number := range radio() {
		v := root.Get(name)
		if !v.Exists() {
			continue
		}
		out[name] = json.RawMessage(v.Raw)
		if _, err := strconv.ParseFloat(v.Str, 64); number && v.Type == gjson.String && err == nil && json.Valid([]byte(v.Str)) {
			out[name] = json.RawMessage(v.Str)
		}
	}
	return out
}

// plainPath makes a dotted path gjson's, with none of its own signs at work.
func plainPath(path string) string {
	var b strings.Builder
	for _, c := range path {
		if strings.ContainsRune(`*?|#@!{}[]()=<>%\:~"'`, c) {
			b.WriteByte('\\')
		}
		b.WriteRune(c)
	}
	return b.String()
}

// fit removes the largest members until the rest fits a shadow, and returns
// their names.
func (m members) fit() []string {
	var dropped []string
	for room := maxShadow - len(`{"reported":{}}`); m.size() > room; {
		largest := ""
		for name, v := range m {
			if largest == "" || cmp.Or(cmp.Compare(len(v), len(m[largest])), strings.Compare(largest, name)) > 0 {
				largest = name
			}
		}
		delete(m, largest)
		dropped = append(dropped, largest)
	}
	slices.Sort(dropped)
	return dropped
}

// update is the request that sets the members.
func (m members) update(token string) ([]byte, error) {
	type state struct {
		Reported members `json:"reported"`
	}
	return json.Marshal(struct {
		State state  `json:"state"`
		Token string `json:"clientToken"`
	}{state{m}, token})
}

// shadowDocument is what a shadow says of commands.
type shadowDocument struct {
	desired  gjson.Result // desired.downlink
	reported gjson.Result // reported.downlink
	stamp    int64        // when desired.downlink was set last
	differs  bool
}

func readShadowDocument(payload []byte) shadowDocument {
	doc := gjson.ParseBytes(payload)
	return shadowDocument{
		desired:  doc.Get("state.desired." + shadowDownlink),
		reported: doc.Get("state.reported." + shadowDownlink),
		stamp:    latest(doc.Get("metadata.desired." + shadowDownlink)),
		differs:  doc.Get("state.delta." + shadowDownlink).Exists(),
	}
}

// latest is the largest timestamp in metadata. Those of desired do not change
// when reported does, as the version of the shadow would.
func latest(metadata gjson.Result) int64 {
	most := int64(0)
	metadata.ForEach(func(name, v gjson.Result) bool {
		switch {
		case v.IsObject() || v.IsArray():
			most = max(most, latest(v))
		case name.Str == "timestamp":
			most = max(most, v.Int())
		}
		return true
	})
	return most
}

// shadowCommand is a command that a shadow desires.
type shadowCommand struct {
	id          string // of this wish of this device: the same whenever it is read
	correlation string // its CorrelationID, or one made of id
	document    []byte
	desired     map[string]json.RawMessage
}

// command reads the command of a document; false where it is no object.
func (s *shadowDocument) command(devEUI string) (shadowCommand, bool) {
	var fields map[string]json.RawMessage
	if !s.desired.IsObject() || json.Unmarshal([]byte(s.desired.Raw), &fields) != nil {
		return shadowCommand{}, false
	}
	plain, err := json.Marshal(fields) // in the order of the names
	if err != nil {
		return shadowCommand{}, false
	}
	sum := sha256.Sum256([]byte(devEUI + " " + strconv.FormatInt(s.stamp, 10) + " " + string(plain)))
	c := shadowCommand{id: hex.EncodeToString(sum[:16]), desired: fields}
	c.correlation = gjson.GetBytes(fields["CorrelationID"], "@this").String()
	full := make(map[string]json.RawMessage, len(fields)+1)
	for name, v := range fields {
		full[name] = v
	}
	if c.correlation == "" {
		// ThingPark's is 64 bits in hexadecimal digits.
		c.correlation = strings.ToUpper(hex.EncodeToString(sum[:8]))
		full["CorrelationID"] = json.RawMessage(`"` + c.correlation + `"`)
	}
	c.document, err = json.Marshal(map[string]any{string(sluice.KindDownlink): full})
	return c, err == nil
}

// fate is what became of a command, as a report tells it.
type shadowFate struct {
	correlation string
	state       map[string]any // reported.downlinkState
}

// fateOf reads a report; false where it tells of no command that could be a
// shadow's.
func fateOf(m *sluice.Message) (shadowFate, bool) {
	report := gjson.GetBytes(m.Document, string(m.Kind))
	f := shadowFate{correlation: report.Get("CorrelationID").String()}
	if f.correlation == "" {
		return f, false
	}
	cause := report.Get("DownlinkRejectionCause").String()
	state := ""
	switch m.Kind {
	case sluice.KindDownlinkQueued:
		state = "queued"
	case sluice.KindDownlinkSent:
		state = "sent"
		if report.Get("DeliveryStatus").String() != "1" {
			state, cause = "not sent", deliveryCauses(report)
		}
	case sluice.KindDownlinkRejected:
		state = "rejected"
		if strings.HasPrefix(cause, "Validity time expired.") {
			state = "expired"
		}
	default:
		return f, false
	}
	f.state = map[string]any{
		"state": state, "CorrelationID": f.correlation, "cause": nil, "time": m.Born().UTC().Format(time.RFC3339),
		"DeliveryStatus": report.Get("DeliveryStatus").Int(), "CommandID": nil,
	}
	if cause != "" {
		f.state["cause"] = cause
	}
	if id := report.Get("CommandID").String(); id != "" {
		f.state["CommandID"] = id
	}
	return f, true
}

func deliveryCauses(report gjson.Result) string {
	var list []string
	for _, n := range []string{"1", "2", "3", "4"} {
		if v := report.Get("DeliveryFailedCause" + n).String(); v != "" && v != "00" {
			list = append(list, v)
		}
	}
	if len(list) == 0 {
		return "The network server did not send it."
	}
	return "The network server did not send it: " + strings.Join(list, ", ") + "."
}

// answer is what the shadow reports of a command that is done with: the
// command itself, so that desired and reported agree, and what became of it.
func (c *shadowCommand) answer(f shadowFate, reported gjson.Result) (members, error) {
	same := make(map[string]json.RawMessage, len(c.desired))
	reported.ForEach(func(name, _ gjson.Result) bool {
		same[name.Str] = json.RawMessage("null") // AWS merges: what the command before had goes
		return true
	})
	for name, v := range c.desired {
		same[name] = v
	}
	downlink, err := json.Marshal(same)
	if err != nil {
		return nil, err
	}
	state, err := json.Marshal(f.state)
	return members{shadowDownlink: downlink, shadowState: state}, err
}

// bellHash knows a delta again that was looked into before.
func bellHash(payload []byte) [sha256.Size]byte {
	doc := gjson.ParseBytes(payload)
	return sha256.Sum256([]byte(doc.Get("state."+shadowDownlink).Raw + " " + doc.Get("metadata."+shadowDownlink).Raw))
}

// shadowRejection is a payload of update/rejected or get/rejected.
type shadowRejection struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
	Token   string `json:"clientToken"`
}

func readRejection(payload []byte) (r shadowRejection) {
	_ = json.NewDecoder(bytes.NewReader(payload)).Decode(&r) // what cannot be read has code 0
	return r
}

// again reports whether the same update may be accepted later. 409 is a change
// by others at the same time: our requests name no version.
func (r *shadowRejection) again() bool {
	return r.Code == http.StatusTooManyRequests || r.Code == http.StatusConflict || r.Code >= 500
}
