package awsiot_test

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sluice/connector/awsiot"
)

// What a protocol needs, and what credentials are, is checked, all at once.
func TestCheckProtocol(t *testing.T) {
	good := goodPair(t)
	noKeys := map[string]any{"accessKeyId": nil, "secretAccessKey": nil}
	noPair := map[string]any{"certificate": nil, "privateKey": nil}
	for _, tc := range []checkCase{
		{name: "SSL without a certificate", change: noPair, problems: []string{"certificate", "privateKey"}},
		{name: "SSL at 443", change: map[string]any{"port": 443}},
		{name: "SSL at 8443", change: map[string]any{"port": 8443}, problems: []string{"port"}, says: "443 8883"},
		{name: "WSS without a certificate", change: merged(noPair, map[string]any{"protocol": "WSS"})},
		{name: "WSS with one that is kept", change: map[string]any{"protocol": "WSS", "certificate": "old"}},
		{name: "WSS without keys", change: merged(noKeys, map[string]any{"protocol": "WSS"}), problems: []string{"accessKeyId"}, says: "credentials: default"},
		{name: "WSS with half a key", change: map[string]any{"protocol": "WSS", "accessKeyId": nil}, problems: []string{"accessKeyId"}},
		{name: "WSS with the default chain", change: merged(noKeys, map[string]any{"protocol": "WSS", "credentials": "default"})},
		{name: "WSS at 8883", change: map[string]any{"protocol": "WSS", "port": 8883}, problems: []string{"port"}},
		{name: "HTTPS", change: map[string]any{"protocol": "HTTPS"}},
		{name: "HTTPS with keys", change: merged(noPair, map[string]any{"protocol": "HTTPS"})},
		{name: "HTTPS with half a pair", change: map[string]any{"protocol": "HTTPS", "privateKey": nil}, problems: []string{"privateKey"}},
		{name: "HTTPS with nothing", change: merged(noPair, noKeys, map[string]any{"protocol": "HTTPS"}), problems: []string{"accessKeyId"}, says: "certificate and privateKey"},
		{name: "two ways to be", change: map[string]any{"credentials": "default"}, warnings: []string{"credentials"}},
		{name: "a token", change: map[string]any{"sessionToken": "x"}, warnings: []string{"sessionToken"}},
		{name: "a token alone", change: merged(noKeys, map[string]any{"sessionToken": "x", "createDevices": false}), problems: []string{"sessionToken"}},
		{name: "a role", change: map[string]any{"roleArn": "arn:aws:iam::101513775872:role/iot/bridge", "externalId": "tenant/7"}},
		{name: "no role", change: map[string]any{"roleArn": "bridge"}, problems: []string{"roleArn"}},
		{name: "a role for nobody", change: merged(noKeys, map[string]any{"roleArn": "arn:aws:iam::101513775872:role/x", "createDevices": false}), problems: []string{"roleArn"}},
		{name: "an id without a role", change: map[string]any{"externalId": "tenant/7"}, problems: []string{"externalId"}},
		{name: "a bad id", change: map[string]any{"roleArn": "arn:aws:iam::101513775872:role/x", "externalId": "a b"}, problems: []string{"externalId"}},
		{name: "a proxy", change: map[string]any{"proxy": "http://u:p@proxy:3128"}},
		{name: "a socks proxy", change: map[string]any{"proxy": "socks5://proxy"}},
		{name: "no proxy", change: map[string]any{"proxy": "u:SECRET@proxy:3128"}, problems: []string{"proxy"}},
		{name: "endpoints", change: map[string]any{"stsEndpoint": "sts", "publishEndpoint": "here", "webSocketEndpoint": "x:0"}, problems: []string{"stsEndpoint", "webSocketEndpoint", "publishEndpoint"}},
	} {
		t.Run(tc.name, func(t *testing.T) { tc.run(t, good) })
	}
}

// The certificate is kept while the protocol hides it, and when it comes back.
func TestKeeps(t *testing.T) {
	hidden := []string{"certificateId", "certificate", "privateKey"}
	for _, tc := range []struct {
		stored, changed string
		want            []string
	}{
		{"SSL", "SSL", nil}, {"SSL", "WSS", hidden}, {"WSS", "WSS", hidden}, {"WSS", "SSL", hidden}, {"", "", nil}, {"", "HTTPS", hidden},
	} {
		conf := func(protocol string) json.RawMessage {
			if protocol == "" {
				return json.RawMessage("{}") // SSL
			}
			return json.RawMessage(`{"protocol":"` + protocol + `"}`)
		}
		if diff := cmp.Diff(tc.want, awsiot.New(awsiot.Options{}).Keeps(conf(tc.stored), conf(tc.changed))); diff != "" {
			t.Errorf("%s to %s: %s", tc.stored, tc.changed, diff)
		}
	}
}
