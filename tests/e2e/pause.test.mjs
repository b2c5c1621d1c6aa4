// Pausing a run whose effect is in flight, with its worker killed: the effect resolves
// once, the run parks behind it, stays there without a row that could be claimed, and
// goes on where it stopped. And a workflow whose new runs wait.
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { startEngine, waitFor } from './lib/engine.mjs'
import { approve, exactlyOnce, fault, newBooking, prepare, refuse, runOf } from './lib/demo.mjs'

let engine, bob
before(async () => {
  engine = await startEngine({ workers: 2, lease: '1s', args: ['--poll', '200ms'] })
  bob = await prepare(engine)
})
after(() => engine?.stop())

const refunds = async (b) => Object.values((await engine.fake('stripe', 'GET', '/_fake/state')).body.db.refunds)
  .filter((r) => r.payment_intent === b.intent).length
const post = async (path, body = {}) => {
  const r = await engine.api('POST', `/api/v1${path}`, body)
  assert.equal(r.status, 200, JSON.stringify(r.body))
  return r.body
}
const claimable = async (run) => (await engine.sql(`select (select count(*) from holdpoint.ready where run_id = ${run}),
  (select count(*) from holdpoint.timer where run_id = ${run})`))[0]
const parked = (run) => waitFor(`run ${run} is paused`, async () => {
  const why = (await engine.api('GET', `/api/v1/runs/${run}/why`)).body
  if (why.cause !== 'paused') throw new Error(JSON.stringify(why))
  return why
})

test('what is in flight resolves once although its worker is killed; then the run is paused', async () => {
  const b = await newBooking(engine)
  await fault(engine, 'stripe', { match: 'POST /v1/refunds', kind: 'slow', seconds: 3, times: 1 })
  await refuse(engine, b)
  await approve(engine, b, bob)
  await waitFor('the refund is at Stripe', async () => await refunds(b) === 1)
  const { run } = await runOf(engine, b)
  await post(`/runs/${run}/pause`, { reason: 'the provider migrates' })
  const [[pid]] = await engine.sql(`select e.pid from holdpoint.ready r join holdpoint.engine e on e.id = r.engine_id where r.run_id = ${run}`)
  process.kill(Number(pid), 'SIGKILL')
  const why = await parked(run)
  assert.match(why.sentence, /^Run \d+ is paused in state "record" since .* by admin: the provider migrates\. holdpoint resume \d+ lets it go on\.$/)
  assert.equal(await refunds(b), 1)
  assert.deepEqual(await claimable(run), ['0', '0'])
  const again = await engine.api('POST', `/api/v1/runs/${run}/pause`, { reason: 'me too' })
  assert.equal(again.status, 409)
  assert.match(again.body.error.message, /is paused since .* by admin: the provider migrates/)
  const listed = (await engine.api('GET', '/api/v1/runs?status=paused')).body.runs
  assert.deepEqual(listed.map((r) => [r.run, r.paused.reason]), [[run, 'the provider migrates']])
  await post(`/runs/${run}/resume`)
  await exactlyOnce(engine, b)
})

test('a run is approved while it is paused, and every engine dies meanwhile', async () => {
  const b = await newBooking(engine)
  await refuse(engine, b)
  const { run } = await waitFor('it waits', async () => {
    const r = await runOf(engine, b)
    return r?.kind === 'approval' && r
  })
  await post(`/runs/${run}/pause`, { reason: 'wait for the morning' })
  await approve(engine, b, bob)
  engine.killAll()
  await engine.ended
  await engine.start()
  await parked(run)
  assert.equal(await refunds(b), 0)
  const r = await engine.cli(['resume', String(run)])
  assert.equal(r.code, 0, r.stderr)
  await exactlyOnce(engine, b)
})

test('new runs of a paused workflow are stored, wait, and go on with it', async () => {
  const name = 'refund_on_booking_failure'
  const paused = await engine.cli(['workflow', 'pause', name, '--reason', 'the provider migrates'])
  assert.equal(paused.code, 0, paused.stderr)
  const b = await newBooking(engine)
  await refuse(engine, b)
  const { run } = await waitFor('it is stored', () => runOf(engine, b))
  const why = await parked(run)
  assert.match(why.sentence, /by admin: the provider migrates/)
  assert.deepEqual(await claimable(run), ['0', '0'])
  const w = (await engine.api('GET', '/api/v1/workflows')).body.workflows.find((x) => x.workflow === name)
  assert.equal(w.paused.by, 'admin')
  const resumed = await engine.cli(['workflow', 'resume', name])
  assert.equal(resumed.code, 0, resumed.stderr)
  assert.match(resumed.stdout, /goes on, and 1 run that waited for it/)
  await approve(engine, b, bob)
  await exactlyOnce(engine, b)
  const once = await engine.cli(['workflow', 'resume', name])
  assert.equal(once.code, 5)
  assert.match(once.stderr, /is not paused/)
})
