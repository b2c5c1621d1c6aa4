// The life of an installation: one at a time, an orderly end, a start that finds
// everything again, a worker that is replaced, a drain that finishes what is on its
// way, a supervisor that is killed. And that no secret leaves its place.
import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { readFileSync, readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { HP_BIN, ROOT, startEngine, waitFor } from './lib/engine.mjs'
import { approve, exactlyOnce, fault, newBooking, prepare, refuse, runOf } from './lib/demo.mjs'

let engine, bob
before(async () => {
  engine = await startEngine({ workers: 2, lease: '1s', args: ['--drain', '5s', '--poll', '200ms', '--log', 'debug'] })
  bob = await prepare(engine)
})
after(() => engine?.stop())

const waiting = (b) => waitFor(`${b.booking} waits`, async () => {
  const run = await runOf(engine, b)
  return run?.status === 'waiting' && run.kind === 'approval' && run
})
const stripeHas = (b) => waitFor('the refund is at Stripe', async () =>
  Object.values((await engine.fake('stripe', 'GET', '/_fake/state')).body.db.refunds).some((r) => r.payment_intent === b.intent))

test('a second start beside a running one says so and harms nothing', async () => {
  const before = engine.pids()
  const second = spawnSync(HP_BIN, ['serve', '--data', engine.dataDir, '--listen', '127.0.0.1:0'],
    { cwd: ROOT, encoding: 'utf8', env: { ...process.env, HOLDPOINT_HOME: ROOT }, timeout: 20000 })
  assert.equal(second.status, 5, second.stderr)
  assert.match(second.stderr, new RegExp(`Holdpoint is running already: process ${before.supervisor}, answering at ` +
    `${engine.url.replaceAll('.', '\\.')}, with the data in ${engine.dataDir}`))
  assert.match(second.stderr, /use it, end it with `kill \d+`, or name another directory with --data/)
  assert.deepEqual(engine.pids(), before)
  assert.equal((await engine.api('GET', '/readyz', undefined, { token: null })).status, 200)
})

test('a statement that does not say for whom is an error, not an empty answer', async () => {
  const asked = (settings) => engine.sql(`begin; ${settings}; set local role holdpoint_workflow; select count(*) from public.payments; rollback;`)
  await assert.rejects(asked('select'), /nobody said who is asking/)
  await assert.rejects(asked("set local holdpoint.\"as\" = 'user'"), /nobody said who is asking/)
  const [[all]] = await asked("set local holdpoint.\"as\" = 'service'")
  assert.ok(Number(all) > 0)
  const nobody = "set local holdpoint.\"as\" = 'user'; set local holdpoint.\"user\" = '00000000-0000-0000-0000-000000000000'"
  assert.deepEqual(await asked(nobody), [['0']])
})

test('a story while nothing is wrong', async () => {
  const b = await newBooking(engine)
  await refuse(engine, b, { copies: 3 })
  await approve(engine, b, bob)
  await exactlyOnce(engine, b)
})

test('a dead worker is replaced, and its runs go on elsewhere', async () => {
  const b = await newBooking(engine)
  await fault(engine, 'stripe', { match: 'POST /v1/refunds', kind: 'slow', seconds: 0.5, times: 1 })
  await refuse(engine, b)
  await approve(engine, b, bob)
  await stripeHas(b)
  const run = (await runOf(engine, b)).run
  const [[pid]] = await engine.sql(`select e.pid from holdpoint.ready r join holdpoint.engine e on e.id = r.engine_id where r.run_id = ${run}`)
  process.kill(Number(pid), 'SIGKILL')
  await engine.gone(Number(pid))
  await exactlyOnce(engine, b)
  await waitFor('two workers again', () => engine.pids()['worker-1'] && engine.pids()['worker-2'])
})

test('a drain waits for what is on its way and sends nothing new', async () => {
  const b = await newBooking(engine)
  await fault(engine, 'stripe', { match: 'POST /v1/refunds', kind: 'slow', seconds: 0.5, times: 1 })
  await refuse(engine, b)
  await approve(engine, b, bob)
  await stripeHas(b)
  const pid = engine.child.pid
  engine.child.kill('SIGINT') // Ctrl-C
  assert.deepEqual(await engine.ended, { code: 0, signal: null })
  assert.deepEqual(engine.pids(), {}, `left behind by ${pid}`)
  await engine.start()
  const run = await exactlyOnce(engine, b)
  const { body } = await engine.api('GET', `/api/v1/runs/${run.run}/history`)
  const asked = body.history.filter((h) => h.state === 'refund' && h.admits)
  assert.equal(asked.length, 1, `the refund's answer was thrown away: ${JSON.stringify(body.history)}`)
})

test('SIGTERM ends everything with 0; a start finds what was waiting', async () => {
  const b = await newBooking(engine)
  await refuse(engine, b)
  await waiting(b)
  const pids = engine.pids()
  engine.child.kill('SIGTERM')
  assert.deepEqual(await engine.ended, { code: 0, signal: null })
  for (const pid of Object.values(pids)) await engine.gone(pid, 2000)
  await engine.start()
  assert.equal((await waiting(b)).status, 'waiting')
  await approve(engine, b, bob)
  await exactlyOnce(engine, b)
})

test('a killed supervisor takes all with it but PostgreSQL, which the next start adopts', async () => {
  const b = await newBooking(engine)
  await refuse(engine, b)
  await waiting(b)
  const { postgres } = engine.pids()
  engine.kill('supervisor')
  await engine.ended
  await waitFor('workers and providers end', () => Object.keys(engine.pids()).join() === 'postgres')
  await engine.start()
  assert.equal(engine.pids().postgres, postgres)
  assert.ok(engine.log.some((e) => e.message === 'PostgreSQL was running already: adopted'))
  await approve(engine, b, bob)
  await exactlyOnce(engine, b)
})

test('while nothing can be stored no webhook is told 2xx', async () => {
  const b = await newBooking(engine)
  const body = { id: `wev_away_${b.n}`, type: 'order.creation_failed', live_mode: false, data: { object: { id: b.booking } } }
  const { supervisor } = engine.pids()
  process.kill(supervisor, 'SIGSTOP') // nobody starts PostgreSQL again
  try {
    const pid = engine.kill('postgres')
    await engine.gone(pid)
    const answers = await Promise.all([1, 2, 3].map((n) => engine.webhook('duffel', { ...body, id: `${body.id}_${n}` })))
    for (const r of answers) assert.ok(r.status >= 500, `${r.status} ${JSON.stringify(r.body)}`)
  } finally { process.kill(supervisor, 'SIGCONT') }
  await waitFor('the webhook is accepted', async () => (await engine.webhook('duffel', body)).status === 200, 30000)
  await approve(engine, b, bob)
  await exactlyOnce(engine, b)
})

test('sixteen of the same webhook at once: one run', async () => {
  const b = await newBooking(engine)
  const body = { id: `wev_sixteen_${b.n}`, type: 'order.creation_failed', live_mode: false, data: { object: { id: b.booking } } }
  const answers = await Promise.all(Array.from({ length: 16 }, () => engine.webhook('duffel', body)))
  assert.deepEqual(answers.map((r) => r.status), Array(16).fill(200))
  assert.equal(answers.filter((r) => r.body.duplicate).length, 15)
  // another event about the same booking joins its run
  assert.equal((await engine.webhook('duffel', { ...body, id: `wev_other_${b.n}` })).status, 200)
  await approve(engine, b, bob)
  await exactlyOnce(engine, b)
})

test('lost replies, resets and stored errors on the way: one refund under one key', async () => {
  const b = await newBooking(engine)
  await fault(engine, 'stripe', { match: 'POST /v1/refunds', kind: 'reset_after', times: 1 })
  await fault(engine, 'stripe', { match: 'POST /v1/refunds', kind: 'reset_before', times: 1 })
  await fault(engine, 'stripe', { match: '*', kind: 'reorder_webhooks', seconds: 0.5, times: 1 })
  await fault(engine, 'resend', { match: 'POST /emails', kind: 'reset_after', times: 1 })
  await refuse(engine, b)
  await approve(engine, b, bob)
  await exactlyOnce(engine, b)
})

test('no secret is in a run, the history, a log, a metric or anywhere in the database', async () => {
  const b = await newBooking(engine)
  // a held run with an error message of the provider's, too
  await fault(engine, 'stripe', { match: 'POST /v1/refunds', kind: 'status', status: 401, times: 1,
    body: { error: { type: 'invalid_request_error', message: 'Invalid API Key provided' } } })
  await refuse(engine, b)
  await approve(engine, b, bob)
  await waitFor('the run is held', async () => (await runOf(engine, b)).status === 'held')
  const run = (await runOf(engine, b)).run
  assert.equal((await engine.api('POST', `/api/v1/runs/${run}/retry`, { reason: 'the key is right again' })).status, 200)
  await waitFor('the order is carried out', async () => (await runOf(engine, b)).status !== 'held')
  await exactlyOnce(engine, b)
  const secrets = readFileSync(join(engine.dataDir, 'simulated/secrets.env'), 'utf8').split('\n').filter(Boolean)
    .map((line) => [line.split('=')[0], line.slice(line.indexOf('=') + 1)])
  assert.equal(secrets.length, 6)
  secrets.push(['the administrator\'s token', engine.token], ['bob\'s token', bob])
  const socket = readFileSync(join(engine.dataDir, 'postgres/postmaster.pid'), 'utf8').split('\n')[4]
  const logs = join(engine.dataDir, 'log')
  const places = {
    database: execFileSync(join(process.env.PG_BIN || '/usr/lib/postgresql/15/bin', 'pg_dump'),
      ['-h', socket, '-U', 'holdpoint', '-d', 'holdpoint'], { encoding: 'latin1', maxBuffer: 1 << 28 }),
    log: JSON.stringify(engine.log),
    metrics: (await engine.api('GET', '/metrics', undefined, { token: null })).body,
    history: JSON.stringify((await engine.api('GET', `/api/v1/runs/${run}/history`)).body),
    run: JSON.stringify((await engine.api('GET', `/api/v1/runs/${run}`)).body),
    show: (await engine.cli(['show', String(run)])).stdout,
    'PostgreSQL\'s log': readdirSync(logs).filter((f) => statSync(join(logs, f)).isFile())
      .map((f) => readFileSync(join(logs, f), 'utf8')).join('\n'),
  }
  assert.match(places.database, new RegExp(b.booking), 'the dump has the data')
  // bytea is dumped as hex: look for that spelling too
  for (const [name, value] of secrets)
    for (const [place, text] of Object.entries(places))
      for (const spelling of [value, Buffer.from(value).toString('hex'), Buffer.from(value).toString('base64')])
        assert.ok(!text.includes(spelling), `${name} is in the ${place}`)
})
