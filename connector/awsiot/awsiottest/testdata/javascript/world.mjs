// What the steps share: the emulator that the test has started, and ways to wait.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'

/** Addresses, certificates and keys: the test writes them to the file that is named as the first argument. */
export const world = JSON.parse(readFileSync(process.argv[2], 'utf8'))

/** Bounds a wait, so that a step that hangs fails under its own name. */
export function within(promise, what, seconds = 20) {
  let timer
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: nothing came within ${seconds} s`)), seconds * 1000)
  })
  return Promise.race([promise, late]).finally(() => clearTimeout(timer))
}

/** The next event of a name. Unlike node's once, it does not fail for an error, which the SDK tells of whatever it does about it. */
export const event = (emitter, name) => new Promise((resolve) => emitter.once(name, resolve))

/** What a client has received, in order. */
export class Inbox {
  #items = []
  #waiting = []

  put(item) {
    const waiting = this.#waiting.shift()
    if (waiting) waiting(item)
    else this.#items.push(item)
  }

  next(what = 'a message') {
    if (this.#items.length > 0) return Promise.resolve(this.#items.shift())
    return within(new Promise((resolve) => this.#waiting.push(resolve)), what)
  }
}

/** Wants a promise to fail, and returns its error. */
export async function failure(promise, what) {
  const outcome = await within(promise, what).then((value) => ({ value }), (error) => ({ error }))
  assert.ok(outcome.error, `${what}: succeeded with ${JSON.stringify(outcome.value)}`)
  return outcome.error
}

/** Wants a call of an API to be refused by an exception with a status. */
export async function refused(name, status, promise) {
  const error = await failure(promise, name)
  assert.deepEqual([error.name, error.$metadata?.httpStatusCode], [name, status], error.message)
  return error
}
