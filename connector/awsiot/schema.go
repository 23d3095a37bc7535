package awsiot

// schema is the JSON Schema (draft-04) of the connector's own properties;
// those that every connection has are added by the connection room.
// Names are ThingPark's, as far as it has them.
const schema = `{
  "$schema": "http://json-schema.org/draft-04/schema#",
  "title": "AWS IoT Core connection",
  "type": "object",
  "additionalProperties": false,
  "required": ["uplinkTopicPattern", "region", "accountPrefix"],
  "properties": {
    "uplinkTopicPattern": {
      "type": "string",
      "title": "Uplink topic pattern",
      "description": "The MQTT topic of uplinks. {DevEUI} and other expressions are replaced by values of the report: a field, a dotted path, JsonPath, or alternatives such as {CustomerData.name|DevEUI|'None'}. At most 7 slashes and 256 bytes. Example: tpx/things/{DevEUI}/uplink."
    },
    "downlinkTopicPattern": {
      "type": "string",
      "title": "Downlink topic pattern",
      "description": "The MQTT topic on which commands come. Each level with an expression is subscribed to as +. Empty or absent: takes no commands. Example: tpx/things/{DevEUI}/downlink."
    },
    "deviceType": {
      "type": "string",
      "title": "Thing type",
      "description": "The AWS IoT thing type of the things that are created. It must exist. Empty: things without a type."
    },
    "region": {
      "type": "string",
      "title": "Region",
      "description": "The AWS region of the account's IoT endpoint, such as eu-central-1, us-east-1 or cn-north-1."
    },
    "accountPrefix": {
      "type": "string",
      "title": "Account prefix",
      "description": "What stands before .iot.<region>.amazonaws.com in the account's endpoint (AWS IoT console, Settings), such as a2shubactigr-ats; the whole host name is taken too."
    },
    "accessKeyId": {
      "type": "string",
      "format": "password",
      "title": "Access key id",
      "description": "Id of the access key with which devices are registered as things, and which signs under WSS. Without it (or credentials: default) nothing is registered and nothing is looked up."
    },
    "secretAccessKey": {
      "type": "string",
      "format": "password",
      "title": "Secret access key",
      "description": "The secret of the access key."
    },
    "sessionToken": {
      "type": "string",
      "format": "password",
      "title": "Session token",
      "description": "The session token of temporary keys. They end within hours, and nothing renews them: for trials."
    },
    "credentials": {
      "type": "string",
      "enum": ["static", "default"],
      "title": "Credentials",
      "description": "static: the access key given here, if any. default: those of the machine, found as the AWS command line does: environment, shared files, container, instance.",
      "default": "static"
    },
    "roleArn": {
      "type": "string",
      "title": "Role",
      "description": "ARN of an IAM role, arn:aws:iam::<account>:role/<name>, that is assumed with the credentials and used in their place. It is renewed before it ends."
    },
    "externalId": {
      "type": "string",
      "title": "External id",
      "description": "What the trust policy of the role asks for as sts:ExternalId."
    },
    "protocol": {
      "type": "string",
      "enum": ["SSL", "WSS", "HTTPS"],
      "title": "Protocol",
      "description": "SSL: MQTT over TLS with the client certificate. WSS: MQTT over WebSocket, signed with the credentials; certificate and private key are not needed, and kept where the protocol is changed. HTTPS: uplinks over HTTPS, with the certificate or else signed; commands over MQTT.",
      "default": "SSL"
    },
    "port": {
      "type": "integer",
      "enum": [443, 8443, 8883],
      "title": "Port",
      "description": "SSL: 8883 (default) or 443. HTTPS: 8443 for uplinks and 8883 for commands (default), or 443 for both. WSS is always on 443. Where 443 is shared, ALPN tells what is meant; with dataEndpoint, whose own port is connected to, this says which of AWS's it stands for."
    },
    "proxy": {
      "type": "string",
      "format": "password",
      "title": "Proxy",
      "description": "The proxy that all goes through, to AWS IoT and to AWS's APIs: http://user:password@host:port (by CONNECT) or socks5://user:password@host:port."
    },
    "certificateId": {
      "type": "string",
      "title": "Certificate ARN",
      "description": "The ARN of the certificate, arn:aws:iot:<region>:<account>:cert/<64 hexadecimal digits>, which is attached to the things that are created."
    },
    "certificate": {
      "type": "string",
      "format": "password",
      "title": "Certificate",
      "description": "The client certificate that is registered and active in AWS IoT, as PEM, on several lines or on one. Required under SSL."
    },
    "privateKey": {
      "type": "string",
      "format": "password",
      "title": "Private key",
      "description": "The private key of the certificate, as PEM (PKCS#1, PKCS#8 or EC), on several lines or on one, not encrypted. Required under SSL."
    },
    "clientIdPrefix": {
      "type": "string",
      "title": "Client id prefix",
      "description": "What the ids of our MQTT clients begin with, for policies that name them: <prefix>-<installation>-<connection>-... Letters, digits and : _ . -, at most 64.",
      "default": "sluice"
    },
    "poolSize": {
      "type": "integer",
      "minimum": 1,
      "maximum": 100,
      "title": "Sessions",
      "description": "How many MQTT clients share the load, at most. AWS takes 100 publishes and 512 KiB a second from each; Sluice sends 98 and 500 KiB. Clients are opened as the load asks for them.",
      "default": 10
    },
    "poolMin": {
      "type": "integer",
      "minimum": 1,
      "maximum": 100,
      "title": "Sessions without load",
      "description": "How many MQTT clients are open without load. With two, the loss of one is no interruption.",
      "default": 2
    },
    "downlinkSessions": {
      "type": "integer",
      "minimum": 1,
      "maximum": 100,
      "title": "Sessions for commands",
      "description": "How many MQTT clients share the commands, each with up to 100 a second; they are besides those of the pool, and at most as many. With 1 the commands of a device come in order. With more, AWS hands each command to any one of them (a shared subscription): the order is not kept, and a command that comes again after a lost link is recognised by its CorrelationID or message id alone.",
      "default": 1
    },
    "presenceTopic": {
      "type": "string",
      "title": "Presence topic",
      "description": "A topic on which a retained message says whether this connection is online: {\"state\":\"online\"} or {\"state\":\"offline\"}, with connection, reason and time. AWS sends offline by itself (last will) when Sluice is gone. It needs iot:RetainPublish. Empty or absent: not told."
    },
    "uplinkQos": {
      "type": "integer",
      "enum": [0, 1],
      "title": "QoS of uplinks",
      "description": "1: an uplink is delivered when AWS has acknowledged it. 0: when it is written; what is under way when a connection breaks is lost.",
      "default": 1
    },
    "provisioningTimeout": {
      "type": "string",
      "title": "Provisioning time-out",
      "description": "How long the first uplinks of a device wait for its thing; then they are sent, and the thing is made later. A duration such as 30s or 2m; 0s does not wait.",
      "default": "30s"
    },
    "thingNamePattern": {
      "type": "string",
      "title": "Thing name pattern",
      "description": "The names of things, from fields of the device's first report, as in topics: letters, digits, ':', '_' and '-', at most 128. A device keeps the name that it got. Example: lora-{DevEUI}.",
      "default": "{DevEUI}"
    },
    "thingAttributes": {
      "type": "object",
      "additionalProperties": {"type": "string"},
      "title": "Thing attributes",
      "description": "Attributes of things: for each name a pattern, as in topics, read from uplinks. What AWS does not take in a value, such as a space, becomes _; what does not resolve is left out. When a value changes the thing is changed, once in ten minutes at most. At most 50, 3 without a thing type. Example: {\"name\": \"{CustomerData.name}\"}."
    },
    "thingTagAttribute": {
      "type": "string",
      "title": "Attribute of tags",
      "description": "The name of an attribute that holds the device's tags, with commas between them. Empty: none does."
    },
    "thingGroups": {
      "type": "array",
      "items": {"type": "string"},
      "title": "Thing groups",
      "description": "The thing groups that things are put into, at most 10. They must exist."
    },
    "billingGroup": {
      "type": "string",
      "title": "Billing group",
      "description": "The billing group that things are put into. It must exist."
    },
    "thingCheckInterval": {
      "type": "string",
      "title": "Thing check interval",
      "description": "In what time all things that are known are looked at once, to find those that were deleted in AWS; these are created again with the next uplink. A duration such as 24h; 0s looks at none.",
      "default": "24h"
    },
    "dataEndpoint": {
      "type": "string",
      "title": "Data endpoint",
      "description": "host:port to connect to instead of the endpoint made of account prefix and region: a VPC endpoint, an emulator, another MQTT 5 broker."
    },
    "webSocketEndpoint": {
      "type": "string",
      "title": "WebSocket endpoint",
      "description": "host:port to connect to for MQTT over WebSocket; absent: dataEndpoint, or the account's endpoint, port 443."
    },
    "publishEndpoint": {
      "type": "string",
      "title": "HTTPS endpoint",
      "description": "host:port to publish to under HTTPS instead of the account's endpoint, port 8443 or 443."
    },
    "controlEndpoint": {
      "type": "string",
      "title": "Control endpoint",
      "description": "URL of the AWS IoT API to use instead of the region's: a VPC endpoint or an emulator."
    },
    "stsEndpoint": {
      "type": "string",
      "title": "STS endpoint",
      "description": "URL of AWS STS, where roles are assumed, to use instead of the region's."
    },
    "caCertificate": {
      "type": "string",
      "title": "CA certificate",
      "description": "PEM of the authorities whose server certificates are trusted, instead of the system's. AWS needs none."
    },
    "shadow": {
      "type": "object",
      "additionalProperties": false,
      "title": "Device shadows",
      "description": "Whether the AWS IoT shadow of a device's thing tells its latest values, and whether commands are taken from it. An update of a shadow counts as a publish of the session like an uplink, and uplinks go first. Under HTTPS it goes by AWS's REST API.",
      "properties": {
        "enabled": {
          "type": "boolean",
          "title": "Enabled",
          "description": "Whether shadows are used at all. The certificate then needs the permissions that docs/shadows.md lists.",
          "default": false
        },
        "name": {
          "type": "string",
          "maxLength": 64,
          "title": "Shadow name",
          "description": "The named shadow that is used. Empty or absent: the classic, unnamed one."
        },
        "reported": {
          "type": "boolean",
          "title": "Report uplinks",
          "description": "After an uplink is delivered, its values become the shadow's state.reported: the members of the decoded payload object; where there is none, the radio values LrrRSSI, LrrSNR, SpFact, FCntUp, FPort, Time and BatteryLevel. Of several uplinks that wait for it, the newest counts.",
          "default": true
        },
        "fields": {
          "type": "object",
          "additionalProperties": {"type": "string"},
          "title": "Reported fields",
          "description": "What is reported instead: for each member of state.reported, a dotted path of the uplink below DevEUI_uplink. Values keep their type; what an uplink has not is left as it is. Example: {\"temperature\": \"payload.temperature\", \"rssi\": \"LrrRSSI\"}."
        },
        "desired": {
          "type": "boolean",
          "title": "Take commands",
          "description": "A state.desired.downlink, an object with the fields of ThingPark's DevEUI_downlink such as {\"FPort\": 1, \"payload_hex\": \"01\"}, is sent to the device once. When the network server has taken it, or it failed for good, reported.downlink follows and reported.downlinkState says which. Needs downlinkEnabled, downlinkReports all, and sendMetadata false.",
          "default": false
        }
      }
    }
  }
}`
