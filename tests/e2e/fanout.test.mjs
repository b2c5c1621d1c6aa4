// A fan-out over ten thousand rows on a real engine: page by page, so many at once,
// with workers killed on the way; and another one, cancelled in the middle.
import assert from 'node:assert/strict'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { ROOT, startEngine, waitFor } from './lib/engine.mjs'

const ROWS = 10000
const file = (name) => join(ROOT, 'tests/fixtures/workflows', name)
let engine
before(async () => {
  engine = await startEngine({ workers: 2, simulated: '', lease: '1s', args: ['--poll', '200ms'] })
  await engine.sql(`create table public.children_rows (id bigint primary key, name text);
    insert into public.children_rows select i, 'name ' || i from generate_series(1, ${ROWS}) i;
    grant select on public.children_rows to holdpoint_workflow`)
  for (const f of ['told.lua', 'fan.lua']) {
    const r = await engine.cli(['deploy', file(f)])
    assert.equal(r.code, 0, r.stdout + r.stderr)
  }
})
after(() => engine?.stop())

const start = (upto) => waitFor('a start', async () => {
  const r = await engine.api('POST', '/api/v1/runs', { workflow: 'fan', input: { upto } })
  if (r.status !== 201) throw new Error(JSON.stringify(r.body))
  return r.body.run
})
const number = async (sql) => Number((await engine.sql(sql))[0][0])
const family = async (run) => (await engine.api('GET', `/api/v1/runs/${run}/children?limit=1`)).body.family

test('ten thousand rows, each one child, though workers die', async () => {
  const run = await start(ROWS)
  for (const at of [1000, 4000, 7000]) {
    await waitFor(`${at} have ended`, async () => (await family(run))?.succeeded >= at, 120000)
    engine.kill(`worker-${1 + (at / 1000) % 2}`)
  }
  const doc = await engine.until(run, ['succeeded', 'failed', 'held'], 120000)
  assert.equal(doc.run.status, 'succeeded', JSON.stringify(doc.run))
  assert.deepEqual(doc.run.result, { told: ROWS - ROWS / 500, failed: ROWS / 500 })
  assert.equal(await number(`select count(*) from holdpoint.run where workflow = 'told'`), ROWS)
  assert.equal(await number(`select count(distinct (input ->> 'id')::bigint) from holdpoint.run where workflow = 'told'`), ROWS)
  assert.equal(await number(`select count(*) from holdpoint.run where workflow = 'told' and input ->> 'id' <> input ->> 'number'`), 0)
  // of what is saved the first ones are in order; all of them are to be had page by page
  assert.deepEqual(doc.saved.told.items.slice(0, 3).map((i) => i.result.id), [1, 2, 3])
  assert.equal(doc.saved.told.items.length, 200)
  const last = (await engine.api('GET', `/api/v1/runs/${run}/children?after=${ROWS - 2}`)).body
  assert.deepEqual(last.children.map((c) => [c.n, c.status, c.code]), [[ROWS - 1, 'succeeded', undefined], [ROWS, 'failed', 'refused']])
  assert.match((await engine.api('GET', '/metrics', undefined, { token: null })).body, /^holdpoint_children_running 0$/m)
  // the parent was woken for its pages, not for its children
  assert.ok(await number(`select count(*) from holdpoint.history where run_id = ${run}`) < 5 * ROWS / 250)
})

test('cancelled in the middle: no child is started any more, and it ends when those that run have ended', async () => {
  const before = await number('select coalesce(max(id), 0) from holdpoint.run')
  const run = await start(ROWS)
  await waitFor('some have ended', async () => (await family(run))?.succeeded >= 500, 60000)
  assert.equal((await engine.api('POST', `/api/v1/runs/${run}/cancel`, { reason: 'enough' })).status, 200)
  await engine.until(run, 'cancelled', 60000)
  const f = await family(run)
  assert.equal(f.running, 0)
  assert.equal(f.queued, 0)
  const started = await number(`select count(*) from holdpoint.run where id > ${before} and workflow = 'told'`)
  assert.ok(started < ROWS, `${started} were started`)
  assert.equal(started, f.succeeded + f.failed + f.cancelled)
  assert.equal(await number(`select count(*) from holdpoint.run r join holdpoint.run_state s on s.run_id = r.id
    where r.id > ${before} and s.status < 4`), 0)
  assert.equal(await number(`select count(*) from holdpoint.run where id > ${before} and workflow = 'told'`), started)
})
