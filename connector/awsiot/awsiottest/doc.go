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
// Version 4. The AWS SDK, the AWS IoT device SDK, the AWS command line (with
// --endpoint-url) and any MQTT client work with it; README.md lists those that
// tests run. What AWS does otherwise than the MQTT standard,
// and otherwise than its own documentation suggests, is done here as far as
// it is known. It was never compared with AWS itself: what is marked as
// inferred may differ.
//
// # The broker
//
// Each line says what it does, where that is known from, and the test that
// shows it. DG is the AWS IoT Core Developer Guide (page "MQTT" where none is
// named), GR the AWS General Reference, "AWS IoT Core message broker and
// protocol limits and quotas", SQ Service Quotas "iotcore" of 2024-02; a name
// with a number is a thread on GitHub. INF is inferred: nobody told. MQTT 3.1.1
// has no DISCONNECT of the server: where one is named, it is closed without a
// word. Excesses are counted: [Server.Exceeded], [Server.ClientStats].
//
//	Connections
//	TLS 1.2 or newer; no session tickets           DG "Transport security"      TestServerNames
//	a client that does not name the server (SNI)   the same; the alert          TestServerNames
//	  is refused (see Options.AllowNoSNI)            unrecognized_name is INF
//	unknown, inactive, revoked certificate: the    users' reports (AWS sends    TestCertificates,
//	  handshake fails; open connections end at       certificate_unknown);        TestRevokedCertificate
//	  once with 0x87                                 at once is INF (minutes)
//	port 443: x-amzn-mqtt-ca, else HTTP            DG "Protocols"               TestALPN, TestHTTPAt443
//	WebSocket at /mqtt, subprotocol mqtt, signed   DG "MQTT over WSS";          TestWebSocket,
//	  for iotdevicegateway, token not signed;        odelot/aws-mqtt-             TestWebSocketRefused
//	  403 JSON with ForbiddenException               websockets 7, 54
//	a day of WebSocket, then 0x98                  GR; the code is INF          TestWebSocketLife
//	client id over 128 bytes or $...: 0x85         GR, SDK's patterns           TestClientIDs
//	the same client id: the first gets 0x8E        DG                           TestTakeover
//	keep-alive 30 to 1200 s, else the nearest      GR; older limits page        TestKeepAliveLimits
//	silence for 1.5 times it: 0x8D                 DG "MQTT reason codes"       TestKeepAlive
//	CONNECTs a second, of a client id and of the   GR, SQ; 0x97 DG; MQTT 3.1.1  TestConnectRate
//	  account: 0x97 (off by default)                 return code 3 is INF
//	reason strings PACKET:sentence:id              aws-greengrass-nucleus 1754  TestPolicyConnect
//	CONNACK: Receive Maximum 100, Maximum QoS 1,   DG, GR; Maximum Packet       TestConnack
//	  8 aliases, no subscription identifiers ...     Size is INF
//	presence events                                DG "Lifecycle events"        TestPresence
//
//	Policies (see package policy; one that a test made may do all until it has any)
//	CONNECT not allowed: 0x87; MQTT 3.1.1 has no   paho.mqtt.python 448         TestPolicyConnect
//	  CONNACK
//	publish: PUBACK 0x87, QoS 0 DISCONNECT 0x87    aws-iot-device-sdk-python-   TestPolicyPublish,
//	  (Inferred.DeniedCloses: DISCONNECT)            v2 260; DG; which is INF     TestDeniedCloses
//	RETAIN needs iot:RetainPublish                 DG "Retained message         TestPolicyPublish
//	                                                 policy examples"
//	subscribe: SUBACK 0x87, MQTT 3.1.1 is closed   aws-iot-device-sdk-js 112    TestPolicySubscribe
//	$share/... is asked for as written             INF                          TestPolicySubscribe
//	iot:Receive at each delivery, else not sent    DG "Policy actions"          TestPolicyReceive
//	variables of client, thing and certificate     DG "Policy variables"        TestPolicyThing
//	iot:ConnectAttributes                          DG "Connect policy           TestPolicyAttributes
//	                                                 examples"
//
//	Publishes
//	100 a second of a connection, as many at once: GR "discarded"; sdk-python-  TestPublishRate,
//	  discarded; no PUBACK, in MQTT 5 PUBACK 0x97    v2 257; 0x97 and the burst   TestV311Rate,
//	  (Inferred.SilentThrottle: none)                are INF                      TestSilentThrottle
//	512 KiB a second: delayed                      GR; the burst is INF         TestThroughput
//	100 unacknowledged: 0x93, in MQTT 3.1.1 not    GR; DG                       TestInboundUnacknowledged
//	  taken (a PUBACK that a fault dropped counts
//	  as sent)
//	publishes a second of the account (off)        SQ                           TestAccountPublishRate
//	QoS 2: 0x9B, MQTT 3.1.1 gets no answer         DG                           TestRefusedPublishes, TestV311QoS2
//	payload over 128 KiB: 0x95                     GR; the code is INF          TestRefusedPublishes
//	topic over 256 bytes or 7 slashes, $... but    GR; DG "Reserved topics";    TestRefusedPublishes,
//	  for reserved topics that take publishes,       0x90 is INF                  TestReservedTopics
//	  RETAIN on $...: 0x90
//	$aws/rules/<rule>/ is not counted, and nobody  DG "Basic Ingest"            TestLargestPublishes
//	  receives it
//	topic aliases: 0x82, 0x94                      DG                           TestTopicAlias
//
//	Subscriptions and deliveries
//	filters as topics: 0x8F; 8 at once and 50 on   GR; 0x97 is INF              TestSubscriptions,
//	  a connection: DISCONNECT 0x97; identifiers:                                 TestSubscriptionLimits
//	  0xA1
//	"a/#" does not match "a"                       DG                           TestMatchesTopic
//	100 a second, the rest is discarded (off by    GR                           TestOutboundRate
//	  default: one client watches all)
//	100 unacknowledged, the rest waits in order    GR                           TestOutboundUnacknowledged
//	DUP is never set                               DG                           TestPersistentSession
//	sessions for an hour, not for the other        DG                           TestSessionExpiry,
//	  version of MQTT                                                             TestSessionsOfTwoVersions
//	QoS 1 is stored, 10 a second come after a      DG; SQ; the burst is INF     TestStoredRate, TestQueueRate,
//	  reconnect beside what comes now (off), 500                                  TestNotStored
//	  a second are stored for the account (off)
//	retained: to filters without wildcards, not    DG                           TestRetained, TestRetainedLimit,
//	  to groups; 500,000, then 0x97; they expire                                  TestRetainedExpires
//	groups: a member at random, of those online;   DG "Shared subscriptions     TestSharedSubscription,
//	  QoS 1 waits for the group if a member has      message queuing"             TestGroupQueue ... TestGroupQoS
//	  a session, QoS 0 is lost; 20 a second of
//	  what waited
//	wills, but after the client's own DISCONNECT   DG; the policy is asked      TestWillWhen, TestWillRefused
//	                                                 then: INF
//
// The quotas that are off by default slow down everything that connects again
// and again; [Options.WithAWSQuotas] turns all on. What a test can break is
// listed in linkfaults.go.
//
// Of mochi-mqtt (v2.7.9) is used: reading and writing packets, the state of
// its sessions (who is known, and until when) and the tree of filters. CONNECT
// is decided in connect.go, publishes in publish.go, subscriptions in
// subscribe.go, deliveries in session.go, delivery.go and groups.go.
//
// # HTTP
//
// The registry API, IAM and STS, publishing over HTTPS and shadows: README.md
// in this folder lists each behaviour with its source and its test, and what
// is missing.
//
// # What it does not do
//
// Rules, jobs, fleet provisioning, device location (publishes to their reserved
// topics are taken and go nowhere), subscription events,
// custom authorizers (ALPN "mqtt"), Cognito, several accounts and domains.
//
// Of the broker: which messages come first; messages and acknowledgements
// twice or out of order; resending within a connection, and giving up after an
// hour; the half hour that a session may live longer; a Message Expiry Interval
// of 0 (AWS makes it 1); the quotas of one retained publish a second on a topic,
// of subscriptions and of shared subscriptions of the account, of concurrent
// connections, of user properties; the disconnection of a client that is
// throttled for long; the end of a TLS connection after days; Will Delay
// Interval (DG does not list it among the properties: wills go out at once).
// The order in which AWS checks what is wrong in several ways is unknown.
package awsiottest
