// The device SDK's MQTT 5 client.

import assert from 'node:assert/strict'
import sdk from 'aws-iot-device-sdk-v2'
import { Inbox, event, failure, within, world } from './world.mjs'

const { auth, iot, mqtt5 } = sdk
const { AtLeastOnce } = mqtt5.QoS
const Builder = iot.AwsIotMqtt5ClientConfigBuilder

const mutualTLS = () => Builder.newDirectMqttBuilderWithMtlsFromMemory(world.host, world.certificate, world.privateKey)

function signed(key) {
  const credentialsProvider = auth.AwsCredentialsProvider.newStatic(key.id, key.secret, key.token)
  return Builder.newWebsocketMqttBuilderWithSigv4Auth(world.host, { region: world.region, credentialsProvider }).withPort(world.port443)
}

/** The ways in, as the SDK's builders make them. */
export const ways = {
  'mutual TLS': () => mutualTLS().withPort(world.port8883),
  'mutual TLS at 443': () => mutualTLS().withPort(world.port443),
  WSS: () => signed(world.key),
  'WSS with a temporary key': () => signed(world.temporaryKey),
}

/** Connects one client. `change` gets the builder for what is special. */
export async function connect(clientId, properties = {}, change = () => {}, way = ways['mutual TLS']) {
  const builder = way().withCertificateAuthority(world.ca).withConnectProperties({ clientId, keepAliveIntervalSeconds: 60, ...properties })
  change(builder)
  const client = new mqtt5.Mqtt5Client(builder.build())
  const messages = new Inbox()
  client.on('messageReceived', ({ message }) => messages.put({ ...message, text: Buffer.from(message.payload ?? []).toString() }))
  const disconnected = event(client, 'disconnection')
  const opened = new Promise((resolve, reject) => {
    client.on('connectionSuccess', resolve)
    client.on('connectionFailure', ({ error, connack }) => reject(Object.assign(new Error(error.toString()), { connack })))
  })
  const stop = async (packet) => {
    const stopped = event(client, 'stopped')
    client.stop(packet)
    await within(stopped, `${clientId} stops`)
    client.close()
  }
  client.start()
  try {
    const { connack, settings } = await within(opened, `${clientId} connects`)
    return { client, connack, settings, messages, disconnected, stop }
  } catch (error) {
    await stop()
    throw error
  }
}

const subscribe = ({ client }, ...filters) =>
  within(client.subscribe({ subscriptions: filters.map((topicFilter) => ({ topicFilter, qos: AtLeastOnce })) }), 'SUBACK')

const publish = ({ client }, topicName, payload, more = {}) =>
  within(client.publish({ topicName, qos: AtLeastOnce, payload, ...more }), 'PUBACK')

const goodbye = { reasonCode: mqtt5.DisconnectReasonCode.NormalDisconnection }

/** Publishes and receives back, with all that MQTT 5 lets go along. */
async function thereAndBack(way) {
  const device = await connect('sdk-5', {}, undefined, way)
  try {
    const { reasonCodes } = await subscribe(device, 'sdk/5/+')
    assert.deepEqual(reasonCodes, [mqtt5.SubackReasonCode.GrantedQoS1])
    const puback = await publish(device, 'sdk/5/hello', 'hello', {
      contentType: 'text/plain',
      payloadFormat: mqtt5.PayloadFormatIndicator.Utf8,
      responseTopic: 'sdk/5/answer',
      correlationData: 'c-1',
      messageExpiryIntervalSeconds: 60,
      userProperties: [{ name: 'a', value: '1' }, { name: 'a', value: '2' }],
    })
    assert.equal(puback.reasonCode, mqtt5.PubackReasonCode.Success)
    const got = await device.messages.next()
    assert.deepEqual([got.topicName, got.text, got.qos, got.contentType, got.responseTopic], ['sdk/5/hello', 'hello', 1, 'text/plain', 'sdk/5/answer'])
    assert.deepEqual([Buffer.from(got.correlationData).toString(), got.payloadFormat], ['c-1', mqtt5.PayloadFormatIndicator.Utf8])
    assert.deepEqual(got.userProperties.map(({ name, value }) => [name, value]), [['a', '1'], ['a', '2']])
    assert.ok(got.messageExpiryIntervalSeconds <= 60)
    assert.deepEqual((await within(device.client.unsubscribe({ topicFilters: ['sdk/5/+'] }), 'UNSUBACK')).reasonCodes, [0])
  } finally {
    await device.stop(goodbye)
  }
}

/** What the server says that it can do: AWS's page "MQTT", MQTT 5 CONNACK. */
async function settings() {
  const device = await connect('sdk-5')
  try {
    const { settings: s, connack } = device
    assert.equal(connack.sessionPresent, false)
    assert.deepEqual(
      [s.maximumQos, s.receiveMaximumFromServer, s.topicAliasMaximumToServer, s.retainAvailable, s.wildcardSubscriptionsAvailable],
      [1, 100, 8, true, true],
    )
    assert.deepEqual([s.subscriptionIdentifiersAvailable, s.sharedSubscriptionsAvailable, s.clientId], [false, true, 'sdk-5'])
  } finally {
    await device.stop(goodbye)
  }
}

/** What is asked for beyond the limits is cut down, what is sent beyond them ends the connection with a reason. */
async function limits() {
  const asking = await connect('sdk-5', { keepAliveIntervalSeconds: 5, sessionExpiryIntervalSeconds: 4_294_967_295 })
  await asking.stop({ ...goodbye, sessionExpiryIntervalSeconds: 0 })
  assert.deepEqual([asking.settings.serverKeepAlive, asking.settings.sessionExpiryInterval], [30, 3600])
  const device = await connect('sdk-5')
  await subscribe(device, 'sdk/large')
  await publish(device, 'sdk/large', Buffer.alloc(128 * 1024, 'x'))
  assert.equal((await device.messages.next()).text.length, 128 * 1024)
  await device.stop(goodbye)
  const { PacketTooLarge, QuotaExceeded, TopicNameInvalid } = mqtt5.DisconnectReasonCode
  await ends(PacketTooLarge, (client) => client.publish({ topicName: 'sdk/large', qos: AtLeastOnce, payload: Buffer.alloc(128 * 1024 + 1, 'x') }))
  await ends(TopicNameInvalid, (client) => client.publish({ topicName: 'sdk/2/3/4/5/6/7/8/9', qos: AtLeastOnce, payload: 'x' }))
  const nine = Array.from({ length: 9 }, (_, i) => ({ topicFilter: `sdk/${i}`, qos: AtLeastOnce }))
  await ends(QuotaExceeded, (client) => client.subscribe({ subscriptions: nine }))
}

/** Wants the connection to end for what is done. The SDK would try it again and again. */
async function ends(reasonCode, what) {
  const device = await connect('sdk-5')
  what(device.client).catch(() => {})
  const { disconnect } = await within(device.disconnected, `DISCONNECT ${reasonCode}`)
  await device.stop()
  assert.equal(disconnect?.reasonCode, reasonCode)
}

async function retained() {
  const device = await connect('sdk-5')
  try {
    await publish(device, 'sdk/kept', 'kept', { retain: true })
    await subscribe(device, 'sdk/kept')
    const got = await device.messages.next()
    assert.deepEqual([got.text, got.retain], ['kept', true])
    await within(device.client.unsubscribe({ topicFilters: ['sdk/kept'] }), 'UNSUBACK')
    // An empty one clears it. The SDK wants it left out rather than ''.
    await within(device.client.publish({ topicName: 'sdk/kept', qos: AtLeastOnce, retain: true }), 'PUBACK')
    await subscribe(device, 'sdk/kept')
    await publish(device, 'sdk/kept', 'not kept')
    assert.equal((await device.messages.next()).text, 'not kept')
  } finally {
    await device.stop(goodbye)
  }
}

/** A will goes out for a client that is cut, not for one that says goodbye. */
async function will() {
  const watcher = await connect('sdk-watcher')
  try {
    await subscribe(watcher, 'sdk/will')
    const withWill = (text) => connect('sdk-5', { will: { topicName: 'sdk/will', qos: AtLeastOnce, payload: text, contentType: 'text/plain' } })
    await (await withWill('not this one')).stop(goodbye)
    await (await withWill('cut off')).stop() // no DISCONNECT is sent
    await (await withWill('asked for')).stop({ reasonCode: mqtt5.DisconnectReasonCode.DisconnectWithWillMessage })
    for (const text of ['cut off', 'asked for']) {
      const got = await watcher.messages.next('the will')
      assert.deepEqual([got.text, got.contentType], [text, 'text/plain'])
    }
  } finally {
    await watcher.stop(goodbye)
  }
}

/** Connects with a session that lasts: a new one, or what is there of it. */
function lasting(behavior) {
  return connect('sdk-5', { sessionExpiryIntervalSeconds: 600 }, (builder) => builder.withSessionBehavior(behavior))
}

async function persistentSession() {
  const before = await lasting(mqtt5.ClientSessionBehavior.Clean)
  await subscribe(before, 'sdk/session')
  await before.stop(goodbye)
  const other = await connect('sdk-other')
  try {
    await publish(other, 'sdk/session', 'while it was away')
  } finally {
    await other.stop(goodbye)
  }
  const after = await lasting(mqtt5.ClientSessionBehavior.RejoinAlways)
  try {
    assert.equal(after.connack.sessionPresent, true)
    assert.equal((await after.messages.next('the stored message')).text, 'while it was away')
  } finally {
    await after.stop({ ...goodbye, sessionExpiryIntervalSeconds: 0 })
  }
}

/** What a client has not acknowledged comes again with its session; what it has does not. */
async function unacknowledged() {
  const holding = async (behavior) => {
    const device = await lasting(behavior)
    const handles = new Inbox()
    device.client.on('messageReceived', ({ acknowledgementControl }) => handles.put(acknowledgementControl.acquireHandle()))
    return { ...device, handles }
  }
  const first = await holding(mqtt5.ClientSessionBehavior.Clean)
  await subscribe(first, 'sdk/held')
  await publish(first, 'sdk/held', 'held')
  assert.equal((await first.messages.next()).text, 'held')
  await first.stop()
  const second = await holding(mqtt5.ClientSessionBehavior.RejoinAlways)
  assert.equal((await second.messages.next('the message again')).text, 'held')
  const handle = await second.handles.next()
  handle.invokeAcknowledgement()
  await publish(second, 'sdk/elsewhere', 'x') // comes to the server after the acknowledgement
  await second.stop()
  const third = await lasting(mqtt5.ClientSessionBehavior.RejoinAlways)
  try {
    await publish(third, 'sdk/held', 'new')
    assert.equal((await third.messages.next()).text, 'new')
  } finally {
    await third.stop({ ...goodbye, sessionExpiryIntervalSeconds: 0 })
  }
}

async function sharedSubscription() {
  const members = await Promise.all(['sdk-a', 'sdk-b'].map((id) => connect(id)))
  try {
    const inbox = new Inbox()
    for (const member of members) {
      member.client.on('messageReceived', ({ message }) => inbox.put(Buffer.from(message.payload).toString()))
      await subscribe(member, '$share/group/sdk/shared')
    }
    const sent = Array.from({ length: 20 }, (_, i) => `${i}`)
    for (const text of sent) await publish(members[0], 'sdk/shared', text)
    const got = []
    while (got.length < sent.length) got.push(await inbox.next())
    assert.deepEqual(got.sort(), sent.sort()) // each once
  } finally {
    for (const member of members) await member.stop(goodbye)
  }
}

async function topicAliases() {
  const { LRU } = mqtt5.OutboundTopicAliasBehaviorType
  const { Enabled } = mqtt5.InboundTopicAliasBehaviorType
  const device = await connect('sdk-5', {}, (builder) =>
    builder.withTopicAliasingOptions({ outboundBehavior: LRU, outboundCacheMaxSize: 4, inboundBehavior: Enabled, inboundCacheMaxSize: 4 }))
  try {
    await subscribe(device, 'sdk/alias/+')
    const topics = [1, 2, 1, 2, 3, 4, 5, 1].map((n) => `sdk/alias/${n}`) // more topics than aliases
    for (const topic of topics) await publish(device, topic, topic)
    for (const topic of topics) {
      const got = await device.messages.next()
      assert.deepEqual([got.topicName, got.text], [topic, topic])
    }
  } finally {
    await device.stop(goodbye)
  }
}

async function takeover() {
  const first = await connect('sdk-5')
  const second = await connect('sdk-5')
  try {
    const { disconnect } = await within(first.disconnected, 'the first is thrown out')
    assert.equal(disconnect.reasonCode, mqtt5.DisconnectReasonCode.SessionTakenOver)
  } finally {
    await first.stop()
    await second.stop(goodbye)
  }
}

/** What the policy does not allow is refused with a reason. */
async function policy() {
  const { connack } = await failure(connect('a-stranger'), 'a client id that is not allowed')
  assert.equal(connack.reasonCode, mqtt5.ConnectReasonCode.NotAuthorized)
  assert.match(connack.reasonString, /^CONNACK:/)
  const device = await connect('sdk-5')
  try {
    assert.deepEqual((await subscribe(device, 'theirs', 'sdk/mine')).reasonCodes, [mqtt5.SubackReasonCode.NotAuthorized, 1])
    const puback = await publish(device, 'theirs', 'x')
    assert.equal(puback.reasonCode, mqtt5.PubackReasonCode.NotAuthorized)
  } finally {
    await device.stop()
  }
}

async function wrongKey() {
  const way = () => signed({ ...world.key, secret: 'x'.repeat(40) })
  const error = await failure(connect('sdk-5', {}, undefined, way), 'a wrong secret')
  assert.equal(error.connack, undefined) // the WebSocket itself is refused
}

export const steps = {
  ...Object.fromEntries(Object.entries(ways).map(([name, way]) => [`MQTT 5 over ${name}`, () => thereAndBack(way)])),
  'MQTT 5 settings': settings,
  'MQTT 5 limits': limits,
  'MQTT 5 retained': retained,
  'MQTT 5 will': will,
  'MQTT 5 persistent session': persistentSession,
  'MQTT 5 unacknowledged': unacknowledged,
  'MQTT 5 shared subscription': sharedSubscription,
  'MQTT 5 topic aliases': topicAliases,
  'MQTT 5 takeover': takeover,
  'MQTT 5 policy': policy,
  'MQTT 5 over WSS with a wrong secret': wrongKey,
}
