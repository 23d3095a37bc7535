// Publishing and shadows over HTTPS, by @aws-sdk/client-iot-data-plane.

import assert from 'node:assert/strict'
import * as data from '@aws-sdk/client-iot-data-plane'
import sdk from 'aws-iot-device-sdk-v2'
import { connect } from './mqtt5.mjs'
import { refused, within, world } from './world.mjs'

const clientOf = ({ id, secret, token }) =>
  new data.IoTDataPlaneClient({
    endpoint: `https://${world.host}:${world.port443}`,
    region: world.region,
    credentials: { accessKeyId: id, secretAccessKey: secret, sessionToken: token },
    maxAttempts: 1,
  })
const client = clientOf(world.key)
const send = (name, input) => client.send(new data[`${name}Command`](input))
const json = (bytes) => JSON.parse(Buffer.from(bytes).toString())

async function publish() {
  const device = await connect('sdk-5')
  try {
    await within(device.client.subscribe({ subscriptions: [{ topicFilter: 'sdk/http/#', qos: sdk.mqtt5.QoS.AtLeastOnce }] }), 'SUBACK')
    await send('Publish', {
      topic: 'sdk/http/a b',
      qos: 1,
      payload: 'hello',
      contentType: 'text/plain',
      responseTopic: 'sdk/answer',
      correlationData: Buffer.from('c-1').toString('base64'),
      userProperties: JSON.stringify([{ a: '1' }, { b: '2' }]),
    })
    const got = await device.messages.next()
    assert.deepEqual([got.topicName, got.text, got.qos, got.contentType, got.responseTopic], ['sdk/http/a b', 'hello', 1, 'text/plain', 'sdk/answer'])
    assert.equal(Buffer.from(got.correlationData).toString(), 'c-1')
    assert.deepEqual(got.userProperties.map(({ name, value }) => [name, value]), [['a', '1'], ['b', '2']])
  } finally {
    await device.stop()
  }
}

async function retained() {
  await send('Publish', { topic: 'sdk/http/kept', qos: 1, retain: true, payload: 'kept' })
  const kept = await send('GetRetainedMessage', { topic: 'sdk/http/kept' })
  assert.deepEqual([kept.topic, Buffer.from(kept.payload).toString(), kept.qos], ['sdk/http/kept', 'kept', 1])
  const topics = []
  for await (const page of data.paginateListRetainedMessages({ client }, {})) topics.push(...page.retainedTopics.map(({ topic }) => topic))
  assert.deepEqual(topics, ['sdk/http/kept'])
  await send('Publish', { topic: 'sdk/http/kept', retain: true, payload: '' })
  await refused('ResourceNotFoundException', 404, send('GetRetainedMessage', { topic: 'sdk/http/kept' }))
}

async function shadow(shadowName) {
  const id = { thingName: 'sdk-desk', shadowName }
  await refused('ResourceNotFoundException', 404, send('GetThingShadow', id))
  const { payload } = await send('UpdateThingShadow', { ...id, payload: JSON.stringify({ state: { desired: { on: true }, reported: { on: false } } }) })
  const { version } = json(payload)
  assert.deepEqual(json((await send('GetThingShadow', id)).payload).state, { desired: { on: true }, reported: { on: false }, delta: { on: true } })
  const old = { ...id, payload: JSON.stringify({ version: version - 1, state: { desired: { on: false } } }) }
  await refused('ConflictException', 409, send('UpdateThingShadow', old))
  await refused('InvalidRequestException', 400, send('UpdateThingShadow', { ...id, payload: '{' }))
  const large = JSON.stringify({ state: { desired: { text: 'x'.repeat(9000) } } })
  await refused('RequestEntityTooLargeException', 413, send('UpdateThingShadow', { ...id, payload: large }))
  await send('DeleteThingShadow', id)
  await refused('ResourceNotFoundException', 404, send('GetThingShadow', id))
}

async function exceptions() {
  const weak = clientOf(world.weakKey)
  const error = await refused('ForbiddenException', 403, weak.send(new data.PublishCommand({ topic: 'sdk/http/x', payload: 'x' })))
  assert.ok(error instanceof data.IoTDataPlaneServiceException)
  await refused('InvalidRequestException', 400, send('Publish', { topic: 'sdk/#', payload: 'x' }))
}

export const steps = {
  'data plane: publish': publish,
  'data plane: retained': retained,
  'data plane: classic shadow': () => shadow(undefined),
  'data plane: named shadow': () => shadow('night'),
  'data plane: exceptions': exceptions,
}
