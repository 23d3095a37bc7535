package api

import (
	"encoding/json"
	"maps"
	"slices"

	"github.com/danielgtaylor/huma/v2"
)

// exampleConnection is the example of ThingPark's documentation, "Creating an
// AWS connection".
const exampleConnection = `{
  "connectorId": "actility-aws-iot",
  "name": "Test AWS Connection",
  "configuration": {
    "description": "AWS Europe Datacenter",
    "uplinkTopicPattern": "tpx/things/{DevEUI}/uplink",
    "downlinkTopicPattern": "tpx/things/{DevEUI}/downlink",
    "deviceType": "actilitytestsensor",
    "region": "eu-central-1",
    "accountPrefix": "a2shubactigr-ats",
    "secretAccessKey": "lymHcNdzddzerrZHnV5Q5YN/GTMFNiARtAj/7dz4358",
    "accessKeyId": "AKIAJUJWTO76B3XZGHYA",
    "certificateId": "arn:aws:iot:eu-central-1:101513775872:cert/8be79f58542e4f2345t45fgjb08424657ee1fea4554fa974",
    "certificate": "-----BEGIN CERTIFICATE-----xxx-----END CERTIFICATE-----",
    "privateKey": "-----BEGIN RSA PRIVATE KEY-----xxx-----END RSA PRIVATE KEY-----"
  }
}`

const exampleFlow = `{
  "name": "Sensors in Paris to AWS",
  "driver": {"id": "actility:auto:1"},
  "matchers": [
    {"type": "thing", "tags": ["paris", "temperature"]},
    {"type": "key", "key": "lora:0018b20000000b20"}
  ],
  "connectors": [
    {"id": "actility-aws-iot", "connectionId": "1", "uplinkTimeValidity": "24h"}
  ]
}`

const exampleFlowAll = `{
  "name": "All devices to AWS",
  "connectors": [{"connectionId": "1"}]
}`

const exampleNetwork = `{
  "kind": "thingpark",
  "name": "ThingPark Europe",
  "configuration": {
    "asId": "TWA_100000001.999.AS-1-12345678",
    "asKey": "00112233445566778899aabbccddeeff",
    "downlinkUrl": "https://lrc.example.com/thingpark/lrc/rest/downlink",
    "maxTimeDeviation": "60s"
  }
}`

const exampleCommand = `{
  "DevEUI_downlink": {
    "DevEUI": "0018B20000000B20",
    "FPort": 1,
    "payload_hex": "0102",
    "Confirmed": 0
  }
}`

// example is a JSON text as the example of a request.
func example(summary, text string) *huma.Example {
	return &huma.Example{Summary: summary, Value: json.RawMessage(text)}
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
