// Package awsiottest is an emulator of AWS IoT Core in one process, used as
// net/http/httptest is: a message broker with mutual TLS, and the registry
// API. Nothing leaves the machine and nothing is kept.
//
//	s, err := awsiottest.NewServer(awsiottest.Options{})
//	...
//	defer s.Close()
//	body, err := json.Marshal(s.Configuration()) // of POST /connections
//
// The wires are real: TLS 1.2 or newer, MQTT 3.1.1 and 5, HTTP with Signature
// Version 4. The AWS SDK, the AWS command line (with --endpoint-url) and any
// MQTT client work with it. What AWS does otherwise than the MQTT standard,
// and otherwise than its own documentation suggests, is done here as far as
// it is known. It was never compared with AWS itself: what is marked as
// inferred may differ.
//
// # The broker
//
// Sources: AWS IoT Core Developer Guide, "MQTT" and "Transport security"; AWS
// General Reference, "AWS IoT Core endpoints and quotas"; reports of users.
//
//   - Only a certificate that the registry knows as ACTIVE may connect. Others
//     fail in the TLS handshake, as users report of AWS (which sends the alert
//     certificate_unknown where this sends bad_certificate). With TLS 1.3 a
//     client learns it at its first read. A certificate that is deactivated
//     loses its connections at once (inferred; AWS takes minutes).
//   - QoS 0 and 1. QoS 2: MQTT 5 gets Maximum QoS 1 and, sending it all the
//     same, DISCONNECT 0x9B; MQTT 3.1.1 gets no answer, and the message goes
//     nowhere. A subscription of MQTT 5 with QoS 2 is granted QoS 1 (inferred).
//   - 100 publishes a second of one connection, with as many at once
//     (inferred): more are discarded, without a word for QoS 0 and MQTT 3.1.1,
//     with PUBACK 0x97 for QoS 1 of MQTT 5 (inferred). The same on the way out
//     is off unless [Options].OutboundRate is set.
//   - A payload over 128 KiB: DISCONNECT 0x95 (inferred). A topic over 256
//     bytes or 7 slashes, one that starts with $ but is not under $aws/, or
//     RETAIN on one that starts with $: DISCONNECT 0x90 (inferred). Under
//     $aws/rules/<rule>/ size and slashes count from there on (Basic Ingest);
//     no client receives it.
//   - Filters have the same limits: SUBACK 0x8F. Over 8 in one SUBSCRIBE or 50
//     on a connection: DISCONNECT 0x97 (inferred). Subscription identifiers:
//     DISCONNECT 0xA1. "a/#" does not match "a".
//   - CONNACK of MQTT 5: Receive Maximum 100, Maximum QoS 1, Topic Alias
//     Maximum 8, Maximum Packet Size (inferred value), no subscription
//     identifiers, Server Keep Alive, Session Expiry Interval where it was cut
//     to an hour. Keep alive is 30 to 1200 seconds; others are set to the
//     nearest (inferred), 0 to 1200.
//   - At most 100 messages of QoS 1 are unacknowledged at a subscriber. The
//     rest wait in order, up to 100,000, then are dropped and counted.
//   - The same client id again: the first connection gets DISCONNECT 0x8E.
//     MQTT 3.1.1 has no such packet and is closed, here as everywhere above.
//   - Sessions persist for up to an hour and are not resumed by the other
//     version of MQTT. Messages are sent again after a reconnect, in order,
//     with DUP never set.
//   - Retained messages go to filters without wildcards only. Shared
//     subscriptions choose a member at random, of those online. Wills.
//
// # HTTP
//
// The registry API, IAM and STS, publishing over HTTPS and shadows: README.md
// in this folder lists each behaviour with its source and its test, and what
// is missing.
//
// # What it does not do
//
// Policies of MQTT: every active certificate may do all (but see
// [Server.RefusePersistent]), and there are no rules, jobs or presence events.
// MQTT over WebSocket and at port 443, the Server Name Indication that AWS
// wants, several accounts. Of the broker: 512 KiB a second, one CONNECT a second for
// a client id, the quotas of an account, 10 stored messages a second after a
// resumption, the shared queue of a group without members online (one offline
// member gets it all), the quota of 100 unacknowledged publishes of a client,
// resending after an hour, duplicated and reordered messages, Will Delay
// Interval, DISCONNECT 0x8D, the disconnection of a client that is throttled
// for long.
package awsiottest
