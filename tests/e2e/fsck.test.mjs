// `holdpoint fsck`: nothing is wrong with what the engine writes, whatever it is about; and
// every check finds what it is there for.
//
// A zoo of runs stands in every kind of state and every phase. Then its database is copied, every
// line of the table at the end spoils one thing of the copy, and fsck names each. Nothing
// else may be found, so a check that cries wolf fails here, too.
import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { ROOT, startEngine, waitFor } from './lib/engine.mjs'
import { newBooking, prepare, refuse, runOf } from './lib/demo.mjs'

const ZOO = join(ROOT, 'tests/fixtures/fsck')
const PLUGINS = join(ROOT, 'tests/chaos/plugins')
let engine, server, ops
const zoo = {} // name → run

/** A provider that does what the tag says. */
const provide = (rq, rs) => {
  let text = ''
  rq.on('data', (d) => { text += d })
  rq.on('end', () => {
    const word = text ? JSON.parse(text).tag.split('/')[0] : 'busy'
    if (word === 'lose') return rq.socket.destroy()
    const status = { busy: 503, no: 402 }[word] ?? 200
    rs.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify({ id: word }))
  })
}

before(async () => {
  server = createServer(provide)
  await new Promise((done) => server.listen(0, '127.0.0.1', done))
  engine = await startEngine({ workers: 2, lease: '1s',
    args: ['--poll', '100ms', '--base-url', `recorder=http://127.0.0.1:${server.address().port}`] })
  await engine.sql(`create table public.zoo_rows (id bigint primary key);
    insert into public.zoo_rows select generate_series(1, 3600);
    create table public.zoo_swept (run bigint, id bigint);
    grant select, insert on public.zoo_rows, public.zoo_swept to holdpoint_workflow`)
  for (const name of ['zoo_one', 'zoo']) await ok(['deploy', join(ZOO, `${name}.lua`), '--plugins', PLUGINS])
  ops = await engine.tokenFor('olga', { roles: ['ops'] })
})
after(async () => {
  await engine?.stop()
  server?.close()
})

async function ok(words, options) {
  const r = await engine.cli(words, options)
  assert.equal(r.code, 0, `${words.join(' ')}: ${r.stdout}${r.stderr}`)
  return r.stdout
}
async function post(path, body = { reason: 'a test' }, options) {
  const r = await engine.api('POST', `/api/v1${path}`, body, options)
  assert.ok(r.status === 200 || r.status === 201, `${path}: ${JSON.stringify(r.body)}`)
  return r.body
}
const start = async (workflow, input, key) => (await post('/runs', { workflow, input, ...(key ? { key } : {}) })).run
const row = async (run) => (await engine.sql(`select status, phase, visit from holdpoint.run_state where run_id = ${run}`))[0]
const stands = (run, status, phase) => waitFor(`run ${run} is ${status} in phase ${phase}`, async () => {
  const is = await row(run)
  if (is[0] === String(status) && is[1] === String(phase)) return true
  throw new Error(`it is ${is}`)
})
const decide = async (run, how) => {
  const id = await waitFor('it asks', async () => (await engine.sql(`select id from holdpoint.approval where run_id = ${run} and status = 'open'`))[0]?.[0])
  await post(`/approvals/${id}/${how}`, { reason: 'a test' }, { token: ops })
}
const clean = (r) => assert.equal(r.code, 0, `${r.stdout}${r.stderr}`)

test('fsck finds nothing while the engine works, twenty times', async () => {
  let busy = true, started = 0, killed = 0
  const load = (async () => {
    while (busy) {
      const to = ['note', 'short', 'undo', 'spend', 'backoff', 'done'][started % 6]
      const r = await engine.api('POST', '/api/v1/runs', { workflow: 'zoo', input: { to }, key: `load ${started}` }).catch(() => null)
      if (r?.status === 200 || r?.status === 201) started++ // one that was lost with its worker is asked for again
      if (started === 20 && !killed) killed = engine.kill('worker-1')
    }
  })()
  try { for (let i = 0; i < 20; i++) clean(await engine.cli(['fsck', '--json'])) } finally { busy = false }
  await load
  assert.ok(started > 20, `only ${started} runs were started`)
  await engine.killed('any place')
})

test('a run in every kind of state and phase, and nothing is wrong', async () => {
  await waitFor('both workers are there', () => engine.pids()['worker-1'] && engine.pids()['worker-2'])
  for (const to of ['wait', 'await', 'sign', 'backoff', 'doubt', 'hold', 'slot', 'spend', 'child', 'many', 'sweep', 'undo', 'undo_held', 'note'])
    zoo[to] = await start('zoo', { to }, `zoo ${to}`)
  for (const to of ['signed', 'refused']) zoo[to] = await start('zoo', { to: 'sign' })
  for (const to of ['cancelled', 'paused', 'paused_wait']) zoo[to] = await start('zoo', { to: 'wait' })
  await stands(zoo.slot, 2, 3)
  zoo.queued = await start('zoo', { to: 'slot' })
  zoo.budget = await start('zoo', { to: 'spend' })
  zoo.first = await start('zoo_one', { who: 'a' })
  zoo.second = await start('zoo_one', { who: 'a' })
  zoo.ended = await start('zoo_one', { who: 'b' })
  await decide(zoo.signed, 'approve')
  await decide(zoo.refused, 'reject')
  for (const name of ['cancelled', 'paused', 'paused_wait']) await stands(zoo[name], 2, 6)
  await post(`/runs/${zoo.cancelled}/cancel`)
  await stands(zoo.ended, 2, 6)
  await post(`/runs/${zoo.ended}/cancel`)
  await engine.until(zoo.ended, 'cancelled')
  zoo.rated = await start('zoo_one', { who: 'b' }) // it has the place, and its time is tomorrow
  await post(`/runs/${zoo.paused}/pause`)
  await post(`/runs/${zoo.await}/pause`)
  await post(`/runs/${zoo.await}/resume`)
  await stands(zoo.hold, 3, 2)
  zoo.retried = await start('zoo', { to: 'hold' })
  await stands(zoo.retried, 3, 2)
  await post(`/runs/${zoo.retried}/retry`)
  zoo.tick = (await post('/schedules/zoo_one/run', {})).run
  await ok(['secret', 'set', 'ZOO_KEY'], { input: 'a secret\n' })
  const bob = await prepare(engine)
  const booking = await newBooking(engine)
  await refuse(engine, booking)
  zoo.webhook = await waitFor('the webhook starts a run', async () => (await runOf(engine, booking))?.run)
  assert.ok(bob)
  await stands(zoo.doubt, 2, 4)
  await stands(zoo.queued, 2, 7)
  await stands(zoo.child, 2, 10)
  await stands(zoo.undo_held, 3, 2)
  await engine.until(zoo.undo, 'failed')
  await engine.until(zoo.signed, 'succeeded')
  await stands(zoo.sweep, 2, 6)
  await engine.until(zoo.cancelled, 'cancelled')
  const r = await engine.cli(['fsck'])
  clean(r)
  assert.match(r.stdout, /^ +7 {2}what has ended stays ended +ok {2}\d+ runs$/m)
  assert.match(r.stdout, /^ +20 {2}the audit chain +not built yet: nothing to check$/m)
  assert.match(r.stdout, /nothing is wrong\n$/)
  clean(await engine.cli(['fsck', '--run', String(zoo.signed)]))
})
