// Bugs that other engines had, as tests of ours: those that need whole processes. The list, with
// sources, is in docs/reliability.md; tests/integration/store_peers.c has the others.
//
// One engine, one provider that remembers every request and answers when it is told to. The
// engine's worker that has a run in hand is known from the database.
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import net from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { promisify } from 'node:util'
import { ROOT, startEngine, waitFor } from './lib/engine.mjs'

const PLUGINS = join(ROOT, 'tests/chaos/plugins')
const SOURCE = `local recorder = connector "recorder"
return workflow "peer" {
  doc = "One call, or one way to wait.", input = { to = text },
  choose "which" {
    { when = function(run) return run.input.to == "wait" end, next = "wait" },
    { when = function(run) return run.input.to == "await" end, next = "await" },
    { when = function(run) return run.input.to == "sign" end, next = "sign" },
    { when = function(run) return run.input.to == "backoff" end, next = "backoff" },
    { when = function(run) return run.input.to == "hold" end, next = "hold" },
    otherwise = "act",
  },
  call "act" { recorder.put, with = { tag = "{input.to}/{run.id}" }, save = "done", timeout = "20s", next = "done", catch = { refused = "told" } },
  wait "wait" { for_ = "10h", next = "done" },
  await "await" { event = "peer.ping", key = "{run.id}", within = "10h", timeout = "done", next = "done" },
  approval "sign" { ask = "{run.id}?", approvers = "1 of ops", deadline = "9h", rejected = "done", expired = "done", next = "done" },
  call "backoff" { recorder.put, with = { tag = "busy/{run.id}" }, retry = { attempts = 9, base = "10h", cap = "10h" }, next = "done" },
  call "hold" { recorder.put, with = { tag = "no/{run.id}" }, next = "done" },
  succeed "told" { result = { message = "{error.message}" } },
  succeed "done" {},
}
`
let engine, provider, folder
const asked = new Map() // run → requests for it
const held = new Map()  // run → answers that wait
let hold = false

const answer = (rs, word) => {
  const [status, text] = { busy: [503, '{}'], no: [402, '{}'], nul: [200, '{"id":"a\\u0000b"}'], nul_error: [402, '{"message":"a\\u0000b"}'] }[word] ?? [200, '{"id":"x"}']
  rs.writeHead(status, { 'content-type': 'application/json' }).end(text)
}
before(async () => {
  provider = createServer((rq, rs) => {
    let text = ''
    rq.on('data', (d) => { text += d })
    rq.on('end', () => {
      const [word, run] = JSON.parse(text).tag.split('/')
      asked.set(run, [...(asked.get(run) ?? []), rq.headers['idempotency-key']])
      if (hold && word === 'slow') held.set(run, () => answer(rs, word))
      else answer(rs, word)
    })
  })
  await new Promise((done) => provider.listen(0, '127.0.0.1', done))
  folder = mkdtempSync(join(tmpdir(), 'holdpoint-peers.'))
  writeFileSync(join(folder, 'peer.lua'), SOURCE)
  engine = await startEngine({ workers: 2, lease: '1s', simulated: 'resend', args: serveArgs() })
  const r = await engine.cli(['deploy', join(folder, 'peer.lua'), '--plugins', PLUGINS])
  assert.equal(r.code, 0, r.stdout + r.stderr)
})
after(async () => {
  provider?.closeAllConnections()
  await engine?.stop()
  provider?.close()
  if (folder) rmSync(folder, { recursive: true, force: true })
})

const serveArgs = () => ['--poll', '100ms', '--base-url', `recorder=http://127.0.0.1:${provider.address().port}`]
const start = (to, at = engine) => waitFor('it is started', async () => {
  const r = await at.api('POST', '/api/v1/runs', { workflow: 'peer', input: { to } })
  if (r.status !== 200 && r.status !== 201) throw new Error(JSON.stringify(r.body))
  return r.body.run
})
const requested = (run, n = 1) => waitFor(`the provider has ${n} requests of run ${run}`, () => (asked.get(String(run)) ?? []).length >= n)
const owner = async (run) => { // the worker that has it: { name, pid }, else nothing
  const [row] = await engine.sql(`select e.pid from holdpoint.ready y join holdpoint.engine e on e.id = y.engine_id where y.run_id = ${run}`)
  const name = row && Object.entries(engine.pids()).find(([, pid]) => pid === Number(row[0]))?.[0]
  return name && { name, pid: Number(row[0]) }
}
const epoch = async (run) => Number((await engine.sql(`select epoch from holdpoint.run_state where run_id = ${run}`))[0][0])
const let_go = () => { hold = false; for (const go of held.values()) go(); held.clear() }
const one_key = (run) => assert.equal(new Set(asked.get(String(run))).size, 1, `run ${run}: ${asked.get(String(run))}`)
const sound = async () => { const r = await engine.cli(['fsck']); assert.equal(r.code, 0, r.stdout + r.stderr) }

// vercel/workflow 3993: what a lost process had in hand is looked for at the boot of some process, and
// only then; a run stood for 31 minutes, until the next deployment.
test('vercel_workflow_3993: a run is taken over although no process boots', async () => {
  hold = true
  const run = await start('slow')
  await requested(run)
  const { name, pid } = await waitFor('somebody has it', () => owner(run))
  const others = engine.pids()
  process.kill(pid, 'SIGSTOP') // it does not end, so the supervisor starts nobody
  try {
    hold = false
    await waitFor('the run ends', async () => // not asked by HTTP: the kernel gives connections to who sleeps, too
      (await engine.sql(`select status from holdpoint.run_state where run_id = ${run}`))[0][0] === '4')
    assert.deepEqual(engine.pids(), others, `${name} sleeps, and a process was started`)
  } finally { process.kill(pid, 'SIGCONT') }
  assert.equal(await epoch(run), 2)
  one_key(run)
  let_go()
  await waitFor(`${name} has seen that it is dead, and begun anew`, () => engine.pids()[name] && engine.pids()[name] !== pid)
})

// vercel/workflow 3758: the boot of one more process re-enqueues what a living one is at work on.
test('vercel_workflow_3758: a process that boots leaves alone what another has in hand', async () => {
  hold = true
  const run = await start('slow')
  await requested(run)
  const { name } = await waitFor('somebody has it', () => owner(run))
  const other = name === 'worker-1' ? 'worker-2' : 'worker-1'
  const old = engine.kill(other)
  await waitFor('another has booted', async () => engine.pids()[other] && engine.pids()[other] !== old
    && (await engine.sql(`select 1 from holdpoint.engine where pid = ${engine.pids()[other]} and not dead and lease_until > started_at + lease_us`)).length)
  assert.deepEqual([await epoch(run), asked.get(String(run)).length, (await owner(run)).name], [1, 1, name])
  let_go()
  await engine.until(run, 'succeeded')
  assert.deepEqual([await epoch(run), asked.get(String(run)).length], [1, 1])
})

// vercel/workflow 3119: at each boot all runs that are not over are run again, also those that are
// parked for hours.
test('vercel_workflow_3119: parked runs sleep through every boot', async () => {
  const runs = []
  for (const to of ['wait', 'await', 'sign', 'backoff', 'hold']) runs.push(await start(to))
  const rows = () => engine.sql(`select s.run_id, s.status, s.phase, s.epoch, s.rev, (select count(*) from holdpoint.history h where h.run_id = s.run_id),
    (select count(*) from holdpoint.ready y where y.run_id = s.run_id) from holdpoint.run_state s where s.run_id in (${runs}) order by 1`)
  const parked = await waitFor('all are parked', async () => {
    const all = await rows()
    return all.every((r) => (r[1] === '2' || r[1] === '3') && r[6] === '0') && all
  })
  const requests = runs.map((run) => asked.get(String(run))?.length ?? 0)
  engine.killAll() // and once more in peace
  await engine.ended
  await engine.start()
  engine.child.kill('SIGTERM')
  await engine.ended
  await engine.start()
  await engine.until(await start('slow'), 'succeeded') // it works
  assert.deepEqual(await rows(), parked)
  assert.deepEqual(runs.map((run) => asked.get(String(run))?.length ?? 0), requests)
})

// dbos-transact-py 716: PostgreSQL restarts while recovery goes through the dead one's runs; those
// it had not come to are never looked at again.
test('dbos_py_716: PostgreSQL restarts while the runs of dead workers are taken over', async () => {
  hold = true
  const runs = []
  for (let i = 0; i < 12; i++) runs.push(await start('slow'))
  for (const run of runs) await requested(run)
  const later = runs.slice(6) // somebody has their rows until PostgreSQL dies: recovery has not come to them
  const locker = promisify(execFile)('psql', ['-X', '-q', '-h', (await engine.sql('show unix_socket_directories'))[0][0], '-U', 'holdpoint', '-d', 'holdpoint', '-c',
    `begin; select from holdpoint.run_state where run_id in (${later}) for update; select pg_sleep(60)`]).catch(() => {})
  await waitFor('they are locked', async () => (await engine.sql(`select 1 from pg_stat_activity where query like '%pg_sleep(60)%' and wait_event = 'PgSleep'`)).length)
  for (const name of ['worker-1', 'worker-2']) engine.kill(name)
  const epochs = async () => (await engine.sql(`select epoch, count(*) from holdpoint.run_state where run_id in (${runs}) group by 1 order by 1`)).join()
  await waitFor('half of them are taken over', async () => await epochs() === '1,6,2,6')
  const old = engine.kill('postgres', 'SIGQUIT') // immediate: every session is cut
  await waitFor('PostgreSQL is back', async () => engine.pids().postgres && engine.pids().postgres !== old && (await engine.sql('select 1')).length)
  await locker
  let_go()
  for (const run of runs) await engine.until(run, 'succeeded')
  for (const run of runs) one_key(run)
  await sound()
})

// restate 2655: a node that was cut off for a while is believed to lead when it is back, and nothing
// of its partition moves any more.
test('restate_2655: who was cut off from the database for longer than its lease goes on when it is back', async () => {
  const dir = mkdtempSync(join(folder, 'cut.'))
  const real = join((await engine.sql('show unix_socket_directories'))[0][0], '.s.PGSQL.5432')
  const wires = new Set()
  let cut = false
  const proxy = net.createServer((near) => { // bytes of a connection wait while it is cut: nobody is told
    const far = net.connect(real)
    for (const [a, b] of [[near, far], [far, near]]) {
      wires.add(a)
      a.on('data', (d) => b.write(d)).on('error', () => b.destroy()).on('close', () => { wires.delete(a); b.destroy() })
      if (cut) a.pause()
    }
  })
  await new Promise((done) => proxy.listen(join(dir, '.s.PGSQL.5432'), done))
  for (const [path, mode] of [[folder, 0o755], [dir, 0o755], [join(dir, '.s.PGSQL.5432'), 0o777]]) chmodSync(path, mode) // servers are another user
  const far = await startEngine({ workers: 1, lease: '1s', simulated: 'resend', owner: { host: dir, user: 'holdpoint' },
    args: [...serveArgs(), '--database', `host=${dir} user=holdpoint_engine dbname=holdpoint`, '--sql-database', `host=${dir} user=holdpoint_workflow dbname=holdpoint`] })
  try {
    hold = true
    far.token = engine.token
    const run = await start('slow', far)
    await requested(run)
    cut = true
    for (const w of wires) w.pause()
    hold = false
    await waitFor('another engine has taken it over', async () => await epoch(run) > 1)
    await engine.until(run, 'succeeded')
    cut = false
    for (const w of wires) w.resume()
    let_go()
    one_key(run)
    // it is not only back: it does work of its own again
    const again = await start('slow', far)
    await engine.until(again, 'succeeded')
  } finally {
    cut = false
    for (const w of wires) w.resume()
    await far.stop()
    proxy.close()
  }
  await sound()
})

// hatchet 2573: a NUL in a message cannot be stored; the write of the outcome fails for ever, and the
// run stays "running", with all that were in its batch.
test('hatchet_2573: a NUL in what a provider or a client says strands no run', async () => {
  const beside = await start('slow')
  const reply = await start('nul'), failure = await start('nul_error')
  await engine.until(beside, 'succeeded')
  await engine.until(failure, ['succeeded', 'held'])
  await engine.until(reply, ['succeeded', 'held'])
  const why = (await engine.api('GET', `/api/v1/runs/${reply}/why`)).body
  assert.ok(why.sentence, JSON.stringify(why))
  for (const [path, body] of [['/runs', '{"workflow":"peer","input":{"to":"a\\u0000b"}}'], ['/runs', '{"workflow":"peer","input":{"to":"x"},"key":"a\\u0000b"}'],
    ['/events', '{"name":"peer.ping","key":"1","payload":{"x":"a\\u0000b"}}']]) {
    const r = await engine.api('POST', `/api/v1${path}`, body)
    assert.equal(r.status, 400, JSON.stringify(r.body))
    assert.match(r.body.error.message, /U\+0000/)
  }
  await engine.until(await start('slow'), 'succeeded')
  await sound()
})
