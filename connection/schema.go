package connection

import (
	"bytes"
	"encoding/json"

	"github.com/tidwall/gjson"

	"sluice"
)

// commonProperties are the properties that every connection has, in the order
// in which they are shown. Names and defaults: ThingPark X IoT Flow
// documentation, "About connections".
const commonProperties = `{
"description":{"type":"string","title":"Description","description":"A note for people; Sluice does nothing with it."},
"createDevices":{"type":"boolean","title":"Create devices","default":true,"description":"Whether a device is made in the cloud when its first report arrives. If not, the reports of a device that the cloud does not know are skipped, with an event."},
"sendMetadata":{"type":"boolean","title":"Send metadata only","default":false,"description":"Sends the fields of a report without their root key DevEUI_uplink, and uplinks alone: reports of other kinds are left out."},
"sendRawDecodedFormat":{"type":"boolean","title":"Send raw decoded format","default":false,"description":"Sends nothing but the decoded payload object; an uplink that has none goes out in full. Without effect where sendMetadata is true."},
"uplinkTimeValidity":{"type":"string","title":"Uplink validity","description":"How old a report may be when it is delivered, counted from its Time at the base station: 1m, 5m, 10m, 24h, 72h or any other duration such as 30s or 2h30m. An older one expires, with an event. Empty: no limit."},
"uplinkRateLimiter":{"type":"integer","title":"Uplink rate limit","minimum":0,"default":0,"description":"The most reports a second that are sent through this connection; what is over waits. 0: no limit but the cloud's own."},
"downlinkEnabled":{"type":"boolean","title":"Downlinks enabled","default":true,"description":"Whether commands are taken from the cloud."},
"downlinkAsId":{"type":"string","title":"Downlink AS ID","description":"The application server id that signs downlinks which bring none of their own. Empty: the network's."},
"downlinkAsKey":{"type":"string","title":"Downlink AS key","format":"password","description":"The key that belongs to the downlink AS ID."},
"downlinkPort":{"type":"integer","title":"Downlink port","minimum":1,"maximum":224,"description":"The LoRaWAN port (FPort) of downlinks that name none."},
"downlinkReports":{"type":"string","title":"Downlink reports","enum":["all","rejected","none"],"default":"all","description":"What is reported of the fate of commands, on the topic of the uplinks. all: DevEUI_downlink_Queued when the network server has taken a command, DevEUI_downlink_Rejected when it was refused or its ValidityTime passed before. rejected: the latter only, as ThingPark X IoT Flow does. none: neither. DevEUI_downlink_Sent is the network server's own and always passes. With sendMetadata none of them is sent."},
"downlinkRedelivery":{"type":"string","title":"Downlink redelivery","default":"30s","description":"The cloud sends again after a reconnect what was not acknowledged before. A command without a CorrelationID that equals one taken so long before a link was lost, and comes again before any other and so soon after the reconnect, is taken as that one, with an event. 0s: never."},
"reconnectStrategy":{"type":"string","title":"Reconnect strategy","enum":["FAST","CALM","NORMAL","AGGRESSIVE"],"default":"FAST","description":"How a lost connection is opened again. FAST looks every 2 to 3 seconds whether the cloud can be reached and tries at once when it can; where the cloud refuses, it tries slower and slower, up to once a minute (refused credentials: once in five minutes), for ever. CALM tries every 10 minutes for 12 hours, every hour for 1 day, then stays closed until it is saved or activated again. NORMAL tries every 5 minutes for 1 hour, every hour for 1 day, then every day for ever. AGGRESSIVE tries every 3 minutes for 3 hours, every 30 minutes for 1 week, then every hour for ever; it also restarts a connection without an uplink for more than 1 hour. The times vary by up to a minute."}
}`

// Schema is the JSON Schema (draft-04) of a connector's configuration with
// the common properties merged in, ahead of its own. Where a connector
// declares a common property itself, its declaration stands. Everything else
// of the connector's schema stays as it is.
func Schema(info sluice.ConnectorInfo) json.RawMessage {
	own := gjson.ParseBytes(info.Schema)
	var out bytes.Buffer
	out.WriteByte('{')
	member := func(rawKey, rawValue string) {
		if out.Len() > 1 {
			out.WriteByte(',')
		}
		out.WriteString(rawKey)
		out.WriteByte(':')
		out.WriteString(rawValue)
	}
	if !own.Get("$schema").Exists() {
		member(`"$schema"`, `"http://json-schema.org/draft-04/schema#"`)
	}
	if !own.Get("type").Exists() {
		member(`"type"`, `"object"`)
	}
	if !own.Get("additionalProperties").Exists() {
		member(`"additionalProperties"`, `false`)
	}
	if !own.Get("properties").Exists() {
		member(`"properties"`, mergeProperties(gjson.Result{}))
	}
	own.ForEach(func(key, value gjson.Result) bool {
		if key.Str == "properties" {
			member(key.Raw, mergeProperties(value))
		} else {
			member(key.Raw, value.Raw)
		}
		return true
	})
	out.WriteByte('}')
	var compact bytes.Buffer
	if err := json.Compact(&compact, out.Bytes()); err != nil {
		return out.Bytes()
	}
	return compact.Bytes()
}

// mergeProperties puts the common properties before a connector's own.
func mergeProperties(own gjson.Result) string {
	var out bytes.Buffer
	out.WriteByte('{')
	add := func(key, value gjson.Result) bool {
		if out.Len() > 1 {
			out.WriteByte(',')
		}
		out.WriteString(key.Raw + ":" + value.Raw)
		return true
	}
	declared := own.Map()
	gjson.Parse(commonProperties).ForEach(func(key, value gjson.Result) bool {
		if _, ok := declared[key.Str]; ok {
			return true
		}
		return add(key, value)
	})
	own.ForEach(add)
	out.WriteByte('}')
	return out.String()
}
