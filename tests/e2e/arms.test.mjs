// A canary that two people may promote while its health is looked at every second, on
// two workers: who comes first goes first, votes outlive checks, and a worker killed in
// the middle of a check leaves nothing behind.
import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { ROOT, startEngine, waitFor } from './lib/engine.mjs'

const releases = new Map() // id → what the watcher says: { rate, delay, status, asked, inAir }
const release = (id) => {
  if (!releases.has(id)) releases.set(id, { rate: 0, delay: 0, status: 200, asked: 0, inAir: 0 })
  return releases.get(id)
}
const watcher = createServer((rq, rs) => {
  const r = release(decodeURIComponent(rq.url.split('/').pop()))
  r.asked++
  r.inAir++
  setTimeout(() => {
    r.inAir--
    rs.writeHead(r.status, { 'content-type': 'application/json' })
    rs.end(JSON.stringify({ error_rate: r.rate }))
  }, r.delay)
})

let engine, ann, sam
before(async () => {
  await new Promise((done) => watcher.listen(0, '127.0.0.1', done))
  engine = await startEngine({ workers: 2, simulated: 'resend', lease: '1s', // with one, private addresses are allowed
    args: ['--poll', '200ms', '--base-url', `watch=http://127.0.0.1:${watcher.address().port}`] })
  ann = await engine.tokenFor('ann', { roles: ['sre'] })
  sam = await engine.tokenFor('sam', { roles: ['sre'] })
  const files = ['canary', 'slow_steps', 'roll_out'].map((name) => join(ROOT, `tests/fixtures/workflows/${name}.lua`))
  const r = await engine.cli(['deploy', ...files, '--plugins', join(ROOT, 'tests/fixtures/plugins')])
  assert.equal(r.code, 0, r.stderr)
})
after(async () => {
  await engine?.stop()
  watcher.closeAllConnections()
  watcher.close()
})

// the other worker may not have the definition yet
const start = (id, workflow = 'canary') => waitFor('it starts', async () => {
  const r = await engine.api('POST', '/api/v1/runs', { workflow, input: { release: id } })
  if (r.status >= 300) throw new Error(JSON.stringify(r.body))
  return r.body.run
})
const look = async (run) => (await engine.api('GET', `/api/v1/runs/${run}`)).body
const approvalOf = (run) => waitFor('it is asked', async () => (await look(run)).approvals?.[0])
const approve = async (run, token) => {
  const a = await approvalOf(run)
  return engine.api('POST', `/api/v1/approvals/${a.approval}/approve`, { reason: 'seen' }, { token })
}
const asked = (id, n) => waitFor(`${id} is checked ${n} times`, () => release(id).asked >= n, 30000)
const history = async (run) => (await engine.api('GET', `/api/v1/runs/${run}/history`)).body.history
const nothingLeft = async (run) => assert.deepEqual(await engine.sql(`select
  (select count(*) from holdpoint.arm_state where run_id = ${run}) + (select count(*) from holdpoint.mail_wait where run_id = ${run}) +
  (select count(*) from holdpoint.timer where run_id = ${run}) + (select count(*) from holdpoint.ready where run_id = ${run})`), [['0']])

test('it is rolled back while it is open and one of two has signed; the other is told why', async () => {
  const run = await start('r1')
  assert.equal((await approve(run, ann)).status, 200)
  await asked('r1', 2)
  const shown = await engine.cli(['show', String(run)])
  assert.match(shown.stdout, /unhealthy -> rolled_back {2}watch\.look, next at .*, \d+ so far/)
  assert.match(shown.stdout, /abort -> rolled_back {2}event canary\.abort with key r1/)
  release('r1').rate = 0.2
  await engine.until(run, 'failed')
  const late = await approve(run, sam)
  assert.equal(late.status, 409)
  assert.match(late.body.error.message, /^approval \d+ was cancelled at .*: arm "unhealthy" of state "promote" went first: its check said so$/)
  const doc = await look(run)
  assert.deepEqual(doc.saved.health, { error_rate: 0.2 })
  assert.equal(doc.run.state, 'rolled_back')
  // checks that found nothing left no row (one that failed on a slow machine may)
  assert.deepEqual((await history(run)).map((h) => h.move).filter((m) => m !== 'checked'), ['started', 'parked', 'decided', 'finished'])
  await nothingLeft(run)
})

test('votes outlive checks, and failed checks that end are told', async () => {
  const run = await start('r2')
  assert.equal((await approve(run, ann)).status, 200)
  await asked('r2', 3)
  release('r2').status = 500
  await waitFor('a check has failed', async () => (await history(run)).some((h) => h.move === 'checked' && h.code === 'http_500'))
  const metrics = await (await fetch(`${engine.url}/metrics`)).text()
  assert.match(metrics, /holdpoint_checks_total\{connector="watch",class="ok"\} \d/)
  release('r2').status = 200
  await waitFor('it recovers', async () => (await history(run)).filter((h) => h.move === 'checked').length >= 2)
  await asked('r2', release('r2').asked + 2)
  assert.equal((await approve(run, sam)).status, 200)
  await engine.until(run, 'succeeded')
  await nothingLeft(run)
})

test('a worker killed in the middle of a check: another one checks again, nothing is lost', async () => {
  const r = release('r3')
  const run = await start('r3')
  assert.equal((await approve(run, ann)).status, 200)
  await asked('r3', 1)
  r.delay = 500
  for (let i = 0; i < 3; i++) {
    const pid = await waitFor('a check is in the air', async () => {
      if (r.inAir === 0) return 0
      const [row] = await engine.sql(`select e.pid from holdpoint.ready y join holdpoint.engine e on e.id = y.engine_id where y.run_id = ${run}`)
      return row && Number(row[0])
    })
    process.kill(pid, 'SIGKILL')
    const before = r.asked
    await waitFor('it is checked again', () => r.asked > before, 30000)
  }
  const why = (await engine.api('GET', `/api/v1/runs/${run}/why`)).body
  assert.notEqual(why.cause, 'held', why.sentence)
  r.delay = 0
  r.rate = 1
  await engine.until(run, 'failed')
  const doc = await look(run)
  assert.equal(doc.approvals.length, 1)
  assert.equal(doc.run.visit, 2)
  await nothingLeft(run)
})

test('a vote that comes while a check is in the air decides, whatever the check says', async () => {
  const r = release('r4')
  const run = await start('r4')
  assert.equal((await approve(run, ann)).status, 200)
  r.delay = 500
  await waitFor('a check is in the air', () => r.inAir > 0)
  r.rate = 1 // read when it answers
  assert.equal((await approve(run, sam)).status, 200)
  await engine.until(run, 'succeeded')
  await nothingLeft(run)
})

test('an event that came before the run was there goes first; one that comes later, too', async () => {
  await engine.cli(['event', 'send', 'canary.abort', 'r5', '{"by":"ann"}'])
  const run = await start('r5')
  await engine.until(run, 'failed')
  const a = (await look(run)).approvals[0]
  assert.equal(a.status, 'cancelled')
  const other = await start('r6')
  await approvalOf(other)
  const sent = await engine.cli(['event', 'send', 'canary.abort', 'r6'])
  assert.equal(sent.code, 0, sent.stderr)
  await engine.until(other, 'failed')
  assert.match((await look(other)).approvals[0].reason, /arm "abort" of state "promote" went first: the event canary\.abort arrived/)
  await nothingLeft(other)
})

test('a child that an arm overtakes is told to end, also by an event while a worker dies', async () => {
  const childOf = (key) => waitFor('the child is there', async () =>
    (await engine.api('GET', `/api/v1/runs?workflow=slow_steps&key=${key}`)).body.runs[0])
  const run = await start('r7', 'roll_out')
  const child = await childOf('r7')
  await asked('r7', 2)
  await waitFor('it says what stops it', async () =>
    /when the event roll\.stop with key "r7" arrives, by arm "stop"/.test((await engine.api('GET', `/api/v1/runs/${run}/why`)).body.sentence))
  release('r7').rate = 0.5
  await engine.until(run, 'failed')
  await engine.until(child.run, 'cancelled')
  await nothingLeft(run)
  const r = release('r8')
  const other = await start('r8', 'roll_out')
  const second = await childOf('r8')
  await asked('r8', 1)
  r.delay = 500
  const pid = await waitFor('a check is in the air', async () => {
    if (r.inAir === 0) return 0
    const [row] = await engine.sql(`select e.pid from holdpoint.ready y join holdpoint.engine e on e.id = y.engine_id where y.run_id = ${other}`)
    return row && Number(row[0])
  })
  process.kill(pid, 'SIGKILL')
  await waitFor('it is sent', async () => (await engine.cli(['event', 'send', 'roll.stop', 'r8'])).code === 0)
  await engine.until(other, 'failed')
  await engine.until(second.run, 'cancelled')
  await nothingLeft(other)
})
