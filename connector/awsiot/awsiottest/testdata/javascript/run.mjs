// Runs AWS's SDKs for JavaScript against the emulator, and reports each step as a line of JSON: {"step"} or {"step", "error"}.

import { steps as mqtt5 } from './mqtt5.mjs'
import { steps as mqtt311 } from './mqtt311.mjs'
import { steps as shadows } from './shadows.mjs'
import { steps as registry } from './registry.mjs'
import { steps as dataPlane } from './dataplane.mjs'
import { within } from './world.mjs'

for (const [step, run] of Object.entries({ ...mqtt5, ...mqtt311, ...shadows, ...registry, ...dataPlane })) {
  const report = await within(run(), step, 60).then(() => ({ step }), (error) => ({ step, error: error?.stack ?? String(error) }))
  console.log(JSON.stringify(report))
}
process.exit() // a step that failed may have left a client behind
