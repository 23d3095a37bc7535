package api

import "sluice/internal/schema"

// bodies are the schemas of what users send, outside of "configuration", which
// the connector or the kind of network describes. They serve validation and the
// OpenAPI document alike. Properties that only Sluice sets are taken and
// ignored, so that a client may send back what it got.
type bodies struct {
	connection, flow, network, replay *schema.Schema
}

func newBodies() bodies {
	return bodies{
		connection: mustCompile("connection", []byte(connectionBody)),
		flow:       mustCompile("flow", []byte(flowBody)),
		network:    mustCompile("network", []byte(networkBody)),
		replay:     mustCompile("replay", []byte(replayBody)),
	}
}

const connectionBody = `{
  "title": "Connection to make or to replace",
  "type": "object",
  "additionalProperties": false,
  "required": ["connectorId", "name", "configuration"],
  "properties": {
    "connectorId": {"type": "string", "minLength": 1, "description": "Id of the connector: see GET /connectors. It cannot be changed."},
    "name": {"type": "string", "minLength": 1, "maxLength": 200, "description": "A name for people."},
    "active": {"type": "boolean", "default": true, "description": "false stops the connection; what arrives for it is kept, and delivered when it is active again."},
    "alarms": {"type": "array", "items": {"type": "object"}, "description": "Alarms of a low rate, in ThingPark's form: startTime, endTime, timezone, recurrence, uplinkRateMinPerHour, message. And, ours, one of silent devices: {\"silence\": {\"factor\": 3}}."},
    "configuration": {"type": "object", "description": "The whole configuration, in the form of the connector's configurationSchema. A secret may be ***** to keep the stored value."},
    "id": {"type": "string", "description": "With PUT: must be the id of the connection, if given."},
    "startupTime": {"description": "Set by Sluice; ignored."},
    "certificateExpires": {"description": "Set by Sluice; ignored."},
    "state": {"description": "Set by Sluice; ignored."},
    "stateSince": {"description": "Set by Sluice; ignored."},
    "applied": {"description": "Set by Sluice; ignored."},
    "reason": {"description": "Set by Sluice; ignored."},
    "sessions": {"description": "Set by Sluice; ignored."},
    "downlinkUrl": {"description": "Set by Sluice; ignored."},
    "created": {"description": "Set by Sluice; ignored."},
    "updated": {"description": "Set by Sluice; ignored."},
    "revision": {"description": "Set by Sluice; ignored. To replace only what you have read, send the ETag as If-Match."},
    "warnings": {"description": "Set by Sluice; ignored."}
  }
}`

const flowBody = `{
  "title": "Flow to make or to replace",
  "type": "object",
  "additionalProperties": false,
  "required": ["name", "connectors"],
  "properties": {
    "id": {"type": "string", "description": "With PUT: must be the id of the flow, if given."},
    "name": {"type": "string", "minLength": 1, "maxLength": 200, "description": "A name for people."},
    "description": {"type": "string", "maxLength": 2000},
    "active": {"type": "boolean", "default": true, "description": "Only true so far."},
    "driver": {
      "type": "object", "additionalProperties": false, "required": ["id"],
      "description": "The driver that decodes payloads. Stored; decoding comes later.",
      "properties": {"id": {"type": "string", "minLength": 1, "description": "Id of the driver; actility:auto:1 picks one by the report's DriverCfg."}}
    },
    "matchers": {
      "type": "array",
      "description": "Which devices; any of the matchers will do. None: every device.",
      "items": {
        "type": "object", "additionalProperties": false, "required": ["type"],
        "properties": {
          "type": {"enum": ["thing", "key"], "description": "thing: by tags. key: by identity."},
          "tags": {"type": "array", "items": {"type": "string", "minLength": 1}, "description": "With thing: the device must have all of them, in any case."},
          "key": {"type": "string", "description": "With key: lora: and the DevEUI."}
        }
      }
    },
    "connectors": {
      "type": "array",
      "description": "Where the reports go.",
      "items": {
        "type": "object", "additionalProperties": false, "required": ["connectionId"],
        "properties": {
          "id": {"type": "string", "description": "Id of the connector; filled in from the connection where it is missing."},
          "connectionId": {"type": "string", "minLength": 1, "description": "Id of the connection."},
          "uplinkTimeValidity": {"type": "string", "description": "How old a report may be to be delivered: 10m, 24h."}
        }
      }
    }
  }
}`

const networkBody = `{
  "title": "Network to make or to replace",
  "type": "object",
  "additionalProperties": false,
  "required": ["kind", "name"],
  "properties": {
    "kind": {"type": "string", "minLength": 1, "description": "Kind of network server: thingpark. It cannot be changed."},
    "name": {"type": "string", "minLength": 1, "maxLength": 200, "description": "A name for people."},
    "configuration": {"type": "object", "default": {}, "description": "As the kind wants it. A secret may be ***** to keep the stored value."},
    "id": {"type": "string", "description": "With PUT: must be the id of the network, if given."},
    "created": {"description": "Set by Sluice; ignored."},
    "state": {"description": "Set by Sluice; ignored."},
    "reason": {"description": "Set by Sluice; ignored."},
    "downlinksPending": {"description": "Set by Sluice; ignored."},
    "ingestPath": {"description": "Set by Sluice; ignored."},
    "ingestUrl": {"description": "Set by Sluice; ignored."}
  }
}`
