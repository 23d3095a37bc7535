// The device SDK's shadow clients: the present one over both versions of MQTT, and the one before it.

import assert from 'node:assert/strict'
import sdk from 'aws-iot-device-sdk-v2'
import { Inbox, event, failure, within, world } from './world.mjs'
import { connect as connect5 } from './mqtt5.mjs'
import { connect as connect311 } from './mqtt311.mjs'

const { iotshadow, mqtt, mqtt5 } = sdk
const options = { maxRequestResponseSubscriptions: 8, maxStreamingSubscriptions: 4, operationTimeoutInSeconds: 20 }

/** The operations of a shadow: the classic one where shadowName is undefined. */
function operations(client, id) {
  const kind = id.shadowName ? 'NamedShadow' : 'Shadow'
  const call = (op) => (request = {}) => within(client[`${op}${kind}`]({ ...id, ...request }), `${op}${kind}`)
  const stream = (event) => client[`create${kind}${event}Stream`]({ ...id })
  return { get: call('get'), update: call('update'), delete: call('delete'), deltas: () => stream('DeltaUpdated'), documents: () => stream('Updated') }
}

const established = 0 // SubscriptionStatusEventType.SubscriptionEstablished, which the SDK does not export

/** Wants a request to be rejected with a code, and returns the message. */
async function rejected(code, promise) {
  const { modeledError, message } = await failure(promise, `rejected with ${code}`)
  assert.equal(modeledError?.code, code, message)
  return modeledError.message
}

/** Opens a stream and returns what comes on it. */
async function opened(stream) {
  const status = event(stream, 'subscriptionStatus')
  const events = new Inbox()
  stream.on('incomingPublish', ({ message }) => events.put(message))
  stream.open()
  const { type } = await within(status, 'the subscription of the stream')
  assert.equal(type, established)
  return events
}

async function life(client, id) {
  const shadow = operations(client, id)
  assert.match(await rejected(404, shadow.get()), /^No shadow exists with name: 'sdk-lamp/)
  const streams = [shadow.deltas(), shadow.documents()]
  try {
    const [deltas, documents] = await Promise.all(streams.map(opened))
    const { version } = await shadow.update({ state: { reported: { on: false, level: 3 } } })
    const updated = await shadow.update({ state: { desired: { on: true, level: 3 } } })
    assert.deepEqual([updated.version, updated.state.desired], [version + 1, { on: true, level: 3 }])
    const delta = await deltas.next('a delta')
    assert.deepEqual([delta.version, delta.state], [version + 1, { on: true }])
    const { state } = await shadow.get()
    assert.deepEqual(state, { desired: { on: true, level: 3 }, reported: { on: false, level: 3 }, delta: { on: true } })
    assert.deepEqual((await documents.next()).current.state, { reported: { on: false, level: 3 } })
    const { previous, current } = await documents.next()
    assert.deepEqual([previous.version, current.version, current.state.desired], [version, version + 1, { on: true, level: 3 }])
    await rejected(409, shadow.update({ version, state: { reported: { on: true } } }))
    await rejected(400, shadow.update({}))
    await shadow.update({ version: version + 1, state: { reported: { on: true } } })
    assert.equal((await shadow.get()).state.delta, undefined)
    assert.equal((await shadow.delete()).version, version + 2)
    await rejected(404, shadow.delete())
  } finally {
    streams.forEach((stream) => stream.close())
  }
}

async function over5(id) {
  const device = await connect5('sdk-shadows')
  const client = iotshadow.IotShadowClientv2.newFromMqtt5(device.client, options)
  try {
    await life(client, id)
  } finally {
    client.close()
    await device.stop()
  }
}

async function over311(id) {
  const device = await connect311('sdk-shadows')
  const client = iotshadow.IotShadowClientv2.newFromMqtt311(device.connection, options)
  try {
    await life(client, id)
  } finally {
    client.close()
    await device.stop()
  }
}

/** The first shadow client: subscriptions and publishes one by one, and a version that is not the present one. */
async function first() {
  const device = await connect311('sdk-shadows')
  try {
    const client = new iotshadow.IotShadowClient(device.connection)
    const id = { thingName: 'sdk-plug' }
    const accepted = new Inbox()
    const refusals = new Inbox()
    const documents = new Inbox()
    const take = (inbox) => (error, answer) => inbox.put(error ?? answer)
    await client.subscribeToUpdateShadowAccepted(id, mqtt.QoS.AtLeastOnce, take(accepted))
    await client.subscribeToUpdateShadowRejected(id, mqtt.QoS.AtLeastOnce, take(refusals))
    await client.subscribeToShadowUpdatedEvents(id, mqtt.QoS.AtLeastOnce, take(documents))
    await client.publishUpdateShadow({ ...id, clientToken: 't-1', state: { reported: { level: 1 } } }, mqtt.QoS.AtLeastOnce)
    const { version, clientToken } = await accepted.next('accepted')
    assert.equal(clientToken, 't-1')
    assert.deepEqual((await documents.next('documents')).current.state, { reported: { level: 1 } })
    await client.publishUpdateShadow({ ...id, clientToken: 't-2', version: version + 1, state: { reported: { level: 2 } } }, mqtt.QoS.AtLeastOnce)
    const { code, clientToken: token } = await refusals.next('rejected')
    assert.deepEqual([code, token], [409, 't-2'])
  } finally {
    await device.stop()
  }
}

const classic = { thingName: 'sdk-lamp' }
const named = { thingName: 'sdk-lamp', shadowName: 'night' }

export const steps = {
  'classic shadow over MQTT 5': () => over5(classic),
  'named shadow over MQTT 5': () => over5(named),
  'classic shadow over MQTT 3.1.1': () => over311(classic),
  'named shadow over MQTT 3.1.1': () => over311(named),
  'shadow by the first client': first,
}
