// The device SDK's MQTT 3.1.1 client.

import assert from 'node:assert/strict'
import sdk from 'aws-iot-device-sdk-v2'
import { Inbox, event, failure, within, world } from './world.mjs'

const { auth, iot, mqtt } = sdk
const { AtLeastOnce } = mqtt.QoS
const Builder = iot.AwsIotMqttConnectionConfigBuilder

const mutualTLS = () => Builder.new_mtls_builder(world.certificate, world.privateKey)

function signed() {
  const credentials_provider = auth.AwsCredentialsProvider.newStatic(world.key.id, world.key.secret)
  return Builder.new_with_websockets({ region: world.region, credentials_provider }).with_port(world.port443)
}

const ways = {
  'mutual TLS': () => mutualTLS().with_port(world.port8883),
  'mutual TLS at 443': () => mutualTLS().with_port(world.port443),
  WSS: signed,
}

/** Connects one client. `change` gets the builder for what is special. */
export async function connect(clientId, change = () => {}, way = ways['mutual TLS']) {
  const builder = way().with_certificate_authority(world.ca).with_endpoint(world.host).with_client_id(clientId).with_clean_session(true).with_keep_alive_seconds(60)
  change(builder)
  const connection = new mqtt.MqttClient().new_connection(builder.build())
  const messages = new Inbox()
  connection.on('message', (topic, payload, dup, qos, retain) => messages.put({ topic, text: Buffer.from(payload).toString(), dup, qos, retain }))
  const sessionPresent = await within(connection.connect(), `${clientId} connects`)
  const stop = () => within(connection.disconnect(), `${clientId} disconnects`)
  return { connection, messages, sessionPresent, stop }
}

const subscribe = ({ connection }, filter) => within(connection.subscribe(filter, AtLeastOnce), 'SUBACK')
const publish = ({ connection }, topic, payload, retain = false) => within(connection.publish(topic, payload, AtLeastOnce, retain), 'PUBACK')

async function thereAndBack(way) {
  const device = await connect('sdk-3', undefined, way)
  try {
    assert.equal((await subscribe(device, 'sdk/3/+')).qos, AtLeastOnce)
    await publish(device, 'sdk/3/hello', 'hello')
    assert.deepEqual(await device.messages.next(), { topic: 'sdk/3/hello', text: 'hello', dup: false, qos: 1, retain: false })
    await within(device.connection.unsubscribe('sdk/3/+'), 'UNSUBACK')
  } finally {
    await device.stop()
  }
}

async function retained() {
  const device = await connect('sdk-3')
  try {
    await publish(device, 'sdk/kept3', 'kept', true)
    await subscribe(device, 'sdk/kept3')
    const got = await device.messages.next()
    assert.deepEqual([got.text, got.retain], ['kept', true])
    await within(device.connection.unsubscribe('sdk/kept3'), 'UNSUBACK') // the SDK breaks down when it receives an empty message
    await publish(device, 'sdk/kept3', '', true)
    await subscribe(device, 'sdk/kept3')
    await publish(device, 'sdk/kept3', 'not kept')
    assert.equal((await device.messages.next()).text, 'not kept')
  } finally {
    await device.stop()
  }
}

/** A will goes out for a client that is thrown out, not for one that says goodbye. */
async function will() {
  const watcher = await connect('sdk-watcher')
  try {
    await subscribe(watcher, 'sdk/will3')
    const withWill = (text) => connect('sdk-3', (builder) => builder.with_will({ topic: 'sdk/will3', payload: text, qos: AtLeastOnce, retain: false }))
    await (await withWill('not this one')).stop()
    const first = await withWill('thrown out')
    const interrupted = event(first.connection, 'interrupt')
    const second = await connect('sdk-3')
    await within(interrupted, 'the first is thrown out')
    await first.stop() // else it comes back
    assert.equal((await watcher.messages.next('the will')).text, 'thrown out')
    await second.stop()
  } finally {
    await watcher.stop()
  }
}

async function persistentSession() {
  const lasting = (builder) => builder.with_clean_session(false)
  const before = await connect('sdk-3', lasting)
  assert.equal(before.sessionPresent, false)
  await subscribe(before, 'sdk/session3')
  await before.stop()
  const other = await connect('sdk-other')
  await publish(other, 'sdk/session3', 'while it was away')
  await other.stop()
  const after = await connect('sdk-3', lasting)
  try {
    assert.equal(after.sessionPresent, true)
    assert.equal((await after.messages.next('the stored message')).text, 'while it was away')
  } finally {
    await after.stop()
  }
}

/** MQTT 3.1.1 has no words for what is not allowed: the connection ends. */
async function policy() {
  await failure(connect('a-stranger'), 'a client id that is not allowed')
  const device = await connect('sdk-3')
  const interrupted = event(device.connection, 'interrupt')
  device.connection.subscribe('theirs', AtLeastOnce).catch(() => {})
  await within(interrupted, 'the end of the connection')
  await device.stop() // else it comes back
}

export const steps = {
  ...Object.fromEntries(Object.entries(ways).map(([name, way]) => [`MQTT 3.1.1 over ${name}`, () => thereAndBack(way)])),
  'MQTT 3.1.1 retained': retained,
  'MQTT 3.1.1 will': will,
  'MQTT 3.1.1 persistent session': persistentSession,
  'MQTT 3.1.1 policy': policy,
}
