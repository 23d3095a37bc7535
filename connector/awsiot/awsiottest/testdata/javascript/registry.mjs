// The registry by @aws-sdk/client-iot: what a device needs, made, found and taken away again.

import assert from 'node:assert/strict'
import * as iot from '@aws-sdk/client-iot'
import { refused, world } from './world.mjs'

const clientOf = ({ id, secret, token }, maxAttempts = 1) =>
  new iot.IoTClient({
    endpoint: world.control,
    region: world.region,
    credentials: { accessKeyId: id, secretAccessKey: secret, sessionToken: token },
    maxAttempts, // 1: a refusal is wanted as it is
  })
const client = clientOf(world.key)
const send = (name, input) => client.send(new iot[`${name}Command`](input))

async function things() {
  await send('CreateThingType', { thingTypeName: 'sensor' })
  const made = await send('CreateThing', { thingName: 'sdk-1', thingTypeName: 'sensor', attributePayload: { attributes: { model: 'x' } } })
  assert.match(made.thingArn, /^arn:aws:iot:.*:thing\/sdk-1$/)
  for (const n of [2, 3]) await send('CreateThing', { thingName: `sdk-${n}`, thingTypeName: 'sensor' })
  const thing = await send('DescribeThing', { thingName: 'sdk-1' })
  assert.deepEqual([thing.thingTypeName, thing.attributes, thing.version, thing.defaultClientId], ['sensor', { model: 'x' }, 1, 'sdk-1'])
  const found = []
  for await (const page of iot.paginateListThings({ client, pageSize: 2 }, { thingTypeName: 'sensor' })) {
    found.push(page.things.map(({ thingName }) => thingName))
  }
  assert.deepEqual(found, [['sdk-1', 'sdk-2'], ['sdk-3']])
  await send('UpdateThing', { thingName: 'sdk-1', expectedVersion: 1, attributePayload: { attributes: { site: 'a' }, merge: true } })
  assert.deepEqual((await send('DescribeThing', { thingName: 'sdk-1' })).attributes, { model: 'x', site: 'a' })
}

async function principals() {
  const { certificateArn, certificateId, keyPair } = await send('CreateKeysAndCertificate', { setAsActive: true })
  assert.match(keyPair.PrivateKey, /PRIVATE KEY/)
  const policyDocument = JSON.stringify({ Version: '2012-10-17', Statement: [{ Effect: 'Allow', Action: 'iot:*', Resource: '*' }] })
  await send('CreatePolicy', { policyName: 'sdk', policyDocument })
  await send('AttachPolicy', { policyName: 'sdk', target: certificateArn })
  assert.deepEqual((await send('ListAttachedPolicies', { target: certificateArn })).policies.map((p) => p.policyName), ['sdk'])
  await send('AttachThingPrincipal', { thingName: 'sdk-1', principal: certificateArn })
  assert.deepEqual((await send('ListThingPrincipals', { thingName: 'sdk-1' })).principals, [certificateArn])
  assert.deepEqual((await send('ListPrincipalThings', { principal: certificateArn })).things, ['sdk-1'])
  await refused('InvalidRequestException', 400, send('DeleteThing', { thingName: 'sdk-1' })) // it has a principal
  await refused('DeleteConflictException', 409, send('DeletePolicy', { policyName: 'sdk' }))
  await send('DetachThingPrincipal', { thingName: 'sdk-1', principal: certificateArn })
  await send('DetachPolicy', { policyName: 'sdk', target: certificateArn })
  await send('UpdateCertificate', { certificateId, newStatus: 'INACTIVE' })
  const { certificateDescription } = await send('DescribeCertificate', { certificateId })
  assert.equal(certificateDescription.status, 'INACTIVE')
  assert.ok(certificateDescription.creationDate instanceof Date)
  await send('DeleteCertificate', { certificateId })
  await send('DeletePolicy', { policyName: 'sdk' })
}

async function groups() {
  const { thingGroupArn } = await send('CreateThingGroup', { thingGroupName: 'plant' })
  await send('AddThingToThingGroup', { thingGroupName: 'plant', thingName: 'sdk-1' })
  assert.deepEqual((await send('ListThingsInThingGroup', { thingGroupName: 'plant' })).things, ['sdk-1'])
  assert.deepEqual((await send('ListThingGroupsForThing', { thingName: 'sdk-1' })).thingGroups, [{ groupName: 'plant', groupArn: thingGroupArn }])
  await send('RemoveThingFromThingGroup', { thingGroupName: 'plant', thingName: 'sdk-1' })
}

/** Refusals come as the exceptions of the SDK, with what it reads from them. */
async function exceptions() {
  await refused('ResourceNotFoundException', 404, send('DescribeThing', { thingName: 'nobody' }))
  const conflict = await refused('ResourceAlreadyExistsException', 409, send('CreateThing', { thingName: 'sdk-1' }))
  assert.ok(conflict instanceof iot.ResourceAlreadyExistsException)
  assert.match(conflict.resourceArn, /thing\/sdk-1$/)
  await refused('VersionConflictException', 409, send('UpdateThing', { thingName: 'sdk-1', expectedVersion: 1 }))
  await refused('InvalidRequestException', 400, send('CreateThing', { thingName: 'a b' }))
  await refused('ResourceNotFoundException', 404, send('CreateThing', { thingName: 'x', thingTypeName: 'none' }))
  const denied = await refused('AccessDeniedException', 403, clientOf(world.weakKey).send(new iot.CreateThingCommand({ thingName: 'x' })))
  assert.match(denied.message, /user\/weak is not authorized to perform: iot:CreateThing on resource: arn:aws:iot:.*:thing\/x/)
  await refused('InvalidSignatureException', 403, clientOf({ ...world.key, secret: 'x' }).send(new iot.ListThingsCommand({})))
  await refused('UnrecognizedClientException', 403, clientOf({ id: 'AKIAUNKNOWN', secret: 'x' }).send(new iot.ListThingsCommand({})))
}

/** The emulator lets ListThingTypes through five times a second: one more is refused, and the SDK's own retries get through. */
async function throttled() {
  let error
  while (!error) await send('ListThingTypes', {}).catch((e) => { error = e })
  assert.deepEqual([error.name, error.$metadata.httpStatusCode], ['ThrottlingException', 400], error.message)
  const patient = clientOf(world.key, 8)
  let attempts = 1
  while (attempts === 1) attempts = (await patient.send(new iot.ListThingTypesCommand({}))).$metadata.attempts
}

async function cleanUp() {
  for (const n of [1, 2, 3]) await send('DeleteThing', { thingName: `sdk-${n}` })
  await refused('ResourceNotFoundException', 404, send('DescribeThing', { thingName: 'sdk-1' }))
  await send('DeprecateThingType', { thingTypeName: 'sensor' })
  const { thingTypeMetadata } = await send('DescribeThingType', { thingTypeName: 'sensor' })
  assert.deepEqual([thingTypeMetadata.deprecated, thingTypeMetadata.deprecationDate instanceof Date], [true, true])
  await refused('InvalidRequestException', 400, send('CreateThing', { thingName: 'sdk-4', thingTypeName: 'sensor' }))
}

export const steps = {
  'registry: things': things,
  'registry: principals and policies': principals,
  'registry: groups': groups,
  'registry: exceptions': exceptions,
  'registry: throttled': throttled,
  'registry: delete': cleanUp,
}
